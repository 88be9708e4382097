//! What has happened lately: hosts that went and came back, reloads, handovers. Each event is a line in the log as well.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use log::{Level, log};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use crate::balancer::HostId;
use crate::moment::Moment;

/// Events that are remembered: enough for a screen of them, whatever happens within a second.
pub const KEPT: usize = 256;

/// Something that has happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Counts the events of this process from 1 on.
    pub number: u64,
    /// When it happened.
    pub at: Moment,
    /// What kind of event it is.
    pub kind: Kind,
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
pub enum Kind {
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

impl Kind {
    fn level(self) -> Level {
        match self {
            Kind::HandoverFailed => Level::Error,
            Kind::Down | Kind::Ejected | Kind::ReloadFailed | Kind::Frozen => Level::Warn,
            _ => Level::Info,
        }
    }
}

/// The newest [`KEPT`] events, and whoever wants to hear of the next ones.
#[derive(Debug)]
pub struct Journal {
    kept: Mutex<Kept>,
    followers: broadcast::Sender<Event>,
}

#[derive(Debug)]
struct Kept {
    next: u64,
    events: VecDeque<Event>,
}

impl Default for Journal {
    /// A journal without events.
    fn default() -> Self {
        Journal {
            kept: Mutex::new(Kept {
                next: 1,
                events: VecDeque::new(),
            }),
            followers: broadcast::Sender::new(KEPT),
        }
    }
}

impl Journal {
    /// Notes an event, and writes it to the log.
    pub fn note(&self, kind: Kind, pool: Option<&str>, host: Option<&HostId>, text: String) {
        log!(kind.level(), "{text}");
        let mut kept = self.kept();
        let event = Event {
            number: kept.next,
            at: Moment::now(),
            kind,
            pool: pool.map(str::to_owned),
            host: host.map(|host| host.as_str().to_owned()),
            text,
        };
        kept.next += 1;
        if kept.events.len() == KEPT {
            kept.events.pop_front();
        }
        kept.events.push_back(event.clone());
        // Under the lock, so that followers hear of events in their order. That there may be none is no matter.
        let _ = self.followers.send(event);
    }

    /// The events that are remembered and have a number above `number`, the oldest first.
    pub fn after(&self, number: u64) -> Vec<Event> {
        let kept = self.kept();
        let newer = kept.events.iter().filter(|event| event.number > number);
        newer.cloned().collect()
    }

    /// Every event from now on. Who falls behind by more than [`KEPT`] misses the oldest.
    pub fn follow(&self) -> broadcast::Receiver<Event> {
        self.followers.subscribe()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // Nothing that is done under the lock can be half done.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept_and_numbered() {
        let journal = Journal::default();
        let mut follower = journal.follow();
        for number in 1..=KEPT + 10 {
            journal.note(Kind::Up, Some("web"), None, format!("event {number}"));
        }
        let all = journal.after(0);
        assert_eq!(all.len(), KEPT);
        assert_eq!((all[0].number, &*all[0].text), (11, "event 11"));
        let newest = journal.after(KEPT as u64 + 9);
        assert_eq!(newest.len(), 1);
        assert_eq!(newest[0].pool.as_deref(), Some("web"));
        assert!(journal.after(u64::MAX).is_empty());
        assert!(follower.try_recv().is_err(), "ten were missed");
        assert_eq!(follower.try_recv().unwrap().number, 11);
    }
}
