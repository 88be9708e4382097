//! What carries a client's requests: a connection of HTTP/1.1, or one stream of HTTP/2.

use std::io;
use std::task::{Context, Poll};

use super::buffer::Buffer;
use super::http2_stream::Http2Stream;
use super::transport::Transport;

/// What carries a client's requests.
#[derive(Debug)]
pub(super) enum ClientTransport {
    /// A connection.
    Socket(Transport),
    /// A stream, for one request.
    Http2(Box<Http2Stream>),
}

impl ClientTransport {
    /// See [`Transport::poll_read`].
    pub(super) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut Buffer,
        size: usize,
    ) -> Poll<io::Result<usize>> {
        match self {
            ClientTransport::Socket(socket) => socket.poll_read(context, buffer, size),
            ClientTransport::Http2(stream) => {
                let read = stream.poll_read(context, buffer);
                if read.is_pending() {
                    buffer.release_if_empty();
                }
                read
            }
        }
    }

    /// See [`Transport::poll_write`].
    pub(super) fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        parts: [&[u8]; 2],
    ) -> Poll<io::Result<usize>> {
        match self {
            ClientTransport::Socket(socket) => socket.poll_write(context, parts),
            ClientTransport::Http2(stream) => stream.poll_write(context, parts),
        }
    }

    /// See [`Transport::poll_flush`].
    pub(super) fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            ClientTransport::Socket(socket) => socket.poll_flush(context),
            // The task of the connection sends what a stream has written.
            ClientTransport::Http2(_) => Poll::Ready(Ok(())),
        }
    }

    /// See [`Transport::poll_shutdown`].
    pub(super) fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            ClientTransport::Socket(socket) => socket.poll_shutdown(context),
            ClientTransport::Http2(stream) => {
                stream.shut_down();
                Poll::Ready(Ok(()))
            }
        }
    }
}
