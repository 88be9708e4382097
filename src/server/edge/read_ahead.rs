//! A buffer between TLS and its socket: rustls reads 4 KiB at a time, and a TLS record has up to 16 KiB. It also gives
//! clients the right alert when no certificate has their name.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use pingora::protocols::l4::stream::Stream;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    TimingDigest, UniqueID, UniqueIDType,
};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, BufReader, ReadBuf};

/// The largest TLS record.
const CAPACITY: usize = 16 << 10;

/// The record with which rustls ends a handshake that gets no certificate: the fatal alert access_denied. It has no other
/// use for it in clear text.
const NO_CERTIFICATE: &[u8] = &[21, 3, 3, 0, 2, 2, 49];

/// The same record with the alert that RFC 6066 has for a server name without a certificate: unrecognized_name.
const UNRECOGNIZED_NAME: &[u8] = &[21, 3, 3, 0, 2, 2, 112];

/// A connection with a read buffer.
#[derive(Debug)]
pub(super) struct ReadAhead(BufReader<Stream>);

impl ReadAhead {
    pub(super) fn new(stream: Stream) -> Self {
        ReadAhead(BufReader::with_capacity(CAPACITY, stream))
    }

    /// Waits for the first bytes, and reports whether they begin an HTTP request without TLS. They stay in the buffer.
    pub(super) async fn is_plain_http(&mut self) -> io::Result<bool> {
        // A method begins with a letter; a TLS record with its content type, 20 to 24.
        let begin = self.0.fill_buf().await?;
        Ok(begin.first().is_some_and(u8::is_ascii_alphabetic))
    }
}

impl AsyncRead for ReadAhead {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, into)
    }
}

impl AsyncWrite for ReadAhead {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let bytes = match bytes == NO_CERTIFICATE {
            true => UNRECOGNIZED_NAME,
            false => bytes,
        };
        Pin::new(self.0.get_mut()).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match parts {
            [only] => self.poll_write(context, only),
            parts => Pin::new(self.0.get_mut()).poll_write_vectored(context, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.0.get_ref().is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.0.get_mut()).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.0.get_mut()).poll_shutdown(context)
    }
}

#[async_trait]
impl Shutdown for ReadAhead {
    async fn shutdown(&mut self) {
        Shutdown::shutdown(self.0.get_mut()).await;
    }
}

impl UniqueID for ReadAhead {
    fn id(&self) -> UniqueIDType {
        self.0.get_ref().id()
    }
}

impl Ssl for ReadAhead {}

impl Peek for ReadAhead {}

impl GetTimingDigest for ReadAhead {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.0.get_ref().get_timing_digest()
    }

    fn get_read_pending_time(&self) -> Duration {
        self.0.get_ref().get_read_pending_time()
    }

    fn get_write_pending_time(&self) -> Duration {
        self.0.get_ref().get_write_pending_time()
    }
}

impl GetProxyDigest for ReadAhead {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.0.get_ref().get_proxy_digest()
    }
}

impl GetSocketDigest for ReadAhead {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.0.get_ref().get_socket_digest()
    }

    fn set_socket_digest(&mut self, digest: SocketDigest) {
        self.0.get_mut().set_socket_digest(digest);
    }
}
