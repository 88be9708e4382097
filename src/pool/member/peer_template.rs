//! The settings of connections to a pool's hosts: Pingora's peer, timeouts and TLS.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use pingora::protocols::TcpKeepalive;
use pingora::protocols::tls::CaType;
use pingora::upstreams::peer::HttpPeer;
use pingora::utils::tls::{CertKey, WrappedX509, parse_x509};

use crate::config;
use crate::host_socket::UnixConnector;
use crate::host_tls::{HostTls, PoolTlsClient};
use crate::proxy_protocol::ProxyConnector;
use ballast_balancer::HostAddress;

/// The maximum number of requests at the same time on a connection of HTTP/2. The host may permit fewer.
const MAX_STREAMS: u32 = 100;

/// How many bytes of a response a host may send before the client has taken them. A connection takes as many for each of
/// its streams, so that a client that does not read delays only its own.
const STREAM_WINDOW: u32 = 256 << 10;

/// The connection settings that all members of a pool share.
pub(in crate::pool) struct PeerTemplate<'a> {
    timeouts: config::Timeouts,
    tls: Option<&'a config::PoolTls>,
    protocol: config::Protocol,
    ca: Option<Arc<CaType>>,
    /// What hosts get if they ask for a certificate.
    client_cert_key: Option<Arc<CertKey>>,
    tls_client: Option<PoolTlsClient>,
    /// Pingora's reuse key leaves out the trusted authorities, and of the certificate for hosts all but its serial number. So
    /// TLS connections stay within their pool, and are not used any more once one of these has changed. Connections that begin
    /// with a PROXY header stay within their pool as well.
    group_key: u64,
    pub(super) proxy_protocol: Option<config::ProxyProtocolVersion>,
    /// Opens connections that begin with a PROXY header of no client.
    proxy_connector: Option<Arc<ProxyConnector>>,
    pub(super) presumed_healthy: bool,
}

impl<'a> PeerTemplate<'a> {
    /// # Errors
    /// If the authorities or the certificate for hosts cannot be used.
    pub(in crate::pool) fn new(
        pool: &'a config::Pool,
        timeouts: &config::Timeouts,
    ) -> Result<Self, String> {
        let tls = pool.tls.as_ref();
        let proxy_connector = pool.proxy_protocol.map(ProxyConnector::without_client);
        let speaks_http2 = pool.protocol.may_be_http2();
        let tls_client = tls.map(|tls| PoolTlsClient::new(tls, speaks_http2));
        Ok(PeerTemplate {
            timeouts: pool.timeouts.over(*timeouts),
            tls,
            protocol: pool.protocol,
            client_cert_key: tls.and_then(cert_key),
            tls_client: tls_client.transpose()?,
            ca: tls.and_then(|tls| tls.ca.as_ref()).map(ca_type),
            group_key: group_key(pool),
            proxy_protocol: pool.proxy_protocol,
            proxy_connector: proxy_connector.map(Arc::new),
            presumed_healthy: pool
                .health_check
                .as_ref()
                .is_none_or(|check| check.initial == config::Initial::Up),
        })
    }

    /// TLS to the host to which `peer` leads, if there is any.
    pub(super) fn tls(&self, peer: &HttpPeer) -> Option<HostTls> {
        Some(self.tls_client.as_ref()?.for_host(peer))
    }

    /// How Pingora connects to `host`.
    ///
    /// # Errors
    /// The name for TLS to a Unix socket is not known, or its path is not one.
    pub(super) fn peer(&self, host: &config::Host) -> Result<HttpPeer, String> {
        let server_name = self.tls.map(|tls| {
            // A certificate names an IPv6 address without the brackets of the URL.
            let host_name = host.server_name.as_ref().unwrap_or(&host.name);
            let host_name = host_name.trim_start_matches('[').trim_end_matches(']');
            tls.server_name
                .clone()
                .unwrap_or_else(|| host_name.to_owned())
        });
        let (has_tls, server_name) = (self.tls.is_some(), server_name.unwrap_or_default());
        let mut peer = match &host.address {
            HostAddress::Inet(address) => HttpPeer::new(*address, has_tls, server_name),
            HostAddress::Unix(path) => {
                if self.tls.is_some_and(|tls| tls.server_name.is_none()) {
                    let id = &host.id;
                    return Err(format!("TLS to `{id}` needs the key `tls.server_name`"));
                }
                HttpPeer::new_uds(&path.to_string_lossy(), has_tls, server_name)
                    .map_err(|error| error.to_string())?
            }
        };
        peer.group_key = self.group_key;
        peer.client_cert_key = self.client_cert_key.clone();
        let options = &mut peer.options;
        options.connection_timeout = Some(self.timeouts.connect);
        options.total_connection_timeout = Some(self.timeouts.connect);
        options.read_timeout = Some(self.timeouts.read);
        options.write_timeout = Some(self.timeouts.write);
        options.idle_timeout = Some(self.timeouts.idle);
        options.ca = self.ca.clone();
        // Requests of clients put one with their own header in its place.
        options.custom_l4 = match (&self.proxy_connector, &host.address) {
            (Some(connector), _) => Some(Arc::clone(connector) as Arc<_>),
            (None, HostAddress::Unix(_)) => Some(Arc::new(UnixConnector)),
            (None, HostAddress::Inet(_)) => None,
        };
        match self.protocol {
            config::Protocol::Http1 => {}
            config::Protocol::Http2 | config::Protocol::H2c => options.set_http_version(2, 2),
            config::Protocol::Auto => options.set_http_version(2, 1),
        }
        if self.protocol.may_be_http2() {
            options.max_h2_streams = MAX_STREAMS as usize;
            options.h2_stream_window_size = Some(STREAM_WINDOW);
            options.h2_connection_window_size = Some(MAX_STREAMS * STREAM_WINDOW);
            // Many requests would go on using a connection whose host has vanished. gRPC servers object to pings.
            let limit = self.timeouts.read.max(Duration::from_secs(1));
            options.tcp_keepalive = Some(TcpKeepalive {
                idle: limit,
                interval: limit,
                count: 1,
                user_timeout: limit,
            });
        }
        if let Some(tls) = self.tls {
            options.verify_cert = tls.verify;
            options.verify_hostname = tls.verify;
        }
        Ok(peer)
    }
}

/// Zero for connections that any pool may use.
fn group_key(pool: &config::Pool) -> u64 {
    if pool.tls.is_none() && pool.proxy_protocol.is_none() {
        return 0;
    }
    let mut hasher = DefaultHasher::new();
    pool.name.hash(&mut hasher);
    pool.proxy_protocol.hash(&mut hasher);
    if let Some(tls) = &pool.tls {
        let authorities = tls.ca.as_ref().map(|ca| &ca.certificates);
        authorities.hash(&mut hasher);
        tls.min_version.hash(&mut hasher);
        if let (Some(certificate), Some(key)) = (&tls.certificate, &tls.key) {
            certificate.chain.hash(&mut hasher);
            key.der_for(&certificate.chain).hash(&mut hasher);
        }
    }
    hasher.finish()
}

/// Authorities in Pingora's form.
pub(crate) fn ca_type(authorities: &config::Authorities) -> Arc<CaType> {
    let certificates = authorities.certificates.iter();
    certificates
        .map(|certificate| WrappedX509::new(certificate.to_vec(), parse_x509))
        .collect()
}

/// The certificate for hosts in Pingora's form.
fn cert_key(tls: &config::PoolTls) -> Option<Arc<CertKey>> {
    let (certificate, key) = (tls.certificate.as_ref()?, tls.key.as_ref()?);
    let key = key.der_for(&certificate.chain)?.to_vec();
    let chain = certificate.chain.iter().map(|shown| shown.to_vec());
    Some(Arc::new(CertKey::new(chain.collect(), key)))
}
