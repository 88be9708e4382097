//! The dashboard: one page with its style, scripts and icon, all compiled into the binary.
//!
//! The page loads its files and its data from this listener only; a content security policy enforces that.

use http::StatusCode;
use http::header::{self, HeaderValue};

use super::api::{Api, ApiRequest};
use super::response::ApiResponse;

/// The content security policy: the page may load only its own files and the API. Inline scripts and styles are
/// forbidden, so a host name that contains markup is harmless.
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

/// A response with a file of the dashboard. Like every response of the API it is not cached: after a handover, the new
/// process may serve other files.
fn file(media_type: &'static str, content: &'static str) -> HandlerResult {
    let policy = HeaderValue::from_static(POLICY);
    let no_referrer = HeaderValue::from_static("no-referrer");
    let response = ApiResponse::new(StatusCode::OK, media_type, content);
    Ok(response
        .with_header(header::CONTENT_SECURITY_POLICY, policy)
        .with_header(header::REFERRER_POLICY, no_referrer))
}
