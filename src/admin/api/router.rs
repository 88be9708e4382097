//! The routes of the API and the dashboard, in one table.

use std::pin::Pin;
use std::sync::LazyLock;

use http::header::{self, HeaderValue};
use http::{Method, StatusCode};
use matchit::{Params, Router};
use percent_encoding::percent_decode_str;

use super::{
    Api, ApiRequest, certificates, cluster, description, drain, event_stream, events, explain,
    history, hosts, log_level, maintenance, metrics, plan, pools, process, reload,
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

const MAINTENANCE: &str = "/api/v1/pools/{pool}/maintenance";
const HOSTS: &str = "/api/v1/pools/{pool}/hosts";
const HOST: &str = "/api/v1/pools/{pool}/hosts/{host}";

/// All routes. A GET route accepts HEAD as well.
pub(crate) const ROUTES: &[ApiRoute] = &[
    get("/healthz", Open, Sync(process::alive)),
    get("/ready", Open, Sync(process::ready)),
    get("/metrics", Read, Sync(metrics::all)),
    get("/api/v1/version", Read, Sync(process::version)),
    get(super::API_STATUS, Read, Sync(process::status)),
    get("/api/v1/certificates", Read, Sync(certificates::all)),
    get("/api/v1/cluster", Read, Sync(cluster::status)),
    get("/api/v1/pools", Read, Sync(pools::all)),
    get("/api/v1/pools/{pool}", Read, Sync(pools::one)),
    route(
        Method::PUT,
        MAINTENANCE,
        Write,
        Async(|api, request| Box::pin(maintenance::begin(api, request))),
    ),
    route(
        Method::DELETE,
        MAINTENANCE,
        Write,
        Async(|api, request| Box::pin(maintenance::end(api, request))),
    ),
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
        Async(|api, request| Box::pin(hosts::drain(api, request))),
    ),
    post(
        "/api/v1/pools/{pool}/hosts/{host}/undrain",
        Write,
        Async(|api, request| Box::pin(hosts::undrain(api, request))),
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
    get(
        super::API_PLAN,
        Read,
        Async(|api, request| Box::pin(plan::plan(api, request))),
    ),
    post(
        super::API_RELOAD,
        Write,
        Async(|api, request| Box::pin(reload::reload(api, request))),
    ),
    post(
        super::API_DRAIN,
        Write,
        Async(|api, request| Box::pin(drain::drain(api, request))),
    ),
    post(
        super::API_UNDRAIN,
        Write,
        Async(|api, request| Box::pin(drain::undrain(api, request))),
    ),
];

/// The routes by path. Routes with the same path are neighbours in [`ROUTES`].
static ROUTER: LazyLock<Router<&[ApiRoute]>> = LazyLock::new(|| {
    let mut router = Router::new();
    for routes in ROUTES.chunk_by(|one, other| one.path == other.path) {
        let inserted = router.insert(routes[0].path, routes);
        inserted.expect("no route of the table conflicts with another");
    }
    router
});

/// Finds the route of a request, and decodes its path parameters. The error response is 404 or 405.
pub(super) fn find(
    method: &Method,
    path: &str,
) -> Result<(&'static ApiRoute, Vec<String>), ApiResponse> {
    let matched = ROUTER.at(path).map_err(|_| {
        let reason = format!("there is no path `{}`", path.escape_debug());
        ApiResponse::error(StatusCode::NOT_FOUND, reason)
    })?;
    let handles = |route: &&ApiRoute| {
        let is_head_of_get = route.method == Method::GET && *method == Method::HEAD;
        route.method == *method || is_head_of_get
    };
    match matched.value.iter().find(handles) {
        Some(route) => Ok((route, decode_parameters(&matched.params)?)),
        None => Err(method_not_allowed(matched.value)),
    }
}

fn method_not_allowed(routes: &[ApiRoute]) -> ApiResponse {
    let methods = routes.iter().map(|route| match route.method {
        Method::GET => "GET, HEAD",
        _ => route.method.as_str(),
    });
    let allowed = Vec::from_iter(methods).join(", ");
    let reason = format!("this path accepts only {allowed}");
    let rejection = ApiResponse::error(StatusCode::METHOD_NOT_ALLOWED, reason);
    match HeaderValue::from_str(&allowed) {
        Ok(value) => rejection.with_header(header::ALLOW, value),
        Err(_) => rejection,
    }
}

fn decode_parameters(parameters: &Params<'_, '_>) -> Result<Vec<String>, ApiResponse> {
    let texts = parameters.iter().map(|(_, value)| {
        let text = percent_decode_str(value).decode_utf8();
        text.map(String::from).map_err(|_| {
            let reason = format!("`{}` is not UTF-8", value.escape_debug());
            ApiResponse::error(StatusCode::BAD_REQUEST, reason)
        })
    });
    texts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_matches_any_segment() {
        let host = find(&Method::GET, "/api/v1/pools/a/hosts/b%3A1");
        let (route, parameters) = host.expect("it is a route");
        assert_eq!(route.path, HOST);
        assert_eq!(parameters, ["a", "b:1"]);
        for other in ["/api/v1/pools/", "/api/v1/pools/a/hosts/b/c", "/api", ""] {
            assert!(find(&Method::GET, other).is_err(), "{other}");
        }
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
}
