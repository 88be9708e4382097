//! The event stream: server-sent events for the dashboard.
//!
//! The stream carries a `status` and a `sample` of each pool every second, which also serve as its keep-alive, and each
//! `event` at once.

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

/// Concurrent streams: enough for a wall display and a few desks.
const MAX_STREAMS: usize = 32;

/// Chunks queued for a slow client. A client that reads nothing is disconnected by the write timeout of the response.
const QUEUE_LENGTH: usize = 8;

/// The first chunk: after how many milliseconds a client should reconnect when its stream breaks.
const RETRY_FIELD: &[u8] = b"retry: 1000\n\n";

/// The open streams, and the updates that they send.
#[derive(Debug)]
pub(super) struct EventStreams {
    permits: Arc<Semaphore>,
    /// The newest `status` and `sample`, as sent to each kind of caller.
    owner: watch::Sender<Bytes>,
    public: watch::Sender<Bytes>,
}

impl Default for EventStreams {
    /// No open streams.
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

/// Opens a stream; 503 if [`MAX_STREAMS`] are open.
pub(super) fn open(api: &Api, request: &ApiRequest) -> Result<ApiResponse, ApiResponse> {
    let permits = Arc::clone(&api.streams.permits);
    let Ok(permit) = permits.try_acquire_owned() else {
        let reason = format!("{MAX_STREAMS} streams are open, which is the maximum");
        let retry_after = HeaderValue::from_static("5");
        let rejection = ApiResponse::error(StatusCode::SERVICE_UNAVAILABLE, reason);
        return Err(rejection.with_header(header::RETRY_AFTER, retry_after));
    };
    let (sender, chunks) = mpsc::channel(QUEUE_LENGTH);
    let updates = api.streams.sender(request.caller).subscribe();
    let event_log = Arc::clone(api.process.event_log());
    tokio::spawn(send_events(event_log, updates, sender));
    Ok(ApiResponse::stream("text/event-stream", chunks, permit))
}

/// Sends updates and events until the client disconnects.
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
            // A slow client loses updates, but no event that the log still holds: the channel only signals new events,
            // and `new_events` reads them from the log.
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

/// The events after number `last`, which is advanced to the newest.
fn new_events(event_log: &EventLog, last: &mut u64) -> Bytes {
    let mut chunk = Vec::new();
    for event in event_log.since(*last) {
        append_event(&mut chunk, "event", &event);
        *last = event.number;
    }
    chunk.into()
}

/// Appends a server-sent event.
fn append_event(chunk: &mut Vec<u8>, name: &str, value: &impl Serialize) {
    // JSON escapes line breaks, so the data is always one line.
    match serde_json::to_string(value) {
        Ok(data) => chunk.extend_from_slice(format!("event: {name}\ndata: {data}\n\n").as_bytes()),
        Err(error) => error!("cannot serialize the {name}: {error}"),
    }
}

impl Api {
    /// Samples the pools every second and publishes the updates to the open streams. Runs until the process ends.
    pub async fn publish_updates(&self) {
        let mut updates = interval(INTERVAL);
        updates.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            updates.tick().await;
            let samples = self.process.history().sample(&self.process.pools());
            for caller in [Caller::Owner, Caller::Public] {
                let sender = self.streams.sender(caller);
                // Serializing thousands of hosts costs time, so it is done once for all streams of a caller, and only
                // if there are any.
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
