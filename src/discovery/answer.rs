//! What a source tells.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use ballast_balancer::{HostAddress, MAX_WEIGHT};

/// The most hosts of one answer that are taken.
pub(crate) const MAX_HOSTS: usize = 10_000;

/// A host as a source knows it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct FoundHost {
    /// Where it is. Port 0: the source knows no ports.
    pub(crate) address: HostAddress,
    /// The name by which the source knows it, for TLS and the Host field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) server_name: Option<String>,
    /// What people call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) label: Option<String>,
    /// 0 to 10,000; `None`: the source knows no weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) weight: Option<u32>,
    /// Whether it is used only while no other is usable; `None`: the source does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) backup: Option<bool>,
    /// Its requests at the same time; `None`: the source does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) max_in_flight: Option<u64>,
    /// What else the source says about it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) labels: BTreeMap<String, String>,
}

impl FoundHost {
    /// A host of which only the address is known.
    pub(crate) fn at(address: impl Into<HostAddress>) -> Self {
        FoundHost {
            address: address.into(),
            server_name: None,
            label: None,
            weight: None,
            backup: None,
            max_in_flight: None,
            labels: BTreeMap::new(),
        }
    }
}

/// Hosts that an incomplete answer leaves out, and that may exist all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Others {
    /// Any.
    Any,
    /// Those of IPv4 addresses: all others have been told.
    Ipv4,
    /// Those of IPv6 addresses: all others have been told.
    Ipv6,
}

impl Others {
    /// Whether a host at `address` may exist.
    pub(super) fn include(self, address: &HostAddress) -> bool {
        let is_ipv4 = address.as_inet().is_none_or(|address| address.is_ipv4());
        match self {
            Others::Any => true,
            Others::Ipv4 => is_ipv4,
            Others::Ipv6 => !is_ipv4,
        }
    }
}

/// What a source answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// All hosts that there are.
    Complete {
        /// The hosts, in any order.
        hosts: Vec<FoundHost>,
        /// How long this holds; `None`: until the source says something else.
        ttl: Option<Duration>,
    },
    /// Some of the hosts; others may exist.
    Partial {
        /// The hosts, in any order.
        hosts: Vec<FoundHost>,
        /// Which others may exist of those that were known before.
        others: Others,
        /// Why there may be others.
        reason: String,
        /// When the source is asked again; `None`: it will tell by itself.
        ttl: Option<Duration>,
    },
    /// No hosts, for this reason.
    Failed(String),
}

/// A weight among others of which the heaviest is `heaviest`: larger ones than [`MAX_WEIGHT`] keep their proportions, and
/// only 0 becomes 0.
pub(super) fn scaled_weight(weight: u64, heaviest: u64) -> u32 {
    let max = u64::from(MAX_WEIGHT);
    let scaled = match heaviest > max {
        true => (u128::from(weight) * u128::from(max) / u128::from(heaviest)).max(1),
        false => u128::from(weight),
    };
    match weight {
        0 => 0,
        _ => u32::try_from(scaled).unwrap_or(MAX_WEIGHT).min(MAX_WEIGHT),
    }
}
