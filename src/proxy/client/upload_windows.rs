//! How much a client of HTTP/2 may send ahead of what the hosts take: flow-control windows (RFC 9113 5.2) that grow with
//! use, within a budget of the whole process.
//!
//! A window bounds the speed of an upload, to one window for each round trip, and the memory that a stalled host costs.
//! So both windows begin small. While uploads make progress, the window of the streams doubles, up to [`MOST`]; with many
//! uploads on one connection each has less. The window of the connection is so large that streams whose hosts take
//! nothing leave a whole window to the others. What that costs beyond [`CONNECTION`] comes from the budget; where it is
//! used up the windows stay as they are.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::Poll;

use crate::proxy::traffic::Traffic;

/// The window of a stream at first, as HTTP/2 has it without a word.
pub(super) const STREAM: u32 = 65_535;

/// The window of a connection at first, and the least that each connection has.
pub(super) const CONNECTION: u32 = 256 << 10;

/// The largest window of a stream: 80 Mbit/s at a round trip of 100 ms.
const MOST: u32 = 16 * STREAM;

/// So many uploads of one connection may have [`MOST`] each ...
const FEW: usize = 4;

/// ... so many may have [`LESS`], and beyond that each has [`STREAM`].
const SOME: usize = 16;

const LESS: u32 = 4 * STREAM;

/// A window grows once so many times its size was read from uploads.
const PATIENCE: u64 = 2;

/// What the windows of all connections may hold together beyond [`CONNECTION`] each.
pub(in crate::proxy) const BUDGET: u64 = 256 << 20;

/// What the uploads of a connection tell it.
#[derive(Debug, Default)]
pub(super) struct Uploads {
    /// Requests with a body that have not ended.
    open: AtomicUsize,
    /// Bytes of bodies that were read.
    bytes: AtomicU64,
}

/// An upload. Dropping it ends its count.
#[derive(Debug)]
pub(super) struct Upload(Arc<Uploads>);

impl Upload {
    /// A part of the body was read.
    pub(super) fn progressed(&self, bytes: usize) {
        self.0.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
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
    /// The largest window that streams have had since there was no upload.
    level: u32,
    /// Bytes that had been read when the windows last grew.
    since: u64,
    /// What was taken from the budget.
    taken: u64,
    traffic: Arc<Traffic>,
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
            level: STREAM,
            since: 0,
            taken: 0,
            traffic,
        }
    }

    /// Counts an upload until the returned value is dropped.
    pub(super) fn upload(&self) -> Upload {
        self.uploads.open.fetch_add(1, Ordering::Relaxed);
        Upload(Arc::clone(&self.uploads))
    }

    /// Waits until the windows should be [adjusted](Self::adjust). It is polled whenever something comes on the
    /// connection, so nothing has to wake it.
    pub(super) async fn due(&self) {
        poll_fn(|_| match self.is_due() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
        .await;
    }

    fn is_due(&self) -> bool {
        let open = self.uploads.open.load(Ordering::Relaxed);
        self.level < most(open) && self.progress() >= PATIENCE * u64::from(self.level)
    }

    fn progress(&self) -> u64 {
        self.uploads.bytes.load(Ordering::Relaxed) - self.since
    }

    /// Sets the sizes by the uploads that there are. `announce` tells the client; if it cannot, nothing changes for now.
    pub(super) fn adjust(&mut self, announce: impl FnOnce(Sizes, Sizes) -> bool) {
        let open = self.uploads.open.load(Ordering::Relaxed);
        let mut level = match open {
            0 => STREAM,
            _ => self.level,
        };
        if self.is_due() {
            level = level.saturating_mul(2).min(most(open));
        }
        let mut sizes = sizes(open, level);
        if !self.reserve(beyond(sizes)) {
            (level, sizes) = (self.level, self.sizes);
        }
        if level > self.level || open == 0 {
            self.since = self.uploads.bytes.load(Ordering::Relaxed);
        }
        if sizes == self.sizes || announce(self.sizes, sizes) {
            (self.level, self.sizes) = (level, sizes);
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

/// The largest window of a stream beside so many uploads.
fn most(open: usize) -> u32 {
    match open {
        ..=FEW => MOST,
        ..=SOME => LESS,
        _ => STREAM,
    }
}

/// The windows for so many uploads, where that of a stream has been `level`: the connection's holds what each may have
/// sent, and one window more.
fn sizes(open: usize, level: u32) -> Sizes {
    let stream = level.min(most(open));
    let held = |count: usize, window: u32| (count as u32).saturating_mul(window);
    let few = held(open.min(FEW), level);
    let some = held(open.clamp(FEW, SOME) - FEW, level.min(LESS));
    let many = held(open.saturating_sub(SOME), STREAM);
    let all = few + some + many + stream;
    Sizes {
        stream,
        connection: all.max(CONNECTION),
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
    fn stalled_uploads_leave_a_window_to_the_others_and_the_sum_is_bounded() {
        for level in [STREAM, 2 * STREAM, LESS, MOST] {
            let mut held = 0;
            for open in 0..=200_usize {
                let sizes = sizes(open, level);
                assert!(sizes.connection >= held + sizes.stream, "{open} at {level}");
                // The next one is opened, and its host takes nothing.
                held += super::sizes(open + 1, level).stream;
            }
        }
        assert!(sizes(100, MOST).connection <= 13 << 20);
        assert_eq!(sizes(0, STREAM).connection, CONNECTION);
    }

    #[test]
    fn windows_grow_with_use_and_shrink_without() {
        let mut windows = windows();
        let told = std::cell::RefCell::new(Vec::new());
        let announce = |_, now: Sizes| {
            told.borrow_mut().push(now.stream);
            true
        };
        windows.adjust(announce);
        assert_eq!(windows.sizes.stream, STREAM);
        let upload = windows.upload();
        windows.adjust(announce);
        assert_eq!(windows.sizes.stream, STREAM, "nothing was read so far");
        for _ in 0..1_000 {
            upload.progressed(16 << 10);
            windows.adjust(announce);
        }
        assert_eq!(windows.sizes.stream, MOST);
        assert_eq!(*told.borrow(), [131_070, 262_140, 524_280, MOST]);
        assert!(windows.taken > 0);
        let others = Vec::from_iter((0..FEW).map(|_| windows.upload()));
        windows.adjust(announce);
        assert_eq!(windows.sizes.stream, LESS, "there are many now");
        drop((upload, others));
        windows.adjust(announce);
        assert_eq!((windows.sizes.stream, windows.taken), (STREAM, 0));
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
