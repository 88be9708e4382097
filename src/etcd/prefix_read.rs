//! Reads all keys under a prefix, page by page at one revision.

use super::client::EtcdClient;
use super::error::EtcdError;
use super::key_range::KeyRange;
use super::messages::{RangeRequest, RangeResponse};
use super::operations::{RANGE, header};
#[cfg(test)]
use super::prefix_state::PrefixSnapshot;
use super::prefix_state::PrefixState;

/// The keys of a page; some MiB if their values are large.
const PAGE: i64 = 1_000;

impl EtcdClient {
    /// All keys under a prefix, as the majority of members knows them at one revision.
    ///
    /// # Errors
    /// [`EtcdError::Unavailable`], or [`EtcdError::Refused`], also if there are more than 100,000 keys or 64 MiB.
    #[cfg(test)]
    pub async fn read_prefix(
        &self,
        prefix: impl Into<Vec<u8>>,
    ) -> Result<PrefixSnapshot, EtcdError> {
        let state = self.read_prefix_state(&prefix.into()).await?;
        Ok(state.snapshot)
    }

    pub(super) async fn read_prefix_state(&self, prefix: &[u8]) -> Result<PrefixState, EtcdError> {
        let mut range = KeyRange::of_prefix(prefix);
        let mut state: Option<PrefixState> = None;
        let mut limit = PAGE;
        loop {
            let request = RangeRequest {
                key: range.start.clone(),
                range_end: range.end.clone(),
                limit,
                revision: state.as_ref().map_or(0, |state| state.snapshot.revision),
            };
            let response: RangeResponse = match self.call(RANGE, request).await {
                // The page is larger than a message may be.
                Err(EtcdError::Refused(reason)) if limit > 1 && reason.contains("too large") => {
                    limit /= 2;
                    continue;
                }
                response => response?,
            };
            let header = header(response.header)?;
            let state = state.get_or_insert_with(|| {
                PrefixState::new(prefix.to_vec(), header.cluster_id, header.revision)
            });
            if header.cluster_id != state.snapshot.cluster_id {
                return Err(lie("the endpoints belong to different clusters"));
            }
            if response.more && response.kvs.is_empty() {
                return Err(lie("a page is empty, and more are to follow"));
            }
            for key_value in response.kvs {
                if key_value.key < range.start {
                    return Err(lie("keys are out of order"));
                }
                range = range.after(&key_value.key);
                state.insert(key_value).map_err(EtcdError::Refused)?;
            }
            if !response.more {
                return Ok(std::mem::take(state));
            }
        }
    }
}

fn lie(message: &str) -> EtcdError {
    EtcdError::Refused(message.to_owned())
}
