//! The history's tick as a background service.

use std::sync::Arc;

use async_trait::async_trait;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;

use crate::admin::Api;
use crate::supervisor::{Supervisor, Task};

/// Ticks the history and the subscribers of the API, on a thread of its own: a large pool takes noticeable time.
pub(super) struct HistoryService(pub(super) Arc<Api>);

#[async_trait]
impl BackgroundService for HistoryService {
    async fn start(&self, _shutdown: ShutdownWatch) {
        // It runs during a drain, too: operators watch a draining process.
        let mut supervisor = Supervisor::new(Task::History, "");
        while supervisor.run(self.0.publish_updates()).await.is_none() {}
    }
}
