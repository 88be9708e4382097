//! TLS towards clients: certificates, versions and session tickets.

mod certificate_index;
mod client_certificates;
mod session_tickets;
mod ticket_keys;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use log::error;
use pingora::listeners::tls::{Acceptor, TlsSettings};
use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::server::NoServerSessionStorage;
use rustls::version::{TLS12, TLS13};

use super::StartError;
use crate::acme_challenges::AcmeChallenges;
use crate::config::{ClientCertificates, Listener, ListenerTls, TlsVersion};
use crate::metrics::TicketCounters;

use certificate_index::{CHALLENGE_PROTOCOL, Certificates};
use client_certificates::VerificationNote;
use session_tickets::ListenerTickets;

pub(super) use ticket_keys::{TicketKeys, TicketSecret};

/// The TLS of a listener, of which parts may change while it accepts connections.
pub(super) struct TlsState {
    /// What accepts the next connection.
    acceptor: ArcSwap<Acceptor>,
    /// What the acceptor asks of clients, and whether it answers challenges.
    accepted: Mutex<(Option<ClientCertificates>, bool)>,
    certificates: Arc<Certificates>,
    tickets: Arc<ListenerTickets>,
}

impl fmt::Debug for TlsState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsState").finish_non_exhaustive()
    }
}

impl TlsState {
    /// The TLS of `listener`; `None` if it has none. `keys` are those for tickets without a secret of the file, and
    /// `challenges` those of authorities.
    pub(super) fn of(
        listener: &Listener,
        keys: &Arc<TicketKeys>,
        counters: &TicketCounters,
        challenges: &Arc<AcmeChallenges>,
    ) -> Result<Option<Arc<Self>>, StartError> {
        let Some(tls) = &listener.tls else {
            return Ok(None);
        };
        let certificates = Arc::new(Certificates::new(tls, Arc::clone(challenges)));
        let tickets = ListenerTickets::new(tls, Arc::clone(keys), counters.clone());
        let tickets = Arc::new(tickets);
        let acceptor = acceptor(tls, &certificates, &tickets).map_err(StartError::Certificate)?;
        Ok(Some(Arc::new(TlsState {
            acceptor: ArcSwap::from_pointee(acceptor),
            accepted: Mutex::new((tls.client_certificates.clone(), tls.answers_challenges)),
            certificates,
            tickets,
        })))
    }

    /// What accepts a connection now.
    pub(super) fn acceptor(&self) -> Arc<Acceptor> {
        self.acceptor.load_full()
    }

    /// Uses the certificates, the session tickets, the clients' authorities and the challenges of `tls` from the next
    /// handshake on.
    pub(super) fn replace(&self, tls: &ListenerTls) {
        self.certificates.replace(tls);
        self.tickets.replace(tls);
        let mut current = self.accepted.lock().unwrap_or_else(PoisonError::into_inner);
        if current.0 == tls.client_certificates && current.1 == tls.answers_challenges {
            return;
        }
        match acceptor(tls, &self.certificates, &self.tickets) {
            Ok(acceptor) => {
                self.acceptor.store(Arc::new(acceptor));
                *current = (tls.client_certificates.clone(), tls.answers_challenges);
            }
            // The configuration has been checked for this.
            Err(reason) => error!("client_certificates and challenges stay as they were: {reason}"),
        }
    }
}

fn acceptor(
    tls: &ListenerTls,
    certificates: &Arc<Certificates>,
    tickets: &Arc<ListenerTickets>,
) -> Result<Acceptor, String> {
    let config = Arc::new(server_config(tls, certificates, tickets)?);
    if tls.client_certificates.is_none() {
        return Ok(Acceptor::from_server_config(config));
    }
    // Only these settings take a callback, and only the acceptor takes a configuration of ours.
    let settings = TlsSettings::with_callbacks(Box::new(VerificationNote));
    let mut settings = settings.map_err(|error| error.to_string())?;
    settings.set_cert_resolver(Arc::clone(certificates) as Arc<_>);
    let mut acceptor = settings.build();
    acceptor.acceptor = config.into();
    Ok(acceptor)
}

/// The configuration of rustls. Its suites are those of both profiles: a lower version than TLS 1.2, a cipher without
/// authentication or a key exchange without forward secrecy is not in it at all.
fn server_config(
    tls: &ListenerTls,
    certificates: &Arc<Certificates>,
    tickets: &Arc<ListenerTickets>,
) -> Result<ServerConfig, String> {
    let versions: &[_] = match tls.lowest_version() {
        TlsVersion::Tls12 => &[&TLS13, &TLS12],
        TlsVersion::Tls13 => &[&TLS13],
    };
    let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(versions)
        .map_err(|error| error.to_string())?;
    let builder = match &tls.client_certificates {
        Some(section) => builder.with_client_cert_verifier(client_certificates::verifier(section)?),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::clone(certificates) as Arc<_>);
    let http2 = tls.http2.then_some(&b"h2"[..]);
    let challenge = tls.answers_challenges.then_some(CHALLENGE_PROTOCOL);
    let protocols = [http2, Some(&b"http/1.1"[..]), challenge].into_iter();
    config.alpn_protocols = protocols.flatten().map(<[u8]>::to_vec).collect();
    match tls.client_certificates {
        None => config.ticketer = Arc::clone(tickets) as Arc<_>,
        // A resumed session is not verified again, and a ticket of another listener would open one without a certificate.
        Some(_) => {
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
    }
    Ok(config)
}
