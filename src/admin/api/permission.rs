//! Who may do what.

use std::net::IpAddr;

use http::header::{self, HeaderValue};
use http::{HeaderMap, StatusCode, Uri};
use subtle::ConstantTimeEq;

use super::Access;
use crate::admin::entrance::Door;
use crate::admin::reply::Reply;
use crate::config::{Admin, Secret};

/// Whether a request for `access` that came through `door` may be answered.
///
/// Over TCP it must have been meant for this listener: a web page could let a name of its own point here and read the
/// answers (DNS rebinding), but it cannot choose another name, nor an address. Writing takes the token, which no browser
/// sends unasked, so no page can make one write.
///
/// # Errors
/// The answer to one that may not.
pub(super) fn permit(
    admin: &Admin,
    uri: &Uri,
    fields: &HeaderMap,
    access: Access,
    door: Door,
) -> Result<(), Reply> {
    if door == Door::Owner || access == Access::Open {
        return Ok(());
    }
    let host = fields.get(header::HOST).map(HeaderValue::as_bytes);
    let host = uri
        .authority()
        .map(|authority| authority.as_str().as_bytes())
        .or(host);
    if let Some(host) = host
        && !is_ours(host, &admin.hosts)
    {
        let shown = String::from_utf8_lossy(host);
        let reason = format!("`{}` is none of admin.hosts", shown.escape_debug());
        return Err(Reply::error(StatusCode::FORBIDDEN, reason));
    }
    match (&admin.token_file, access) {
        (_, Access::Open | Access::Read) => Ok(()),
        (None, Access::Write) => Err(Reply::error(
            StatusCode::FORBIDDEN,
            "reading only here: set admin.token_file",
        )),
        (Some(token), Access::Write) => match bearer(fields) {
            Some(given) if bool::from(given.ct_eq(&token.bytes)) => Ok(()),
            Some(_) => Err(unauthorized("this is not the token")),
            None => Err(unauthorized("this takes the token of admin.token_file")),
        },
    }
}

/// Whether something can be changed through `door`, at least with the token.
pub(super) fn is_writable(token: Option<&Secret>, door: Door) -> bool {
    door == Door::Owner || token.is_some()
}

fn unauthorized(reason: &str) -> Reply {
    let scheme = HeaderValue::from_static("Bearer");
    Reply::error(StatusCode::UNAUTHORIZED, reason).with(header::WWW_AUTHENTICATE, scheme)
}

/// Whether a Host field names an IP address, localhost or one of `names`, with or without a port.
fn is_ours(host: &[u8], names: &[String]) -> bool {
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
fn bearer(fields: &HeaderMap) -> Option<&[u8]> {
    let said = fields.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, token) = said.split_at_checked("Bearer ".len())?;
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
            assert!(is_ours(ours.as_bytes(), &names), "{ours}");
        }
        for other in [
            "evil.example",
            "lb.internal.evil.example:9901",
            "localhost.evil",
            "",
            ":9901",
            "\u{fc}",
        ] {
            assert!(!is_ours(other.as_bytes(), &names), "{other}");
        }
    }

    #[test]
    fn the_token_stands_behind_its_scheme() {
        let fields = |said: &'static str| {
            HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_static(said))])
        };
        assert_eq!(bearer(&fields("bearer abc")), Some(&b"abc"[..]));
        for other in ["Basic abc", "Bearer", "", "abc"] {
            assert_eq!(bearer(&fields(other)), None, "{other}");
        }
    }
}
