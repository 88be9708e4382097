//! Which requests go to which pool: the routes of the configuration, in its order.

use crate::config::{self, begins_with_segments};

/// The routes; the first that matches wins.
#[derive(Debug)]
pub struct Router {
    routes: Vec<Route>,
}

#[derive(Debug)]
struct Route {
    host: HostPattern,
    /// What the path must begin with; empty matches everything.
    path: Box<[u8]>,
}

#[derive(Debug)]
enum HostPattern {
    Any,
    Exact(Box<[u8]>),
    /// `.example.com` for `*.example.com`: what the name must end with.
    Subdomain(Box<[u8]>),
}

impl Router {
    /// The routes of a configuration.
    pub fn new(routes: &[config::Route]) -> Self {
        let routes = routes.iter().map(|route| Route {
            host: match route.host.as_deref() {
                None => HostPattern::Any,
                Some(name) => match name.strip_prefix('*') {
                    Some(parent) => HostPattern::Subdomain(parent.as_bytes().into()),
                    None => HostPattern::Exact(name.as_bytes().into()),
                },
            },
            path: route.path.as_deref().unwrap_or_default().as_bytes().into(),
        });
        Router {
            routes: routes.collect(),
        }
    }

    /// The route for a request to `authority` (a Host field, with or without port) and `path` (the bytes on the wire,
    /// without the query), as an index into the routes of the configuration.
    pub fn find(&self, authority: &[u8], path: &[u8]) -> Option<usize> {
        let host = without_port(authority);
        self.routes
            .iter()
            .position(|route| route.host.matches(host) && begins_with_segments(path, &route.path))
    }
}

impl HostPattern {
    fn matches(&self, host: &[u8]) -> bool {
        match self {
            HostPattern::Any => true,
            HostPattern::Exact(name) => host.eq_ignore_ascii_case(name),
            HostPattern::Subdomain(parent) => host
                .len()
                .checked_sub(parent.len())
                .is_some_and(|at| at > 0 && host[at..].eq_ignore_ascii_case(parent)),
        }
    }
}

fn without_port(authority: &[u8]) -> &[u8] {
    // The colons of an IPv6 literal stand within its brackets.
    match authority
        .iter()
        .rposition(|&byte| byte == b':' || byte == b']')
    {
        Some(at) if authority[at] == b':' => &authority[..at],
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn router(routes: &[(Option<&str>, Option<&str>)]) -> Router {
        let routes: Vec<_> = routes
            .iter()
            .enumerate()
            .map(|(pool, (host, path))| config::Route {
                host: host.map(str::to_owned),
                path: path.map(str::to_owned),
                pool,
                retry: config::Retry::Idempotent,
                access: config::Access::default(),
                rate: None,
            })
            .collect();
        Router::new(&routes)
    }

    fn pool(router: &Router, authority: &[u8], path: &[u8]) -> Option<usize> {
        router.find(authority, path)
    }

    #[test]
    fn the_first_match_wins() {
        let router = router(&[
            (Some("api.example.com"), Some("/v1/")),
            (Some("api.example.com"), None),
            (None, Some("/v1/")),
        ]);
        assert_eq!(pool(&router, b"api.example.com", b"/v1/x"), Some(0));
        assert_eq!(pool(&router, b"api.example.com", b"/v2"), Some(1));
        assert_eq!(pool(&router, b"other", b"/v1/x"), Some(2));
        assert_eq!(pool(&router, b"other", b"/"), None);
    }

    #[test]
    fn hosts_are_compared_without_case_and_port() {
        let router = router(&[(Some("api.example.com"), None), (Some("[::1]"), None)]);
        assert_eq!(pool(&router, b"API.Example.COM:8080", b"/"), Some(0));
        assert_eq!(pool(&router, b"[::1]:8080", b"/"), Some(1));
        assert_eq!(pool(&router, b"[::1]", b"/"), Some(1));
        assert_eq!(pool(&router, b"xapi.example.com", b"/"), None);
        assert_eq!(pool(&router, b"", b"/"), None);
    }

    #[test]
    fn a_star_stands_for_any_subdomain_but_not_for_none() {
        let router = router(&[(Some("*.example.com"), None)]);
        assert_eq!(pool(&router, b"a.example.com", b"/"), Some(0));
        assert_eq!(pool(&router, b"a.b.EXAMPLE.com:1", b"/"), Some(0));
        assert_eq!(pool(&router, b"example.com", b"/"), None);
        assert_eq!(pool(&router, b".example.com", b"/"), None);
        assert_eq!(pool(&router, b"badexample.com", b"/"), None);
    }

    #[test]
    fn a_path_matches_at_segment_borders() {
        let router = router(&[(None, Some("/v1"))]);
        for (path, found) in [
            ("/v1", true),
            ("/v1/", true),
            ("/v1/x", true),
            ("/v10", false),
            ("/V1", false),
            ("/%761", false),
            ("*", false),
        ] {
            assert_eq!(
                pool(&router, b"h", path.as_bytes()).is_some(),
                found,
                "{path}"
            );
        }
        let slash = self::router(&[(None, Some("/v1/"))]);
        assert_eq!(pool(&slash, b"h", b"/v1/x"), Some(0));
        assert_eq!(pool(&slash, b"h", b"/v1"), None);
        assert_eq!(
            pool(&self::router(&[(None, Some("/"))]), b"h", b"/x"),
            Some(0)
        );
        assert_eq!(pool(&self::router(&[(None, None)]), b"h", b"*"), Some(0));
    }
}
