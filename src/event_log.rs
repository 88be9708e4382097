//! What has happened lately: hosts that went and came back, reloads, handovers. Each event is a line in the log as well.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use log::{Level, log};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use crate::balancer::HostId;
use crate::timestamp::Timestamp;

/// Events that are remembered: enough for a screen of them, whatever happens within a second.
pub const MAX_EVENTS: usize = 256;

/// Something that has happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Counts the events of this process from 1 on.
    pub number: u64,
    /// When it happened.
    pub at: Timestamp,
    /// What kind of event it is.
    pub kind: EventKind,
    /// The pool that it happened in, if in one.
    pub pool: Option<String>,
    /// The host that it happened to, if to one.
    pub host: Option<String>,
    /// One line for a person, the same as in the log.
    pub text: String,
}

/// What kind of event it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// The checks have found that a host works.
    Up,
    /// They have found that it does not.
    Down,
    /// Requests have failed on a host, and it gets none for a while.
    Ejected,
    /// A host has proven itself after an ejection.
    Returned,
    /// An operator has drained a host.
    Drained,
    /// An operator has undone that.
    Undrained,
    /// An operator has added a host.
    Added,
    /// An operator has removed a host.
    Removed,
    /// An operator has given a host another weight.
    Weighed,
    /// The file has been taken in anew.
    Reloaded,
    /// It could not be; everything stays as it was.
    ReloadFailed,
    /// Another process takes over, or this one has taken over.
    Handover,
    /// No process has taken over; this one serves on.
    HandoverFailed,
    /// The checks of a pool fail together, and change nothing until that ends.
    Frozen,
    /// They do not any more.
    Thawed,
    /// An operator has changed the level of the log.
    Level,
}

impl EventKind {
    fn level(self) -> Level {
        match self {
            EventKind::HandoverFailed => Level::Error,
            EventKind::Down | EventKind::Ejected | EventKind::ReloadFailed | EventKind::Frozen => {
                Level::Warn
            }
            _ => Level::Info,
        }
    }
}

/// The newest [`MAX_EVENTS`] events, and whoever wants to hear of the next ones.
#[derive(Debug)]
pub struct EventLog {
    kept: Mutex<Entries>,
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
            kept: Mutex::new(Entries {
                next: 1,
                events: VecDeque::new(),
            }),
            subscribers: broadcast::Sender::new(MAX_EVENTS),
        }
    }
}

impl EventLog {
    /// Notes an event, and writes it to the log.
    pub fn log_event(
        &self,
        kind: EventKind,
        pool: Option<&str>,
        host: Option<&HostId>,
        text: String,
    ) {
        log!(kind.level(), "{text}");
        let mut kept = self.kept();
        let event = Event {
            number: kept.next,
            at: Timestamp::now(),
            kind,
            pool: pool.map(str::to_owned),
            host: host.map(|host| host.as_str().to_owned()),
            text,
        };
        kept.next += 1;
        if kept.events.len() == MAX_EVENTS {
            kept.events.pop_front();
        }
        kept.events.push_back(event.clone());
        // Under the lock, so that followers hear of events in their order. That there may be none is no matter.
        let _ = self.subscribers.send(event);
    }

    /// The events that are remembered and have a number above `number`, the oldest first.
    pub fn since(&self, number: u64) -> Vec<Event> {
        let kept = self.kept();
        let newer = kept.events.iter().filter(|event| event.number > number);
        newer.cloned().collect()
    }

    /// Every event from now on. Who falls behind by more than [`MAX_EVENTS`] misses the oldest.
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.subscribers.subscribe()
    }

    fn kept(&self) -> MutexGuard<'_, Entries> {
        // Nothing that is done under the lock can be half done.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept_and_numbered() {
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
