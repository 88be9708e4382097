//! Draining hosts of the running process, and undoing that.

use std::fmt;
use std::sync::Arc;

use http::{Response, StatusCode};
use percent_encoding::percent_decode_str;
use pingora::protocols::http::ServerSession;

use super::answer::text;
use crate::pool::Pool;

/// The path of the command to drain a host; the method is POST, the host and the pool stand in the query.
pub const API_DRAIN: &str = "/api/v1/drain";

/// The path of the command that undoes it.
pub const API_UNDRAIN: &str = "/api/v1/undrain";

/// Drains hosts of the pools that serve at the moment.
pub struct Drains(Box<dyn Fn() -> Vec<Arc<Pool>> + Send + Sync>);

impl fmt::Debug for Drains {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Drains").finish_non_exhaustive()
    }
}

impl Drains {
    /// Drains hosts of what `pools` gives at that moment.
    pub fn new(pools: impl Fn() -> Vec<Arc<Pool>> + Send + Sync + 'static) -> Self {
        Drains(Box::new(pools))
    }

    /// Carries a command out; its answer is a line for each pool.
    pub(super) fn answer(&self, session: &mut ServerSession, drained: bool) -> Response<Vec<u8>> {
        let query = session.req_header().uri.query().unwrap_or_default();
        match self.drain(value(query, "host"), value(query, "pool"), drained) {
            Ok(lines) => text(session, StatusCode::OK, &lines.join("\n")),
            Err((status, reason)) => text(session, status, &reason),
        }
    }

    fn drain(
        &self,
        host: Option<String>,
        pool: Option<String>,
        drained: bool,
    ) -> Result<Vec<String>, (StatusCode, String)> {
        let Some(host) = host else {
            return Err((StatusCode::BAD_REQUEST, "which host?".to_owned()));
        };
        let mut pools = (self.0)();
        if let Some(name) = &pool {
            pools.retain(|pool| pool.name() == name);
            if pools.is_empty() {
                return Err((
                    StatusCode::NOT_FOUND,
                    format!("there is no pool `{}`", name.escape_debug()),
                ));
            }
        }
        let host_id = host.as_str().into();
        pools.retain(|pool| pool.member(&host_id).is_some());
        if pools.is_empty() {
            let whose = pool.map_or("no pool".to_owned(), |pool| format!("the pool {pool}"));
            let verb = if whose == "no pool" {
                "has"
            } else {
                "does not have"
            };
            return Err((
                StatusCode::NOT_FOUND,
                format!("{whose} {verb} a host `{}`", host.escape_debug()),
            ));
        }
        let lines = pools.iter().filter_map(|pool| {
            let member = pool.member(&host_id)?;
            let name = pool.name();
            let changes = pool.drain(member, drained);
            let mut line = match (drained, changes) {
                (true, true) => {
                    let running = member.host().in_flight();
                    format!("pool {name}: {host} drains, requests running: {running}")
                }
                (true, false) => format!("pool {name}: {host} was drained already"),
                (false, true) => format!("pool {name}: {host} is drained no more"),
                (false, false) => format!("pool {name}: {host} was not drained"),
            };
            if drained && !pool.members().iter().any(|other| other.is_usable()) {
                line.push_str("; as no host of the pool is usable now, it may still get requests");
            }
            if !drained && member.is_draining() {
                line.push_str("; its weight in the configuration is 0");
            }
            Some(line)
        });
        Ok(lines.collect())
    }
}

/// What stands behind `key` in a query.
fn value(query: &str, key: &str) -> Option<String> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(name, _)| *name == key)?;
    let value = percent_decode_str(value).decode_utf8().ok()?;
    Some(value.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_a_query() {
        let query = "host=%5B%3A%3A1%5D%3A80&pool=a";
        assert_eq!(value(query, "host").as_deref(), Some("[::1]:80"));
        assert_eq!(value(query, "pool").as_deref(), Some("a"));
        assert_eq!(value(query, "other"), None);
        assert_eq!(value("host=%ff", "host"), None);
    }
}
