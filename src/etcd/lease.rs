//! Leases: keys that are written with one end when it is not renewed in time.

use std::time::Duration;

use tokio::time::timeout;
use tonic::Streaming;

use super::client::EtcdClient;
use super::error::EtcdError;
use super::exchange::Method;
use super::messages::{LeaseGrantRequest, LeaseRequest, LeaseResponse, WriteResponse};

const GRANT: Method = Method {
    path: "/etcdserverpb.Lease/LeaseGrant",
    // A lease whose answer was lost ends by itself.
    is_idempotent: true,
};
const REVOKE: Method = Method {
    path: "/etcdserverpb.Lease/LeaseRevoke",
    is_idempotent: true,
};
const KEEP_ALIVE: Method = Method {
    path: "/etcdserverpb.Lease/LeaseKeepAlive",
    is_idempotent: true,
};

/// A lease that etcd has granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// Its number.
    pub id: i64,
    /// How long it lasts from its last renewal on.
    pub ttl: Duration,
}

impl EtcdClient {
    /// Asks for a lease that lasts at least `ttl`, in whole seconds.
    ///
    /// # Errors
    /// [`EtcdError::Unavailable`] or [`EtcdError::Refused`].
    pub async fn grant_lease(&self, ttl: Duration) -> Result<Lease, EtcdError> {
        let ttl = i64::try_from(ttl.as_secs().max(1)).unwrap_or(i64::MAX);
        let lease: LeaseResponse = self.call(GRANT, LeaseGrantRequest { ttl }).await?;
        granted(&lease)
    }

    /// Renews a lease: it lasts its whole time again.
    ///
    /// # Errors
    /// [`EtcdError::LeaseNotFound`] if it has ended, or [`EtcdError::Unavailable`] or [`EtcdError::Refused`].
    pub async fn renew_lease(&self, id: i64) -> Result<Lease, EtcdError> {
        // One stream for each renewal: it fails over to other endpoints like any request, and costs no connection.
        let stream = self.open_stream(KEEP_ALIVE, LeaseRequest { id }).await?;
        let mut responses: Streaming<LeaseResponse> = stream.responses;
        let reason = match timeout(self.request_timeout(), responses.message()).await {
            Ok(Ok(Some(lease))) => return granted(&lease),
            Ok(Err(status)) => status.message().to_owned(),
            Ok(Ok(None)) | Err(_) => "no answer to a renewal".to_owned(),
        };
        let endpoint = self.leave_endpoint(stream.opened_at);
        Err(EtcdError::Unavailable(format!("{endpoint}: {reason}")))
    }

    /// Ends a lease, and with it its keys.
    ///
    /// # Errors
    /// As for [`renew_lease`](Self::renew_lease).
    pub async fn revoke_lease(&self, id: i64) -> Result<(), EtcdError> {
        let _: WriteResponse = self.call(REVOKE, LeaseRequest { id }).await?;
        Ok(())
    }
}

fn granted(lease: &LeaseResponse) -> Result<Lease, EtcdError> {
    match u64::try_from(lease.ttl) {
        Ok(seconds @ 1..) if lease.id != 0 => Ok(Lease {
            id: lease.id,
            ttl: Duration::from_secs(seconds),
        }),
        _ => Err(EtcdError::LeaseNotFound),
    }
}
