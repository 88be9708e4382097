//! What the two processes say to each other.

use std::net::SocketAddr;
use std::sync::Arc;

use log::warn;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::logging;
use crate::pool::{Pool, PoolState};
use crate::server::runtime_overrides::RuntimeOverrides;

/// The version of the protocol; another one is refused.
pub(super) const VERSION: u32 = 1;

/// The version of the carried state; another one is dropped.
const STATE_VERSION: u32 = 1;

/// A message.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub(super) enum Message {
    /// The successor has come. Earlier versions cannot be `watched`.
    Hello {
        version: u32,
        #[serde(default)]
        watched: bool,
    },
    /// What it will get.
    Welcome {
        listeners: Vec<SocketAddr>,
        state: Value,
    },
    /// It could serve at once.
    Prepared,
    /// As many sockets as listeners follow, in their order. `reloaded`: the file was taken in anew since the welcome.
    Take {
        listeners: Vec<SocketAddr>,
        state: Value,
        #[serde(default)]
        reloaded: bool,
    },
    /// It serves; clients come in through `listeners`.
    Ready {
        #[serde(default)]
        listeners: Vec<SocketAddr>,
    },
    /// It is the only one to serve. `watch`: it has to answer probes until it is released.
    Farewell {
        #[serde(default)]
        watch: bool,
    },
    /// Connections from these addresses will come through the listeners.
    Probe { from: Vec<SocketAddr> },
    /// The successor lives, and has accepted these since it said so last.
    Alive { accepted: Vec<SocketAddr> },
    /// The successor is told to stop, or has a successor itself: it needs no watch any more.
    Leaving,
    /// The watch is over.
    Release,
    /// It has to go.
    Refused { reason: String },
}

/// What is known of the pools, as it travels.
#[derive(Debug, Serialize, Deserialize)]
struct CarriedState {
    version: u32,
    pools: Vec<PoolState>,
    /// What earlier versions did not tell has a default.
    #[serde(default, rename = "overlay")]
    overrides: RuntimeOverrides,
    /// The level of the log, if it was changed at run time.
    #[serde(default)]
    log_level: Option<String>,
}

/// What goes along to the successor.
#[derive(Debug, Default)]
pub(in crate::server) struct HandoverState {
    /// What is known of the pools.
    pub(in crate::server) pools: Vec<PoolState>,
    /// What operators have changed.
    pub(in crate::server) overrides: RuntimeOverrides,
    /// The level of the log that they have set.
    pub(in crate::server) log_level: Option<String>,
    /// Whether the file was taken in anew since this process read it.
    pub(in crate::server) reloaded: bool,
}

/// The state of `pools` and what operators have changed, to be sent.
pub(super) fn export(pools: &[Arc<Pool>], overrides: &RuntimeOverrides) -> Value {
    let state = CarriedState {
        version: STATE_VERSION,
        pools: pools.iter().map(|pool| pool.state()).collect(),
        overrides: overrides.clone(),
        log_level: logging::changed_level(),
    };
    // A number that JSON has no word for becomes null, which the other side drops.
    serde_json::to_value(state).unwrap_or(Value::Null)
}

/// What came with a message; nothing if it is not of this version.
pub(super) fn import(state: Value) -> HandoverState {
    let version = state.get("version").and_then(Value::as_u64);
    if version != Some(u64::from(STATE_VERSION)) {
        warn!("the predecessor's state of the hosts has another version; they start fresh");
        return HandoverState::default();
    }
    match serde_json::from_value::<CarriedState>(state) {
        Ok(CarriedState {
            pools,
            overrides,
            log_level,
            ..
        }) => HandoverState {
            pools,
            overrides,
            log_level,
            reloaded: false,
        },
        Err(error) => {
            warn!("the predecessor's state of the hosts cannot be read, they start fresh: {error}");
            HandoverState::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_state_is_dropped() {
        for foreign in [
            serde_json::json!(null),
            serde_json::json!({ "version": 2, "pools": [] }),
            serde_json::json!({ "version": 1, "pools": "many" }),
            serde_json::json!({ "version": 1, "pools": [{ "name": 7 }] }),
        ] {
            assert!(import(foreign).pools.is_empty());
        }
    }
}
