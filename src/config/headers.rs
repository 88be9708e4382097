//! `headers`: what becomes of header fields on the way.

use http::header::{self, HeaderName};
use serde_json::json;

use super::document::Node;
use super::field_name::{self, is_framing};
use super::hints::quote;
use super::scalars::is_token;
use super::schema::{List, Reader, Scalar, choice, list, map_of, or_word, scalar, section};

const MAX_PSEUDONYM_BYTES: usize = 64;
/// Names in one list; each field of each request is compared with all of them.
const MAX_NAMES: usize = 64;
/// Fields that this proxy sets, so that a client's own cannot pass.
pub(super) const PROXY_FIELDS: [&str; 11] = [
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-real-ip",
    "x-ssl-client-verify",
    "x-ssl-client-subject-dn",
    "x-ssl-client-issuer-dn",
    "x-ssl-client-serial",
    "x-ssl-client-fingerprint",
    "x-ssl-client-not-after",
];

section! {
    /// What becomes of header fields on the way.
    pub struct Headers: Eq {
        /// Request fields with `_` in their names. Many applications take X_Real_IP for X-Real-IP, so a client could pass
        /// by a program that checks or sets the latter. `drop`: hosts do not see them. `pass`: they do.
        underscores: Underscores {
            choice(&[("drop", Underscores::Drop), ("pass", Underscores::Pass)]),
            default "drop"
        },
        /// The name that is added to the Via field of requests and responses; `none`: nothing is added. An nginx behind
        /// this proxy compresses responses to requests with Via only with `gzip_proxied any`.
        via: Option<String> { or_word("none", pseudonym()), default "ballast" },
        /// Fields by which a client could claim to be another one. From peers outside of `trusted_proxies` these are
        /// dropped, also with `_` for `-`: X-Forwarded-*, Forwarded, X-Real-IP, X-Client-IP, True-Client-IP,
        /// X-Cluster-Client-IP, Client-IP, X-SSL-Client-*, Proxy.
        client_identity: ClientIdentity { map_of::<ClientIdentity>(), default "{}" },
    }
}

section! {
    /// `headers.client_identity`: fields by which a client could claim to be another one.
    pub struct ClientIdentity: Eq, Default {
        /// Further fields that are dropped, such as CF-Connecting-IP or X-Original-URL.
        drop: Vec<HeaderName> { names(dropped), default "[]" },
        /// Fields that pass although they would be dropped by default; not Proxy, nor those that this proxy sets.
        pass: Vec<HeaderName> { names(passed), default "[]" },
    }
    check lists_differ;
}

/// What becomes of a request's fields with `_` in their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Underscores {
    /// They do not reach the host.
    Drop,
    /// They are passed on.
    Pass,
}

fn names(read: fn(&str) -> Result<HeaderName, String>) -> List<Scalar<HeaderName>> {
    let name = scalar("the name of a header field", read, |name: &HeaderName| {
        json!(name.as_str())
    });
    list("names", name).up_to(MAX_NAMES)
}

fn lists_differ(identity: &mut ClientIdentity, map: &Node, reader: &mut Reader<'_>) {
    let ClientIdentity { drop, pass } = identity;
    for name in pass.iter().filter(|name| drop.contains(name)) {
        reader.problem_of_key(map, "pass", format!("`{name}` is in `drop` as well"));
    }
}

fn field_name(text: &str) -> Result<HeaderName, String> {
    if text.starts_with(':') {
        return Err(format!(
            "{} is a pseudo-header of HTTP/2, by which no client can claim to be another one",
            quote(text)
        ));
    }
    Ok(field_name::field_name(text)?.name)
}

fn dropped(text: &str) -> Result<HeaderName, String> {
    let name = field_name(text)?;
    match is_framing(&name) || name == header::HOST {
        true => Err(format!(
            "{} says how a request is sent, and cannot be dropped",
            quote(text)
        )),
        false => Ok(name),
    }
}

fn passed(text: &str) -> Result<HeaderName, String> {
    let name = field_name(text)?;
    let canonical = name.as_str().replace('_', "-");
    if PROXY_FIELDS.contains(&canonical.as_str()) {
        return Err(format!(
            "{} is set by this proxy, so a client's own cannot pass; list the clients that may set it in `trusted_proxies`",
            quote(text)
        ));
    }
    if canonical == "proxy" {
        return Err(format!(
            "{} is taken for the variable HTTP_PROXY by CGI programs, and never passes (httpoxy)",
            quote(text)
        ));
    }
    if !crate::spoofable_headers::is_spoofable(name.as_str().as_bytes()) {
        return Err(format!(
            "{} passes anyway; only a field that is dropped by default can stand here",
            quote(text)
        ));
    }
    Ok(name)
}

/// A name for the Via field.
fn pseudonym() -> Scalar<String> {
    let read = |text: &str| match text.len() <= MAX_PSEUDONYM_BYTES && is_token(text) {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "{} is not a name of letters, digits and `-._`, at most {MAX_PSEUDONYM_BYTES}",
            quote(text)
        )),
    };
    scalar("a name", read, |name| json!(name))
}
