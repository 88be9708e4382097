//! A watch of a prefix: the stream of its changes from a revision on.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::client::{EtcdClient, OpenStream};
use super::error::EtcdError;
use super::exchange::Method;
use super::key_range::KeyRange;
use super::messages::{
    Event, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
};

const WATCH: Method = Method {
    path: "/etcdserverpb.Watch/Watch",
    is_idempotent: true,
};

/// An open watch.
#[derive(Debug)]
pub(super) struct WatchStream {
    client: EtcdClient,
    stream: OpenStream<WatchRequest, WatchResponse>,
    cluster_id: u64,
    /// How long the stream may be silent before the member is asked whether it is alive, and how long it may take to
    /// answer.
    patience: Duration,
    /// When the member must have said something.
    deadline: Instant,
    /// Whether it has been asked for progress since its last response.
    is_asked: bool,
}

/// Changes in the order of their revisions.
#[derive(Debug)]
pub(super) struct Changes {
    pub(super) events: Vec<Event>,
    /// Whether further events of the last revision follow.
    pub(super) is_partial: bool,
}

impl EtcdClient {
    /// Watches a prefix from a revision on, which may be in the future. Only a member of the cluster `cluster_id` counts.
    pub(super) async fn watch(
        &self,
        prefix: &[u8],
        start_revision: i64,
        cluster_id: u64,
    ) -> Result<WatchStream, EtcdError> {
        let range = KeyRange::of_prefix(prefix);
        let create = WatchCreateRequest {
            key: range.start,
            range_end: range.end,
            start_revision,
            fragment: true,
        };
        let first = WatchRequest {
            create: Some(create),
            progress: None,
        };
        let stream = self.open_stream(WATCH, first).await?;
        Ok(WatchStream {
            client: self.clone(),
            stream,
            cluster_id,
            patience: self.request_timeout(),
            deadline: Instant::now() + self.request_timeout(),
            is_asked: false,
        })
    }
}

impl WatchStream {
    /// The next changes; `None`: there were none. May be dropped at any time without losing any.
    ///
    /// # Errors
    /// Why the watch has ended. All that is known has to be read again then.
    pub(super) async fn next(&mut self) -> Result<Option<Changes>, String> {
        loop {
            let response = match timeout_at(self.deadline, self.stream.responses.message()).await {
                Ok(Ok(Some(response))) => response,
                Ok(Ok(None)) => return Err(self.leave("the member has ended the watch")),
                Ok(Err(status)) => return Err(self.leave(status.message())),
                Err(_) if self.is_asked => return Err(self.leave("the watch does not progress")),
                Err(_) => {
                    self.ask_for_progress();
                    continue;
                }
            };
            self.deadline = Instant::now() + self.patience;
            self.is_asked = false;
            return self.read(response).await;
        }
    }

    async fn read(&self, response: WatchResponse) -> Result<Option<Changes>, String> {
        if response.compact_revision > 0 {
            let revision = response.compact_revision;
            return Err(format!("revisions before {revision} have been compacted"));
        }
        if response.canceled {
            // etcd does not say that a token has expired: permission is denied.
            self.client.forget_token().await;
            let reason = match &*response.cancel_reason {
                "" => "without a reason",
                reason => reason,
            };
            return Err(format!("the member has cancelled the watch: {reason}"));
        }
        let cluster_id = response.header.unwrap_or_default().cluster_id;
        if cluster_id != self.cluster_id {
            return Err(self.leave("the member belongs to another cluster"));
        }
        // Nothing but an answer to the creation or about progress.
        if response.events.is_empty() && !response.fragment {
            return Ok(None);
        }
        Ok(Some(Changes {
            events: response.events,
            is_partial: response.fragment,
        }))
    }

    fn ask_for_progress(&mut self) {
        self.deadline = Instant::now() + self.patience;
        self.is_asked = true;
        // If there is no room, an earlier request has not been sent yet, and the deadline holds.
        let _ = self.stream.requests.try_send(WatchRequest {
            create: None,
            progress: Some(WatchProgressRequest {}),
        });
    }

    /// Lets the next request go to another endpoint. Returns `reason` with the endpoint's name.
    fn leave(&self, reason: &str) -> String {
        let endpoint = self.client.leave_endpoint(self.stream.opened_at);
        format!("{endpoint}: {reason}")
    }
}
