//! What a pool has learnt, apart from the pool: carried over when a pool is built anew, in this process or in the next.
//!
//! Everything is keyed by identity and address, and an edited configuration beats it: a host that has another address
//! now, or a pool that is checked another way, starts fresh.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{Member, Pool};
use crate::balancer::{HostId, Measured, Turn};

/// What the checks of a host have found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Whether requests may go there.
    pub healthy: bool,
    /// Checks in a row that contradict it.
    pub against: usize,
}

/// What a pool has learnt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PoolState {
    /// The pool's name.
    pub name: String,
    /// A digest of how the hosts are checked; verdicts mean nothing to another way of checking.
    checks: u64,
    /// Whose turn is next, and how many turns of the cycle it has had.
    turn: Option<(String, usize)>,
    /// Its hosts.
    hosts: Vec<HostState>,
}

/// What is known of a host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct HostState {
    id: String,
    address: SocketAddr,
    verdict: Option<Verdict>,
    /// The time until the next check.
    #[serde(default)]
    next_check_ms: Option<u64>,
    latency_ns: Option<u64>,
    success: f64,
}

impl Pool {
    /// What the pool has learnt.
    pub fn state(&self) -> PoolState {
        PoolState {
            name: self.name.clone(),
            checks: self.checks(),
            turn: self
                .usable
                .turn()
                .map(|turn| (turn.host.as_str().to_owned(), turn.taken)),
            hosts: self.members.iter().map(HostState::of).collect(),
        }
    }

    /// Takes over what a pool of the same name has learnt, where it still holds. To be called before the pool is
    /// checked; whose turn it is comes to bear with [`resume`](Pool::resume).
    pub fn carry(&self, state: &PoolState) {
        let same_checks = self.checks() == state.checks;
        for known in &state.hosts {
            let member = self.member(&HostId::from(known.id.as_str()));
            let Some(member) = member.filter(|m| m.host().address() == known.address) else {
                continue;
            };
            if same_checks {
                member.judge(known.verdict);
                let wait = known.next_check_ms.map(Duration::from_millis);
                member.schedule(wait.and_then(|wait| Instant::now().checked_add(wait)));
            }
            member.host().learn(Measured {
                latency: known.latency_ns.map(Duration::from_nanos),
                success: known.success,
            });
        }
    }

    /// Lets the hosts take turns from where the pool of `state` was. To be called once its hosts are usable.
    pub fn resume(&self, state: &PoolState) {
        if let Some((host, taken)) = &state.turn {
            self.usable.resume(&Turn {
                host: HostId::from(host.as_str()),
                taken: *taken,
            });
        }
    }

    fn checks(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        format!("{:?}", self.health_check).hash(&mut hasher);
        hasher.finish()
    }
}

impl HostState {
    fn of(member: &Member) -> Self {
        let host = member.host();
        let Measured { latency, success } = host.measured();
        HostState {
            id: host.id().as_str().to_owned(),
            address: host.address(),
            verdict: member.verdict(),
            next_check_ms: member.next_check().map(|due| {
                let wait = due.saturating_duration_since(Instant::now());
                u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)
            }),
            latency_ns: latency
                .map(|latency| u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX)),
            success,
        }
    }
}
