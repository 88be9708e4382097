//! Who may do what.

use std::net::IpAddr;

use http::header::{self, HeaderValue};
use http::{HeaderMap, StatusCode, Uri};
use subtle::ConstantTimeEq;

use super::RequiredAccess;
use crate::admin::api_server::Caller;
use crate::admin::response::ApiResponse;
use crate::config::{Admin, Secret};

/// Whether a request for `access` that came through `caller` may be answered.
///
/// Over TCP it must have been meant for this listener: a web page could let a name of its own point here and read the
/// answers (DNS rebinding), but it cannot choose another name, nor an address. Writing takes the token, which no browser
/// sends unasked, so no page can make one write.
///
/// # Errors
/// The answer to one that may not.
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
        let reason = format!("`{}` is none of admin.hosts", shown.escape_debug());
        return Err(ApiResponse::error(StatusCode::FORBIDDEN, reason));
    }
    match (&admin.token_file, access) {
        (_, RequiredAccess::Open | RequiredAccess::Read) => Ok(()),
        (None, RequiredAccess::Write) => Err(ApiResponse::error(
            StatusCode::FORBIDDEN,
            "reading only here: set admin.token_file",
        )),
        (Some(token), RequiredAccess::Write) => match bearer(headers) {
            Some(given) if bool::from(given.ct_eq(&token.bytes)) => Ok(()),
            Some(_) => Err(unauthorized("this is not the token")),
            None => Err(unauthorized("this takes the token of admin.token_file")),
        },
    }
}

/// Whether something can be changed through `caller`, at least with the token.
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

/// The token in a request.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_localhost_and_known_names_are_ours() {
        let names = ["lb.internal".to_owned()];
        for ours in [
            "127.0.0.1:9901",
            "[::1]:9901",
            "localhost",
            "LocalHost.:1",
            "lb.internal:80",
        ] {
            assert!(is_known_host(ours.as_bytes(), &names), "{ours}");
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
    fn the_token_stands_behind_its_scheme() {
        let headers = |value: &'static str| {
            HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_static(value))])
        };
        assert_eq!(bearer(&headers("bearer abc")), Some(&b"abc"[..]));
        for other in ["Basic abc", "Bearer", "", "abc"] {
            assert_eq!(bearer(&headers(other)), None, "{other}");
        }
    }
}
