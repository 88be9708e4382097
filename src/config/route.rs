//! `routes`: which requests go to which pool. `paths`: how the paths of requests are read.

use std::net::Ipv6Addr;

use serde_json::json;

use super::access::Access;
use super::document::Node;
use super::hints::{did_you_mean, quote};
use super::rate::{Rate, rate};
use super::schema::{Kind, List, Reader, Scalar, choice, list, map_of, scalar, section};
use crate::normalize;

/// Every route is compared with all before it.
const MAX_ROUTES: usize = 4_096;

section! {
    /// Which requests go to which pool.
    pub struct Route: Eq {
        /// The host name of the request, without port; `*.example.com` is any name below example.com.
        host: Option<String> { host(), optional "api.example.com" },
        /// What the path begins with, in whole segments: `/v1` matches /v1 and /v1/x, but not /v10. See `paths`.
        path: Option<String> { path(), optional "/v1/" },
        /// The name of the pool that gets the requests.
        pool: PoolRef { pool(), required "web" },
        /// Which requests may go to a second host after a first one has got them. `any_method`: POST as well.
        retry: Retry {
            choice(&[("idempotent", Retry::Idempotent), ("any_method", Retry::AnyMethod)]),
            default "idempotent"
        },
        /// Whose requests are served, by the client's address; others get 403.
        access: Access { map_of::<Access>(), flat },
        /// How many requests a client may send on this route.
        rate: Option<Rate> { rate(), optional "" },
    }
}

section! {
    /// `paths`: how the paths of requests are read.
    pub struct Paths: Copy, Eq {
        /// Paths that hosts read in several ways: %2f, %5c, %3b, encoded control characters, invalid or overlong
        /// encodings, dot segments above the root, with parameters or beside `\` or after `//`, and `//example.com/`.
        /// `reject`: 400. `pass`: routes see the normal form, in which these stay encoded, so `/admin%2fx` is not below
        /// /admin. `auto`: 400 if any route for the request's host has allow, deny or rate.
        ambiguous: Ambiguous {
            choice(&[
                ("auto", Ambiguous::Auto),
                ("reject", Ambiguous::Reject),
                ("pass", Ambiguous::Pass),
            ]),
            default "auto"
        },
    }
}

/// A pool, by its name and its index into [`Config::pools`](super::Config::pools).
#[derive(Debug, Clone)]
pub struct PoolRef {
    /// The name of the pool.
    pub name: String,
    /// Where it is in the list.
    pub index: usize,
}

impl PartialEq for PoolRef {
    /// The index may differ between configurations.
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for PoolRef {}

/// Which requests may be sent a second time although a host may have got them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Retry {
    /// Those whose method has the same effect twice as once.
    #[default]
    Idempotent,
    /// All of them: the application can tell a repeated request from a new one.
    AnyMethod,
}

/// What becomes of a request whose path hosts read in several ways, such as `/a%2fb`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Ambiguous {
    /// 400 if a route for its host, whatever the path, has `allow`, `deny` or `rate`.
    #[default]
    Auto,
    /// 400.
    Reject,
    /// It passes.
    Pass,
}

impl Route {
    /// The route of a file without routes: everything goes to the only pool.
    pub(super) fn to_only_pool(name: &str) -> Self {
        Route {
            host: None,
            path: None,
            pool: PoolRef {
                name: name.to_owned(),
                index: 0,
            },
            retry: Retry::default(),
            access: Access::default(),
            rate: None,
        }
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

/// The value of `routes`.
pub(super) fn routes() -> List<impl Kind<Value = Route>> {
    list("routes", map_of::<Route>())
        .up_to(MAX_ROUTES)
        .checked(report_hidden)
}

/// Reports each route that no request can reach, because an earlier one matches all that it would match.
fn report_hidden(node: &Node, routes: &[(usize, Route)], reader: &mut Reader<'_>) {
    if routes.is_empty() && node.elements().is_empty() && reader.pools.len() > 1 {
        let message =
            "there is no route; with more than one pool, `routes` says which requests go where";
        reader.problem(node, message);
    }
    if routes.len() < node.elements().len() {
        // The earlier ones are not all known.
        return;
    }
    for (position, (index, route)) in routes.iter().enumerate() {
        let mut earlier = routes[..position].iter();
        if let Some((first, _)) = earlier.find(|(_, earlier)| covers(earlier, route))
            && let Some(element) = node.elements().get(*index)
        {
            let message = format!(
                "no request gets here, because routes[{first}] matches all that this one would match; put this one first or remove it"
            );
            reader.in_element(*index, |reader| reader.problem(element, message));
        }
    }
}

/// Whether `wide` matches every request that `narrow` matches.
fn covers(wide: &Route, narrow: &Route) -> bool {
    let host = match (wide.host.as_deref(), narrow.host.as_deref()) {
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
    let path = |route: &Route| route.path.clone().unwrap_or_else(|| "/".to_owned());
    host && begins_with_segments(path(narrow).as_bytes(), path(wide).as_bytes())
}

/// The name of a pool of the file.
fn pool() -> Scalar<PoolRef> {
    let dump = |pool: &PoolRef| json!(pool.name);
    scalar("the name of a pool", |_| Err(String::new()), dump).reading(|name, reader| {
        let index = reader.pools.iter().position(|pool| pool == name);
        index
            .map(|index| PoolRef {
                name: name.to_owned(),
                index,
            })
            .ok_or_else(|| {
                let hint = match reader.pools.as_slice() {
                    _ if reader.is_full() => String::new(),
                    [only] => format!("; did you mean `{only}`?"),
                    pools => did_you_mean(name, pools.iter().map(String::as_str)),
                };
                format!("there is no pool {}{hint}", quote(name))
            })
    })
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

fn parse_path(text: &str) -> Result<String, String> {
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
