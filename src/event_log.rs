//! Recent events: hosts that fail and recover, reloads, handovers. Each event is written to the log as well.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use log::{Level, log};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use crate::timestamp::Timestamp;
use ballast_balancer::HostId;

/// The number of events that are kept: enough for a screenful, whatever happens within a second.
pub const MAX_EVENTS: usize = 256;

/// An event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Counts the events of this process from 1.
    pub number: u64,
    /// When it happened.
    pub at: Timestamp,
    /// What happened.
    pub kind: EventKind,
    /// The pool, if the event concerns one.
    pub pool: Option<String>,
    /// The host, if the event concerns one.
    pub host: Option<String>,
    /// One line for a person, the same as in the log.
    pub text: String,
}

/// The kind of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// The health checks of a host succeed.
    Up,
    /// The health checks of a host fail.
    Down,
    /// Requests failed on a host, and it gets none for a while.
    Ejected,
    /// A host passed its probe after an ejection.
    Returned,
    /// An operator drained a host.
    Drained,
    /// An operator undid a drain.
    Undrained,
    /// An operator added a host.
    Added,
    /// An operator removed a host.
    Removed,
    /// An operator changed a host's weight.
    Weighed,
    /// An operator began maintenance of a pool, or changed its settings.
    MaintenanceBegun,
    /// An operator ended the maintenance of a pool.
    MaintenanceEnded,
    /// The configuration was reloaded.
    Reloaded,
    /// A reload failed; the old configuration stays.
    ReloadFailed,
    /// A successor takes over, or this process has taken over.
    Handover,
    /// The successor failed; this process serves on.
    HandoverFailed,
    /// The checks of a pool fail together; their results are ignored until that ends.
    Frozen,
    /// The checks of a pool no longer fail together.
    Thawed,
    /// An operator changed the log level.
    Level,
    /// A file of TLS was renewed, such as a certificate, or one in a directory was added or removed.
    CertificateChanged,
    /// Something is wrong with a changed file of TLS; what it held before stays in use.
    CertificateRefused,
    /// A certificate was ordered by ACME.
    CertificateOrdered,
    /// A certificate could not be ordered; it is tried again later.
    CertificateOrderFailed,
    /// A source has changed the hosts of a pool.
    HostsFound,
    /// Another member of the cluster has changed a pool.
    ClusterChanged,
}

impl EventKind {
    fn level(self) -> Level {
        match self {
            EventKind::HandoverFailed => Level::Error,
            EventKind::Down
            | EventKind::Ejected
            | EventKind::ReloadFailed
            | EventKind::Frozen
            | EventKind::CertificateRefused
            | EventKind::CertificateOrderFailed => Level::Warn,
            _ => Level::Info,
        }
    }
}

/// The newest [`MAX_EVENTS`] events, and the subscribers to new ones.
#[derive(Debug)]
pub struct EventLog {
    entries: Mutex<Entries>,
    subscribers: broadcast::Sender<Event>,
}

#[derive(Debug)]
struct Entries {
    next: u64,
    events: VecDeque<Event>,
}

impl Default for EventLog {
    /// An event log without events.
    fn default() -> Self {
        EventLog {
            entries: Mutex::new(Entries {
                next: 1,
                events: VecDeque::new(),
            }),
            subscribers: broadcast::Sender::new(MAX_EVENTS),
        }
    }
}

impl EventLog {
    /// Records an event and writes it to the log.
    pub fn log_event(
        &self,
        kind: EventKind,
        pool: Option<&str>,
        host: Option<&HostId>,
        text: String,
    ) {
        log!(kind.level(), "{text}");
        let mut entries = self.entries();
        let event = Event {
            number: entries.next,
            at: Timestamp::now(),
            kind,
            pool: pool.map(str::to_owned),
            host: host.map(|host| host.as_str().to_owned()),
            text,
        };
        entries.next += 1;
        if entries.events.len() == MAX_EVENTS {
            entries.events.pop_front();
        }
        entries.events.push_back(event.clone());
        // Sent under the lock, so that subscribers see events in order. An error means that there are none.
        let _ = self.subscribers.send(event);
    }

    /// The kept events with a number above `number`, oldest first.
    pub fn since(&self, number: u64) -> Vec<Event> {
        let entries = self.entries();
        let newer = entries.events.iter().filter(|event| event.number > number);
        newer.cloned().collect()
    }

    /// Every event from now on. A subscriber that lags by more than [`MAX_EVENTS`] misses the oldest.
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.subscribers.subscribe()
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        // A panic cannot leave the value half changed: no code under the lock panics.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_events_are_kept_and_numbered() {
        let event_log = EventLog::default();
        let mut subscriber = event_log.subscribe();
        for number in 1..=MAX_EVENTS + 10 {
            event_log.log_event(EventKind::Up, Some("web"), None, format!("event {number}"));
        }
        let all = event_log.since(0);
        assert_eq!(all.len(), MAX_EVENTS);
        assert_eq!((all[0].number, &*all[0].text), (11, "event 11"));
        let newest = event_log.since(MAX_EVENTS as u64 + 9);
        assert_eq!(newest.len(), 1);
        assert_eq!(newest[0].pool.as_deref(), Some("web"));
        assert!(event_log.since(u64::MAX).is_empty());
        assert!(subscriber.try_recv().is_err(), "ten were missed");
        assert_eq!(subscriber.try_recv().unwrap().number, 11);
    }
}
