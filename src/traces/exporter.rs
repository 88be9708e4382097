//! What waits in the queue, sent in batches: tried again for a while where that may help, then given up.

use std::sync::Arc;
use std::time::Duration;

use log::{info, warn};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use super::Counts;
use super::batch::Batch;
use super::client::{Client, Fault};
use super::ended::Ended;
use crate::config::Otlp;

/// How long is waited before each further try to send a batch.
const PAUSES: [Duration; 4] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
];

/// How often it is looked who else goes along. A thread that is woken by each request costs it more than all the rest.
const STEP: Duration = Duration::from_millis(50);
/// How often, once an eighth of the queue has been found taken.
const SHORT_STEP: Duration = Duration::from_millis(5);

/// Sends what waits, until it is told to end.
pub(super) struct Exporter {
    client: Client,
    waiting: mpsc::Receiver<Box<Ended>>,
    ending: watch::Receiver<bool>,
    counts: Arc<Counts>,
    interval: Duration,
    batch: Batch,
    endpoint: String,
    /// What was lost when the collector was last known to take what it is sent; `None`: it is.
    lost_before: Option<u64>,
}

impl Exporter {
    pub(super) fn new(
        config: &Otlp,
        client: Client,
        waiting: mpsc::Receiver<Box<Ended>>,
        ending: watch::Receiver<bool>,
        counts: Arc<Counts>,
    ) -> Self {
        Exporter {
            client,
            waiting,
            ending,
            counts,
            interval: config.interval,
            batch: Batch::new(&config.service),
            endpoint: config.endpoint.to_string(),
            lost_before: None,
        }
    }

    /// Loses what it has taken from the queue.
    pub(super) fn give_up(&mut self) {
        self.counts.add_lost(self.batch.requests());
        self.batch.clear();
    }

    pub(super) async fn run(&mut self) {
        while self.gather().await {
            self.deliver(&PAUSES).await;
        }
        // No time is left to try anything twice.
        loop {
            take(&mut self.waiting, &mut self.batch);
            if self.batch.requests() == 0 {
                return;
            }
            self.deliver(&[]).await;
        }
    }

    /// Waits for requests to tell of. `false`: it is time to end; there may be some nevertheless.
    async fn gather(&mut self) -> bool {
        let (waiting, batch) = (&mut self.waiting, &mut self.batch);
        let some = async {
            let Some(first) = waiting.recv().await else {
                return;
            };
            batch.add(&first);
            let more = async {
                while !batch.is_full() {
                    let is_busy = waiting.len() > waiting.max_capacity() / 8;
                    take(waiting, batch);
                    sleep(if is_busy { SHORT_STEP } else { STEP }).await;
                }
            };
            // Full or not, it goes then.
            let _ = timeout(self.interval, more).await;
        };
        tokio::select! {
            biased;
            () = told(&mut self.ending) => return false,
            () = some => {}
        }
        self.batch.requests() > 0
    }

    /// Sends the batch, again after each of `pauses` if that may help, and empties it.
    async fn deliver(&mut self, pauses: &[Duration]) {
        let requests = self.batch.requests();
        let mut pauses = pauses.iter();
        loop {
            let fault = match self.client.post(&self.batch.message()).await {
                Ok(turned_away) => {
                    self.batch.clear();
                    return self.delivered(requests, turned_away);
                }
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
        self.batch.clear();
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
}

/// Waits until it is time to end.
async fn told(ending: &mut watch::Receiver<bool>) {
    // Whoever could tell it is gone: then it is time as well.
    let _ = ending.wait_for(|yes| *yes).await;
}

/// Adds those that wait to a batch, as far as there is room. They are made spans of at once: what is kept of a request takes
/// more room.
fn take(waiting: &mut mpsc::Receiver<Box<Ended>>, batch: &mut Batch) {
    while !batch.is_full()
        && let Ok(ended) = waiting.try_recv()
    {
        batch.add(&ended);
    }
}
