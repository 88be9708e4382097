//! What happens, told as it happens: server-sent events for a page that is left open.
//!
//! Each second a `status` and a `sample` of each pool, which are the sign of life as well; an `event` at once.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use http::header::{self, HeaderValue};
use log::error;
use serde::Serialize;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};

use super::{Api, ApiRequest, Caller};
use crate::admin::response::ApiResponse;
use crate::event_log::EventLog;
use crate::history::INTERVAL;

/// Streams at once: a wall and a few desks.
const MAX_STREAMS: usize = 32;

/// Pieces that wait for a client that reads slowly; one that reads nothing is cut by the time limit on writing.
const QUEUE_LENGTH: usize = 8;

/// The first piece: how soon a client that lost its stream should come back, in milliseconds.
const RETRY_FIELD: &[u8] = b"retry: 1000\n\n";

/// Those who follow.
#[derive(Debug)]
pub(super) struct EventStreams {
    permits: Arc<Semaphore>,
    /// The newest second as it is told to the owner, and to anybody.
    owner: watch::Sender<Bytes>,
    public: watch::Sender<Bytes>,
}

impl Default for EventStreams {
    /// Nobody follows.
    fn default() -> Self {
        EventStreams {
            permits: Arc::new(Semaphore::new(MAX_STREAMS)),
            owner: watch::Sender::default(),
            public: watch::Sender::default(),
        }
    }
}

impl EventStreams {
    fn sender(&self, caller: Caller) -> &watch::Sender<Bytes> {
        match caller {
            Caller::Owner => &self.owner,
            Caller::Public => &self.public,
        }
    }
}

/// Everything from now on.
pub(super) fn open(api: &Api, request: &ApiRequest) -> Result<ApiResponse, ApiResponse> {
    let permits = Arc::clone(&api.streams.permits);
    let Ok(permit) = permits.try_acquire_owned() else {
        let reason = format!("{MAX_STREAMS} streams are open, and there may be no more");
        let soon = HeaderValue::from_static("5");
        let refusal = ApiResponse::error(StatusCode::SERVICE_UNAVAILABLE, reason);
        return Err(refusal.with_header(header::RETRY_AFTER, soon));
    };
    let (chunks, changed) = mpsc::channel(QUEUE_LENGTH);
    let updates = api.streams.sender(request.caller).subscribe();
    let event_log = Arc::clone(api.process.event_log());
    tokio::spawn(send_events(event_log, updates, chunks));
    Ok(ApiResponse::stream("text/event-stream", changed, permit))
}

/// Tells everything until nobody listens any more.
async fn send_events(
    event_log: Arc<EventLog>,
    mut updates: watch::Receiver<Bytes>,
    chunks: mpsc::Sender<Bytes>,
) {
    let mut events = event_log.subscribe();
    let mut last = event_log.since(0).last().map_or(0, |event| event.number);
    let mut sent = chunks.send(Bytes::from_static(RETRY_FIELD)).await;
    while sent.is_ok() {
        let chunk = tokio::select! {
            // Who falls behind loses seconds, but no event that is still remembered: here they are only waited for.
            _ = events.recv() => new_events(&event_log, &mut last),
            changed = updates.changed() => match changed {
                Ok(()) => updates.borrow_and_update().clone(),
                Err(_) => return,
            },
            () = chunks.closed() => return,
        };
        if !chunk.is_empty() {
            sent = chunks.send(chunk).await;
        }
    }
}

/// The events after the last one that was told.
fn new_events(event_log: &EventLog, last: &mut u64) -> Bytes {
    let mut chunk = Vec::new();
    for event in event_log.since(*last) {
        append_event(&mut chunk, "event", &event);
        *last = event.number;
    }
    chunk.into()
}

/// Adds a server-sent event.
fn append_event(chunk: &mut Vec<u8>, name: &str, value: &impl Serialize) {
    // JSON has its line ends escaped, so the data is one line.
    match serde_json::to_string(value) {
        Ok(data) => chunk.extend_from_slice(format!("event: {name}\ndata: {data}\n\n").as_bytes()),
        Err(error) => error!("the {name} cannot be told: {error}"),
    }
}

impl Api {
    /// Samples the pools each second, and tells whoever follows; for as long as the process lives.
    pub async fn publish_updates(&self) {
        let mut updates = interval(INTERVAL);
        updates.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            updates.tick().await;
            let samples = self.process.history().sample(&self.process.pools());
            for caller in [Caller::Owner, Caller::Public] {
                let sender = self.streams.sender(caller);
                // For a pool of thousands it is some work, so it is done once for all, and only if there is somebody.
                if sender.receiver_count() > 0 {
                    let mut chunk = Vec::new();
                    append_event(&mut chunk, "status", &self.status(caller));
                    append_event(&mut chunk, "sample", &samples);
                    sender.send_replace(chunk.into());
                }
            }
        }
    }
}
