//! A check that opens a connection, with its TLS handshake.

use async_trait::async_trait;
use pingora::Result;
use pingora::connectors::TransportConnector;
use pingora::lb::Backend;
use pingora::lb::health_check::HealthCheck;
use pingora::upstreams::peer::HttpPeer;

use crate::config::TlsVersion;
use crate::host_tls::check_version;

/// Connects to a host.
pub(super) struct TcpHealthCheck {
    peer_template: HttpPeer,
    min_tls_version: TlsVersion,
    connector: TransportConnector,
}

impl TcpHealthCheck {
    pub(super) fn new(
        (peer, min_tls_version): (&HttpPeer, TlsVersion),
        connector: TransportConnector,
    ) -> Self {
        TcpHealthCheck {
            peer_template: peer.clone(),
            min_tls_version,
            connector,
        }
    }
}

#[async_trait]
impl HealthCheck for TcpHealthCheck {
    async fn check(&self, target: &Backend) -> Result<()> {
        let mut peer = self.peer_template.clone();
        peer._address = target.addr.clone();
        let stream = self.connector.new_stream(&peer).await?;
        check_version(self.min_tls_version, stream.get_ssl_digest().as_deref())
    }

    fn health_threshold(&self, _success: bool) -> usize {
        1
    }
}
