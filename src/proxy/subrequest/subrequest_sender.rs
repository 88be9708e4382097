//! Sends one request on a kept or a new connection, and reports what became of it to the host's lease.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pingora::connectors::TransportConnector;
use pingora::protocols::tls::CaType;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};
use tokio::time::{Instant, timeout_at};

use super::address_cache::AddressCache;
use super::exchange::{Exchange, ExchangeError};
use super::{BodyLimit, SubResponse, Subrequest, SubrequestLimits};
use crate::config::Endpoint;
use crate::host_tls::HostTls;
use crate::pool::{Failure, Outcome, PoolLease, lacks_resources};
use crate::proxy_protocol::ProxiedConnection;

/// How long an unused connection to the server of a URL is kept.
const URL_IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// A request that is sent.
#[derive(Clone, Copy)]
pub(super) struct SubrequestSender<'a> {
    connector: &'a TransportConnector,
    request: &'a Subrequest,
    limits: SubrequestLimits<'a>,
    /// When the response must be complete.
    deadline: Instant,
}

impl<'a> SubrequestSender<'a> {
    /// Begins to send a request. Its time runs from now on.
    pub(super) fn new(
        connector: &'a TransportConnector,
        request: &'a Subrequest,
        limits: SubrequestLimits<'a>,
    ) -> Self {
        SubrequestSender {
            connector,
            request,
            limits,
            deadline: Instant::now() + limits.total,
        }
    }

    pub(super) async fn send_to_host(
        self,
        mut lease: PoolLease,
        client: Option<&ProxiedConnection>,
    ) -> Result<SubResponse> {
        let began = Instant::now();
        let mut peer = Arc::clone(lease.member().peer());
        if let (Some(version), Some(client)) = (lease.member().proxy_protocol(), client) {
            client.open_private(Arc::make_mut(&mut peer), version);
        }
        let exchange = match self
            .in_time(self.exchange(&peer, lease.member().tls()))
            .await
        {
            Ok(exchange) => exchange,
            Err(failed) => {
                if let Some(failure) = failed.failure {
                    lease.observe(began.elapsed(), Outcome::Failure(failure));
                }
                return Err(failed.of_host(&peer));
            }
        };
        let latency = began.elapsed();
        let outcome = lease.outcome_of(exchange.status());
        lease.response_started(outcome);
        let received = self.receive(exchange, &peer).await;
        let failure = received.as_ref().err().and_then(|failed| failed.failure);
        lease.observe(latency, failure.map_or(outcome, Outcome::Failure));
        received.map_err(|failed| failed.of_host(&peer))
    }

    pub(super) async fn send_to_url(
        self,
        endpoint: &Endpoint,
        ca: Option<&Arc<CaType>>,
        addresses: &AddressCache,
    ) -> Result<SubResponse> {
        let sent = self.send_to_any_address(endpoint, ca, addresses);
        let sent = self.in_time(sent).await;
        sent.map_err(|failed| failed.error.into_up())
    }

    /// Sends the request to the first address that accepts the connection.
    async fn send_to_any_address(
        self,
        endpoint: &Endpoint,
        ca: Option<&Arc<CaType>>,
        addresses: &AddressCache,
    ) -> Result<SubResponse, ExchangeError> {
        let addresses = addresses.addresses(endpoint).await;
        let addresses = addresses.map_err(|error| unreachable(endpoint, error))?;
        let mut last = None;
        for address in addresses.iter() {
            let peer = url_peer(*address, endpoint, ca, self.limits.total);
            match self.exchange(&peer, None).await {
                Ok(exchange) => return self.receive(exchange, &peer).await,
                // Nothing was sent.
                Err(failed) if failed.failure == Some(Failure::Connect) => last = Some(failed),
                Err(failed) => return Err(failed),
            }
        }
        Err(last.unwrap_or_else(|| unreachable(endpoint, "the name has no address")))
    }

    /// Sends the request and reads the head of the response. If a kept connection turns out to be closed before anything
    /// of a response has come, a repeatable request is sent once more, on a new one. `tls` is that of a host of a pool.
    async fn exchange(
        self,
        peer: &HttpPeer,
        tls: Option<&HostTls>,
    ) -> Result<Exchange, ExchangeError> {
        if is_kept(peer)
            && let Some(kept) = self.connector.reused_stream(peer).await
        {
            match Exchange::begin(kept, peer, self.request, self.limits.head).await {
                Err(failed) if failed.is_stale() && self.request.is_repeatable => {}
                Err(failed) if failed.is_stale() => {
                    // A host may close an unused connection at any time.
                    return Err(ExchangeError {
                        failure: None,
                        ..failed
                    });
                }
                exchange => return exchange,
            }
        }
        let connected = match tls {
            Some(tls) => tls.connect(self.connector, peer).await,
            None => self.connector.new_stream(peer).await,
        };
        let stream = connected.map_err(|error| ExchangeError {
            failure: (!lacks_resources(&error)).then_some(Failure::Connect),
            has_interim: false,
            error,
        })?;
        Exchange::begin(stream, peer, self.request, self.limits.head).await
    }

    /// Receives the body of the response.
    async fn receive(
        self,
        mut exchange: Exchange,
        peer: &HttpPeer,
    ) -> Result<SubResponse, ExchangeError> {
        let body = exchange.read_body(self.request, self.limits.body);
        match (self.in_time(body).await, self.limits.body) {
            (Ok(body), _) => Ok(exchange.finish(self.connector, peer, body).await),
            (Err(_), BodyLimit::Discard(_)) => Ok(exchange.abandon()),
            (Err(failed), BodyLimit::Keep(_)) => Err(failed),
        }
    }

    /// The result of `work`, or a timeout.
    async fn in_time<T>(
        self,
        work: impl Future<Output = Result<T, ExchangeError>>,
    ) -> Result<T, ExchangeError> {
        timeout_at(self.deadline, work).await.unwrap_or_else(|_| {
            let late = format!("no response within {:?}", self.limits.total);
            Err(ExchangeError {
                error: Error::explain(ErrorType::ReadTimedout, late),
                failure: Some(Failure::Timeout),
                has_interim: false,
            })
        })
    }
}

/// Whether a connection is kept for further requests. One that begins with a PROXY header could only be used for requests
/// about the same client.
pub(super) fn is_kept(peer: &HttpPeer) -> bool {
    peer.options.custom_l4.is_none()
}

/// How to connect to an address of the server of a URL.
fn url_peer(
    address: SocketAddr,
    endpoint: &Endpoint,
    ca: Option<&Arc<CaType>>,
    limit: Duration,
) -> HttpPeer {
    let mut peer = HttpPeer::new(address, endpoint.tls, endpoint.host.clone());
    let options = &mut peer.options;
    options.connection_timeout = Some(limit);
    options.total_connection_timeout = Some(limit);
    options.read_timeout = Some(limit);
    options.write_timeout = Some(limit);
    options.idle_timeout = Some(URL_IDLE_TIMEOUT);
    options.ca = ca.cloned();
    peer
}

fn unreachable(endpoint: &Endpoint, reason: impl fmt::Display) -> ExchangeError {
    let reason = format!("{}: {reason}", endpoint.authority());
    ExchangeError {
        error: Error::explain(ErrorType::ConnectError, reason),
        failure: Some(Failure::Connect),
        has_interim: false,
    }
}
