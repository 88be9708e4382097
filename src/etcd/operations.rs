//! Reads and changes of single keys.

use super::client::EtcdClient;
use super::error::EtcdError;
use super::exchange::Method;
use super::lease::Lease;
#[cfg(test)]
use super::messages::{DeleteRangeRequest, DeleteRangeResponse};
use super::messages::{
    KeyValue, PutRequest, RangeRequest, RangeResponse, ResponseHeader, WriteResponse,
};

pub(super) const RANGE: Method = Method {
    path: "/etcdserverpb.KV/Range",
    is_idempotent: true,
};
const PUT: Method = Method {
    path: "/etcdserverpb.KV/Put",
    // A second put has the same effect, unless another client has come in between; that is for transactions.
    is_idempotent: true,
};
#[cfg(test)]
const DELETE: Method = Method {
    path: "/etcdserverpb.KV/DeleteRange",
    is_idempotent: true,
};

impl EtcdClient {
    /// The value of a key as the majority of members knows it; `None`: there is no such key.
    ///
    /// # Errors
    /// [`EtcdError::Unavailable`] or [`EtcdError::Refused`].
    pub async fn get(&self, key: impl Into<Vec<u8>>) -> Result<Option<KeyValue>, EtcdError> {
        let request = RangeRequest {
            key: key.into(),
            ..RangeRequest::default()
        };
        let response: RangeResponse = self.call(RANGE, request).await?;
        Ok(response.kvs.into_iter().next())
    }

    /// Sets a key whatever its value is. With a lease the key ends with it. Returns the revision of the change.
    ///
    /// # Errors
    /// [`EtcdError::LeaseNotFound`], or as for [`get`](Self::get). The key may be set even then, unless etcd refuses it.
    pub async fn put(
        &self,
        key: impl Into<Vec<u8>>,
        value: impl Into<Vec<u8>>,
        lease: Option<Lease>,
    ) -> Result<i64, EtcdError> {
        let request = PutRequest {
            key: key.into(),
            value: value.into(),
            lease: lease.map_or(0, |lease| lease.id),
        };
        let response: WriteResponse = self.call(PUT, request).await?;
        Ok(header(response.header)?.revision)
    }

    /// Deletes a key, for tests: what this process writes ends with its leases. Returns whether it was there: `false` as well if an attempt whose answer was lost has deleted it.
    ///
    /// # Errors
    /// As for [`put`](Self::put).
    #[cfg(test)]
    pub async fn delete(&self, key: impl Into<Vec<u8>>) -> Result<bool, EtcdError> {
        let request = DeleteRangeRequest { key: key.into() };
        let response: DeleteRangeResponse = self.call(DELETE, request).await?;
        header(response.header)?;
        Ok(response.deleted > 0)
    }
}

/// The header of a response, without which it is none of etcd.
pub(super) fn header(header: Option<ResponseHeader>) -> Result<ResponseHeader, EtcdError> {
    header.ok_or_else(|| EtcdError::Refused("the response has no header".to_owned()))
}
