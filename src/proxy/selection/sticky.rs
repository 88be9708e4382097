//! The affinity cookie: read from requests, set on responses.

use std::time::SystemTime;

use super::hash_key::cookie;
use crate::config::{SameSite, Secure, Sticky as Cookie};
use crate::message::RequestView;
use crate::pool::{Affinity, StickyTokens};
use crate::proxy::context::RequestContext;

/// The host named by the affinity cookie of a request.
pub(crate) fn affinity(request: RequestView<'_>, sticky: &StickyTokens) -> Option<Affinity> {
    let token = cookie(request, &sticky.config().cookie)?;
    sticky.read(token, SystemTime::now())
}

/// The Set-Cookie field that names the current host in a sticky pool. `None`: the client already has this cookie.
/// `tls`: whether the client's connection is encrypted.
pub(crate) fn set_cookie(
    request: RequestView<'_>,
    tls: bool,
    ctx: &RequestContext,
) -> Option<String> {
    let (sticky, lease) = (ctx.pool().sticky()?, ctx.lease.as_ref()?);
    let host = lease.member().host().id();
    if ctx.affinity_host.as_ref() == Some(host) {
        return None;
    }
    let https = ctx.is_https(request, tls);
    let token = sticky.token(host, SystemTime::now());
    Some(with_attributes(sticky.config(), &token, https))
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
            secret_file: None,
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
