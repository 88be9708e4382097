//! Locks that one member of a cluster holds.

use std::time::Duration;

use log::debug;

use super::Cluster;
use crate::etcd::{EtcdClient, Lease, Swap};

/// When a lock ends whose holder has not given it back.
const LOCK_TIME: Duration = Duration::from_secs(15 * 60);

/// A lock, until it is given back.
#[derive(Debug)]
pub(crate) struct ClusterLock {
    client: EtcdClient,
    lease: Lease,
}

/// The outcome of an attempt to take a lock.
#[derive(Debug)]
pub(crate) enum LockOutcome {
    /// This member holds it.
    Held(ClusterLock),
    /// Another member holds it.
    Taken,
    /// etcd cannot say.
    Unknown,
}

impl Cluster {
    /// Takes the lock of this name, unless another member has it.
    pub(crate) async fn try_lock(&self, name: &str) -> LockOutcome {
        let client = self.client();
        let lease = match client.grant_lease(LOCK_TIME).await {
            Ok(lease) => lease,
            Err(error) => {
                debug!("cluster: no lease for the lock {name}: {error}");
                return LockOutcome::Unknown;
            }
        };
        let lock = ClusterLock {
            client: client.clone(),
            lease,
        };
        let key = self.key_names().lock(name);
        match client.create(key, self.member_name(), Some(lease)).await {
            Ok(Swap::Done(_)) => LockOutcome::Held(lock),
            Ok(Swap::Conflict(_)) => {
                lock.release().await;
                LockOutcome::Taken
            }
            Err(error) => {
                debug!("cluster: the lock {name}: {error}");
                lock.release().await;
                LockOutcome::Unknown
            }
        }
    }
}

impl ClusterLock {
    /// Gives the lock back.
    pub(crate) async fn release(self) {
        if let Err(error) = self.client.revoke_lease(self.lease.id).await {
            debug!("cluster: a lock ends only with its lease: {error}");
        }
    }
}
