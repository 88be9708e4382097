//! `basic_auth` and `auth`: which clients a route lets in, by who they are.

use std::fmt;
use std::time::Duration;

use http::Uri;
use http::header::{HOST, HeaderName};
use serde_json::json;

use super::action::{PoolRef, pool};
use crate::config::document::Node;
use crate::config::field_name::{FieldName, editable_field};
use crate::config::headers::PROXY_FIELDS;
use crate::config::hints::quote;
use crate::config::password_file::{PasswordFile, password_file};
use crate::config::schema::{List, Reader, Scalar, list, map_of, scalar, section, time};
use crate::config::url::{Endpoint, has_user, parse_url};

/// The longest realm, in bytes.
const MAX_REALM: usize = 255;

/// Names in `copy_headers`.
const MAX_COPIED: usize = 64;

section! {
    /// How clients of a route tell who they are: at most one of these keys.
    pub struct Authentication: Eq, Default {
        /// Clients have to give a name and a password (HTTP Basic), before the route does anything. They are as readable as
        /// everything else in the request, so serve such a route over https alone. They reach the hosts too. A map, or the
        /// file alone.
        basic_auth: Option<BasicAuth> { map_of::<BasicAuth>().short_for("file"), optional "/etc/ballast/users" },
        /// A service decides about each request, before the route does anything. It gets a GET with the client's header fields
        /// and X-Forwarded-Method, -Uri, -Host, -Proto and -For, but without the body. A response with 2xx lets the request
        /// in; any other, of up to 64 KiB, goes to the client. If there is no valid one in time, the client gets 503.
        auth: Option<ForwardAuth> {
            map_of::<ForwardAuth>().with_hint(|_| Some("it as in `{ url: http://127.0.0.1:9091/verify }`")),
            optional ""
        },
    }
    check one_way;
}

section! {
    /// `basic_auth`: names and passwords.
    pub struct BasicAuth: Eq {
        /// The file with the users, as `htpasswd -B` writes it: a line with a name, a colon and a bcrypt hash for each. It is
        /// read again at each reload; at most 1 MiB, and costs up to 14. Passwords of more than 72 bytes are refused, because
        /// bcrypt would not look at the rest.
        file: PasswordFile { password_file(), required "/etc/ballast/users" },
        /// What browsers may show to say what the password is for. One password holds for all URLs with the same realm.
        realm: String { realm(), default "restricted" },
    }
}

section! {
    /// `auth`: a service that decides about requests.
    pub struct ForwardAuth: Eq {
        /// Its URL, http or https. A name is resolved again after 10 s.
        url: Option<Endpoint> { url(), alternative "http://127.0.0.1:9091/verify" },
        /// The pool of its hosts instead; if one fails, another one is asked as the pool's `retries` permit.
        pool: Option<PoolRef> { pool(), optional "auth" },
        /// With `pool`: the path of the requests to it. Without it `/`.
        path: Option<String> { path(), optional "/verify" },
        /// Fields of its response that the host gets. What the client has sent under these names is always removed.
        copy_headers: Vec<FieldName> { names(), default "[]" },
        /// For one request to it, from resolving its name to the end of its response.
        timeout: Duration { time(), default "5s" },
    }
    check one_service;
}

impl Authentication {
    /// Whether clients have to tell who they are.
    pub fn is_required(&self) -> bool {
        self.basic_auth.is_some() || self.auth.is_some()
    }

    /// The pool of the service that decides.
    pub fn pool(&self) -> Option<&PoolRef> {
        self.auth.as_ref()?.pool.as_ref()
    }
}

impl fmt::Display for Authentication {
    /// The key, and where the users are or who decides; nothing if anyone is let in.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.basic_auth, &self.auth) {
            (Some(basic), _) => write!(f, "basic_auth {basic}"),
            (_, Some(auth)) => write!(f, "auth {auth}"),
            (None, None) => Ok(()),
        }
    }
}

impl fmt::Display for BasicAuth {
    /// The file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.file.path.display().fmt(f)
    }
}

impl fmt::Display for ForwardAuth {
    /// The URL or the pool.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.url, &self.pool) {
            (Some(url), _) => url.fmt(f),
            (_, Some(pool)) => write!(f, "pool {}", pool.name),
            (None, None) => Ok(()),
        }
    }
}

fn one_way(authentication: &mut Authentication, map: &Node, reader: &mut Reader<'_>) {
    if authentication.basic_auth.is_some() && authentication.auth.is_some() {
        let message =
            "`basic_auth` says already who is let in; a route has one of `basic_auth` and `auth`";
        reader.problem_of_key(map, "auth", message);
    }
}

fn one_service(auth: &mut ForwardAuth, map: &Node, reader: &mut Reader<'_>) {
    match (&auth.url, &auth.pool) {
        (None, None) => reader.problem(
            map,
            "`auth` needs `url` or `pool`; write it as in `url: http://127.0.0.1:9091/verify`",
        ),
        (Some(_), Some(_)) => {
            let message = "`url` says already where the service is; leave one of them out";
            reader.problem_of_key(map, "pool", message);
        }
        (Some(_), None) if auth.path.is_some() => {
            let message = "the path is that of `url`; `path` belongs to `pool`";
            reader.problem_of_key(map, "path", message);
        }
        _ => {}
    }
}

fn realm() -> Scalar<String> {
    let read = |text: &str| {
        if text.is_empty() || text.len() > MAX_REALM {
            Err(format!(
                "{} is not a text of 1 to {MAX_REALM} bytes",
                quote(text)
            ))
        } else if let Some(wrong) = text.chars().find(|c| c.is_control()) {
            Err(format!(
                "{} has {wrong:?} in it, which no header field may have",
                quote(text)
            ))
        } else {
            Ok(text.to_owned())
        }
    };
    scalar("a text", read, |realm| json!(realm))
}

fn url() -> Scalar<Endpoint> {
    let read = |text: &str| {
        parse_url(text, "http://127.0.0.1:9091/verify", |uri| {
            match has_user(uri) {
                true => Err(format!(
                    "{} has a user; the service gets the Authorization of the client",
                    quote(text)
                )),
                false => Ok(()),
            }
        })
    };
    scalar("a URL", read, |url: &Endpoint| json!(url.to_string()))
}

fn path() -> Scalar<String> {
    let read = |text: &str| match text.starts_with('/') && text.parse::<Uri>().is_ok() {
        true => Ok(text.to_owned()),
        false => Err(format!("{} is not a path such as `/verify`", quote(text))),
    };
    scalar("a path", read, |path| json!(path))
}

fn names() -> List<Scalar<FieldName>> {
    let read = |text: &str| {
        let field = editable_field(text)?;
        let is_own = |name: &HeaderName| *name == HOST || PROXY_FIELDS.contains(&name.as_str());
        match is_own(&field.name) {
            true => Err(format!(
                "{} says where a request comes from, and is the proxy's own",
                quote(text)
            )),
            false => Ok(field),
        }
    };
    let name = scalar("the name of a header field", read, |name: &FieldName| {
        json!(name.written)
    });
    list("names", name).up_to(MAX_COPIED)
}
