//! How much a client of HTTP/2 may send ahead of what the hosts take: flow-control windows (RFC 9113 5.2) that grow with
//! use, within a budget of the whole process.
//!
//! A window bounds the speed of an upload, to one window for each round trip, and the memory that a stalled host costs.
//! So both windows begin small. While uploads make progress, the window of the streams doubles, up to [`MOST`], or less
//! while there are many. The window of the connection is so large that streams whose hosts take nothing leave a whole
//! window to the others. What that costs beyond [`CONNECTION`] comes from the budget; where that is used up the windows stay
//! as they are.
//!
//! A stream's window never shrinks: `h2` 0.4 does not look again at what a stream has consumed when its window does, and
//! the client would wait for an update that nothing brings about.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Poll, ready};

use tokio::sync::Notify;

use crate::proxy::traffic::Traffic;

/// The window of a stream at first, as HTTP/2 has it without a word.
pub(super) const STREAM: u32 = 65_535;

/// The window of a connection at first, and the least that each connection has.
pub(super) const CONNECTION: u32 = 256 << 10;

/// The largest window of a stream: 40 Mbit/s at a round trip of 100 ms.
const MOST: u32 = 8 * STREAM;

/// Beside so many uploads the windows of a connection grow to [`MOST`] ...
const FEW: usize = 4;

/// ... beside so many to [`LESS`], and beside more they do not grow.
const SOME: usize = 16;

const LESS: u32 = 4 * STREAM;

/// A window grows once so many times its size was read from uploads.
const PATIENCE: u64 = 1;

/// What the windows of all connections may hold together beyond [`CONNECTION`] each.
pub(in crate::proxy) const BUDGET: u64 = 256 << 20;

/// What the uploads of a connection tell it.
#[derive(Debug, Default)]
pub(super) struct Uploads {
    /// Requests with a body that have not ended.
    open: AtomicUsize,
    /// Bytes of bodies that were read.
    bytes: AtomicU64,
    /// Some more were.
    more: Notify,
}

/// An upload. Dropping it ends its count.
#[derive(Debug)]
pub(super) struct Upload(Arc<Uploads>);

impl Upload {
    /// A part of the body was read.
    pub(super) fn progressed(&self, bytes: usize) {
        self.0.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.0.more.notify_one();
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The windows of one connection.
#[derive(Debug)]
pub(super) struct Windows {
    uploads: Arc<Uploads>,
    sizes: Sizes,
    /// Bytes that had been read when the windows last grew.
    since: u64,
    /// What was taken from the budget.
    taken: u64,
    traffic: Arc<Traffic>,
    /// Whether the client could not be told of larger ones: it has not confirmed the last change.
    held: AtomicBool,
}

/// What HTTP/2 is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sizes {
    pub(super) stream: u32,
    pub(super) connection: u32,
}

impl Windows {
    pub(super) fn new(traffic: Arc<Traffic>) -> Self {
        Windows {
            uploads: Arc::default(),
            sizes: Sizes {
                stream: STREAM,
                connection: CONNECTION,
            },
            since: 0,
            taken: 0,
            traffic,
            held: AtomicBool::new(false),
        }
    }

    /// Counts an upload until the returned value is dropped.
    pub(super) fn upload(&self) -> Upload {
        self.uploads.open.fetch_add(1, Ordering::Relaxed);
        Upload(Arc::clone(&self.uploads))
    }

    /// Waits until the windows should be [adjusted](Self::adjust). It is polled whenever something comes on the
    /// connection as well, such as the confirmation of the last change.
    pub(super) async fn due(&self) {
        let mut more = pin!(self.uploads.more.notified());
        poll_fn(|context| {
            let held = self.held.swap(false, Ordering::Relaxed);
            loop {
                if !held && self.is_due() {
                    return Poll::Ready(());
                }
                ready!(more.as_mut().poll(context));
                more.set(self.uploads.more.notified());
            }
        })
        .await;
    }

    fn is_due(&self) -> bool {
        let open = self.uploads.open.load(Ordering::Relaxed);
        self.sizes.stream < most(open) && self.progress() >= PATIENCE * u64::from(self.sizes.stream)
    }

    fn progress(&self) -> u64 {
        self.uploads.bytes.load(Ordering::Relaxed) - self.since
    }

    /// Sets the sizes by the uploads that there are. `announce` tells the client; if it cannot, nothing changes for now.
    pub(super) fn adjust(&mut self, announce: impl FnOnce(Sizes, Sizes) -> bool) {
        let open = self.uploads.open.load(Ordering::Relaxed);
        let mut stream = self.sizes.stream;
        let since = match self.is_due() {
            true => {
                stream = stream.saturating_mul(2).min(most(open));
                self.uploads.bytes.load(Ordering::Relaxed)
            }
            false => self.since,
        };
        let sizes = Sizes {
            stream,
            connection: connection(open, stream),
        };
        if sizes != self.sizes && self.reserve(beyond(sizes)) {
            if announce(self.sizes, sizes) {
                (self.sizes, self.since) = (sizes, since);
            } else {
                self.held.store(true, Ordering::Relaxed);
            }
        } else {
            // Where the budget is used up, it is looked at again once as much has come again.
            self.since = since;
        }
        // What was reserved in vain, or is not needed any longer.
        self.reserve(beyond(self.sizes));
    }

    /// Makes `bytes` of the budget this connection's. `false`: there are not so many left.
    fn reserve(&mut self, bytes: u64) -> bool {
        let reserved = match bytes.checked_sub(self.taken) {
            Some(more) => self.traffic.reserve_upload(more),
            None => {
                self.traffic.release_upload(self.taken - bytes);
                true
            }
        };
        if reserved {
            self.taken = bytes;
        }
        reserved
    }
}

impl Drop for Windows {
    fn drop(&mut self) {
        self.traffic.release_upload(self.taken);
    }
}

/// Up to where the window of a stream grows beside so many uploads.
fn most(open: usize) -> u32 {
    if open <= FEW {
        MOST
    } else if open <= SOME {
        LESS
    } else {
        STREAM
    }
}

/// The window of a connection for so many uploads, each with a window of its own, and one window more.
fn connection(open: usize, stream: u32) -> u32 {
    match open {
        0 => CONNECTION,
        _ => (open as u32)
            .saturating_add(1)
            .saturating_mul(stream)
            .max(CONNECTION),
    }
}

/// What a connection of these windows takes from the budget.
fn beyond(sizes: Sizes) -> u64 {
    u64::from(sizes.connection - CONNECTION)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windows() -> Windows {
        Windows::new(Arc::new(Traffic::default()))
    }

    #[test]
    fn stalled_uploads_leave_a_window_to_the_others() {
        for stream in [STREAM, 2 * STREAM, LESS, MOST] {
            for open in 1..=200_usize {
                let stalled = (open as u32 - 1) * stream;
                assert!(connection(open, stream) >= stalled + 2 * stream, "{open}");
            }
        }
        assert_eq!(connection(0, MOST), CONNECTION);
    }

    #[test]
    fn windows_grow_with_use_and_what_is_not_used_comes_back() {
        let mut windows = windows();
        let told = std::cell::RefCell::new(Vec::new());
        let announce = |_, now: Sizes| {
            told.borrow_mut().push(now.stream);
            true
        };
        windows.adjust(announce);
        let upload = windows.upload();
        windows.adjust(announce);
        assert!(told.borrow().is_empty(), "nothing was read so far");
        for _ in 0..1_000 {
            upload.progressed(16 << 10);
            windows.adjust(announce);
        }
        assert_eq!(*told.borrow(), [131_070, 262_140, MOST]);
        assert!(windows.taken > 0);
        drop(upload);
        windows.adjust(announce);
        assert_eq!((windows.sizes.stream, windows.taken), (MOST, 0));
    }

    #[test]
    fn beside_many_uploads_windows_grow_less() {
        for (open, most) in [(FEW, MOST), (FEW + 1, LESS), (SOME + 1, STREAM)] {
            let mut windows = windows();
            let uploads = Vec::from_iter((0..open).map(|_| windows.upload()));
            for _ in 0..100 {
                uploads[0].progressed(1 << 20);
                windows.adjust(|_, _| true);
            }
            assert_eq!(windows.sizes.stream, most, "{open}");
            assert!(
                windows.sizes.connection >= (open as u32 + 1) * most,
                "{open}"
            );
        }
    }

    #[test]
    fn what_the_client_cannot_be_told_does_not_count() {
        let mut windows = windows();
        let upload = windows.upload();
        upload.progressed(1 << 20);
        windows.adjust(|_, _| false);
        assert_eq!((windows.sizes.stream, windows.taken), (STREAM, 0));
    }

    #[test]
    fn all_connections_share_one_budget() {
        let traffic = Arc::new(Traffic::default());
        let connections: Vec<_> = (0..1_000)
            .map(|_| {
                let mut windows = Windows::new(Arc::clone(&traffic));
                let uploads = Vec::from_iter((0..FEW).map(|_| windows.upload()));
                for _ in 0..8 {
                    uploads[0].progressed(16 << 20);
                    windows.adjust(|_, _| true);
                }
                (windows, uploads)
            })
            .collect();
        let taken = connections.iter().map(|(windows, _)| windows.taken);
        assert!(taken.sum::<u64>() <= BUDGET);
        let (last, _) = &connections[999];
        assert_eq!(last.sizes.connection, CONNECTION, "nothing was left for it");
        drop(connections);
        assert!(traffic.reserve_upload(BUDGET), "all of it has come back");
    }
}
