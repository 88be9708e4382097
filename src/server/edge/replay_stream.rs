//! A connection whose first bytes have been read already, by what has found out who serves it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Buf, Bytes};
use pingora::listeners::ALPN;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::tls::{SslDigest, TlsRef};
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, Stream,
    TimingDigest, UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use crate::message::http2_preface::begins_http2;

/// A connection that returns the bytes read before, and then what follows them.
#[derive(Debug)]
pub(super) struct ReplayStream {
    received: Bytes,
    stream: Stream,
    is_http2: bool,
}

impl ReplayStream {
    /// `received` are the first bytes of `stream`; `is_http2`: they belong to a connection of HTTP/2.
    pub(super) fn new(received: Vec<u8>, stream: Stream, is_http2: bool) -> Self {
        ReplayStream {
            received: received.into(),
            stream,
            is_http2,
        }
    }

    /// Reads as much as tells HTTP/2 from HTTP/1.1.
    pub(super) async fn detect_http2(mut stream: Stream) -> io::Result<Self> {
        let mut received = Vec::new();
        let is_http2 = loop {
            if let Some(is_http2) = begins_http2(&received) {
                break is_http2;
            }
            if stream.read_buf(&mut received).await? == 0 {
                break false;
            }
        };
        Ok(ReplayStream::new(received, stream, is_http2))
    }
}

impl AsyncRead for ReplayStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.received.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, into);
        }
        let count = self.received.len().min(into.remaining());
        into.put_slice(&self.received[..count]);
        self.received.advance(count);
        if self.received.is_empty() {
            self.received = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ReplayStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[async_trait]
impl Shutdown for ReplayStream {
    async fn shutdown(&mut self) {
        Shutdown::shutdown(&mut *self.stream).await;
    }
}

impl UniqueID for ReplayStream {
    fn id(&self) -> UniqueIDType {
        self.stream.id()
    }
}

impl Ssl for ReplayStream {
    fn get_ssl(&self) -> Option<&TlsRef> {
        self.stream.get_ssl()
    }

    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.stream.get_ssl_digest()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        match self.is_http2 {
            true => Some(ALPN::H2),
            false => self.stream.selected_alpn_proto(),
        }
    }
}

impl Peek for ReplayStream {}

impl GetTimingDigest for ReplayStream {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.stream.get_timing_digest()
    }

    fn get_read_pending_time(&self) -> Duration {
        self.stream.get_read_pending_time()
    }

    fn get_write_pending_time(&self) -> Duration {
        self.stream.get_write_pending_time()
    }
}

impl GetProxyDigest for ReplayStream {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.stream.get_proxy_digest()
    }
}

impl GetSocketDigest for ReplayStream {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.stream.get_socket_digest()
    }

    fn set_socket_digest(&mut self, digest: SocketDigest) {
        self.stream.set_socket_digest(digest);
    }
}
