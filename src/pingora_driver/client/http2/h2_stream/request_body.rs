//! The body of a request on an HTTP/2 stream.

use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use pingora::protocols::http::body_buffer::FixedBuffer;
use tokio::time::Instant;

use crate::deadline_timer::DeadlineTimer;
use crate::http2_request::UploadObserver;

/// How many bytes are kept for another attempt, the same number as for HTTP/1.1 in Pingora.
const RETRY_BUFFER: usize = 64 << 10;

/// DATA from the client, with the deadline of the wait for it.
pub(super) struct RequestBody {
    stream: RecvStream,
    bytes_read: usize,
    /// Whether all of it has been read.
    is_done: bool,
    has_trailers: bool,
    /// The bytes read so far, once they are to be kept.
    retry_buffer: Option<FixedBuffer>,
    /// `None` for a request without a body.
    upload: Option<UploadObserver>,
    pub(super) read_timeout: Option<Duration>,
    /// When the current wait began.
    wait_since: Option<Instant>,
    timer: DeadlineTimer,
}

impl RequestBody {
    pub(super) fn new(stream: RecvStream, upload: Option<UploadObserver>) -> Self {
        RequestBody {
            is_done: stream.is_end_stream(),
            stream,
            bytes_read: 0,
            has_trailers: false,
            retry_buffer: None,
            upload,
            read_timeout: None,
            wait_since: None,
            timer: DeadlineTimer::default(),
        }
    }

    /// Whether there is no more to read.
    pub(super) fn is_done(&mut self) -> bool {
        self.is_done = self.is_done || self.stream.is_end_stream();
        self.is_done
    }

    /// Whether the request has no body at all.
    pub(super) fn is_empty(&mut self) -> bool {
        self.bytes_read == 0 && self.is_done()
    }

    /// The rest will not be read.
    pub(super) fn abandon(&mut self) {
        self.is_done = true;
    }

    /// Whether trailers came after the body. They are not passed on.
    pub(super) fn has_trailers(&self) -> bool {
        self.has_trailers
    }

    pub(super) fn bytes_read(&self) -> usize {
        self.bytes_read
    }

    /// The next part, which is never empty; `None` at the end.
    pub(super) fn poll_part(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, h2::Error>> {
        loop {
            if self.is_done() {
                return Poll::Ready(Ok(None));
            }
            match ready!(self.stream.poll_data(context)) {
                Some(part) => {
                    let part = part?;
                    if !part.is_empty() {
                        self.take(&part);
                        return Poll::Ready(Ok(Some(part)));
                    }
                }
                None => {
                    self.has_trailers = ready!(self.stream.poll_trailers(context))?.is_some();
                    self.is_done = true;
                }
            }
        }
    }

    fn take(&mut self, part: &Bytes) {
        self.bytes_read += part.len();
        // An error means that the stream has ended, which the next read finds.
        let _ = self.stream.flow_control().release_capacity(part.len());
        if let Some(buffer) = &mut self.retry_buffer {
            buffer.write_to_buffer(part);
        }
        if let Some(upload) = &self.upload {
            upload(part.len());
        }
    }

    /// When the current wait for the client, which begins now if none has begun, must be over.
    pub(super) fn deadline(&mut self, limit: Option<Duration>) -> Option<Instant> {
        let since = *self.wait_since.get_or_insert_with(Instant::now);
        limit.map(|limit| since + limit)
    }

    /// Whether `deadline` has passed; if not, the task is woken then.
    pub(super) fn is_late(&mut self, deadline: Instant, context: &mut Context<'_>) -> bool {
        self.timer.has_elapsed(deadline, context)
    }

    /// Ends the current wait and returns how long it was.
    pub(super) fn end_wait(&mut self) -> Duration {
        let since = self.wait_since.take();
        since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    pub(super) fn keep_for_retries(&mut self) {
        let buffer = &mut self.retry_buffer;
        buffer.get_or_insert_with(|| FixedBuffer::new(RETRY_BUFFER));
    }

    /// There will be no other attempt.
    pub(super) fn keep_nothing(&mut self) {
        self.retry_buffer = None;
    }

    pub(super) fn is_too_long_to_keep(&self) -> bool {
        let buffer = self.retry_buffer.as_ref();
        buffer.is_some_and(FixedBuffer::is_truncated)
    }

    /// All bytes read so far. `None`: none, or too many.
    pub(super) fn kept(&self) -> Option<Bytes> {
        self.retry_buffer.as_ref()?.get_buffer()
    }
}
