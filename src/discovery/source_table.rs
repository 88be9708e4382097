//! What is known from each source.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use log::{info, warn};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::answer::{Answer, FoundHost, MAX_HOSTS, Others};
use crate::config::HostSource;
use crate::timestamp::Timestamp;

/// What is known from a source.
#[derive(Debug, Clone, Default)]
pub(crate) struct SourceState {
    /// Its hosts by its last good answers, sorted.
    pub(crate) hosts: Arc<[FoundHost]>,
    /// When it told all of them; `None`: never.
    pub(crate) confirmed: Option<Timestamp>,
    /// Whether they come from an earlier process, and the source has not answered since.
    pub(crate) is_stale: bool,
    /// What was wrong with its last answer; `None`: nothing.
    pub(crate) error: Option<String>,
    /// When what it says has to be asked for again.
    pub(crate) expires: Option<Instant>,
    /// The answers since the process began, by outcome.
    pub(crate) good_answers: u64,
    pub(crate) bad_answers: u64,
}

/// The hosts of a source, as a process leaves them to its successor and on disk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SavedHosts {
    /// The text of the source.
    pub(crate) source: String,
    /// When the source told them.
    pub(crate) confirmed: Timestamp,
    /// The hosts.
    pub(crate) hosts: Vec<FoundHost>,
}

/// What is known from all sources. It is shared by those that ask and those that use the answers.
#[derive(Debug, Default)]
pub(crate) struct SourceTable {
    states: Mutex<HashMap<HostSource, SourceState>>,
    /// Told when hosts have changed.
    changed: Notify,
    /// Told at each answer.
    answered: Notify,
}

impl SourceTable {
    /// Takes an answer in. Returns whether the hosts have changed.
    pub(crate) fn report(&self, source: &HostSource, answer: Answer) -> bool {
        let mut states = self.states();
        let state = states.entry(source.clone()).or_default();
        let (hosts, error) = match answer {
            Answer::Complete { hosts, ttl } => {
                state.expires = ttl.map(|ttl| Instant::now() + ttl);
                match hosts.is_empty() {
                    true => (None, Some("its answer is empty".to_owned())),
                    false => {
                        state.confirmed = Some(Timestamp::now());
                        (Some(hosts), None)
                    }
                }
            }
            Answer::Partial {
                hosts,
                others,
                reason,
                ttl,
            } => {
                state.expires = ttl.map(|ttl| Instant::now() + ttl);
                (Some(joined(&state.hosts, hosts, others)), Some(reason))
            }
            Answer::Failed(reason) => (None, Some(reason)),
        };
        match &error {
            None => state.good_answers += 1,
            Some(_) => state.bad_answers += 1,
        }
        let hosts = hosts.map(sorted);
        let is_changed = hosts.as_ref().is_some_and(|hosts| **hosts != *state.hosts);
        if let Some(hosts) = hosts {
            // Also hosts that are the same as before are confirmed now.
            state.is_stale = false;
            state.hosts = hosts.into();
        }
        note_error(source, state, error);
        drop(states);
        self.answered.notify_waiters();
        if is_changed {
            self.changed.notify_one();
        }
        is_changed
    }

    /// Begins with what an earlier process knew of a source, unless it has answered already. `is_stale`: it is from disk, and
    /// may be old.
    pub(crate) fn restore(&self, source: &HostSource, saved: SavedHosts, is_stale: bool) {
        let mut states = self.states();
        let state = states.entry(source.clone()).or_default();
        if state.confirmed.is_none() && state.hosts.is_empty() {
            state.hosts = sorted(saved.hosts).into();
            state.confirmed = Some(saved.confirmed);
            state.is_stale = is_stale;
        }
    }

    /// Forgets the sources that `wanted` does not name.
    pub(crate) fn retain(&self, wanted: impl Fn(&HostSource) -> bool) {
        self.states().retain(|source, _| wanted(source));
    }

    /// What is known from a source.
    pub(crate) fn state(&self, source: &HostSource) -> SourceState {
        self.states().get(source).cloned().unwrap_or_default()
    }

    /// What is known from all sources, by source.
    pub(crate) fn all(&self) -> BTreeMap<HostSource, SourceState> {
        let states = self.states();
        let states = states.iter();
        states
            .map(|(source, state)| (source.clone(), state.clone()))
            .collect()
    }

    /// Waits until hosts have changed since the last call. A change between two calls is not missed.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Waits until each of `sources` has answered, or is known from the process before, at most for `limit`.
    pub(crate) async fn wait_for_answers(&self, sources: &BTreeSet<HostSource>, limit: Duration) {
        let all_known = async {
            loop {
                let answered = self.answered.notified();
                let mut answered = std::pin::pin!(answered);
                answered.as_mut().enable();
                let is_known = |source: &HostSource| {
                    let states = self.states();
                    let state = states.get(source);
                    state.is_some_and(|state| {
                        let is_answered = state.good_answers + state.bad_answers > 0;
                        is_answered || !(state.is_stale || state.hosts.is_empty())
                    })
                };
                if sources.iter().all(is_known) {
                    return;
                }
                answered.await;
            }
        };
        // The state of each source tells what is missing.
        let _ = tokio::time::timeout(limit, all_known).await;
    }

    /// What a successor begins with.
    pub(crate) fn export(&self) -> Vec<SavedHosts> {
        let states = self.states();
        let saved = states.iter();
        saved
            .filter_map(|(source, state)| saved_hosts(source, state))
            .collect()
    }

    /// What is kept of a source; `None` while it has not told all of its hosts.
    pub(super) fn export_one(&self, source: &HostSource) -> Option<SavedHosts> {
        saved_hosts(source, self.states().get(source)?)
    }

    fn states(&self) -> MutexGuard<'_, HashMap<HostSource, SourceState>> {
        // Each change is complete before the next one begins.
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn saved_hosts(source: &HostSource, state: &SourceState) -> Option<SavedHosts> {
    Some(SavedHosts {
        source: source.to_string(),
        confirmed: state.confirmed?,
        hosts: state.hosts.to_vec(),
    })
}

/// Both lists, those of `new` in the place of those with the same address. What is new comes first if there are too many.
fn joined(old: &[FoundHost], mut new: Vec<FoundHost>, others: Others) -> Vec<FoundHost> {
    let told: HashSet<_> = new.iter().map(|host| host.address.clone()).collect();
    let others = old
        .iter()
        .filter(|host| others.include(&host.address) && !told.contains(&host.address));
    new.extend(others.cloned());
    new.truncate(MAX_HOSTS);
    new
}

/// In an order that does not depend on that of the answer, each address once.
fn sorted(mut hosts: Vec<FoundHost>) -> Vec<FoundHost> {
    hosts.sort();
    hosts.dedup_by(|a, b| a.address == b.address);
    hosts.truncate(MAX_HOSTS);
    hosts
}

/// Says what is wrong with a source once, and that it is over.
fn note_error(source: &HostSource, state: &mut SourceState, error: Option<String>) {
    match (&state.error, &error) {
        (before, Some(error)) if before.as_ref() != Some(error) => {
            let kept = match state.hosts.len() {
                0 => "it has never told any host".to_owned(),
                1 => "the host that it told before stays".to_owned(),
                count => format!("the {count} hosts that it told before stay"),
            };
            warn!("source {source}: {error}; {kept}");
        }
        (Some(_), None) => info!(
            "source {source}: answers again, {} hosts",
            state.hosts.len()
        ),
        _ => {}
    }
    state.error = error;
}

#[cfg(test)]
mod tests;
