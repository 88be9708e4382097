//! Dry run of a request: which host it would be sent to, and why. A described request passes through the same steps as
//! a real one up to the lease, and changes no counter; rates and the limits of the process are ignored.

use std::error::Error;
use std::fmt;
use std::net::IpAddr;

use http::{HeaderName, HeaderValue, Method, header};
use pingora::http::RequestHeader;
use serde::{Deserialize, Serialize};

use super::forwarding::x_forwarded::ClientOrigin;
use super::request_target::TargetForm;
use super::selection::input::{RetryRules, SelectionInput};
use super::selection::split;
use super::{ActiveConfig, MAX_ATTEMPTS, admission, http_rules};
use crate::config::{Action, Authentication, KeySource, PoolShare, Retry, Route};
use crate::message::RequestView;
use crate::pool::{self, HostExplanation, Pool, SelectionOutcome};
use crate::route::AmbiguousPath;
use ballast_balancer::HostId;

/// Earlier routes that are listed; large files have thousands.
const MAX_UNMATCHED: usize = 20;

/// The description of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ExplainRequest {
    /// The pool to select from, regardless of routes. `None`: the pool of the matching route.
    pub pool: Option<String>,
    /// `None`: GET.
    pub method: Option<String>,
    /// The Host field.
    pub host: Option<String>,
    /// The request target. `None`: `/`.
    pub path: Option<String>,
    /// All other fields.
    pub headers: Vec<(String, String)>,
    /// The peer address of the connection.
    pub client: Option<IpAddr>,
    /// The distinguished name in the client's certificate. `None`: the client has none.
    pub client_certificate: Option<String>,
    /// Hosts that have already failed the request.
    pub tried: Vec<String>,
}

/// Which host a request would be sent to, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RequestExplanation {
    /// `None`: no route matches, or the route has no pool or leaves it to chance.
    pub pool: Option<String>,
    /// The number of the route in the configuration, from 1. `None`: the description names a pool, or no route matches.
    pub route: Option<usize>,
    /// The routes before it that do not match, or the last ones of all if none does: up to 20, in the order of the file.
    #[serde(default)]
    pub unmatched: Vec<UnmatchedRoute>,
    /// How the route has clients tell who they are, as in `basic_auth FILE` or `auth URL`. The explanation takes every client
    /// for one that is let in. `None`: no route matches, or it lets in anyone.
    #[serde(default)]
    pub authentication: Option<String>,
    /// How the route splits its requests among pools. `None`: the route has no `pools`.
    #[serde(default)]
    pub split: Option<ExplainedSplit>,
    /// The algorithm of the pool.
    pub algorithm: Option<String>,
    /// `None`: the algorithm does not hash, or hashes the client's address by default.
    pub key: Option<ExplainedKey>,
    /// The result of the selection.
    pub outcome: SelectionOutcome,
    /// All hosts of the pool.
    pub candidates: Vec<HostExplanation>,
}

/// A route that does not match.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnmatchedRoute {
    /// Its number in the configuration, from 1.
    pub route: usize,
    /// What it matches.
    pub matches: String,
    /// The first of its conditions that the request does not fit: host, path, method, header NAME, query NAME, cookie
    /// NAME, client, or `not` if the request fits an exception.
    pub why: String,
}

/// The hash key of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedKey {
    /// The key source, as written in the configuration.
    pub source: String,
    /// `None`: the request has no such value, and the algorithm's fallback selects.
    pub value: Option<String>,
}

/// How a route splits its requests among pools.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedSplit {
    /// The pools with their weights, in the order of the file.
    pub shares: Vec<ExplainedShare>,
    /// The key that decides. `None`: each request goes to one of the pools at random.
    pub key: Option<ExplainedKey>,
}

/// A pool and its share of a route's requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedShare {
    /// The name of the pool.
    pub pool: String,
    /// Its part of the sum of all weights.
    pub weight: u32,
}

/// Why a description is rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExplainError {
    /// It names a pool or a host that does not exist.
    Unknown(String),
    /// It does not describe a valid request.
    Invalid(String),
}

impl fmt::Display for ExplainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ExplainError::Unknown(reason) | ExplainError::Invalid(reason)) = self;
        f.write_str(reason)
    }
}

impl Error for ExplainError {}

/// Explains the selection of a host for a described request.
///
/// # Errors
/// If the description names an unknown pool or host, or is not a valid request.
pub fn explain(
    active: &ActiveConfig,
    described: &ExplainRequest,
) -> Result<RequestExplanation, ExplainError> {
    let mut request = described.request().map_err(ExplainError::Invalid)?;
    let origin = described.client.map(|peer| {
        ClientOrigin::new(
            Some(peer),
            (&request.headers).into(),
            &active.trusted_proxies,
        )
    });
    let trusted = origin.is_some_and(|origin| origin.trusted);
    http_rules::drop_fields(&mut request, active, trusted);
    let client = origin.and_then(|origin| origin.client);
    let request = RequestView::from(&request);
    if let Some(name) = &described.pool {
        let mut pools = active.pools.iter();
        let pool = pools.find(|pool| pool.name() == name).ok_or_else(|| {
            ExplainError::Unknown(format!("there is no pool `{}`", name.escape_debug()))
        })?;
        let tried = described.tried_of(pool)?;
        let retry = RetryRules {
            methods: Retry::default(),
            attempts: pool.budget().map_or(0, |budget| budget.policy().attempts),
        };
        let input = SelectionInput::new(request, pool, client, tried.len(), &tried, retry);
        return Ok(RequestExplanation::new(pool, None, &input).with_maintenance(pool, client));
    }
    let found = match admission::route(active, request, client) {
        Ok(found) => found,
        Err(AmbiguousPath) => return Ok(RequestExplanation::without_pool("ambiguous_path")),
    };
    let end = found.map_or(active.routes.len(), |(number, _)| number);
    let unmatched = unmatched_before(end, active, request, client);
    let authentication = found.map(|(_, route)| &route.authentication);
    let authentication = authentication.filter(|authentication| authentication.is_required());
    let explanation = match found {
        Some((number, route)) => {
            described.explain_route(active, (number, route), request, client)?
        }
        None => RequestExplanation::without_pool("no_route"),
    };
    Ok(RequestExplanation {
        unmatched,
        authentication: authentication.map(Authentication::to_string),
        ..explanation
    })
}

/// Why the routes before `end` do not match.
fn unmatched_before(
    end: usize,
    active: &ActiveConfig,
    request: RequestView<'_>,
    client: Option<IpAddr>,
) -> Vec<UnmatchedRoute> {
    let input = admission::routing_input(request, client);
    let earlier = end.saturating_sub(MAX_UNMATCHED)..end;
    let unmatched = earlier.filter_map(|number| {
        let mismatch = active.router.mismatch(number, input)?;
        Some(UnmatchedRoute {
            route: number + 1,
            matches: active.routes[number].matches.to_string(),
            why: mismatch.to_string(),
        })
    });
    unmatched.collect()
}

/// How a split treats a request, and the pool that the request goes to, as an index into `shares`. `None`: that is left
/// to chance.
fn explain_split(
    shares: &[PoolShare],
    key: Option<&KeySource>,
    request: RequestView<'_>,
    client: Option<IpAddr>,
) -> (ExplainedSplit, Option<usize>) {
    let found = key.and_then(|source| split::by_key(shares, source, request, client));
    let mut weighted = (0..shares.len()).filter(|&index| shares[index].weight > 0);
    let only = match (weighted.next(), weighted.next()) {
        (only, None) => only,
        _ => None,
    };
    let split = ExplainedSplit {
        shares: shares
            .iter()
            .map(|share| ExplainedShare {
                pool: share.pool.name.clone(),
                weight: share.weight,
            })
            .collect(),
        key: key.map(|source| ExplainedKey {
            source: source.to_string(),
            value: found
                .as_ref()
                .map(|(_, key)| String::from_utf8_lossy(key).into_owned()),
        }),
    };
    (split, found.map(|(index, _)| index).or(only))
}

impl ExplainRequest {
    fn request(&self) -> Result<RequestHeader, String> {
        let method = self.method.as_deref().unwrap_or("GET");
        let path = self.path.as_deref().unwrap_or("/");
        let method = Method::from_bytes(method.as_bytes())
            .map_err(|_| format!("method: `{}` is not a method", method.escape_debug()))?;
        let invalid = || format!("path: `{}` is not a request target", path.escape_debug());
        let mut request =
            RequestHeader::build(method, path.as_bytes(), None).map_err(|_| invalid())?;
        // `RequestHeader::build` replaces an empty path by `/`, so an empty one is rejected here.
        let form = TargetForm::of((&request).into()).filter(|_| !path.is_empty());
        form.ok_or_else(invalid)?;
        let host = self.host.iter().map(|host| (header::HOST.as_str(), host));
        let others = self.headers.iter();
        for (name, value) in host.chain(others.map(|(name, value)| (name.as_str(), value))) {
            let shown = || format!("{}: {}", name.escape_debug(), value.escape_debug());
            let invalid = || format!("headers: `{}` is not a header field", shown());
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| invalid())?;
            let value = HeaderValue::from_str(value).map_err(|_| invalid())?;
            request.append_header(name, value).map_err(|_| invalid())?;
        }
        Ok(request)
    }

    fn explain_route(
        &self,
        active: &ActiveConfig,
        (number, route): (usize, &Route),
        request: RequestView<'_>,
        client: Option<IpAddr>,
    ) -> Result<RequestExplanation, ExplainError> {
        // Without a client it is not known who asks.
        let refusal = if client.is_some() && !route.access.permits(client) {
            Some("forbidden")
        } else if admission::lacks_certificate(route, self.client_certificate.as_deref()) {
            Some("no_certificate")
        } else {
            None
        };
        let of_route = |action| RequestExplanation::of_route(number + 1, refusal.unwrap_or(action));
        let (mut split, mut position) = (None, 0);
        let pool = match route.action.get() {
            Action::Pool(pool) => &active.pools[pool.index],
            Action::Split(shares, key) => {
                let (explained, chosen) = explain_split(shares, key, request, client);
                split = Some(explained);
                let Some(chosen) = chosen else {
                    let mut explanation = of_route("split");
                    explanation.split = split;
                    return Ok(explanation);
                };
                position = chosen;
                &active.pools[shares[chosen].pool.index]
            }
            Action::Redirect(_) => return Ok(of_route("redirect")),
            Action::Respond(_) => return Ok(of_route("respond")),
        };
        let tried = self.tried_of(pool)?;
        let limits = &active.request_limits[active.route_states[number].limits + position];
        let retry = RetryRules {
            methods: route.retry,
            attempts: limits
                .retries
                .as_ref()
                .map_or(0, |retries| retries.attempts),
        };
        let input = SelectionInput::new(request, pool, client, tried.len(), &tried, retry);
        let explanation = RequestExplanation::new(pool, Some(number + 1), &input);
        let mut explanation = explanation.with_maintenance(pool, client);
        explanation.split = split;
        if let Some(refusal) = refusal {
            explanation.outcome = SelectionOutcome::none(refusal);
            explanation.candidates.clear();
        }
        Ok(explanation)
    }

    /// The ids of the hosts in `tried`, all of which must belong to `pool`.
    fn tried_of(&self, pool: &Pool) -> Result<Vec<HostId>, ExplainError> {
        if self.tried.len() > MAX_ATTEMPTS {
            let count = self.tried.len();
            return Err(ExplainError::Invalid(format!(
                "tried: {count} hosts, but no request is sent more than {MAX_ATTEMPTS} times"
            )));
        }
        let ids = self.tried.iter().map(|id| {
            let id = HostId::from(id.as_str());
            match pool.member(&id) {
                Some(_) => Ok(id),
                None => Err(ExplainError::Unknown(format!(
                    "the pool {} does not have a host `{}`",
                    pool.name(),
                    id.as_str().escape_debug()
                ))),
            }
        });
        ids.collect()
    }
}

impl RequestExplanation {
    fn new(pool: &Pool, route: Option<usize>, input: &SelectionInput<'_>) -> Self {
        let affinity = input.affinity();
        let wanted = affinity.as_ref().map(|affinity| &affinity.host);
        let pool::PoolExplanation {
            outcome,
            candidates,
        } = pool.explain(&input.selection(), wanted, input.can_be_retried());
        RequestExplanation {
            pool: Some(pool.name().to_owned()),
            route,
            unmatched: Vec::new(),
            authentication: None,
            split: None,
            algorithm: Some(pool.algorithm().to_owned()),
            key: pool.key().map(|source| ExplainedKey {
                source: source.to_string(),
                value: input
                    .key()
                    .map(|key| String::from_utf8_lossy(key).into_owned()),
            }),
            outcome,
            candidates,
        }
    }

    /// The explanation if `pool` may be in maintenance.
    fn with_maintenance(mut self, pool: &Pool, client: Option<IpAddr>) -> Self {
        if admission::maintenance(pool, client).is_some() {
            self.outcome = SelectionOutcome::none("maintenance");
            self.candidates.clear();
        }
        self
    }

    /// A request that its route responds to without a pool.
    fn of_route(route: usize, action: &str) -> Self {
        RequestExplanation {
            route: Some(route),
            ..RequestExplanation::without_pool(action)
        }
    }

    fn without_pool(why: &str) -> Self {
        RequestExplanation {
            pool: None,
            route: None,
            unmatched: Vec::new(),
            authentication: None,
            split: None,
            algorithm: None,
            key: None,
            outcome: SelectionOutcome::none(why),
            candidates: Vec::new(),
        }
    }
}
