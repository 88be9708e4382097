//! Keeps a key in etcd as long as this process lives: a lease ends it soon after the process has ended.

use std::fmt;
use std::pin::pin;
use std::time::Duration;

use log::{info, warn};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::backoff::Backoff;
use super::client::EtcdClient;
use super::error::EtcdError;
use super::lease::Lease;

/// How often a lease is renewed during its time: two renewals may fail.
const RENEWALS: u32 = 3;

/// The time for giving the key up at shutdown; without that it ends with its lease.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(2);

/// Whether the key is in etcd.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum LeasedKeyStatus {
    /// It has not been written yet.
    #[default]
    Pending,
    /// It is there with the lease of this process.
    Held,
    /// Another process has written the same key since. It is written again when that one has given it up.
    Taken,
    /// It could not be written or renewed, and may have ended.
    Failed(String),
}

/// The task that keeps a key.
#[derive(Debug)]
pub struct LeasedKey {
    client: EtcdClient,
    key: Vec<u8>,
    value: watch::Sender<Vec<u8>>,
    ttl: Duration,
    status: watch::Sender<LeasedKeyStatus>,
}

impl LeasedKey {
    /// A task that has yet to [`run`](Self::run). The key lasts `ttl`, in whole seconds, after the process has ended.
    pub fn new(
        client: EtcdClient,
        key: impl Into<Vec<u8>>,
        value: impl Into<Vec<u8>>,
        ttl: Duration,
    ) -> Self {
        LeasedKey {
            client,
            key: key.into(),
            value: watch::Sender::new(value.into()),
            ttl,
            status: watch::Sender::default(),
        }
    }

    /// Writes another value, at once if the key is held.
    #[cfg(test)]
    pub fn set_value(&self, value: impl Into<Vec<u8>>) {
        let value = value.into();
        self.value.send_if_modified(|held| {
            let is_new = *held != value;
            *held = value;
            is_new
        });
    }

    /// The status, and its changes.
    pub fn subscribe(&self) -> watch::Receiver<LeasedKeyStatus> {
        self.status.subscribe()
    }

    /// Keeps the key until `shutdown`, and deletes it then. If the future is dropped, the key ends with its lease.
    pub async fn run(&self, shutdown: impl Future<Output = ()>) {
        let mut lease = None;
        let keeping = async {
            let mut backoff = Backoff::default();
            let mut is_written = false;
            loop {
                let error = self.hold(&mut lease, &mut is_written, &mut backoff).await;
                self.set_status(LeasedKeyStatus::Failed(error.to_string()));
                let delay = backoff.next(rand::random());
                sleep(delay.min(self.ttl / RENEWALS)).await;
            }
        };
        tokio::select! {
            biased;
            () = pin!(shutdown) => {}
            () = keeping => {}
        }
        if let Some(Lease { id, .. }) = lease {
            // If that fails, the lease ends the key.
            let _ = timeout(RELEASE_TIMEOUT, self.client.revoke_lease(id)).await;
        }
    }

    /// Writes the key, and renews its lease until that fails.
    async fn hold(
        &self,
        lease: &mut Option<Lease>,
        is_written: &mut bool,
        backoff: &mut Backoff,
    ) -> EtcdError {
        let outcome: Result<(), EtcdError> = async {
            let held = match *lease {
                Some(held) => held,
                None => *lease.insert(self.client.grant_lease(self.ttl).await?),
            };
            let mut values = self.value.subscribe();
            match *is_written {
                true => self.check(&mut values, held).await?,
                // What a former process has left, or another one that goes by the same name, is overwritten once.
                false => self.write(&mut values, held).await?,
            }
            *is_written = true;
            backoff.reset();
            loop {
                tokio::select! {
                    // The sender is part of self.
                    _ = values.changed() => {
                        if *self.status.borrow() == LeasedKeyStatus::Held {
                            self.write(&mut values, held).await?;
                        }
                    }
                    () = sleep(held.ttl / RENEWALS) => {
                        self.client.renew_lease(held.id).await?;
                        self.check(&mut values, held).await?;
                    }
                }
            }
        }
        .await;
        let error = outcome.err().unwrap_or(EtcdError::LeaseNotFound);
        if error == EtcdError::LeaseNotFound {
            *lease = None;
        }
        error
    }

    async fn write(
        &self,
        values: &mut watch::Receiver<Vec<u8>>,
        lease: Lease,
    ) -> Result<(), EtcdError> {
        let value = values.borrow_and_update().clone();
        self.client.put(&*self.key, value, Some(lease)).await?;
        self.set_status(LeasedKeyStatus::Held);
        Ok(())
    }

    /// Looks at the key, which others may have deleted or written.
    async fn check(
        &self,
        values: &mut watch::Receiver<Vec<u8>>,
        lease: Lease,
    ) -> Result<(), EtcdError> {
        match self.client.get(&*self.key).await? {
            None => self.write(values, lease).await,
            Some(found) if found.lease != lease.id => {
                self.set_status(LeasedKeyStatus::Taken);
                Ok(())
            }
            Some(found) if found.value != *values.borrow() => self.write(values, lease).await,
            Some(_) => {
                self.set_status(LeasedKeyStatus::Held);
                Ok(())
            }
        }
    }

    fn set_status(&self, status: LeasedKeyStatus) {
        self.status.send_if_modified(|held| {
            if *held == status {
                return false;
            }
            let key = self.key.escape_ascii();
            match (&*held, &status) {
                // The first failure of several.
                (LeasedKeyStatus::Failed(_), LeasedKeyStatus::Failed(_)) => {}
                (_, LeasedKeyStatus::Held | LeasedKeyStatus::Pending) => {
                    info!("key `{key}` in etcd is {status}");
                }
                _ => warn!("key `{key}` in etcd is {status}"),
            }
            *held = status;
            true
        });
    }
}

impl fmt::Display for LeasedKeyStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LeasedKeyStatus::Pending => f.write_str("not written yet"),
            LeasedKeyStatus::Held => f.write_str("held"),
            LeasedKeyStatus::Taken => f.write_str("written by another process"),
            LeasedKeyStatus::Failed(reason) => write!(f, "not renewed: {reason}"),
        }
    }
}
