//! Routing: what happens to which requests, by the routes of the configuration in its order.
//!
//! Names and paths are compared in normalized form, so that no other spelling bypasses a route. Few routes are tried one
//! after the other; of many, a table finds those that host and path leave.

mod conditions;
mod table;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv6Addr};

use http::Method;

use crate::config::{self, Ambiguous, RequestConditions};
use crate::message::FieldsView;
use crate::normalize;
use conditions::Conditions;
use table::RouteTable;

pub use conditions::Mismatch;

/// Up to so many routes a scan is faster than the table.
const MAX_SCANNED: usize = 16;

/// The routes; the first that matches wins.
#[derive(Debug)]
pub struct Router {
    routes: Vec<RouteMatcher>,
    /// `None`: the routes are few.
    table: Option<RouteTable>,
    ambiguous: Ambiguous,
}

/// A request, as far as routes look at it.
#[derive(Debug, Clone, Copy)]
pub struct RoutingInput<'a> {
    /// The method.
    pub method: &'a Method,
    /// A Host field or another authority, with or without port.
    pub authority: &'a [u8],
    /// The bytes on the wire, without the query.
    pub path: &'a [u8],
    /// The bytes after the `?`.
    pub query: &'a [u8],
    /// The header fields.
    pub fields: FieldsView<'a>,
    /// The client's address, as trusted proxies tell it.
    pub client: Option<IpAddr>,
}

/// The path is refused, because hosts could read it as a path of another route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AmbiguousPath;

/// A request with host and path in normal form.
#[derive(Debug, Clone, Copy)]
struct NormalizedInput<'a> {
    /// In any case.
    host: &'a [u8],
    /// The host, if it is an IPv6 literal, which has many spellings.
    address: Option<Ipv6Addr>,
    path: &'a [u8],
    is_ambiguous: bool,
    input: RoutingInput<'a>,
}

#[derive(Debug)]
struct RouteMatcher {
    conditions: Conditions,
    /// Whether the route has `allow`, `deny`, `rate`, `client`, `basic_auth` or `auth`.
    restricted: bool,
}

impl Router {
    /// The routes of a configuration, and the policy for ambiguous paths.
    pub fn new(routes: &[config::Route], ambiguous: Ambiguous) -> Self {
        let routes = Vec::from_iter(routes.iter().map(RouteMatcher::new));
        let is_few = routes.len() <= MAX_SCANNED;
        Router {
            table: (!is_few).then(|| RouteTable::new(&routes, MAX_SCANNED)),
            routes,
            ambiguous,
        }
    }

    /// The route of a request, as an index into the routes of the configuration.
    ///
    /// # Errors
    /// If hosts could read the path in several ways, and the policy refuses it.
    pub fn find(&self, input: RoutingInput<'_>) -> Result<Option<usize>, AmbiguousPath> {
        NormalizedInput::with(input, |request| {
            if request.is_ambiguous && self.refuses_ambiguous(request) {
                return Err(AmbiguousPath);
            }
            Ok(match &self.table {
                None => {
                    let mut routes = self.routes.iter();
                    routes.position(|route| route.conditions.matches(request))
                }
                Some(table) => table.first(request, |index| {
                    self.routes[index].conditions.matches(request)
                }),
            })
        })
    }

    /// Why the route at `index` does not match a request. `None`: it does, or there is no such route.
    pub fn mismatch(&self, index: usize, input: RoutingInput<'_>) -> Option<Mismatch<'_>> {
        let route = self.routes.get(index)?;
        NormalizedInput::with(input, |request| route.conditions.mismatch(request))
    }

    /// Whether an ambiguous path is refused. The path may stand for any path, so any route for the host counts, whatever
    /// else it asks for.
    fn refuses_ambiguous(&self, request: &NormalizedInput<'_>) -> bool {
        match self.ambiguous {
            Ambiguous::Auto => match &self.table {
                None => {
                    let mut routes = self.routes.iter();
                    routes.any(|route| route.restricted && route.conditions.host.matches(request))
                }
                Some(table) => table.is_restricted(request),
            },
            Ambiguous::Reject => true,
            Ambiguous::Pass => false,
        }
    }
}

impl NormalizedInput<'_> {
    /// Calls `find` with the normal form of a request.
    fn with<T>(input: RoutingInput<'_>, find: impl FnOnce(&NormalizedInput<'_>) -> T) -> T {
        let host = normalize::host(input.authority);
        let normalize::NormalizedPath { path, ambiguous } = normalize::path(input.path);
        find(&NormalizedInput {
            host: &host,
            address: address(&host),
            path: &path,
            is_ambiguous: ambiguous,
            input,
        })
    }
}

impl RouteMatcher {
    fn new(route: &config::Route) -> Self {
        let exceptions = route.matches.exceptions();
        let conditions = &route.matches.conditions;
        let has_client = |conditions: &RequestConditions| !conditions.client.is_empty();
        RouteMatcher {
            conditions: Conditions::new(conditions, exceptions),
            restricted: route.rate.is_some()
                || route.authentication.is_required()
                || !(route.access.allow.is_empty() && route.access.deny.is_empty())
                || has_client(conditions)
                || exceptions.iter().any(has_client),
        }
    }
}

/// The address of an IPv6 literal with its brackets.
fn address(host: &[u8]) -> Option<Ipv6Addr> {
    let bare = host.strip_prefix(b"[")?.strip_suffix(b"]")?;
    str::from_utf8(bare).ok()?.parse().ok()
}
