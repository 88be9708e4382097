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

use super::{Api, Door, Request};
use crate::admin::reply::Reply;
use crate::history::INTERVAL;
use crate::journal::Journal;

/// Streams at once: a wall and a few desks.
const STREAMS: usize = 32;

/// Pieces that wait for a client that reads slowly; one that reads nothing is cut by the time limit on writing.
const WAITING: usize = 8;

/// The first piece: how soon a client that lost its stream should come back, in milliseconds.
const WELCOME: &[u8] = b"retry: 1000\n\n";

/// Those who follow.
#[derive(Debug)]
pub(super) struct Streams {
    places: Arc<Semaphore>,
    /// The newest second as it is told to the owner, and to anybody.
    owner: watch::Sender<Bytes>,
    public: watch::Sender<Bytes>,
}

impl Default for Streams {
    /// Nobody follows.
    fn default() -> Self {
        Streams {
            places: Arc::new(Semaphore::new(STREAMS)),
            owner: watch::Sender::default(),
            public: watch::Sender::default(),
        }
    }
}

impl Streams {
    fn behind(&self, door: Door) -> &watch::Sender<Bytes> {
        match door {
            Door::Owner => &self.owner,
            Door::Public => &self.public,
        }
    }
}

/// Everything from now on.
pub(super) fn follow(api: &Api, request: &Request) -> Result<Reply, Reply> {
    let places = Arc::clone(&api.streams.places);
    let Ok(place) = places.try_acquire_owned() else {
        let reason = format!("{STREAMS} streams are open, and there may be no more");
        let soon = HeaderValue::from_static("5");
        let refusal = Reply::error(StatusCode::SERVICE_UNAVAILABLE, reason);
        return Err(refusal.with(header::RETRY_AFTER, soon));
    };
    let (pieces, told) = mpsc::channel(WAITING);
    let seconds = api.streams.behind(request.door).subscribe();
    let journal = Arc::clone(api.running.journal());
    tokio::spawn(tell(journal, seconds, pieces));
    Ok(Reply::pieces("text/event-stream", told, place))
}

/// Tells everything until nobody listens any more.
async fn tell(
    journal: Arc<Journal>,
    mut seconds: watch::Receiver<Bytes>,
    pieces: mpsc::Sender<Bytes>,
) {
    let mut events = journal.follow();
    let mut last = journal.after(0).last().map_or(0, |event| event.number);
    let mut heard = pieces.send(Bytes::from_static(WELCOME)).await;
    while heard.is_ok() {
        let piece = tokio::select! {
            // Who falls behind loses seconds, but no event that is still remembered: here they are only waited for.
            _ = events.recv() => news(&journal, &mut last),
            told = seconds.changed() => match told {
                Ok(()) => seconds.borrow_and_update().clone(),
                Err(_) => return,
            },
            () = pieces.closed() => return,
        };
        if !piece.is_empty() {
            heard = pieces.send(piece).await;
        }
    }
}

/// The events after the last one that was told.
fn news(journal: &Journal, last: &mut u64) -> Bytes {
    let mut piece = Vec::new();
    for event in journal.after(*last) {
        write(&mut piece, "event", &event);
        *last = event.number;
    }
    piece.into()
}

/// Adds a server-sent event.
fn write(piece: &mut Vec<u8>, name: &str, value: &impl Serialize) {
    // JSON has its line ends escaped, so the data is one line.
    match serde_json::to_string(value) {
        Ok(data) => piece.extend_from_slice(format!("event: {name}\ndata: {data}\n\n").as_bytes()),
        Err(error) => error!("the {name} cannot be told: {error}"),
    }
}

impl Api {
    /// Samples the pools each second, and tells whoever follows; for as long as the process lives.
    pub async fn tick(&self) {
        let mut seconds = interval(INTERVAL);
        seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            seconds.tick().await;
            let samples = self.running.history().sample(&self.running.pools());
            for door in [Door::Owner, Door::Public] {
                let followed = self.streams.behind(door);
                // For a pool of thousands it is some work, so it is done once for all, and only if there is somebody.
                if followed.receiver_count() > 0 {
                    let mut piece = Vec::new();
                    write(&mut piece, "status", &self.status(door));
                    write(&mut piece, "sample", &samples);
                    followed.send_replace(piece.into());
                }
            }
        }
    }
}
