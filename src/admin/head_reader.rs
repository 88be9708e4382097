//! Reads request heads, bounded in bytes, in time and in the number of waiting connections.
//!
//! A connection that has not sent its head holds no permit, so that slow clients cannot keep probes out.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pingora::protocols::l4::stream::Stream;
use tokio::io::AsyncReadExt;
use tokio::sync::Notify;
use tokio::time::timeout;

/// Connections that have not sent a complete head. When a new one exceeds the limit, the oldest is closed: a probe
/// sends its head at once, so silent clients cannot keep it out.
const MAX_PENDING: usize = 128;

/// How long a complete head may take to arrive. The same limit applies to the body.
pub(super) const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// The largest request head, in bytes.
pub(super) const MAX_HEAD: usize = 16 << 10;

/// Why no head was read.
#[derive(Debug)]
pub(super) enum HeadReadError {
    /// The client disconnected.
    Closed,
    /// The connection was the oldest of too many.
    Displaced,
    /// The head was not complete after [`READ_TIMEOUT`].
    TimedOut,
    /// The head is larger than [`MAX_HEAD`].
    TooLarge,
}

/// The connections that have not sent a complete head, oldest first.
#[derive(Debug, Default)]
pub(super) struct PendingHeads(Mutex<VecDeque<Arc<Notify>>>);

/// The registration of one connection; removed on drop.
#[derive(Debug)]
pub(super) struct PendingHead<'a> {
    pending_heads: &'a PendingHeads,
    displaced: Arc<Notify>,
}

impl PendingHeads {
    /// Registers a new connection, and displaces the oldest one if there are more than [`MAX_PENDING`].
    pub(super) fn register(&self) -> PendingHead<'_> {
        let displaced = Arc::new(Notify::new());
        let mut waiting = self.waiting();
        waiting.push_back(Arc::clone(&displaced));
        if waiting.len() > MAX_PENDING
            && let Some(oldest) = waiting.pop_front()
        {
            oldest.notify_one();
        }
        PendingHead {
            pending_heads: self,
            displaced,
        }
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Arc<Notify>>> {
        // A panic under the lock cannot leave the queue inconsistent, so a poisoned lock is safe to use.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PendingHead<'_> {
    /// Reads until the head is complete, then puts the bytes back into the stream for the parser.
    pub(super) async fn read_head(&self, stream: &mut Stream) -> Result<(), HeadReadError> {
        let mut head = Vec::new();
        let outcome = tokio::select! {
            biased;
            read = timeout(READ_TIMEOUT, read_until_head_end(stream, &mut head)) => match read {
                Ok(Ok(outcome)) => outcome,
                Ok(Err(_)) => Err(HeadReadError::Closed),
                Err(_) => Err(HeadReadError::TimedOut),
            },
            () = self.displaced.notified() => Err(HeadReadError::Displaced),
        };
        outcome.map(|()| stream.rewind(&head))
    }
}

impl Drop for PendingHead<'_> {
    fn drop(&mut self) {
        let mut waiting = self.pending_heads.waiting();
        waiting.retain(|other| !Arc::ptr_eq(other, &self.displaced));
    }
}

/// Reads into `head` until it contains a complete head, and possibly the first bytes of a body.
async fn read_until_head_end(
    stream: &mut Stream,
    head: &mut Vec<u8>,
) -> io::Result<Result<(), HeadReadError>> {
    let mut piece = [0; 4 << 10];
    loop {
        let free = (MAX_HEAD + 1).saturating_sub(head.len());
        let free = free.min(piece.len());
        let count = stream.read(&mut piece[..free]).await?;
        if count == 0 {
            return Ok(Err(HeadReadError::Closed));
        }
        let scanned = head.len().saturating_sub(3);
        head.extend_from_slice(&piece[..count]);
        // Empty lines before a request are ignored: RFC 9112 2.2.
        if scanned == 0 {
            let empty = head.iter().take_while(|byte| matches!(byte, b'\r' | b'\n'));
            let empty = empty.count();
            head.drain(..empty);
        }
        if has_head_end(&head[scanned.min(head.len())..]) {
            return Ok(Ok(()));
        }
        if head.len() > MAX_HEAD {
            return Ok(Err(HeadReadError::TooLarge));
        }
    }
}

/// Whether `bytes` contain an empty line, which ends a head.
fn has_head_end(bytes: &[u8]) -> bool {
    let is_end = |line: &[u8]| line.starts_with(b"\n\n") || line.starts_with(b"\n\r\n");
    (0..bytes.len()).any(|start| is_end(&bytes[start..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_end_with_an_empty_line() {
        assert!(has_head_end(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert!(has_head_end(b"GET / HTTP/1.0\n\n"));
        assert!(!has_head_end(b"GET / HTTP/1.1\r\nHost: a\r\n\r"));
    }

    #[test]
    fn the_oldest_is_displaced_when_too_many_wait() {
        let pending_heads = PendingHeads::default();
        let first = pending_heads.register();
        let mut others = Vec::from_iter((1..MAX_PENDING).map(|_| pending_heads.register()));
        assert_eq!(pending_heads.waiting().len(), MAX_PENDING);
        let last = pending_heads.register();
        let waiting = |of: &PendingHead<'_>| {
            let mut waiting = pending_heads.waiting().clone().into_iter();
            waiting.any(|other| Arc::ptr_eq(&other, &of.displaced))
        };
        assert!(!waiting(&first) && waiting(&others[0]) && waiting(&last));
        others.pop();
        drop(first);
        assert_eq!(pending_heads.waiting().len(), MAX_PENDING - 1);
    }
}
