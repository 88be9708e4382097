//! The connection to one endpoint.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::PrivateKeyDer;
use tonic::transport::{Channel, ClientTlsConfig, Identity};

use crate::config::{Endpoint, Etcd, EtcdTls, ShownIdentity};
use crate::host_tls::trusted_authorities;

/// How long a connection with open streams may be silent before it is probed. etcd ends connections that are probed more
/// often than every 5 s.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// The time for the answer to such a probe.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// How much may be on its way: a page of keys should not wait for the round trips of HTTP/2's 64 KiB.
const WINDOW: u32 = 1 << 20;

/// One endpoint. Its connection is opened when it is first used, and again after it has ended.
#[derive(Debug)]
pub(super) struct EndpointChannel {
    /// The endpoint's URL, for messages.
    pub(super) name: String,
    endpoint: tonic::transport::Endpoint,
    /// Made within the runtime that first uses it.
    channel: Mutex<Option<Channel>>,
}

impl EndpointChannel {
    /// # Errors
    /// The URL, an authority, or the certificate cannot be used.
    pub(super) fn new(endpoint: &Endpoint, config: &Etcd) -> Result<Self, String> {
        let text = endpoint.to_string();
        let name = text.trim_end_matches('/').to_owned();
        let failed = |error: tonic::transport::Error| format!("{name}: {error:?}");
        let uri = name.clone();
        let mut channel = tonic::transport::Endpoint::from_shared(uri)
            .map_err(failed)?
            .connect_timeout(config.connect_timeout)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT);
        if endpoint.tls {
            let server_name = config.tls.server_name.as_ref().unwrap_or(&endpoint.host);
            let tls = client_tls(&config.tls)?
                .domain_name(server_name)
                .timeout(config.connect_timeout);
            channel = channel.tls_config(tls).map_err(failed)?;
        }
        Ok(EndpointChannel {
            name,
            endpoint: channel,
            channel: Mutex::new(None),
        })
    }

    /// The connection, which may not be open yet. Must be called within a runtime.
    pub(super) fn channel(&self) -> Channel {
        let mut channel = self.channel.lock().unwrap_or_else(PoisonError::into_inner);
        channel
            .get_or_insert_with(|| self.endpoint.connect_lazy())
            .clone()
    }

    /// Gives the connection up, which no longer answers: TCP alone takes a quarter of an hour to notice.
    pub(super) fn disconnect(&self) {
        *self.channel.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

fn client_tls(tls: &EtcdTls) -> Result<ClientTlsConfig, String> {
    let authorities = trusted_authorities(tls.ca.as_ref())?;
    let config = ClientTlsConfig::new().trust_anchors(authorities.roots.iter().cloned());
    match tls.identity() {
        Some(identity) => Ok(config.identity(as_pem(&identity)?)),
        None => Ok(config),
    }
}

/// tonic takes certificates and keys as PEM alone; the files may hold more than those that are used.
fn as_pem(identity: &ShownIdentity) -> Result<Identity, String> {
    let chain = identity.certificate.chain.iter();
    let certificates = String::from_iter(chain.map(|der| pem("CERTIFICATE", der)));
    let der = identity.der().unwrap_or_default();
    let label = match PrivateKeyDer::try_from(der) {
        Ok(PrivateKeyDer::Pkcs1(_)) => "RSA PRIVATE KEY",
        Ok(PrivateKeyDer::Sec1(_)) => "EC PRIVATE KEY",
        Ok(_) => "PRIVATE KEY",
        Err(error) => return Err(format!("the key of the certificate for etcd: {error}")),
    };
    Ok(Identity::from_pem(certificates, pem(label, der)))
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
}
