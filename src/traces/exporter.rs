//! What waits in the queue, sent in batches: tried again for a while where that may help, then given up.

use std::sync::Arc;
use std::time::Duration;

use log::{info, warn};
use prost::Message;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use super::Counts;
use super::attribute::{integer, text};
use super::client::{Client, Fault};
use super::ended::Ended;
use super::otlp::{ExportRequest, Resource, ResourceSpans, Scope, ScopeSpans};
use super::span::spans;
use crate::config::Otlp;

/// Requests that one message tells of at most: some hundred kilobytes.
const BATCH: usize = 512;
/// How long is waited before each further try to send a batch.
const PAUSES: [Duration; 4] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
];

/// How often it is looked who else goes along. A thread that is woken by each request costs it more than all the rest.
const STEP: Duration = Duration::from_millis(20);

/// Sends what waits, until it is told to end.
pub(super) struct Exporter {
    client: Client,
    waiting: mpsc::Receiver<Ended>,
    ending: watch::Receiver<bool>,
    counts: Arc<Counts>,
    interval: Duration,
    resource: Resource,
    endpoint: String,
    /// What was lost when the collector was last known to take what it is sent; `None`: it is.
    lost_before: Option<u64>,
}

impl Exporter {
    pub(super) fn new(
        config: &Otlp,
        client: Client,
        waiting: mpsc::Receiver<Ended>,
        ending: watch::Receiver<bool>,
        counts: Arc<Counts>,
    ) -> Self {
        Exporter {
            client,
            waiting,
            ending,
            counts,
            interval: config.interval,
            resource: resource(&config.service),
            endpoint: config.endpoint.to_string(),
            lost_before: None,
        }
    }

    pub(super) async fn run(mut self) {
        let mut batch = Vec::with_capacity(BATCH);
        while self.gather(&mut batch).await {
            self.deliver(&mut batch, &PAUSES).await;
        }
        // No time is left to try anything twice.
        loop {
            take(&mut self.waiting, &mut batch);
            if batch.is_empty() {
                return;
            }
            self.deliver(&mut batch, &[]).await;
        }
    }

    /// Waits for requests to tell of. `false`: it is time to end; there may be some nevertheless.
    async fn gather(&mut self, batch: &mut Vec<Ended>) -> bool {
        let waiting = &mut self.waiting;
        let some = async {
            if waiting.recv_many(batch, BATCH).await == 0 {
                return;
            }
            let more = async {
                while batch.len() < BATCH {
                    sleep(STEP).await;
                    take(waiting, batch);
                }
            };
            // Full or not, it goes then.
            let _ = timeout(self.interval, more).await;
        };
        tokio::select! {
            biased;
            () = told(&mut self.ending) => false,
            () = some => !batch.is_empty(),
        }
    }

    /// Sends a batch, again after each of `pauses` if that may help, and empties it.
    async fn deliver(&mut self, batch: &mut Vec<Ended>, pauses: &[Duration]) {
        let message = self.message(batch);
        let requests = batch.len();
        batch.clear();
        let mut pauses = pauses.iter();
        loop {
            let fault = match self.client.post(&message).await {
                Ok(turned_away) => return self.delivered(requests, turned_away),
                Err(fault) => fault,
            };
            self.complain(&fault);
            let pause = match fault {
                Fault::Passing(_) => pauses.next(),
                Fault::Lasting(_) => None,
            };
            let Some(pause) = pause else { break };
            tokio::select! {
                biased;
                // The last try comes at once.
                () = told(&mut self.ending) => pauses = [].iter(),
                () = sleep(*pause) => {}
            }
        }
        self.counts.add_lost(requests);
    }

    fn delivered(&mut self, requests: usize, turned_away: u64) {
        self.counts.add_exported(requests);
        if turned_away > 0 {
            warn!(
                "the collector of traces turned spans away: {turned_away}, {}",
                self.endpoint
            );
        }
        if let Some(before) = self.lost_before.take() {
            let lost = self.counts.lost() - before;
            info!(
                "traces go to {} again; requests not told of: {lost}",
                self.endpoint
            );
        }
    }

    /// Once, until the collector takes something again.
    fn complain(&mut self, fault: &Fault) {
        if self.lost_before.is_none() {
            self.lost_before = Some(self.counts.lost());
            warn!("traces do not go to {}: {fault}", self.endpoint);
        }
    }

    fn message(&self, batch: &[Ended]) -> Vec<u8> {
        let scope = Scope {
            name: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let spans = ScopeSpans {
            scope: Some(scope),
            spans: batch.iter().flat_map(spans).collect(),
        };
        let request = ExportRequest {
            resource_spans: vec![ResourceSpans {
                resource: Some(self.resource.clone()),
                scope_spans: vec![spans],
            }],
        };
        request.encode_to_vec()
    }
}

/// Waits until it is time to end.
async fn told(ending: &mut watch::Receiver<bool>) {
    // Whoever could tell it is gone: then it is time as well.
    let _ = ending.wait_for(|yes| *yes).await;
}

/// What all spans have in common: whose they are.
fn resource(service: &str) -> Resource {
    Resource {
        attributes: vec![
            text("service.name", service),
            text("service.version", env!("CARGO_PKG_VERSION")),
            integer("process.pid", std::process::id()),
        ],
    }
}

/// Adds those that wait to a batch, as far as there is room.
fn take(waiting: &mut mpsc::Receiver<Ended>, batch: &mut Vec<Ended>) {
    while batch.len() < BATCH
        && let Ok(ended) = waiting.try_recv()
    {
        batch.push(ended);
    }
}
