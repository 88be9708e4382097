//! The messages between predecessor and successor, and the state that they carry.

use std::sync::Arc;

use log::warn;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::probe_source::ProbeSource;
use crate::config::ListenerAddress;
use crate::discovery::{SavedHosts, SourceTable};
use crate::logging;
use crate::pool::{Pool, PoolState};
use crate::server::runtime_overrides::RuntimeOverrides;
use crate::server::tls::{TicketKeys, TicketSecret};
use crate::timestamp::Timestamp;

/// The version of the protocol; other versions are refused.
pub(super) const VERSION: u32 = 1;

/// The version of the carried state; other versions are dropped.
const STATE_VERSION: u32 = 1;

/// A message, one JSON object per frame.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub(super) enum Message {
    /// The successor has connected. Earlier versions do not support being `watched`.
    Hello {
        version: u32,
        #[serde(default)]
        watched: bool,
    },
    /// What the successor will receive.
    Welcome {
        listeners: Vec<ListenerAddress>,
        state: Value,
    },
    /// The successor is ready to serve as soon as it has the sockets.
    Prepared,
    /// The sockets of the listeners follow, in this order. `reloaded`: the file was reloaded since `welcome`.
    Take {
        listeners: Vec<ListenerAddress>,
        state: Value,
        #[serde(default)]
        reloaded: bool,
    },
    /// The successor accepts connections on `listeners`.
    Ready {
        #[serde(default)]
        listeners: Vec<ListenerAddress>,
    },
    /// The predecessor has stopped accepting. `watch`: the successor has to respond to probes until it is released.
    Farewell {
        #[serde(default)]
        watch: bool,
    },
    /// The predecessor will connect from these addresses to the listeners.
    Probe { from: Vec<ProbeSource> },
    /// The successor is alive, and has accepted these probes since the last message.
    Alive { accepted: Vec<ProbeSource> },
    /// The successor is stopping, or has a successor itself: it needs no watch any more.
    Leaving,
    /// The watch is over; the predecessor drains.
    Release,
    /// The other side gives up; the successor has to end.
    Refused { reason: String },
}

impl Message {
    /// Its name, for messages to people: the state in it holds secrets.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Message::Hello { .. } => "hello",
            Message::Welcome { .. } => "welcome",
            Message::Prepared => "prepared",
            Message::Take { .. } => "take",
            Message::Ready { .. } => "ready",
            Message::Farewell { .. } => "farewell",
            Message::Probe { .. } => "probe",
            Message::Alive { .. } => "alive",
            Message::Leaving => "leaving",
            Message::Release => "release",
            Message::Refused { .. } => "refused",
        }
    }
}

/// The state of the pools and the overrides, in wire format.
#[derive(Debug, Serialize, Deserialize)]
struct CarriedState {
    version: u32,
    pools: Vec<PoolState>,
    /// Missing in earlier versions.
    #[serde(default, rename = "overlay")]
    overrides: RuntimeOverrides,
    /// The level of the log, if it was changed at run time.
    #[serde(default)]
    log_level: Option<String>,
    /// Missing in earlier versions.
    #[serde(default)]
    ticket_keys: Vec<TicketSecret>,
    /// What sources of hosts have told. Missing in earlier versions.
    #[serde(default)]
    sources: Vec<SavedHosts>,
}

/// The state that a successor receives.
#[derive(Debug, Default)]
pub(in crate::server) struct HandoverState {
    pub(in crate::server) pools: Vec<PoolState>,
    /// Changes by operators at run time.
    pub(in crate::server) overrides: RuntimeOverrides,
    /// The log level, if an operator has changed it.
    pub(in crate::server) log_level: Option<String>,
    /// The keys of session tickets.
    pub(in crate::server) ticket_keys: Vec<TicketSecret>,
    /// What sources of hosts have told.
    pub(in crate::server) sources: Vec<SavedHosts>,
    /// Whether the predecessor reloaded the file after this process had read it.
    pub(in crate::server) reloaded: bool,
}

/// The state of `pools`, the overrides, the keys of session tickets and what sources have told, in wire format.
pub(super) fn export(
    pools: &[Arc<Pool>],
    overrides: &RuntimeOverrides,
    ticket_keys: &TicketKeys,
    sources: &SourceTable,
) -> Value {
    let state = CarriedState {
        version: STATE_VERSION,
        pools: pools.iter().map(|pool| pool.state()).collect(),
        overrides: overrides.clone(),
        log_level: logging::changed_level(),
        ticket_keys: ticket_keys.export(Timestamp::now().unix_seconds() as u64),
        sources: sources.export(),
    };
    // NaN and infinities become null, which the other side drops.
    serde_json::to_value(state).unwrap_or(Value::Null)
}

/// Parses the state; the default if it has another version or is invalid.
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
            ticket_keys,
            sources,
            ..
        }) => HandoverState {
            pools,
            overrides,
            log_level,
            ticket_keys,
            sources,
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
