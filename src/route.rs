//! Routing: which requests go to which pool, by the routes of the configuration in its order.
//!
//! Names and paths are compared in normalized form, so that no other spelling bypasses a route.

use std::net::Ipv6Addr;

use crate::config::{self, Ambiguous, begins_with_segments};
use crate::normalize;

/// The routes; the first that matches wins.
#[derive(Debug)]
pub struct Router {
    routes: Vec<RouteMatcher>,
    ambiguous: Ambiguous,
}

/// The path is refused, because hosts could read it as a path of another route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AmbiguousPath;

#[derive(Debug)]
struct RouteMatcher {
    host: HostPattern,
    /// What the path must begin with; empty matches everything.
    path: Box<[u8]>,
    /// Whether the route has `allow`, `deny` or `rate`.
    restricted: bool,
}

#[derive(Debug)]
enum HostPattern {
    Any,
    /// An IPv6 literal, which has many spellings.
    Address(Ipv6Addr),
    Exact(Box<[u8]>),
    /// `.example.com` for `*.example.com`: the suffix of matching names.
    Subdomain(Box<[u8]>),
}

impl Router {
    /// The routes of a configuration, and the policy for ambiguous paths.
    pub fn new(routes: &[config::Route], ambiguous: Ambiguous) -> Self {
        let routes = routes.iter().map(|route| RouteMatcher {
            host: match route.matches.host.as_deref() {
                None => HostPattern::Any,
                Some(name) => match (name.strip_prefix('*'), address(name.as_bytes())) {
                    (Some(parent), _) => HostPattern::Subdomain(parent.as_bytes().into()),
                    (None, Some(address)) => HostPattern::Address(address),
                    (None, None) => HostPattern::Exact(name.as_bytes().into()),
                },
            },
            path: route
                .matches
                .path
                .as_deref()
                .unwrap_or_default()
                .as_bytes()
                .into(),
            restricted: route.rate.is_some()
                || !(route.access.allow.is_empty() && route.access.deny.is_empty()),
        });
        Router {
            routes: routes.collect(),
            ambiguous,
        }
    }

    /// The route for a request to `authority` (a Host field, with or without port) and `path` (the bytes on the wire,
    /// without the query), as an index into the routes of the configuration.
    ///
    /// # Errors
    /// If hosts could read the path in several ways, and the policy refuses it.
    pub fn find(&self, authority: &[u8], path: &[u8]) -> Result<Option<usize>, AmbiguousPath> {
        let host = normalize::host(authority);
        let normal = normalize::path(path);
        if normal.ambiguous && self.refuses_ambiguous(&host) {
            return Err(AmbiguousPath);
        }
        let mut routes = self.routes.iter();
        Ok(routes.position(|route| {
            route.host.matches(&host) && begins_with_segments(&normal.path, &route.path)
        }))
    }

    /// Whether an ambiguous path for `host` is refused. The path may stand for any path, so any route for the host
    /// counts.
    fn refuses_ambiguous(&self, host: &[u8]) -> bool {
        match self.ambiguous {
            Ambiguous::Auto => self
                .routes
                .iter()
                .any(|route| route.restricted && route.host.matches(host)),
            Ambiguous::Reject => true,
            Ambiguous::Pass => false,
        }
    }
}

impl HostPattern {
    fn matches(&self, host: &[u8]) -> bool {
        match self {
            HostPattern::Any => true,
            HostPattern::Address(expected) => address(host) == Some(*expected),
            HostPattern::Exact(name) => host.eq_ignore_ascii_case(name),
            HostPattern::Subdomain(parent) => host
                .len()
                .checked_sub(parent.len())
                .is_some_and(|at| at > 0 && host[at..].eq_ignore_ascii_case(parent)),
        }
    }
}

/// The address of an IPv6 literal with its brackets.
fn address(host: &[u8]) -> Option<Ipv6Addr> {
    let bare = host.strip_prefix(b"[")?.strip_suffix(b"]")?;
    str::from_utf8(bare).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn router(routes: &[(Option<&str>, Option<&str>)]) -> Router {
        let routes: Vec<_> = routes
            .iter()
            .enumerate()
            .map(|(index, (host, path))| {
                let name = String::new();
                let mut route = config::Route::to_pool(config::PoolRef { name, index });
                route.matches.host = host.map(str::to_owned);
                route.matches.path = path.map(str::to_owned);
                route
            })
            .collect();
        Router::new(&routes, Ambiguous::Auto)
    }

    fn pool(router: &Router, authority: &[u8], path: &[u8]) -> Option<usize> {
        router.find(authority, path).expect("no ambiguous path")
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
    fn a_wildcard_matches_any_subdomain_but_not_the_parent() {
        let router = router(&[(Some("*.example.com"), None)]);
        assert_eq!(pool(&router, b"a.example.com", b"/"), Some(0));
        assert_eq!(pool(&router, b"a.b.EXAMPLE.com:1", b"/"), Some(0));
        assert_eq!(pool(&router, b"example.com", b"/"), None);
        assert_eq!(pool(&router, b".example.com", b"/"), None);
        assert_eq!(pool(&router, b"badexample.com", b"/"), None);
    }

    #[test]
    fn a_path_matches_at_segment_boundaries() {
        let router = router(&[(None, Some("/v1"))]);
        for (path, found) in [
            ("/v1", true),
            ("/v1/", true),
            ("/v1/x", true),
            ("/v10", false),
            ("/V1", false),
            ("/%761", true),
            ("/%76%31%30", false),
            ("//v1", true),
            ("/V1/../v1/x", true),
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
