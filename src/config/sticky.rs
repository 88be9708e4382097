//! `sticky`: the cookie that keeps a client with its host.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use super::document::Node;
use super::hints::quote;
use super::scalars::{self, is_token};
use super::schema::{Reader, Scalar, boolean, choice, file, scalar, section};
use super::secret::{self, Secret};

/// A cookie's age is in whole seconds.
const MIN_TTL: Duration = Duration::from_secs(1);

section! {
    /// The cookie that keeps a client with its host.
    pub struct Sticky: Eq {
        /// The name of the cookie.
        cookie: String { cookie(), required "ballast" },
        /// How long it keeps a client that sends no request; at least 1s.
        ttl: Duration { ttl(), default "1h" },
        /// Whether browsers send it over TLS only. `auto`: if the client came over TLS.
        secure: Secure {
            choice(&[
                ("auto", Secure::Auto),
                ("true", Secure::Always),
                ("false", Secure::Never),
            ]),
            default "auto"
        },
        /// Whether it is hidden from scripts.
        http_only: bool { boolean(), default "true" },
        /// Whether browsers send it with requests from other sites.
        same_site: SameSite {
            choice(&[
                ("strict", SameSite::Strict),
                ("lax", SameSite::Lax),
                ("none", SameSite::None),
            ]),
            default "lax"
        },
        /// A file with at least 16 bytes that authenticate the token, for instances that share clients. Without it the
        /// key is random, and reloads and handovers keep it.
        secret_file: Option<Secret> { secret_file(), optional "/etc/ballast/sticky.key" },
    }
    check browsers_take_it;
}

/// Whether a cookie has the attribute `Secure`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secure {
    /// If the client's request came over TLS.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The `SameSite` of a cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SameSite {
    /// Never with a request from another site.
    Strict,
    /// With requests that take the user here.
    Lax,
    /// With all of them.
    None,
}

/// What `sticky: true` should have been.
pub(super) fn hint(text: &str) -> Option<String> {
    Some(match text {
        "false" | "off" | "no" => "none".to_owned(),
        "true" | "on" | "yes" | "cookie" => "{ cookie: ballast }".to_owned(),
        name if is_token(name) => format!("{{ cookie: {name} }}"),
        _ => return None,
    })
}

fn browsers_take_it(sticky: &mut Sticky, map: &Node, reader: &mut Reader<'_>) {
    if sticky.secure == Secure::Always {
        return;
    }
    if sticky.same_site == SameSite::None {
        reader.problem_of_key(
            map,
            "same_site",
            "browsers take `SameSite=None` with `Secure` only; set `secure: true`",
        );
    }
    let name = &sticky.cookie;
    if name.starts_with("__Host-") || name.starts_with("__Secure-") {
        let message = format!(
            "browsers take {} with `Secure` only; set `secure: true`",
            quote(name)
        );
        reader.problem_of_key(map, "cookie", message);
    }
}

/// The name of a cookie, which is a token (RFC 6265).
fn cookie() -> Scalar<String> {
    let read = |text: &str| match is_token(text) {
        true => Ok(text.to_owned()),
        false => Err(format!("{} is not the name of a cookie", quote(text))),
    };
    scalar("the name of a cookie", read, |name| json!(name))
}

fn ttl() -> Scalar<Duration> {
    let read = |text: &str| match scalars::time(text)? {
        ttl if ttl < MIN_TTL => Err(format!("{} is shorter than 1s", quote(text))),
        ttl => Ok(ttl),
    };
    scalar("a time from 1s", read, |ttl| {
        json!(scalars::format_time(*ttl))
    })
}

fn secret_file() -> Scalar<Secret> {
    let read = |path: PathBuf, reader: &Reader<'_>| secret::secret(&path, reader.environment);
    file("the path of a file", read, |secret: &Secret| {
        json!(secret.file)
    })
}
