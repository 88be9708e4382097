//! Requests of the proxy's own, beside those of clients: to a host of a pool, or to the server of a URL.
//!
//! They are HTTP/1.1, through a connector of their own that keeps connections. A request to a host has a lease: the host
//! counts it, and its outcome and latency count as those of any other request.

mod exchange;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::Version;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use pingora::connectors::TransportConnector;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};
use tokio::net::lookup_host;
use tokio::time::{Instant, timeout_at};

use crate::balancer::BalancerError;
use crate::config::{Endpoint, Limits};
use crate::message::RequestView;
use crate::pool::{Failure, Outcome, Pool, PoolLease, lacks_resources};
use crate::proxy::failure;
use crate::proxy::selection::input::{RetryRules, SelectionInput};
use exchange::{Exchange, ExchangeError};

/// A request of the proxy's own.
#[derive(Debug)]
pub(crate) struct Subrequest {
    head: RequestHeader,
    body: Bytes,
    /// Whether the request is sent once more if a kept connection turns out to be closed.
    is_repeatable: bool,
}

/// Where a request goes.
#[derive(Debug)]
pub(crate) enum SubrequestTarget<'a> {
    /// To the leased host, with the connection settings of its pool. See [`lease_for_subrequest`].
    Host(PoolLease),
    /// To the server that the URL names; only the path of the request counts. Names are looked up each time.
    Url(&'a Endpoint),
}

/// What a request may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SubrequestLimits<'a> {
    /// From the beginning to the end of the response. The timeouts of the pool hold as well.
    pub(crate) total: Duration,
    /// What happens to the response's body.
    pub(crate) body: BodyLimit,
    /// Those of the response's head.
    pub(crate) head: &'a Limits,
}

/// What happens to the body of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyLimit {
    /// It is returned. A body of more bytes is an error.
    Keep(usize),
    /// It is read and dropped, so that the connection can be kept. Reading more bytes costs more than a connection, so
    /// a longer body ends with the connection. A failure on the way is none of the request.
    Discard(usize),
}

/// The response to a request of the proxy's own.
#[derive(Debug)]
pub(crate) struct SubResponse {
    /// Status and header fields as the host sent them, those of its connection included.
    pub(crate) head: ResponseHeader,
    /// The body; empty if it was dropped.
    pub(crate) body: Bytes,
}

impl Subrequest {
    /// A request with the fields of `head`. The framing of the body replaces theirs.
    ///
    /// # Errors
    /// None for a head whose fields are valid.
    pub(crate) fn new(mut head: RequestHeader, body: Bytes) -> Result<Self> {
        head.set_version(Version::HTTP_11);
        let is_chunked = head.headers.contains_key(TRANSFER_ENCODING);
        let had_length = head.remove_header(&CONTENT_LENGTH).is_some();
        if is_chunked {
            head.insert_header(TRANSFER_ENCODING, "chunked")?;
        } else if had_length || !body.is_empty() {
            head.insert_header(CONTENT_LENGTH, body.len())?;
        }
        Ok(Subrequest {
            is_repeatable: head.method.is_idempotent(),
            head,
            body,
        })
    }

    /// Makes sure that no second request is sent, even if a kept connection turns out to be closed.
    pub(crate) fn at_most_once(mut self) -> Self {
        self.is_repeatable = false;
        self
    }
}

/// Leases a host for a request of the proxy's own. `request` has the hash key, and so does the address of the `client`
/// that it is about. It does not wait in the pool's queue.
///
/// # Errors
/// [`BalancerError::NoHosts`] if no host is usable; [`BalancerError::Busy`] if all are full.
pub(crate) fn lease_for_subrequest(
    pool: &Arc<Pool>,
    request: RequestView<'_>,
    client: Option<std::net::IpAddr>,
) -> Result<PoolLease, BalancerError> {
    let never = RetryRules {
        methods: crate::config::Retry::Idempotent,
        attempts: 0,
    };
    let input = SelectionInput::new(request, pool, client, 0, &[], never);
    pool.try_lease(&input.selection(), None, false)
}

/// Sends requests of the proxy's own.
#[derive(Default)]
pub(crate) struct SubrequestClient {
    /// Made on first use: it holds the system's certificate authorities, which take time to read and 400 KiB.
    connector: OnceLock<TransportConnector>,
}

impl fmt::Debug for SubrequestClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubrequestClient").finish_non_exhaustive()
    }
}

impl SubrequestClient {
    /// Sends a request and returns the response. Interim responses are skipped.
    ///
    /// # Errors
    /// If the response does not come in time, is malformed, exceeds a limit, or the host could not be reached; the error
    /// says what a client gets by [`failure::status_for`]: 502 or 504.
    pub(crate) async fn send(
        &self,
        target: SubrequestTarget<'_>,
        request: &Subrequest,
        limits: SubrequestLimits<'_>,
    ) -> Result<SubResponse> {
        let deadline = Instant::now() + limits.total;
        match target {
            SubrequestTarget::Host(lease) => {
                self.send_to_host(lease, request, limits, deadline).await
            }
            SubrequestTarget::Url(endpoint) => {
                let sent = self.send_to_url(endpoint, request, limits, deadline);
                within(deadline, sent)
                    .await
                    .map_err(|failed| failed.error.into_up())
            }
        }
    }

    async fn send_to_host(
        &self,
        mut lease: PoolLease,
        request: &Subrequest,
        limits: SubrequestLimits<'_>,
        deadline: Instant,
    ) -> Result<SubResponse> {
        let began = Instant::now();
        let peer = Arc::clone(lease.member().peer());
        let exchange = within(deadline, self.exchange(&peer, request, limits)).await;
        let exchange = match exchange {
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
        let received = self.receive(exchange, &peer, request, limits.body, deadline);
        match received.await {
            Ok(response) => {
                lease.observe(latency, outcome);
                Ok(response)
            }
            Err(failed) => {
                let failure = failed.failure.map(Outcome::Failure);
                lease.observe(latency, failure.unwrap_or(outcome));
                Err(failed.of_host(&peer))
            }
        }
    }

    async fn send_to_url(
        &self,
        endpoint: &Endpoint,
        request: &Subrequest,
        limits: SubrequestLimits<'_>,
        deadline: Instant,
    ) -> Result<SubResponse, ExchangeError> {
        let Endpoint {
            tls, host, port, ..
        } = endpoint;
        let addresses = lookup_host((host.as_str(), *port)).await;
        let addresses = addresses.map_err(|error| unreachable(endpoint, error))?;
        let mut last = None;
        for address in addresses {
            let peer = url_peer(address, *tls, host, limits.total);
            match self.exchange(&peer, request, limits).await {
                Ok(exchange) => {
                    let received = self.receive(exchange, &peer, request, limits.body, deadline);
                    return received.await;
                }
                // Nothing was sent, so the next address may be tried.
                Err(failed) if failed.failure == Some(Failure::Connect) => last = Some(failed),
                Err(failed) => return Err(failed),
            }
        }
        Err(last.unwrap_or_else(|| unreachable(endpoint, "the name has no address")))
    }

    /// Sends the request and reads the head of the response. If a kept connection turns out to be closed before anything
    /// of a response has come, a repeatable request is sent once more, on a new one.
    async fn exchange(
        &self,
        peer: &HttpPeer,
        request: &Subrequest,
        limits: SubrequestLimits<'_>,
    ) -> Result<Exchange, ExchangeError> {
        let connector = self.connector();
        if let Some(kept) = connector.reused_stream(peer).await {
            match Exchange::begin(kept, peer, request, limits.head).await {
                Err(failed) if failed.is_stale() && request.is_repeatable => {}
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
        let connected = connector.new_stream(peer).await;
        let stream = connected.map_err(|error| ExchangeError {
            failure: (!lacks_resources(&error)).then_some(Failure::Connect),
            has_interim: false,
            error,
        })?;
        Exchange::begin(stream, peer, request, limits.head).await
    }

    /// Receives the body of the response.
    async fn receive(
        &self,
        mut exchange: Exchange,
        peer: &HttpPeer,
        request: &Subrequest,
        limit: BodyLimit,
        deadline: Instant,
    ) -> Result<SubResponse, ExchangeError> {
        let body = within(deadline, exchange.read_body(request, limit)).await;
        match (body, limit) {
            (Ok(body), _) => Ok(exchange.finish(self.connector(), peer, body).await),
            (Err(_), BodyLimit::Discard(_)) => Ok(exchange.abandon()),
            (Err(failed), BodyLimit::Keep(_)) => Err(failed),
        }
    }

    fn connector(&self) -> &TransportConnector {
        self.connector.get_or_init(|| TransportConnector::new(None))
    }
}

/// How to connect to an address of the server of a URL.
fn url_peer(address: SocketAddr, tls: bool, host: &str, limit: Duration) -> HttpPeer {
    let mut peer = HttpPeer::new(address, tls, host.to_owned());
    let options = &mut peer.options;
    options.connection_timeout = Some(limit);
    options.total_connection_timeout = Some(limit);
    options.read_timeout = Some(limit);
    options.write_timeout = Some(limit);
    options.idle_timeout = Some(URL_IDLE_TIMEOUT);
    peer
}

/// How long an unused connection to the server of a URL is kept.
const URL_IDLE_TIMEOUT: Duration = Duration::from_secs(30);

fn unreachable(endpoint: &Endpoint, reason: impl fmt::Display) -> ExchangeError {
    let reason = format!("{}: {reason}", endpoint.authority());
    ExchangeError {
        error: Error::explain(ErrorType::ConnectError, reason),
        failure: Some(Failure::Connect),
        has_interim: false,
    }
}

/// The result of `work`, or a timeout.
async fn within<T>(
    deadline: Instant,
    work: impl Future<Output = Result<T, ExchangeError>>,
) -> Result<T, ExchangeError> {
    timeout_at(deadline, work).await.unwrap_or_else(|_| {
        Err(ExchangeError {
            error: Error::explain(ErrorType::ReadTimedout, "no whole response in time"),
            failure: Some(Failure::Timeout),
            has_interim: false,
        })
    })
}

/// Whether a failure may be caused by the request instead of the host, by what a host may do with such a request.
fn is_caused_by_request(request: &Subrequest, error: &Error) -> bool {
    // A host may reject an upload by closing the connection.
    let is_upload_refused = *error.etype() == ErrorType::WriteError && !request.body.is_empty();
    is_upload_refused || !failure::is_common_request((&request.head).into())
}
