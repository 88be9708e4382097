//! Bytes on their way to one peer: staged bytes, then bytes that pass through from the other peer's read buffer.

use std::task::{Poll, ready};

use super::buffer::{Buffer, COPY_LIMIT};

/// What is to be written: first the staged bytes, then the first `passthrough` bytes of a read buffer, which are sent
/// without a copy.
#[derive(Debug, Default)]
pub(super) struct SendBuffer {
    /// A head, and re-chunked body data.
    pub(super) staged: Vec<u8>,
    /// How much of the staged bytes was written.
    written: usize,
    /// How many bytes at the front of the read buffer are sent unchanged.
    pub(super) passthrough: usize,
}

impl SendBuffer {
    /// An empty buffer that uses the allocation of `staged`.
    pub(super) fn new(staged: Vec<u8>) -> Self {
        let mut buffer = SendBuffer {
            staged,
            ..SendBuffer::default()
        };
        buffer.clear();
        buffer
    }

    /// Discards everything and keeps the allocation. Bytes to pass through stay in the read buffer.
    pub(super) fn clear(&mut self) {
        self.staged.clear();
        self.written = 0;
        self.passthrough = 0;
    }

    /// Whether everything was written.
    pub(super) fn is_empty(&self) -> bool {
        self.passthrough == 0 && self.written == self.staged.len()
    }

    /// Calls `write` until everything is written. The bytes to pass through are consumed from `inbound`.
    pub(super) fn poll_write_all<E>(
        &mut self,
        inbound: &mut Buffer,
        mut write: impl FnMut([&[u8]; 2]) -> Poll<Result<usize, E>>,
    ) -> Poll<Result<(), E>> {
        if (1..=COPY_LIMIT).contains(&self.passthrough) && !self.staged.is_empty() {
            self.staged
                .extend_from_slice(&inbound.filled()[..self.passthrough]);
            inbound.consume(std::mem::take(&mut self.passthrough));
        }
        while !self.is_empty() {
            let parts = [
                &self.staged[self.written..],
                &inbound.filled()[..self.passthrough],
            ];
            let count = ready!(write(parts))?;
            let staged = count.min(self.staged.len() - self.written);
            self.written += staged;
            self.passthrough -= count - staged;
            inbound.consume(count - staged);
        }
        self.clear();
        Poll::Ready(Ok(()))
    }
}
