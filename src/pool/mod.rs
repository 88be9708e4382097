//! A pool: hosts, the balancer that chooses among them, and policies.
//!
//! The balancer's members are the usable hosts only. Who is usable is decided elsewhere (today by the health room's
//! reconciler, the only caller of [`Pool::admit`] and [`Pool::withdraw`]); a pool starts with none.

mod budget;
mod hosts;
mod member;
mod state;

use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::sync::Arc;

use crate::balancer::{Balancer, BalancerError, HostId, Lease, Selection, build_with};
use crate::config;

pub use budget::{Account, Budget, Retried};
pub use hosts::HostBook;
pub use member::Member;
pub use state::{PoolState, Verdict};

/// Hosts, the balancer that chooses among them, and policies.
#[derive(Debug)]
pub struct Pool {
    name: String,
    members: Vec<Member>,
    by_id: HashMap<HostId, usize>,
    usable: Box<dyn Balancer>,
    /// Every host, for `when_all_down: try_all`.
    all: Option<Box<dyn Balancer>>,
    key: Option<config::KeySource>,
    host_header: config::HostHeader,
    health_check: Option<config::HealthCheck>,
    budget: Option<Arc<Budget>>,
}

/// A pool that cannot be built.
#[derive(Debug)]
pub struct PoolError {
    pool: String,
    reason: String,
}

impl fmt::Display for PoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pools.{}: {}", self.pool, self.reason)
    }
}

impl Error for PoolError {}

impl Pool {
    /// A pool without a usable host. Hosts that `book` knows already bring their live state along.
    ///
    /// # Errors
    /// If the configuration was not checked: duplicate hosts, unknown options, an identity that cannot stand in a Host
    /// field.
    pub fn new(
        pool: &config::Pool,
        timeouts: &config::Timeouts,
        book: &mut HostBook,
    ) -> Result<Self, PoolError> {
        let fail = |reason: String| PoolError {
            pool: pool.name.clone(),
            reason,
        };
        let config::Algorithm { info, options, key } = &pool.algorithm;
        let build =
            |hosts| build_with(info.name, hosts, options).map_err(|error| fail(error.to_string()));
        let template = member::Template::new(pool, timeouts);
        let members = pool
            .hosts
            .iter()
            .map(|host| {
                let live = book.host(host).map_err(|error| fail(error.to_string()))?;
                Member::new(live, host, &template).map_err(fail)
            })
            .collect::<Result<Vec<_>, _>>()?;
        let hosts = || members.iter().map(|member| member.host().clone()).collect();
        Ok(Pool {
            name: pool.name.clone(),
            by_id: members
                .iter()
                .enumerate()
                .map(|(position, member)| (member.host().id().clone(), position))
                .collect(),
            usable: build(Vec::new())?,
            all: match pool.when_all_down {
                config::WhenAllDown::Error => None,
                config::WhenAllDown::TryAll => Some(build(hosts())?),
            },
            members,
            key: info.keyed.then(|| key.clone()),
            host_header: pool.host_header,
            health_check: pool.health_check.clone(),
            budget: pool
                .retries
                .as_ref()
                .map(|policy| Arc::new(Budget::new(policy))),
        })
    }

    /// The name in the configuration.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Every host, in the order of the configuration.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The host of this identity.
    pub fn member(&self, id: &HostId) -> Option<&Member> {
        self.by_id.get(id).map(|&position| &self.members[position])
    }

    /// Where the hash key comes from; `None` if the algorithm looks at none.
    pub fn key(&self) -> Option<&config::KeySource> {
        self.key.as_ref()
    }

    /// What a host sees as Host.
    pub fn host_header(&self) -> config::HostHeader {
        self.host_header
    }

    /// The active check; `None` if every host counts as healthy.
    pub fn health_check(&self) -> Option<&config::HealthCheck> {
        self.health_check.as_ref()
    }

    /// When requests are sent again and how often; `None` if they never are.
    pub fn budget(&self) -> Option<&Arc<Budget>> {
        self.budget.as_ref()
    }

    /// Picks a host and counts the request on it.
    ///
    /// # Errors
    /// [`BalancerError::NoHosts`] if no host is usable and `when_all_down` is not `try_all`.
    pub fn lease(&self, request: &Selection<'_>) -> Result<Lease, BalancerError> {
        match (self.usable.lease(request), &self.all) {
            (Err(BalancerError::NoHosts), Some(all)) => all.lease(request),
            (outcome, _) => outcome,
        }
    }

    /// Whether a lease could now go to a host that is not in `tried`.
    pub fn has_another(&self, tried: &[HostId]) -> bool {
        let takes_requests = |member: &&Member| member.host().weight() > 0;
        let untried = |member: &Member| !tried.contains(member.host().id());
        let mut usable = self
            .members
            .iter()
            .filter(takes_requests)
            .filter(|member| member.is_usable())
            .peekable();
        if usable.peek().is_none() && self.all.is_some() {
            return self.members.iter().filter(takes_requests).any(untried);
        }
        usable.any(untried)
    }

    /// Makes a host usable; nothing happens if it is. Only one task per pool may call this and [`withdraw`].
    ///
    /// [`withdraw`]: Pool::withdraw
    pub fn admit(&self, member: &Member) {
        if !member.set_usable(true) {
            // Unknown hosts and doubles cannot occur: membership follows the flag, and one task writes both.
            let _ = self.usable.add_host(member.host().clone());
        }
    }

    /// Takes a host out; requests that run on it go on. Nothing happens if it is out.
    pub fn withdraw(&self, member: &Member) {
        if member.set_usable(false) {
            let _ = self.usable.remove_host(member.host().id());
        }
    }
}

#[cfg(test)]
mod tests;
