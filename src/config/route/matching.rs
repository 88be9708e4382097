//! Which requests a route matches.

use std::net::Ipv6Addr;

use serde_json::json;

use crate::config::hints::quote;
use crate::config::schema::{Scalar, scalar, section};
use crate::normalize;

section! {
    /// Which requests a route matches: those that fit all of these keys.
    pub struct RouteMatch: Eq, Hash, Default {
        /// The host name of the request, without port; `*.example.com` is any name below example.com.
        host: Option<String> { host(), optional "api.example.com" },
        /// What the path begins with, in whole segments: `/v1` matches /v1 and /v1/x, but not /v10. See `paths`.
        path: Option<String> { path(), optional "/v1/" },
    }
}

impl RouteMatch {
    /// Whether every request that `narrow` matches is matched by this one too.
    pub(super) fn covers(&self, narrow: &RouteMatch) -> bool {
        let host = match (self.host.as_deref(), narrow.host.as_deref()) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(wide), Some(narrow)) => match wide.strip_prefix('*') {
                // ".example.com" ends what it covers: names and patterns below example.com, but not that name itself.
                Some(ending) => {
                    narrow.strip_prefix('*').unwrap_or(narrow).ends_with(ending)
                        && narrow.len() > ending.len()
                }
                None => wide == narrow,
            },
        };
        // Every path begins with "/".
        let path = |one: &RouteMatch| one.path.clone().unwrap_or_else(|| "/".to_owned());
        host && begins_with_segments(path(narrow).as_bytes(), path(self).as_bytes())
    }
}

/// Whether `path` begins with the segments of `prefix`: `/v1` is the beginning of `/v1` and `/v1/x`, not of `/v10`, and
/// `/v1/` only of what is below it.
pub(crate) fn begins_with_segments(path: &[u8], prefix: &[u8]) -> bool {
    match path.strip_prefix(prefix) {
        None => false,
        Some(rest) => {
            prefix.is_empty() || prefix.ends_with(b"/") || matches!(rest, [] | [b'/', ..])
        }
    }
}

/// A host name, with or without `*.` before it.
fn host() -> Scalar<String> {
    scalar("a host name", parse_host, |host| json!(host))
}

fn parse_host(text: &str) -> Result<String, String> {
    let shown = quote(text);
    let lower = text.to_lowercase();
    let is_v6 = |text: &str| text.parse::<Ipv6Addr>().is_ok();
    if let Some(address) = lower
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        && let Ok(address) = address.parse::<Ipv6Addr>()
    {
        return Ok(format!("[{address}]"));
    }
    if is_v6(&lower) {
        return Err(format!("{shown} needs brackets; did you mean `[{lower}]`?"));
    }
    if let Some((name, port)) = lower.rsplit_once(':')
        && port.parse::<u16>().is_ok()
    {
        return Err(format!(
            "{shown} has a port, but routes match the name alone; did you mean {}?",
            quote(name)
        ));
    }
    if let Some(name) = lower.strip_suffix('.')
        && !name.is_empty()
    {
        return Err(format!(
            "{shown} ends with a dot, and names are compared without it; did you mean {}?",
            quote(name)
        ));
    }
    let name = lower.strip_prefix("*.").unwrap_or(&lower);
    let proper = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if name
        .split('.')
        .all(|label| !label.is_empty() && label.chars().all(proper))
    {
        return Ok(lower);
    }
    Err(format!(
        "{shown} is not a host name such as `api.example.com` or `*.example.com`"
    ))
}

/// The beginning of a path.
fn path() -> Scalar<String> {
    scalar("the beginning of a path", parse_path, |path| json!(path))
}

pub(super) fn parse_path(text: &str) -> Result<String, String> {
    if !text.starts_with('/') {
        return Err(format!("{} does not begin with `/`", quote(text)));
    }
    if let Some(prefix) = text.strip_suffix('*')
        && !prefix.contains('*')
    {
        return Err(format!(
            "{} has a `*`, but a path is a prefix of whole segments already; did you mean {}?",
            quote(text),
            quote(prefix)
        ));
    }
    match text
        .chars()
        .find(|c| !c.is_ascii_graphic() || matches!(c, '?' | '#'))
    {
        None => normal_path(text),
        Some(wrong) => Err(format!(
            "{} has {wrong:?} in it, which the path of a request never has",
            quote(text)
        )),
    }
}

/// The normal form, in which paths of requests are compared. A prefix that no path has in that form is refused.
fn normal_path(text: &str) -> Result<String, String> {
    let normalize::NormalizedPath { path, ambiguous } = normalize::path(text.as_bytes());
    let normal = String::from_utf8_lossy(&path).into_owned();
    if ambiguous {
        return Err(format!(
            "{} is a path that hosts read in several ways",
            quote(text)
        ));
    }
    if let Some(wrong) = text.chars().find(|c| matches!(c, ';' | '\\')) {
        return Err(format!(
            "{} has {wrong:?} in it, and paths are compared without that; did you mean {}?",
            quote(text),
            quote(&normal)
        ));
    }
    Ok(normal)
}
