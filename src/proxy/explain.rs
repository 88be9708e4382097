//! Which host a request would get that is described and not sent, and why. It goes the way of a request to its lease,
//! and is counted nowhere: rates and limits of the proxy are left out.

use std::error::Error;
use std::fmt;
use std::net::IpAddr;

use http::{HeaderName, HeaderValue, Method, header};
use pingora::http::RequestHeader;
use serde::{Deserialize, Serialize};

use super::forwarding::x_forwarded::ClientOrigin;
use super::request_target::TargetForm;
use super::selection::input::SelectionInput;
use super::{ActiveConfig, MAX_ATTEMPTS, admission};
use crate::balancer::HostId;
use crate::config::Retry;
use crate::message::RequestView;
use crate::pingora_driver::header_rules;
use crate::pool::{self, HostExplanation, Pool, SelectionOutcome};
use crate::route::AmbiguousPath;

/// A request, described.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ExplainRequest {
    /// The pool that it goes to, whatever the routes say; `None`: the one of its route.
    pub pool: Option<String>,
    /// Its method; `None` is GET.
    pub method: Option<String>,
    /// Its Host field.
    pub host: Option<String>,
    /// Its target; `None` is `/`.
    pub path: Option<String>,
    /// Its other fields.
    pub headers: Vec<(String, String)>,
    /// The other end of its connection.
    pub client: Option<IpAddr>,
    /// The hosts that have failed it.
    pub tried: Vec<String>,
}

/// Which host a request would get, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RequestExplanation {
    /// The pool; `None` without a route.
    pub pool: Option<String>,
    /// The route, counted from 1 as in the configuration; `None` if none was looked for or found.
    pub route: Option<usize>,
    /// The pool's algorithm.
    pub algorithm: Option<String>,
    /// What the algorithm hashes; `None` if it hashes nothing, or the client's address of itself.
    pub key: Option<ExplainedKey>,
    /// What would become of the request.
    pub outcome: SelectionOutcome,
    /// The pool's hosts.
    pub candidates: Vec<HostExplanation>,
}

/// What an algorithm hashes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedKey {
    /// Where it comes from, in the words of the configuration.
    pub source: String,
    /// What it is; `None` if the request lacks it, so that the algorithm's fallback chooses.
    pub value: Option<String>,
}

/// Why a described request cannot be explained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExplainError {
    /// It names a pool or a host that does not exist.
    Unknown(String),
    /// It is no request.
    Invalid(String),
}

impl fmt::Display for ExplainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ExplainError::Unknown(reason) | ExplainError::Invalid(reason)) = self;
        f.write_str(reason)
    }
}

impl Error for ExplainError {}

/// Which host a request would get, and why.
///
/// # Errors
/// If it names what does not exist, or is no request.
pub fn explain(
    active: &ActiveConfig,
    described: &ExplainRequest,
) -> Result<RequestExplanation, ExplainError> {
    let mut request = described.request().map_err(ExplainError::Invalid)?;
    let origin = described
        .client
        .map(|peer| ClientOrigin::new(peer, (&request.headers).into(), &active.trusted_proxies));
    let trusted = origin.is_some_and(|origin| origin.trusted);
    header_rules::drop_fields(&mut request, active, trusted);
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
        return Ok(RequestExplanation::new(pool, None, &input));
    }
    let (number, route) = match admission::route(active, request) {
        Ok(Some(found)) => found,
        Ok(None) => return Ok(RequestExplanation::without_pool("no_route")),
        Err(AmbiguousPath) => return Ok(RequestExplanation::without_pool("ambiguous_path")),
    };
    let pool = &active.pools[route.pool.index];
    let tried = described.tried_of(pool)?;
    let input = SelectionInput::new(request, pool, client, tried.len(), &tried, route.retry);
    let mut explanation = RequestExplanation::new(pool, Some(number + 1), &input);
    if !admission::permits(route, client) {
        explanation.outcome = SelectionOutcome::none("forbidden");
        explanation.candidates.clear();
    }
    Ok(explanation)
}

impl ExplainRequest {
    /// The request.
    fn request(&self) -> Result<RequestHeader, String> {
        let method = self.method.as_deref().unwrap_or("GET");
        let path = self.path.as_deref().unwrap_or("/");
        let method = Method::from_bytes(method.as_bytes())
            .map_err(|_| format!("method: `{}` is none", method.escape_debug()))?;
        let invalid = || format!("path: `{}` is no target", path.escape_debug());
        let mut request =
            RequestHeader::build(method, path.as_bytes(), None).map_err(|_| invalid())?;
        // A request that is built here has the path `/` if it is given none.
        let form = TargetForm::of((&request).into()).filter(|_| !path.is_empty());
        form.ok_or_else(invalid)?;
        let host = self.host.iter().map(|host| (header::HOST.as_str(), host));
        let others = self.headers.iter();
        for (name, value) in host.chain(others.map(|(name, value)| (name.as_str(), value))) {
            let shown = || format!("{}: {}", name.escape_debug(), value.escape_debug());
            let invalid = || format!("headers: `{}` is no field", shown());
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| invalid())?;
            let value = HeaderValue::from_str(value).map_err(|_| invalid())?;
            request.append_header(name, value).map_err(|_| invalid())?;
        }
        Ok(request)
    }

    /// The hosts that have failed the request, if `pool` has them.
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
