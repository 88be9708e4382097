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
use super::selection::input::SelectionInput;
use super::{ActiveConfig, MAX_ATTEMPTS, admission, http_rules};
use crate::balancer::HostId;
use crate::config::{Action, Retry};
use crate::message::RequestView;
use crate::pool::{self, HostExplanation, Pool, SelectionOutcome};
use crate::route::AmbiguousPath;

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
    /// Hosts that have already failed the request.
    pub tried: Vec<String>,
}

/// Which host a request would be sent to, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RequestExplanation {
    /// `None`: no route matches.
    pub pool: Option<String>,
    /// The number of the route in the configuration, from 1. `None`: the description names a pool, or no route matches.
    pub route: Option<usize>,
    /// The algorithm of the pool.
    pub algorithm: Option<String>,
    /// `None`: the algorithm does not hash, or hashes the client's address by default.
    pub key: Option<ExplainedKey>,
    /// The result of the selection.
    pub outcome: SelectionOutcome,
    /// All hosts of the pool.
    pub candidates: Vec<HostExplanation>,
}

/// The hash key of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedKey {
    /// The key source, as written in the configuration.
    pub source: String,
    /// `None`: the request has no such value, and the algorithm's fallback selects.
    pub value: Option<String>,
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
    let origin = described
        .client
        .map(|peer| ClientOrigin::new(peer, (&request.headers).into(), &active.trusted_proxies));
    let trusted = origin.is_some_and(|origin| origin.trusted);
    http_rules::drop_fields(&mut request, active, trusted);
    let client = origin.map(|origin| origin.client);
    let request = RequestView::from(&request);
    if let Some(name) = &described.pool {
        let mut pools = active.pools.iter();
        let pool = pools.find(|pool| pool.name() == name).ok_or_else(|| {
            ExplainError::Unknown(format!("there is no pool `{}`", name.escape_debug()))
        })?;
        let tried = described.tried_of(pool)?;
        let input =
            SelectionInput::new(request, pool, client, tried.len(), &tried, Retry::default());
        return Ok(RequestExplanation::new(pool, None, &input).with_maintenance(pool, client));
    }
    let (number, route) = match admission::route(active, request) {
        Ok(Some(found)) => found,
        Ok(None) => return Ok(RequestExplanation::without_pool("no_route")),
        Err(AmbiguousPath) => return Ok(RequestExplanation::without_pool("ambiguous_path")),
    };
    let pool = match route.action.get() {
        Action::Pool(pool) => &active.pools[pool.index],
        Action::Redirect(_) => return Ok(RequestExplanation::of_route(number + 1, "redirect")),
        Action::Respond(_) => return Ok(RequestExplanation::of_route(number + 1, "respond")),
    };
    let tried = described.tried_of(pool)?;
    let input = SelectionInput::new(request, pool, client, tried.len(), &tried, route.retry);
    let explanation = RequestExplanation::new(pool, Some(number + 1), &input);
    let mut explanation = explanation.with_maintenance(pool, client);
    if !admission::permits(route, client) {
        explanation.outcome = SelectionOutcome::none("forbidden");
        explanation.candidates.clear();
    }
    Ok(explanation)
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
            algorithm: None,
            key: None,
            outcome: SelectionOutcome::none(why),
            candidates: Vec::new(),
        }
    }
}
