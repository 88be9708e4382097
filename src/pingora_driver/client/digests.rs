//! The traits that Pingora requires of a stream in addition to reading and writing, delegated to the inner stream.

use std::sync::Arc;
use std::time::Duration;

use pingora::listeners::ALPN;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::tls::{SslDigest, TlsRef};
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, SocketDigest, Ssl, TimingDigest,
    UniqueID, UniqueIDType,
};

use super::stream::ClientStream;

impl UniqueID for ClientStream {
    fn id(&self) -> UniqueIDType {
        self.inner().map_or(-1, |stream| stream.id())
    }
}

impl Ssl for ClientStream {
    fn get_ssl(&self) -> Option<&TlsRef> {
        self.inner()?.get_ssl()
    }

    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.inner()?.get_ssl_digest()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.inner()?.selected_alpn_proto()
    }
}

impl GetTimingDigest for ClientStream {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.inner()
            .map_or_else(Vec::new, |stream| stream.get_timing_digest())
    }

    fn get_read_pending_time(&self) -> Duration {
        self.inner()
            .map_or(Duration::ZERO, |stream| stream.get_read_pending_time())
    }

    fn get_write_pending_time(&self) -> Duration {
        self.inner()
            .map_or(Duration::ZERO, |stream| stream.get_write_pending_time())
    }
}

impl GetProxyDigest for ClientStream {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.inner()?.get_proxy_digest()
    }
}

impl GetSocketDigest for ClientStream {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.inner()?.get_socket_digest()
    }
}

// Pingora peeks only to detect HTTP/2 without TLS, which is disabled.
impl Peek for ClientStream {}
