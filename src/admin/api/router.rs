//! Every path of the API with its methods, in one table.

use std::pin::Pin;

use http::header::{self, HeaderValue};
use http::{Method, StatusCode};
use percent_encoding::percent_decode_str;

use super::{
    Api, ApiRequest, description, drain, event_stream, events, explain, history, hosts, log_level,
    metrics, pools, process, reload,
};
use crate::admin::dashboard;
use crate::admin::response::ApiResponse;

/// What a request must be allowed to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RequiredAccess {
    /// Nothing: it tells nobody anything that is worth keeping.
    Open,
    /// To read.
    Read,
    /// To change something.
    Write,
}

/// An answer that is awaited.
pub(crate) type ResponseFuture<'a> =
    Pin<Box<dyn Future<Output = Result<ApiResponse, ApiResponse>> + Send + 'a>>;

/// What answers; the error is an answer, too.
#[derive(Clone, Copy)]
pub(crate) enum Handler {
    /// At once.
    Sync(fn(&Api, &ApiRequest) -> Result<ApiResponse, ApiResponse>),
    /// After a while.
    Async(for<'a> fn(&'a Api, &'a ApiRequest) -> ResponseFuture<'a>),
}

/// A path with a method.
pub(crate) struct ApiRoute {
    pub(crate) method: Method,
    /// A segment in braces stands for any one, and is passed on decoded.
    pub(crate) path: &'static str,
    pub(crate) access: RequiredAccess,
    pub(crate) handler: Handler,
}

use Handler::{Async, Sync};
use RequiredAccess::{Open, Read, Write};

const fn get(path: &'static str, access: RequiredAccess, handler: Handler) -> ApiRoute {
    route(Method::GET, path, access, handler)
}

const fn post(path: &'static str, access: RequiredAccess, handler: Handler) -> ApiRoute {
    route(Method::POST, path, access, handler)
}

const fn route(
    method: Method,
    path: &'static str,
    access: RequiredAccess,
    handler: Handler,
) -> ApiRoute {
    ApiRoute {
        method,
        path,
        access,
        handler,
    }
}

const HOSTS: &str = "/api/v1/pools/{pool}/hosts";
const HOST: &str = "/api/v1/pools/{pool}/hosts/{host}";

/// All of them. HEAD is taken wherever GET is.
pub(crate) const ROUTES: &[ApiRoute] = &[
    get("/healthz", Open, Sync(process::alive)),
    get("/ready", Open, Sync(process::ready)),
    get("/metrics", Read, Sync(metrics::all)),
    get("/api/v1/version", Read, Sync(process::version)),
    get("/api/v1/status", Read, Sync(process::status)),
    get("/api/v1/pools", Read, Sync(pools::all)),
    get("/api/v1/pools/{pool}", Read, Sync(pools::one)),
    post(
        HOSTS,
        Write,
        Async(|api, request| Box::pin(hosts::add(api, request))),
    ),
    get(HOST, Read, Sync(pools::host)),
    route(
        Method::PATCH,
        HOST,
        Write,
        Async(|api, request| Box::pin(hosts::set_weight(api, request))),
    ),
    route(
        Method::DELETE,
        HOST,
        Write,
        Async(|api, request| Box::pin(hosts::remove(api, request))),
    ),
    post(
        "/api/v1/pools/{pool}/hosts/{host}/drain",
        Write,
        Sync(hosts::drain),
    ),
    post(
        "/api/v1/pools/{pool}/hosts/{host}/undrain",
        Write,
        Sync(hosts::undrain),
    ),
    get("/api/v1/events", Read, Sync(events::after)),
    // It changes nothing, and describes what it asks about in a body.
    post(super::API_EXPLAIN, Read, Sync(explain::explain)),
    get("/api/v1/history", Read, Sync(history::all)),
    get("/api/v1/stream", Read, Sync(event_stream::open)),
    get("/", Read, Sync(dashboard::page)),
    get("/dashboard/style.css", Read, Sync(dashboard::style)),
    get("/dashboard/text.js", Read, Sync(dashboard::text)),
    get("/dashboard/chart.js", Read, Sync(dashboard::chart)),
    get("/dashboard/view.js", Read, Sync(dashboard::view)),
    get("/dashboard/pools.js", Read, Sync(dashboard::pools)),
    get("/dashboard/script.js", Read, Sync(dashboard::script)),
    get("/favicon.svg", Read, Sync(dashboard::icon)),
    get("/api/v1/config", Read, Sync(description::config)),
    get("/api/v1/openapi.yaml", Read, Sync(description::openapi)),
    get(super::API_LOG_LEVEL, Read, Sync(log_level::get)),
    route(
        Method::PUT,
        super::API_LOG_LEVEL,
        Write,
        Sync(log_level::set),
    ),
    get(
        super::API_PREVIEW,
        Read,
        Async(|api, request| Box::pin(reload::preview(api, request))),
    ),
    post(
        super::API_RELOAD,
        Write,
        Async(|api, _| Box::pin(reload::reload(api))),
    ),
    post(super::API_DRAIN, Write, Sync(drain::drain)),
    post(super::API_UNDRAIN, Write, Sync(drain::undrain)),
];

/// The route of a request, and what stands in the place of the segments in braces.
pub(super) fn find(
    method: &Method,
    path: &str,
) -> Result<(&'static ApiRoute, Vec<String>), ApiResponse> {
    let mut allowed = Vec::new();
    for route in ROUTES {
        let Some(segments) = match_template(route.path, path) else {
            continue;
        };
        let reads = route.method == Method::GET && *method == Method::HEAD;
        if route.method == *method || reads {
            return Ok((route, decode_segments(&segments)?));
        }
        allowed.push(route.method.as_str());
        if route.method == Method::GET {
            allowed.push(Method::HEAD.as_str());
        }
    }
    if allowed.is_empty() {
        return Err(ApiResponse::error(
            StatusCode::NOT_FOUND,
            format!("there is no path `{}`", path.escape_debug()),
        ));
    }
    let allowed = allowed.join(", ");
    let refusal = ApiResponse::error(
        StatusCode::METHOD_NOT_ALLOWED,
        format!("only {allowed} here"),
    );
    Err(match HeaderValue::from_str(&allowed) {
        Ok(value) => refusal.with_header(header::ALLOW, value),
        Err(_) => refusal,
    })
}

/// What stands in the place of the template's segments in braces; `None` if the path is another one.
fn match_template<'a>(template: &str, path: &'a str) -> Option<Vec<&'a str>> {
    let mut captures = Vec::new();
    let (mut expected, mut segments) = (template.split('/'), path.split('/'));
    loop {
        match (expected.next(), segments.next()) {
            (None, None) => return Some(captures),
            (Some(expected), Some(segment)) if expected.starts_with('{') && !segment.is_empty() => {
                captures.push(segment);
            }
            (Some(expected), Some(segment)) if expected == segment => {}
            _ => return None,
        }
    }
}

fn decode_segments(segments: &[&str]) -> Result<Vec<String>, ApiResponse> {
    let texts = segments.iter().map(|segment| {
        let text = percent_decode_str(segment).decode_utf8();
        text.map(String::from).map_err(|_| {
            ApiResponse::error(
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
            match_template(template, "/pools/a/hosts/b%3A1"),
            Some(vec!["a", "b%3A1"])
        );
        for other in [
            "/pools/a/hosts",
            "/pools/a/hosts/",
            "/pools/a/hosts/b/c",
            "/",
        ] {
            assert_eq!(match_template(template, other), None, "{other}");
        }
        assert_eq!(match_template("/ready", "/ready"), Some(Vec::new()));
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
            let hides = |other: &&ApiRoute| {
                other.method == route.method && match_template(other.path, route.path).is_some()
            };
            assert!(
                !ROUTES[..index].iter().any(|other| hides(&other)),
                "{}",
                route.path
            );
        }
    }
}
