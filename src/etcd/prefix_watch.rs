//! Keeps all keys under a prefix in memory: reads them, and follows their changes.
//!
//! After each failure everything is read again, because a watch may have missed changes. What was read before stays until
//! then: a failure never removes a key.

use std::time::Duration;

use log::{debug, info, warn};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::backoff::Backoff;
use super::client::EtcdClient;
use super::prefix_state::{PrefixSnapshot, PrefixState};
use super::watch_stream::Changes;

/// For how long changes are collected before they are shown: a change of many keys is shown as one.
const COALESCE: Duration = Duration::from_millis(20);

/// If a watch lasted this long, the delay after its end is short again.
const STABLE: Duration = Duration::from_secs(30);

/// What is known of a prefix.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PrefixStatus {
    /// The keys as they were read last, always completely; `None` before the first read.
    pub snapshot: Option<PrefixSnapshot>,
    /// When a member has last said so: read them, told a change, or that there was none.
    pub confirmed: Option<Instant>,
    /// Why the keys are not followed at the moment; `None` while they are.
    pub failure: Option<String>,
}

/// The task that follows a prefix.
#[derive(Debug)]
pub struct PrefixWatch {
    client: EtcdClient,
    prefix: Vec<u8>,
    status: watch::Sender<PrefixStatus>,
}

impl PrefixWatch {
    /// A task that has yet to [`run`](Self::run).
    pub fn new(client: EtcdClient, prefix: impl Into<Vec<u8>>) -> Self {
        PrefixWatch {
            client,
            prefix: prefix.into(),
            status: watch::Sender::default(),
        }
    }

    /// The status, which changes with each change of a key, with each failure, and whenever a member confirms the keys.
    pub fn subscribe(&self) -> watch::Receiver<PrefixStatus> {
        self.status.subscribe()
    }

    /// Follows the prefix until the future is dropped.
    pub async fn run(&self) {
        let mut backoff = Backoff::default();
        loop {
            let started = Instant::now();
            let reason = self.follow().await;
            if started.elapsed() >= STABLE {
                backoff.reset();
            }
            let delay = backoff.next(rand::random());
            self.show_failure(&reason);
            debug!(
                "{} is read again in {delay:?}: {reason}",
                self.shown_prefix()
            );
            sleep(delay).await;
        }
    }

    /// Reads the prefix and follows its changes. Returns why that has ended.
    async fn follow(&self) -> String {
        let mut state = match self.client.read_prefix_state(&self.prefix).await {
            Ok(state) => state,
            Err(error) => return error.to_string(),
        };
        if let Err(reason) = self.accept(&state) {
            return reason;
        }
        self.show(&state, false);
        let PrefixSnapshot {
            revision,
            cluster_id,
            ..
        } = state.snapshot;
        let watch = self
            .client
            .watch(&self.prefix, revision.saturating_add(1), cluster_id);
        let mut watch = match watch.await {
            Ok(watch) => watch,
            Err(error) => return error.to_string(),
        };
        self.show(&state, true);
        let mut show_at = None;
        loop {
            // A deadline that is always there keeps the branches simple; it is not used without changes.
            let deadline = show_at.unwrap_or_else(Instant::now);
            tokio::select! {
                biased;
                () = sleep_until(deadline), if show_at.is_some() => {
                    show_at = None;
                    self.show(&state, true);
                }
                changes = watch.next() => {
                    let changed = changes.and_then(|changes| match changes {
                        Some(changes) => apply(&mut state, changes),
                        None => Ok(Applied::Nothing),
                    });
                    match changed {
                        Ok(Applied::Nothing) => self.confirm(),
                        // The rest of a transaction follows, and must not be shown without it.
                        Ok(Applied::Partly) => show_at = None,
                        Ok(Applied::Completely) => {
                            show_at.get_or_insert_with(|| Instant::now() + COALESCE);
                        }
                        Err(reason) => return reason,
                    }
                }
            }
        }
    }

    /// Whether a read may replace what is known. A member that lags behind cannot have answered it, so an earlier revision
    /// means that the cluster has been restored from a backup, or is another one.
    fn accept(&self, state: &PrefixState) -> Result<(), String> {
        let status = self.status.borrow();
        let (Some(old), new) = (&status.snapshot, &state.snapshot) else {
            return Ok(());
        };
        if new.cluster_id != old.cluster_id {
            warn!(
                "{} is that of another cluster now: {:x} at revision {}, not {:x} at revision {}",
                self.shown_prefix(),
                new.cluster_id,
                new.revision,
                old.cluster_id,
                old.revision
            );
        } else if new.revision < old.revision {
            return Err(format!(
                "the cluster went back from revision {} to {}; if it was restored from a backup on purpose, restart",
                old.revision, new.revision
            ));
        }
        Ok(())
    }

    /// Shows the keys. The failure remains until they are followed.
    fn show(&self, state: &PrefixState, is_followed: bool) {
        self.status.send_modify(|status| {
            if is_followed && status.failure.take().is_some() {
                info!("{} is followed again", self.shown_prefix());
            }
            status.snapshot = Some(state.snapshot.clone());
            status.confirmed = Some(Instant::now());
        });
    }

    /// Shows that a member has told no change.
    fn confirm(&self) {
        let now = Instant::now();
        self.status
            .send_modify(|status| status.confirmed = Some(now));
    }

    fn show_failure(&self, reason: &str) {
        self.status.send_if_modified(|status| {
            if status.failure.is_none() {
                warn!("{} is not followed: {reason}", self.shown_prefix());
            }
            let is_new = status.failure.as_deref() != Some(reason);
            status.failure = Some(reason.to_owned());
            is_new
        });
    }

    fn shown_prefix(&self) -> String {
        format!("prefix `{}` in etcd", self.prefix.escape_ascii())
    }
}

/// How far changes have been applied.
enum Applied {
    /// There was no change.
    Nothing,
    /// Further changes of the same revision follow.
    Partly,
    Completely,
}

fn apply(state: &mut PrefixState, changes: Changes) -> Result<Applied, String> {
    for event in changes.events {
        state.apply(event)?;
    }
    Ok(match changes.is_partial {
        true => Applied::Partly,
        false => Applied::Completely,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::tests::client_at;

    #[test]
    fn an_earlier_revision_is_accepted_from_another_cluster_alone() {
        let client = client_at(&[([127, 0, 0, 1], 1).into()], "");
        let watch = PrefixWatch::new(client, "/");
        let state = |cluster_id, revision| PrefixState::new(b"/".to_vec(), cluster_id, revision);
        assert_eq!(watch.accept(&state(1, 5)), Ok(()));
        watch.show(&state(1, 10), true);
        assert_eq!(watch.accept(&state(1, 10)), Ok(()));
        assert_eq!(watch.accept(&state(2, 9)), Ok(()));
        let refused = watch.accept(&state(1, 9)).expect_err("it went back");
        assert!(refused.contains("from revision 10 to 9"), "{refused}");
    }

    #[test]
    fn a_failure_stays_until_changes_are_followed_again() {
        let client = client_at(&[([127, 0, 0, 1], 1).into()], "");
        let watch = PrefixWatch::new(client, "/");
        let status = watch.subscribe();
        watch.show_failure("away");
        assert_eq!(status.borrow().snapshot, None);
        let state = PrefixState::new(b"/".to_vec(), 1, 10);
        watch.show(&state, false);
        assert_eq!(status.borrow().failure.as_deref(), Some("away"));
        assert_eq!(status.borrow().snapshot, Some(state.snapshot.clone()));
        watch.show(&state, true);
        assert_eq!(status.borrow().failure, None);
    }
}
