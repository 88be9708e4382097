//! How a request's head arrives: bounded in bytes and time, from a bounded number of connections, and without a place that
//! a probe would need.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pingora::protocols::l4::stream::Stream;
use tokio::io::AsyncReadExt;
use tokio::sync::Notify;
use tokio::time::timeout;

/// Connections that have not sent a whole head. Beyond that the oldest of them goes: a probe sends its head at once, and
/// clients that stay silent cannot keep it out.
const MOST: usize = 128;

/// A whole head has this long to arrive, and a body as well.
pub(super) const ARRIVAL: Duration = Duration::from_secs(10);

/// The largest head, in bytes.
pub(super) const LARGEST_HEAD: usize = 16 << 10;

/// Why there is no head.
#[derive(Debug)]
pub(super) enum NoHead {
    /// The client has gone.
    Gone,
    /// Newer connections took its place.
    Displaced,
    /// It did not come in time.
    Late,
    TooLarge,
}

/// The connections that have not sent a whole head, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Arrivals(Mutex<VecDeque<Arc<Notify>>>);

/// A connection among the others. Dropping it takes it out.
#[derive(Debug)]
pub(super) struct Arriving<'a> {
    arrivals: &'a Arrivals,
    displaced: Arc<Notify>,
}

impl Arrivals {
    /// Takes a new connection in, and displaces the oldest one if there are too many.
    pub(super) fn enter(&self) -> Arriving<'_> {
        let displaced = Arc::new(Notify::new());
        let mut waiting = self.waiting();
        waiting.push_back(Arc::clone(&displaced));
        if waiting.len() > MOST
            && let Some(oldest) = waiting.pop_front()
        {
            oldest.notify_one();
        }
        Arriving {
            arrivals: self,
            displaced,
        }
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Arc<Notify>>> {
        // Nothing that is done under the lock can be half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Arriving<'_> {
    /// Waits for the head of a request, and puts what has come back into the stream.
    pub(super) async fn head(&self, stream: &mut Stream) -> Result<(), NoHead> {
        let mut head = Vec::new();
        let outcome = tokio::select! {
            biased;
            read = timeout(ARRIVAL, read(stream, &mut head)) => match read {
                Ok(Ok(outcome)) => outcome,
                Ok(Err(_)) => Err(NoHead::Gone),
                Err(_) => Err(NoHead::Late),
            },
            () = self.displaced.notified() => Err(NoHead::Displaced),
        };
        outcome.map(|()| stream.rewind(&head))
    }
}

impl Drop for Arriving<'_> {
    fn drop(&mut self) {
        let mut waiting = self.arrivals.waiting();
        waiting.retain(|other| !Arc::ptr_eq(other, &self.displaced));
    }
}

/// Reads until the head is whole; `head` gets all that came.
async fn read(stream: &mut Stream, head: &mut Vec<u8>) -> io::Result<Result<(), NoHead>> {
    let mut piece = [0; 4 << 10];
    loop {
        let room = (LARGEST_HEAD + 1).saturating_sub(head.len());
        let room = room.min(piece.len());
        let count = stream.read(&mut piece[..room]).await?;
        if count == 0 {
            return Ok(Err(NoHead::Gone));
        }
        let looked_at = head.len().saturating_sub(3);
        head.extend_from_slice(&piece[..count]);
        // Empty lines in front of a request are nothing: RFC 9112 2.2.
        if looked_at == 0 {
            let empty = head.iter().take_while(|byte| matches!(byte, b'\r' | b'\n'));
            let empty = empty.count();
            head.drain(..empty);
        }
        if has_end(&head[looked_at.min(head.len())..]) {
            return Ok(Ok(()));
        }
        if head.len() > LARGEST_HEAD {
            return Ok(Err(NoHead::TooLarge));
        }
    }
}

/// Whether an empty line ends a head here.
fn has_end(bytes: &[u8]) -> bool {
    let ends = |line: &[u8]| line.starts_with(b"\n\n") || line.starts_with(b"\n\r\n");
    (0..bytes.len()).any(|at| ends(&bytes[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_end_with_an_empty_line() {
        assert!(has_end(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert!(has_end(b"GET / HTTP/1.0\n\n"));
        assert!(!has_end(b"GET / HTTP/1.1\r\nHost: a\r\n\r"));
    }

    #[test]
    fn the_oldest_goes_when_there_are_too_many() {
        let arrivals = Arrivals::default();
        let first = arrivals.enter();
        let mut others = Vec::from_iter((1..MOST).map(|_| arrivals.enter()));
        assert_eq!(arrivals.waiting().len(), MOST);
        let last = arrivals.enter();
        let waiting = |of: &Arriving<'_>| {
            let mut waiting = arrivals.waiting().clone().into_iter();
            waiting.any(|other| Arc::ptr_eq(&other, &of.displaced))
        };
        assert!(!waiting(&first) && waiting(&others[0]) && waiting(&last));
        others.pop();
        drop(first);
        assert_eq!(arrivals.waiting().len(), MOST - 1);
    }
}
