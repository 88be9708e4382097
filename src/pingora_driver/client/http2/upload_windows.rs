//! Flow control of uploads over HTTP/2 (RFC 9113 5.2): receive windows that grow with use, within a budget for the
//! whole process.
//!
//! A window limits the speed of an upload to one window per round trip, and the memory that a stalled host costs. So
//! both windows start small. While uploads progress, the stream window doubles, up to [`MAX_STREAM_WINDOW`], or to less
//! if there are many uploads. The connection window is large enough that streams with stalled hosts leave one whole
//! window to the others. Its size beyond [`INITIAL_CONNECTION_WINDOW`] is taken from the budget; when the budget is
//! exhausted, the windows keep their size.
//!
//! A stream window never shrinks: `h2` 0.4 does not recompute what a stream has consumed when its window shrinks, and
//! the client would wait for a window update forever.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Poll, ready};

use tokio::sync::Notify;

use crate::proxy::admission::traffic_state::TrafficState;

/// Initial window of a stream in bytes, the default of HTTP/2.
pub(crate) const INITIAL_STREAM_WINDOW: u32 = 65_535;

/// Initial and minimum window of a connection, in bytes.
pub(crate) const INITIAL_CONNECTION_WINDOW: u32 = 256 << 10;

/// Maximum window of a stream, in bytes: 40 Mbit/s at a round trip of 100 ms.
const MAX_STREAM_WINDOW: u32 = 8 * INITIAL_STREAM_WINDOW;

/// With up to this many uploads, stream windows grow to [`MAX_STREAM_WINDOW`].
const FEW_UPLOADS: usize = 4;

/// With up to this many uploads they grow to [`REDUCED_STREAM_WINDOW`], and with more they do not grow.
const MANY_UPLOADS: usize = 16;

const REDUCED_STREAM_WINDOW: u32 = 4 * INITIAL_STREAM_WINDOW;

/// A window grows after uploads have delivered this many times its size.
const WINDOWS_PER_GROWTH: u64 = 1;

/// Progress of all uploads on a connection, reported to its connection loop.
#[derive(Debug, Default)]
pub(crate) struct UploadProgress {
    /// Number of unfinished requests with a body.
    open: AtomicUsize,
    /// Total bytes of body read.
    bytes: AtomicU64,
    /// Notified when `bytes` has grown.
    more: Notify,
}

/// One upload in progress. Dropping it ends its count.
#[derive(Debug)]
pub(crate) struct UploadGuard(Arc<UploadProgress>);

impl UploadGuard {
    /// Records that a part of the body was read.
    pub(crate) fn progressed(&self, bytes: usize) {
        self.0.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.0.more.notify_one();
    }
}

impl Drop for UploadGuard {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The receive windows of one connection.
#[derive(Debug)]
pub(crate) struct UploadWindows {
    uploads: Arc<UploadProgress>,
    sizes: WindowSizes,
    /// Value of the byte count when the windows last grew.
    bytes_at_growth: u64,
    /// Bytes reserved from the budget.
    reserved: u64,
    traffic: Arc<TrafficState>,
    /// Whether an increase is pending because the client has not acknowledged the previous SETTINGS frame.
    awaits_ack: AtomicBool,
}

/// The window sizes to announce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WindowSizes {
    pub(crate) stream: u32,
    pub(crate) connection: u32,
}

impl UploadWindows {
    pub(crate) fn new(traffic: Arc<TrafficState>) -> Self {
        UploadWindows {
            uploads: Arc::default(),
            sizes: WindowSizes {
                stream: INITIAL_STREAM_WINDOW,
                connection: INITIAL_CONNECTION_WINDOW,
            },
            bytes_at_growth: 0,
            reserved: 0,
            traffic,
            awaits_ack: AtomicBool::new(false),
        }
    }

    /// Counts an upload until the returned guard is dropped.
    pub(crate) fn upload(&self) -> UploadGuard {
        self.uploads.open.fetch_add(1, Ordering::Relaxed);
        UploadGuard(Arc::clone(&self.uploads))
    }

    /// Resolves when the windows should be [adjusted](Self::adjust). It must also be polled whenever something arrives
    /// on the connection, such as the acknowledgement of the previous change.
    pub(crate) async fn due(&self) {
        let mut more = pin!(self.uploads.more.notified());
        poll_fn(|context| {
            let awaits_ack = self.awaits_ack.swap(false, Ordering::Relaxed);
            loop {
                if !awaits_ack && self.is_due() {
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
        self.sizes.stream < max_stream_window(open)
            && self.progress() >= WINDOWS_PER_GROWTH * u64::from(self.sizes.stream)
    }

    fn progress(&self) -> u64 {
        self.uploads.bytes.load(Ordering::Relaxed) - self.bytes_at_growth
    }

    /// Adjusts the windows to the current uploads. `announce` sends them to the client and returns whether it could; if
    /// not, nothing changes yet.
    pub(crate) fn adjust(&mut self, announce: impl FnOnce(WindowSizes, WindowSizes) -> bool) {
        let open = self.uploads.open.load(Ordering::Relaxed);
        let mut stream = self.sizes.stream;
        let bytes_at_growth = match self.is_due() {
            true => {
                stream = stream.saturating_mul(2).min(max_stream_window(open));
                self.uploads.bytes.load(Ordering::Relaxed)
            }
            false => self.bytes_at_growth,
        };
        let sizes = WindowSizes {
            stream,
            connection: connection_window(open, stream),
        };
        if sizes != self.sizes && self.reserve(budget_share(sizes)) {
            if announce(self.sizes, sizes) {
                (self.sizes, self.bytes_at_growth) = (sizes, bytes_at_growth);
            } else {
                self.awaits_ack.store(true, Ordering::Relaxed);
            }
        } else {
            // The budget is exhausted. It is tried again after the same number of bytes.
            self.bytes_at_growth = bytes_at_growth;
        }
        // Releases a reservation that was not used or is no longer needed.
        self.reserve(budget_share(self.sizes));
    }

    /// Changes this connection's reservation to `bytes`. `false`: the budget does not suffice.
    fn reserve(&mut self, bytes: u64) -> bool {
        let succeeded = match bytes.checked_sub(self.reserved) {
            Some(more) => self.traffic.reserve_upload(more),
            None => {
                self.traffic.release_upload(self.reserved - bytes);
                true
            }
        };
        if succeeded {
            self.reserved = bytes;
        }
        succeeded
    }
}

impl Drop for UploadWindows {
    fn drop(&mut self) {
        self.traffic.release_upload(self.reserved);
    }
}

/// Maximum stream window with `open` uploads.
fn max_stream_window(open: usize) -> u32 {
    if open <= FEW_UPLOADS {
        MAX_STREAM_WINDOW
    } else if open <= MANY_UPLOADS {
        REDUCED_STREAM_WINDOW
    } else {
        INITIAL_STREAM_WINDOW
    }
}

/// The connection window for `open` uploads of one stream window each, plus one more window.
fn connection_window(open: usize, stream: u32) -> u32 {
    match open {
        0 => INITIAL_CONNECTION_WINDOW,
        _ => (open as u32)
            .saturating_add(1)
            .saturating_mul(stream)
            .max(INITIAL_CONNECTION_WINDOW),
    }
}

/// The share of the budget that windows of these sizes need.
fn budget_share(sizes: WindowSizes) -> u64 {
    u64::from(sizes.connection - INITIAL_CONNECTION_WINDOW)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::admission::traffic_state::UPLOAD_WINDOW_BUDGET;

    fn windows() -> UploadWindows {
        UploadWindows::new(Arc::new(TrafficState::default()))
    }

    #[test]
    fn stalled_uploads_leave_one_window_to_others() {
        for stream in [
            INITIAL_STREAM_WINDOW,
            2 * INITIAL_STREAM_WINDOW,
            REDUCED_STREAM_WINDOW,
            MAX_STREAM_WINDOW,
        ] {
            for open in 1..=200_usize {
                let stalled = (open as u32 - 1) * stream;
                assert!(
                    connection_window(open, stream) >= stalled + 2 * stream,
                    "{open}"
                );
            }
        }
        assert_eq!(
            connection_window(0, MAX_STREAM_WINDOW),
            INITIAL_CONNECTION_WINDOW
        );
    }

    #[test]
    fn windows_grow_with_use_and_return_unused_budget() {
        let mut windows = windows();
        let announced = std::cell::RefCell::new(Vec::new());
        let announce = |_, now: WindowSizes| {
            announced.borrow_mut().push(now.stream);
            true
        };
        windows.adjust(announce);
        let upload = windows.upload();
        windows.adjust(announce);
        assert!(announced.borrow().is_empty(), "nothing has been read yet");
        for _ in 0..1_000 {
            upload.progressed(16 << 10);
            windows.adjust(announce);
        }
        assert_eq!(*announced.borrow(), [131_070, 262_140, MAX_STREAM_WINDOW]);
        assert!(windows.reserved > 0);
        drop(upload);
        windows.adjust(announce);
        assert_eq!(
            (windows.sizes.stream, windows.reserved),
            (MAX_STREAM_WINDOW, 0)
        );
    }

    #[test]
    fn windows_grow_less_with_many_uploads() {
        for (open, expected) in [
            (FEW_UPLOADS, MAX_STREAM_WINDOW),
            (FEW_UPLOADS + 1, REDUCED_STREAM_WINDOW),
            (MANY_UPLOADS + 1, INITIAL_STREAM_WINDOW),
        ] {
            let mut windows = windows();
            let uploads = Vec::from_iter((0..open).map(|_| windows.upload()));
            for _ in 0..100 {
                uploads[0].progressed(1 << 20);
                windows.adjust(|_, _| true);
            }
            assert_eq!(windows.sizes.stream, expected, "{open}");
            assert!(
                windows.sizes.connection >= (open as u32 + 1) * expected,
                "{open}"
            );
        }
    }

    #[test]
    fn sizes_that_cannot_be_announced_do_not_count() {
        let mut windows = windows();
        let upload = windows.upload();
        upload.progressed(1 << 20);
        windows.adjust(|_, _| false);
        assert_eq!(
            (windows.sizes.stream, windows.reserved),
            (INITIAL_STREAM_WINDOW, 0)
        );
    }

    #[test]
    fn all_connections_share_one_budget() {
        let traffic = Arc::new(TrafficState::default());
        let connections: Vec<_> = (0..1_000)
            .map(|_| {
                let mut windows = UploadWindows::new(Arc::clone(&traffic));
                let uploads = Vec::from_iter((0..FEW_UPLOADS).map(|_| windows.upload()));
                for _ in 0..8 {
                    uploads[0].progressed(16 << 20);
                    windows.adjust(|_, _| true);
                }
                (windows, uploads)
            })
            .collect();
        let reserved = connections.iter().map(|(windows, _)| windows.reserved);
        assert!(reserved.sum::<u64>() <= UPLOAD_WINDOW_BUDGET);
        let (last, _) = &connections[999];
        assert_eq!(
            last.sizes.connection, INITIAL_CONNECTION_WINDOW,
            "the budget was exhausted"
        );
        drop(connections);
        assert!(
            traffic.reserve_upload(UPLOAD_WINDOW_BUDGET),
            "the whole budget was released"
        );
    }
}
