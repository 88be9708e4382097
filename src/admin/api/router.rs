//! Every path of the API with its methods, in one table.

use std::pin::Pin;

use http::header::{self, HeaderValue};
use http::{Method, StatusCode};
use percent_encoding::percent_decode_str;

use super::{
    Api, Request, commands, description, drain, events, explain, history, hosts, level, metrics,
    pools, process, stream,
};
use crate::admin::dashboard;
use crate::admin::reply::Reply;

/// What a request must be allowed to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Nothing: it tells nobody anything that is worth keeping.
    Open,
    /// To read.
    Read,
    /// To change something.
    Write,
}

/// An answer that is awaited.
pub(crate) type Answer<'a> = Pin<Box<dyn Future<Output = Result<Reply, Reply>> + Send + 'a>>;

/// What answers; the error is an answer, too.
#[derive(Clone, Copy)]
pub(crate) enum Handler {
    /// At once.
    Now(fn(&Api, &Request) -> Result<Reply, Reply>),
    /// After a while.
    Later(for<'a> fn(&'a Api, &'a Request) -> Answer<'a>),
}

/// A path with a method.
pub(crate) struct Route {
    pub(crate) method: Method,
    /// A segment in braces stands for any one, and is passed on decoded.
    pub(crate) path: &'static str,
    pub(crate) access: Access,
    pub(crate) handler: Handler,
}

use Access::{Open, Read, Write};
use Handler::{Later, Now};

const fn get(path: &'static str, access: Access, handler: Handler) -> Route {
    route(Method::GET, path, access, handler)
}

const fn post(path: &'static str, access: Access, handler: Handler) -> Route {
    route(Method::POST, path, access, handler)
}

const fn route(method: Method, path: &'static str, access: Access, handler: Handler) -> Route {
    Route {
        method,
        path,
        access,
        handler,
    }
}

const HOSTS: &str = "/api/v1/pools/{pool}/hosts";
const HOST: &str = "/api/v1/pools/{pool}/hosts/{host}";

/// All of them. HEAD is taken wherever GET is.
pub(crate) const ROUTES: &[Route] = &[
    get("/healthz", Open, Now(process::alive)),
    get("/ready", Open, Now(process::ready)),
    get("/metrics", Read, Now(metrics::all)),
    get("/api/v1/version", Read, Now(process::version)),
    get("/api/v1/status", Read, Now(process::status)),
    get("/api/v1/pools", Read, Now(pools::all)),
    get("/api/v1/pools/{pool}", Read, Now(pools::one)),
    post(
        HOSTS,
        Write,
        Later(|api, request| Box::pin(hosts::add(api, request))),
    ),
    get(HOST, Read, Now(pools::host)),
    route(
        Method::PATCH,
        HOST,
        Write,
        Later(|api, request| Box::pin(hosts::weigh(api, request))),
    ),
    route(
        Method::DELETE,
        HOST,
        Write,
        Later(|api, request| Box::pin(hosts::remove(api, request))),
    ),
    post(
        "/api/v1/pools/{pool}/hosts/{host}/drain",
        Write,
        Now(hosts::drain),
    ),
    post(
        "/api/v1/pools/{pool}/hosts/{host}/undrain",
        Write,
        Now(hosts::undrain),
    ),
    get("/api/v1/events", Read, Now(events::after)),
    // It changes nothing, and describes what it asks about in a body.
    post(super::API_EXPLAIN, Read, Now(explain::explain)),
    get("/api/v1/history", Read, Now(history::all)),
    get("/api/v1/stream", Read, Now(stream::follow)),
    get("/", Read, Now(dashboard::page)),
    get("/dashboard/style.css", Read, Now(dashboard::style)),
    get("/dashboard/text.js", Read, Now(dashboard::text)),
    get("/dashboard/chart.js", Read, Now(dashboard::chart)),
    get("/dashboard/view.js", Read, Now(dashboard::view)),
    get("/dashboard/pools.js", Read, Now(dashboard::pools)),
    get("/dashboard/script.js", Read, Now(dashboard::script)),
    get("/favicon.svg", Read, Now(dashboard::icon)),
    get("/api/v1/config", Read, Now(description::config)),
    get("/api/v1/openapi.yaml", Read, Now(description::openapi)),
    get(super::API_LOG_LEVEL, Read, Now(level::told)),
    route(Method::PUT, super::API_LOG_LEVEL, Write, Now(level::set)),
    get(
        super::API_PREVIEW,
        Read,
        Later(|api, request| Box::pin(commands::preview(api, request))),
    ),
    post(
        super::API_RELOAD,
        Write,
        Later(|api, _| Box::pin(commands::reload(api))),
    ),
    post(super::API_DRAIN, Write, Now(drain::drain)),
    post(super::API_UNDRAIN, Write, Now(drain::undrain)),
];

/// The route of a request, and what stands in the place of the segments in braces.
pub(super) fn find(method: &Method, path: &str) -> Result<(&'static Route, Vec<String>), Reply> {
    let mut allowed = Vec::new();
    for route in ROUTES {
        let Some(segments) = matched(route.path, path) else {
            continue;
        };
        let reads = route.method == Method::GET && *method == Method::HEAD;
        if route.method == *method || reads {
            return Ok((route, decoded(&segments)?));
        }
        allowed.push(route.method.as_str());
        if route.method == Method::GET {
            allowed.push(Method::HEAD.as_str());
        }
    }
    if allowed.is_empty() {
        return Err(Reply::error(
            StatusCode::NOT_FOUND,
            format!("there is no path `{}`", path.escape_debug()),
        ));
    }
    let allowed = allowed.join(", ");
    let refusal = Reply::error(
        StatusCode::METHOD_NOT_ALLOWED,
        format!("only {allowed} here"),
    );
    Err(match HeaderValue::from_str(&allowed) {
        Ok(value) => refusal.with(header::ALLOW, value),
        Err(_) => refusal,
    })
}

/// What stands in the place of the template's segments in braces; `None` if the path is another one.
fn matched<'a>(template: &str, path: &'a str) -> Option<Vec<&'a str>> {
    let mut found = Vec::new();
    let (mut wanted, mut segments) = (template.split('/'), path.split('/'));
    loop {
        match (wanted.next(), segments.next()) {
            (None, None) => return Some(found),
            (Some(wanted), Some(segment)) if wanted.starts_with('{') && !segment.is_empty() => {
                found.push(segment);
            }
            (Some(wanted), Some(segment)) if wanted == segment => {}
            _ => return None,
        }
    }
}

fn decoded(segments: &[&str]) -> Result<Vec<String>, Reply> {
    let texts = segments.iter().map(|segment| {
        let text = percent_decode_str(segment).decode_utf8();
        text.map(String::from).map_err(|_| {
            Reply::error(
                StatusCode::BAD_REQUEST,
                format!("`{}` is not UTF-8", segment.escape_debug()),
            )
        })
    });
    texts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_in_braces_stand_for_any_one() {
        let template = "/pools/{pool}/hosts/{host}";
        assert_eq!(
            matched(template, "/pools/a/hosts/b%3A1"),
            Some(vec!["a", "b%3A1"])
        );
        for other in [
            "/pools/a/hosts",
            "/pools/a/hosts/",
            "/pools/a/hosts/b/c",
            "/",
        ] {
            assert_eq!(matched(template, other), None, "{other}");
        }
        assert_eq!(matched("/ready", "/ready"), Some(Vec::new()));
    }

    #[test]
    fn the_description_has_every_route_and_no_other() {
        let description: serde_json::Value =
            serde_yaml::from_str(super::super::description::OPENAPI).expect("YAML");
        let paths = description["paths"].as_object().expect("paths");
        let described = paths.iter().flat_map(|(path, methods)| {
            let methods = methods.as_object().expect("methods").keys();
            methods.map(move |method| format!("{} {path}", method.to_uppercase()))
        });
        let mut described = Vec::from_iter(described);
        // The page and its parts are for people.
        let page =
            |path: &str| path == "/" || path == "/favicon.svg" || path.starts_with("/dashboard/");
        let routes = ROUTES.iter().filter(|route| !page(route.path));
        let mut served =
            Vec::from_iter(routes.map(|route| format!("{} {}", route.method, route.path)));
        described.sort();
        served.sort();
        assert_eq!(described, served);
    }

    #[test]
    fn no_route_hides_another() {
        for (index, route) in ROUTES.iter().enumerate() {
            let hides = |other: &&Route| {
                other.method == route.method && matched(other.path, route.path).is_some()
            };
            assert!(
                !ROUTES[..index].iter().any(|other| hides(&other)),
                "{}",
                route.path
            );
        }
    }
}
