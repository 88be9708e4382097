//! The routes of the API and the dashboard, in one table.

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

/// The access that a route requires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RequiredAccess {
    /// None: the response reveals nothing confidential.
    Open,
    /// Read access.
    Read,
    /// Write access.
    Write,
}

/// The future of an asynchronous handler.
pub(crate) type ResponseFuture<'a> =
    Pin<Box<dyn Future<Output = Result<ApiResponse, ApiResponse>> + Send + 'a>>;

/// Handles the requests of a route. `Err` holds an error response.
#[derive(Clone, Copy)]
pub(crate) enum Handler {
    Sync(fn(&Api, &ApiRequest) -> Result<ApiResponse, ApiResponse>),
    Async(for<'a> fn(&'a Api, &'a ApiRequest) -> ResponseFuture<'a>),
}

/// A method and a path, with the access that they require and their handler.
pub(crate) struct ApiRoute {
    pub(crate) method: Method,
    /// A segment in braces is a parameter: it matches any non-empty segment, and the handler gets it decoded.
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

/// All routes. A GET route accepts HEAD as well.
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
    // POST because the request to explain is in the body; it changes nothing, so read access suffices.
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

/// Finds the route of a request, and decodes its path parameters. The error response is 404 or 405.
pub(super) fn find(
    method: &Method,
    path: &str,
) -> Result<(&'static ApiRoute, Vec<String>), ApiResponse> {
    let mut allowed = Vec::new();
    for route in ROUTES {
        let Some(segments) = match_template(route.path, path) else {
            continue;
        };
        let is_head_of_get = route.method == Method::GET && *method == Method::HEAD;
        if route.method == *method || is_head_of_get {
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
        format!("this path accepts only {allowed}"),
    );
    Err(match HeaderValue::from_str(&allowed) {
        Ok(value) => refusal.with_header(header::ALLOW, value),
        Err(_) => refusal,
    })
}

/// The raw path parameters of a path that matches the template; `None` if it does not match.
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
    fn a_parameter_matches_any_segment() {
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
        // The dashboard is not part of the described API.
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
