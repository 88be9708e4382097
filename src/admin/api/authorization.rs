//! Access control of the API: the Host check and the bearer token.

use std::net::IpAddr;

use http::header::{self, HeaderValue};
use http::{HeaderMap, StatusCode, Uri};
use subtle::ConstantTimeEq;

use super::RequiredAccess;
use crate::admin::api_server::Caller;
use crate::admin::response::ApiResponse;
use crate::config::{Admin, Secret};

/// Checks that a request of `caller` may have `access`.
///
/// Over TCP, the request must name this listener: a web page could point a domain of its own at this address and read
/// the responses (DNS rebinding), but its requests then carry that domain as their Host. Writes need the token, which a
/// browser never sends by itself, so no web page can cause a write.
///
/// # Errors
/// The error response: 401 or 403.
pub(super) fn authorize(
    admin: &Admin,
    uri: &Uri,
    headers: &HeaderMap,
    access: RequiredAccess,
    caller: Caller,
) -> Result<(), ApiResponse> {
    if caller == Caller::Owner || access == RequiredAccess::Open {
        return Ok(());
    }
    let host = headers.get(header::HOST).map(HeaderValue::as_bytes);
    let host = uri
        .authority()
        .map(|authority| authority.as_str().as_bytes())
        .or(host);
    if let Some(host) = host
        && !is_known_host(host, &admin.hosts)
    {
        let shown = String::from_utf8_lossy(host);
        let reason = format!("`{}` is not in admin.hosts", shown.escape_debug());
        return Err(ApiResponse::error(StatusCode::FORBIDDEN, reason));
    }
    match (&admin.token_file, access) {
        (_, RequiredAccess::Open | RequiredAccess::Read) => Ok(()),
        (None, RequiredAccess::Write) => Err(ApiResponse::error(
            StatusCode::FORBIDDEN,
            "this listener is read-only: set admin.token_file to allow writes",
        )),
        (Some(token), RequiredAccess::Write) => match bearer(headers) {
            Some(given) if bool::from(given.ct_eq(&token.bytes)) => Ok(()),
            Some(_) => Err(unauthorized("wrong token")),
            None => Err(unauthorized("this needs the token of admin.token_file")),
        },
    }
}

/// Whether `caller` can make changes, possibly with the token.
pub(super) fn is_writable(token: Option<&Secret>, caller: Caller) -> bool {
    caller == Caller::Owner || token.is_some()
}

fn unauthorized(reason: &str) -> ApiResponse {
    let scheme = HeaderValue::from_static("Bearer");
    ApiResponse::error(StatusCode::UNAUTHORIZED, reason)
        .with_header(header::WWW_AUTHENTICATE, scheme)
}

/// Whether a Host field names an IP address, localhost or one of `names`, with or without a port.
fn is_known_host(host: &[u8], names: &[String]) -> bool {
    let Ok(host) = std::str::from_utf8(host) else {
        return false;
    };
    let host = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    bare.parse::<IpAddr>().is_ok() || host == "localhost" || names.contains(&host)
}

/// The bearer token of a request.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_localhost_and_known_names_are_accepted() {
        let names = ["lb.internal".to_owned()];
        for known in [
            "127.0.0.1:9901",
            "[::1]:9901",
            "localhost",
            "LocalHost.:1",
            "lb.internal:80",
        ] {
            assert!(is_known_host(known.as_bytes(), &names), "{known}");
        }
        for other in [
            "evil.example",
            "lb.internal.evil.example:9901",
            "localhost.evil",
            "",
            ":9901",
            "\u{fc}",
        ] {
            assert!(!is_known_host(other.as_bytes(), &names), "{other}");
        }
    }

    #[test]
    fn the_token_follows_its_scheme() {
        let headers = |value: &'static str| {
            HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_static(value))])
        };
        assert_eq!(bearer(&headers("bearer abc")), Some(&b"abc"[..]));
        for other in ["Basic abc", "Bearer", "", "abc"] {
            assert_eq!(bearer(&headers(other)), None, "{other}");
        }
    }
}
