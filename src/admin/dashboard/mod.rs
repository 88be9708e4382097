//! The dashboard: one page with its style, scripts and icon, all of them within the program.
//!
//! It asks nobody but this listener, and may run nothing but these files; what it shows comes from the API.

use http::StatusCode;
use http::header::{self, HeaderValue};

use super::api::{Api, ApiRequest};
use super::response::ApiResponse;

/// What the page may load, and from where: its own files and the API. Nothing within the page itself counts as a script
/// or a style, so a name of a host that looks like one is harmless.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

type HandlerResult = Result<ApiResponse, ApiResponse>;

pub(super) fn page(_api: &Api, _request: &ApiRequest) -> HandlerResult {
    file("text/html; charset=utf-8", include_str!("page.html"))
}

pub(super) fn style(_api: &Api, _request: &ApiRequest) -> HandlerResult {
    file("text/css; charset=utf-8", include_str!("style.css"))
}

pub(super) fn chart(_api: &Api, _request: &ApiRequest) -> HandlerResult {
    file("text/javascript; charset=utf-8", include_str!("chart.js"))
}

pub(super) fn text(_api: &Api, _request: &ApiRequest) -> HandlerResult {
    file("text/javascript; charset=utf-8", include_str!("text.js"))
}

pub(super) fn view(_api: &Api, _request: &ApiRequest) -> HandlerResult {
    file("text/javascript; charset=utf-8", include_str!("view.js"))
}

pub(super) fn pools(_api: &Api, _request: &ApiRequest) -> HandlerResult {
    file("text/javascript; charset=utf-8", include_str!("pools.js"))
}

pub(super) fn script(_api: &Api, _request: &ApiRequest) -> HandlerResult {
    file("text/javascript; charset=utf-8", include_str!("script.js"))
}

pub(super) fn icon(_api: &Api, _request: &ApiRequest) -> HandlerResult {
    file("image/svg+xml", include_str!("favicon.svg"))
}

/// A file of the page. Like all that this listener says it is not to be stored: a handover may bring other files.
fn file(media_type: &'static str, content: &'static str) -> HandlerResult {
    let policy = HeaderValue::from_static(POLICY);
    let no_referrer = HeaderValue::from_static("no-referrer");
    let response = ApiResponse::new(StatusCode::OK, media_type, content);
    Ok(response
        .with_header(header::CONTENT_SECURITY_POLICY, policy)
        .with_header(header::REFERRER_POLICY, no_referrer))
}
