//! The cookie that keeps a client with its host: found in requests, set with answers.

use std::time::SystemTime;

use http::header;
use pingora::Result;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::proxy::Session;

use super::context::RequestContext;
use super::is_over_tls;
use super::key::cookie;
use crate::balancer::HostId;
use crate::config::{SameSite, Secure, Sticky as Cookie};
use crate::pool::{Claim, Sticky};

/// What the cookie of a request says.
pub(super) fn claim(request: &RequestHeader, sticky: &Sticky) -> Option<Claim> {
    let token = cookie(request, &sticky.config().cookie)?;
    sticky.read(token, SystemTime::now())
}

/// Gives the client the cookie of its host in a sticky pool, unless it has it.
pub(super) fn keep(
    session: &Session,
    response: &mut ResponseHeader,
    ctx: &RequestContext,
) -> Result<()> {
    let (Some(sticky), Some(lease)) = (ctx.pool().sticky(), &ctx.lease) else {
        return Ok(());
    };
    let host = lease.member().host().id();
    if ctx.kept_with.as_ref() == Some(host) {
        return Ok(());
    }
    let tls = is_over_tls(session);
    let fields = &session.req_header().headers;
    let https = ctx
        .origin
        .map_or(tls, |origin| origin.is_https(fields, tls));
    set(response, sticky, host, https)
}

/// Adds the cookie for a client of `host`, beside those of the host itself. `https`: the client's request came over TLS.
fn set(response: &mut ResponseHeader, sticky: &Sticky, host: &HostId, https: bool) -> Result<()> {
    let token = sticky.token(host, SystemTime::now());
    let cookie = with_attributes(sticky.config(), &token, https);
    response.append_header(header::SET_COOKIE, cookie)?;
    Ok(())
}

fn with_attributes(cookie: &Cookie, token: &str, https: bool) -> String {
    let name = &cookie.cookie;
    let age = cookie.ttl.as_secs();
    let http_only = if cookie.http_only { "; HttpOnly" } else { "" };
    let secure = match cookie.secure {
        Secure::Always => true,
        Secure::Auto => https,
        Secure::Never => false,
    };
    let secure = if secure { "; Secure" } else { "" };
    let same_site = match cookie.same_site {
        SameSite::Strict => "Strict",
        SameSite::Lax => "Lax",
        SameSite::None => "None",
    };
    format!("{name}={token}; Path=/; Max-Age={age}{http_only}{secure}; SameSite={same_site}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_attributes_are_those_of_the_configuration() {
        let cookie = Cookie {
            cookie: "c".to_owned(),
            ttl: Duration::from_millis(90_500),
            secure: Secure::Auto,
            http_only: true,
            same_site: SameSite::Lax,
            secret: None,
        };
        assert_eq!(
            with_attributes(&cookie, "t", false),
            "c=t; Path=/; Max-Age=90; HttpOnly; SameSite=Lax"
        );
        assert_eq!(
            with_attributes(&cookie, "t", true),
            "c=t; Path=/; Max-Age=90; HttpOnly; Secure; SameSite=Lax"
        );
        let open = Cookie {
            secure: Secure::Never,
            http_only: false,
            same_site: SameSite::Strict,
            ..cookie.clone()
        };
        assert_eq!(
            with_attributes(&open, "t", true),
            "c=t; Path=/; Max-Age=90; SameSite=Strict"
        );
        let foreign = Cookie {
            secure: Secure::Always,
            same_site: SameSite::None,
            ..cookie
        };
        assert_eq!(
            with_attributes(&foreign, "t", false),
            "c=t; Path=/; Max-Age=90; HttpOnly; Secure; SameSite=None"
        );
    }
}
