//! A host: a server that requests are sent to, with its identity and its live state.

use std::borrow::Borrow;
use std::fmt;
use std::num::NonZeroU64;
use std::sync::Arc;

use super::error::BalancerError;
use super::host_address::HostAddress;
use super::host_stats::{HostStats, StatsSnapshot};

/// The largest weight of a host. The bound keeps fractions of in-flight by weight exact in an `f64`.
pub const MAX_WEIGHT: u32 = 10_000;

/// The identity of a host: the `host:port` or `unix:/path` of the configuration, exactly as written there.
///
/// Cloning is one atomic increment. Two ids are equal if their texts are.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostId(Arc<str>);

impl HostId {
    /// The id's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<T: Into<Arc<str>>> From<T> for HostId {
    fn from(text: T) -> Self {
        HostId(text.into())
    }
}

impl Borrow<str> for HostId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostId({})", &self.0)
    }
}

/// A server that requests are sent to.
///
/// Identity, address, weight and limit never change. [`Host::with_weight`] and [`Host::with_max_in_flight`] make a new `Host`
/// that shares the live state of the old one: use them, and clones of the `Arc`, to carry counts and latencies from one
/// balancer to another. Within a balancer the live state follows the identity by itself: a host that leaves and returns, or
/// is replaced by a new `Host` of its identity, continues with what it had ([`Balancer::add_host`](crate::Balancer::add_host)).
pub struct Host {
    id: HostId,
    address: HostAddress,
    weight: u32,
    max_in_flight: Option<NonZeroU64>,
    stats: Arc<HostStats>,
}

impl Host {
    /// A host of weight 1 whose identity is its address.
    pub fn new(address: HostAddress) -> Self {
        Host::named(address.to_string().as_str(), address)
    }

    /// A host of weight 1 with this identity and address.
    pub fn named(id: impl Into<HostId>, address: HostAddress) -> Self {
        Host {
            id: id.into(),
            address,
            weight: 1,
            max_in_flight: None,
            stats: Arc::new(HostStats::default()),
        }
    }

    /// The same host and live state with another weight: 1 to [`MAX_WEIGHT`], or 0 for no requests at all.
    ///
    /// # Errors
    /// [`BalancerError::WeightOutOfRange`] above [`MAX_WEIGHT`].
    pub fn with_weight(&self, weight: u32) -> Result<Self, BalancerError> {
        if weight > MAX_WEIGHT {
            return Err(BalancerError::WeightOutOfRange {
                id: self.id.clone(),
                weight,
            });
        }
        Ok(Host {
            weight,
            ..self.duplicate()
        })
    }

    /// The same host and live state with another limit of requests in flight; `None` for no limit. No pick exceeds the
    /// limit; [`Balancer::inc`](crate::Balancer::inc) does.
    pub fn with_max_in_flight(&self, limit: Option<NonZeroU64>) -> Self {
        Host {
            max_in_flight: limit,
            ..self.duplicate()
        }
    }

    fn duplicate(&self) -> Self {
        Host {
            id: self.id.clone(),
            address: self.address.clone(),
            weight: self.weight,
            max_in_flight: self.max_in_flight,
            stats: Arc::clone(&self.stats),
        }
    }

    /// The identity.
    pub fn id(&self) -> &HostId {
        &self.id
    }

    /// The address that requests are sent to.
    pub fn address(&self) -> &HostAddress {
        &self.address
    }

    /// The weight relative to other hosts; 0 means no requests.
    pub fn weight(&self) -> u32 {
        self.weight
    }

    /// The most requests in flight that a pick allows; `None` means no limit.
    pub fn max_in_flight(&self) -> Option<NonZeroU64> {
        self.max_in_flight
    }

    /// Requests in flight on this host.
    pub fn in_flight(&self) -> u64 {
        self.stats.in_flight()
    }

    /// Whether this host is at its limit of requests in flight.
    pub fn is_full(&self) -> bool {
        self.max_in_flight
            .is_some_and(|limit| self.in_flight() >= limit.get())
    }

    /// The snapshot state, to be carried into another process by [`restore_stats`](Host::restore_stats).
    pub fn stats_snapshot(&self) -> StatsSnapshot {
        self.stats.stats_snapshot()
    }

    /// Restores the state that another process snapshot. Values out of range are clamped.
    pub fn restore_stats(&self, snapshot: StatsSnapshot) {
        self.stats.restore_stats(snapshot);
    }

    /// The same host with the live state of another.
    pub(super) fn with_stats(&self, stats: &Arc<HostStats>) -> Self {
        Host {
            stats: Arc::clone(stats),
            ..self.duplicate()
        }
    }

    pub(super) fn stats(&self) -> &Arc<HostStats> {
        &self.stats
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host")
            .field("id", &self.id.as_str())
            .field("address", &self.address)
            .field("weight", &self.weight)
            .field("in_flight", &self.in_flight())
            .finish()
    }
}
