//! TLS towards clients: certificates, versions and session tickets.

mod certificate_index;
mod session_tickets;
mod ticket_keys;

use std::sync::Arc;

use pingora::listeners::tls::Acceptor;
use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::version::{TLS12, TLS13};

use super::StartError;
use crate::config::{Listener, ListenerTls, TlsVersion};
use crate::metrics::TicketCounters;

use certificate_index::Certificates;
use session_tickets::ListenerTickets;

pub(super) use ticket_keys::{TicketKeys, TicketSecret};

/// What may change about the TLS of a listener while it accepts connections.
#[derive(Debug)]
pub(super) struct TlsState {
    certificates: Arc<Certificates>,
    tickets: Arc<ListenerTickets>,
}

impl TlsState {
    /// The state for `tls`. `keys` are those for tickets without a secret of the file.
    fn new(tls: &ListenerTls, keys: &Arc<TicketKeys>, counters: TicketCounters) -> Self {
        TlsState {
            certificates: Arc::new(Certificates::new(tls)),
            tickets: Arc::new(ListenerTickets::new(tls, Arc::clone(keys), counters)),
        }
    }

    /// Uses the certificates and the session tickets of `tls` from the next handshake on.
    pub(super) fn replace(&self, tls: &ListenerTls) {
        self.certificates.replace(tls);
        self.tickets.replace(tls);
    }
}

/// What accepts TLS on a listener, and what may change about it; `None` for a listener without TLS.
pub(super) fn build_tls(
    listener: &Listener,
    keys: &Arc<TicketKeys>,
    counters: &TicketCounters,
) -> Result<Option<(Acceptor, Arc<TlsState>)>, StartError> {
    let Some(tls) = &listener.tls else {
        return Ok(None);
    };
    let state = Arc::new(TlsState::new(tls, keys, counters.clone()));
    let config =
        server_config(tls, &state).map_err(|error| StartError::Certificate(error.to_string()))?;
    let acceptor = Acceptor::from_server_config(Arc::new(config));
    Ok(Some((acceptor, state)))
}

/// The configuration of rustls. Its suites are those of both profiles: a lower version than TLS 1.2, a cipher without
/// authentication or a key exchange without forward secrecy is not in it at all.
fn server_config(tls: &ListenerTls, state: &TlsState) -> Result<ServerConfig, rustls::Error> {
    let versions: &[_] = match tls.lowest_version() {
        TlsVersion::Tls12 => &[&TLS13, &TLS12],
        TlsVersion::Tls13 => &[&TLS13],
    };
    let certificates = Arc::clone(&state.certificates);
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(versions)?
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    let protocols: &[&[u8]] = match tls.http2 {
        true => &[b"h2", b"http/1.1"],
        false => &[b"http/1.1"],
    };
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    config.ticketer = Arc::clone(&state.tickets) as Arc<_>;
    Ok(config)
}
