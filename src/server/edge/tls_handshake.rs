//! The TLS handshake of a client's connection.

use std::net::SocketAddr;
use std::sync::Arc;

use log::debug;
use pingora::listeners::tls::Acceptor;
use pingora::protocols::l4::stream::Stream as L4Stream;
use pingora::protocols::{Ssl, Stream};
use tokio::time::timeout;

use crate::metrics::HandshakeOutcome;

use super::admission::{PeerText, ip_of};
use super::handshake_turn::in_turn;
use super::listener_context::ListenerContext;
use super::read_ahead::ReadAhead;

impl ListenerContext {
    /// The TLS handshake; `None` if it fails.
    pub(super) async fn tls_handshake(
        &self,
        acceptor: Arc<Acceptor>,
        stream: L4Stream,
        peer: Option<SocketAddr>,
    ) -> Option<Stream> {
        let limit = self.active.load().timeouts.client_head;
        let mut stream = ReadAhead::new(stream);
        let handshake = async {
            if let Ok(true) = stream.is_plain_http().await {
                return Ok(Begun::Plain(Box::new(stream)));
            }
            // A client that has sent nothing yet is a connection like others.
            let limit = self.active.load().limits.max_handshakes;
            let Some(_guard) = self.connections.begin_handshake(limit) else {
                return Ok(Begun::TooMany);
            };
            // The handshake reports a read error.
            in_turn(acceptor.tls_handshake(stream))
                .await
                .map(Begun::Done)
        };
        let (shown, outcome) = (PeerText(peer), timeout(limit, handshake).await);
        match outcome {
            Ok(Ok(Begun::Plain(plain))) => {
                self.counts.count_handshake(HandshakeOutcome::Failed);
                debug!("{}: {shown}: HTTP without TLS", self.address);
                self.app.refuse_plain(*plain, ip_of(peer)).await;
                None
            }
            Ok(Ok(Begun::TooMany)) => {
                self.counts.count_handshake(HandshakeOutcome::TooMany);
                let line = format!("{}: too many TLS handshakes at once", self.address);
                self.connections.warn_rate_limited(&line);
                None
            }
            Ok(Ok(Begun::Done(stream))) => {
                let digest = stream.get_ssl_digest();
                let version = digest.as_ref().map_or("", |digest| &digest.version);
                self.counts.count_handshake(HandshakeOutcome::Done(version));
                Some(Box::new(stream))
            }
            Ok(Err(error)) => {
                self.counts.count_handshake(HandshakeOutcome::Failed);
                debug!("{}: {shown}: {error}", self.address);
                None
            }
            Err(_) => {
                self.counts.count_handshake(HandshakeOutcome::TimedOut);
                debug!("{}: {shown}: no handshake in time", self.address);
                None
            }
        }
    }
}

/// What has become of the beginning of a TLS connection.
enum Begun<T> {
    /// The client speaks HTTP without TLS.
    Plain(Box<ReadAhead>),
    /// There are too many handshakes already.
    TooMany,
    /// The handshake is complete.
    Done(T),
}
