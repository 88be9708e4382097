//! Compresses the body of the response on its way.

use std::task::Context;

use pingora::Result;

use super::response::{append_data, malformed};
use super::{Relay, ResponseState};
use crate::message::chunked;

/// Bytes that are compressed at once, and within one poll: about a millisecond. Other connections of the thread come next.
const PIECE: usize = 64 << 10;

impl Relay<'_> {
    /// Whether the task has compressed enough for now. It is woken again once others had their turn.
    pub(super) fn yields_after_compressing(&self, context: &Context<'_>) -> bool {
        let yields = self.state.compressed >= PIECE;
        if yields {
            context.waker().wake_by_ref();
        }
        yields
    }

    /// Consumes received body bytes: compresses them, and stages what comes out as a chunk.
    pub(super) fn compress_body(&mut self) -> Result<()> {
        let ResponseState::ReceivingBody(body) = &mut self.state.down else {
            return Ok(());
        };
        let filled = self.inbound.filled();
        let bytes = &filled[..filled.len().min(PIECE)];
        let (mut consumed, mut compressed) = (0, Vec::new());
        while consumed < bytes.len() && !body.is_finished() {
            let rest = &bytes[consumed..];
            let piece = body.next_data(rest).map_err(malformed)?;
            consumed += piece.consumed;
            self.ctx.compress(&rest[piece.data], &mut compressed)?;
        }
        let is_finished = body.is_finished();
        self.inbound.consume(consumed);
        self.state.compressed += consumed;
        self.stage_compressed(&compressed);
        match is_finished {
            true => self.finish_compression(),
            false => Ok(()),
        }
    }

    /// Stages what the encoder holds back while the host is silent, so that streams stay streams. `false`: nothing.
    pub(super) fn flush_compression(&mut self) -> Result<bool> {
        let compressor = self.ctx.compressor.as_ref();
        if !compressor.is_some_and(|compressor| compressor.has_unflushed()) {
            return Ok(false);
        }
        let mut compressed = Vec::new();
        self.ctx.flush_compression(&mut compressed)?;
        self.stage_compressed(&compressed);
        Ok(true)
    }

    /// Stages the end of the compressed body, and of the chunks.
    pub(super) fn finish_compression(&mut self) -> Result<()> {
        let mut compressed = Vec::new();
        self.ctx.finish_compression(&mut compressed)?;
        self.stage_compressed(&compressed);
        if self.state.chunked {
            let staged = &mut self.buffers.outgoing.staged;
            staged.extend_from_slice(chunked::LAST_CHUNK);
        }
        Ok(())
    }

    fn stage_compressed(&mut self, compressed: &[u8]) {
        if !compressed.is_empty() {
            self.state.sent += compressed.len() as u64;
            append_data(
                &mut self.buffers.outgoing.staged,
                compressed,
                self.state.chunked,
            );
        }
    }
}
