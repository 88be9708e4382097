//! Requests of the proxy's own, beside those of clients: to a host of a pool, or to the server of a URL.
//!
//! They are HTTP/1.1, through a connector of their own that keeps connections. A request to a host has a lease: the host
//! counts it, and its outcome and latency count as those of any other request.

mod address_cache;
mod exchange;
mod subrequest_sender;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Version;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use pingora::connectors::TransportConnector;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::tls::CaType;
use pingora::{Error, ErrorType, Result};
use tokio::sync::OnceCell;
use tokio::task::spawn_blocking;

use crate::config::{Endpoint, Limits, Retry};
use crate::message::RequestView;
use crate::pool::{Pool, PoolLease};
use crate::proxy::selection::input::{RetryRules, SelectionInput};
use crate::proxy_protocol::ProxiedConnection;
use address_cache::AddressCache;
use ballast_balancer::{BalancerError, HostId};
use subrequest_sender::SubrequestSender;

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
    /// To the leased host, with the connection settings of its pool. See [`lease_for_subrequest`]. The connection is that of
    /// the client that the request is about, of which a pool with `proxy_protocol` learns.
    Host(PoolLease, Option<&'a ProxiedConnection>),
    /// To the server that the URL names; only the path of the request counts. Names are looked up again after 10 s.
    Url(&'a Endpoint),
    /// The same; these authorities are trusted instead of the system's. The request
    /// needs `Connection: close`, since kept connections are not told apart by their authorities.
    UrlTrusting(&'a Endpoint, &'a Arc<CaType>),
}

/// What the head of a response of a service may have: a collector of traces, an authority for certificates. Usual ones have a
/// few fields.
pub(crate) const SERVICE_RESPONSE_HEAD: Limits = Limits {
    head: 32 << 10,
    fields: 100,
    target: 0,
    body: None,
    rate: None,
    max_in_flight: None,
    max_connections: None,
    max_connections_per_client: None,
    max_handshakes: None,
    max_requests_per_connection: None,
    min_body_rate: None,
};

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
    /// a longer body ends with the connection. A failure while the body is read is not a failure of the request.
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
/// that it is about. Hosts in `tried` come last. It does not wait in the pool's queue.
///
/// # Errors
/// [`BalancerError::NoHosts`] if no host is usable; [`BalancerError::Busy`] if all are full.
pub(crate) fn lease_for_subrequest(
    pool: &Arc<Pool>,
    request: RequestView<'_>,
    client: Option<IpAddr>,
    tried: &[HostId],
) -> Result<PoolLease, BalancerError> {
    let never = RetryRules {
        methods: Retry::Idempotent,
        attempts: 0,
    };
    let input = SelectionInput::new(request, pool, client, tried.len(), tried, never);
    pool.try_lease(&input.selection(), None, false)
}

/// Sends requests of the proxy's own.
#[derive(Default)]
pub(crate) struct SubrequestClient {
    /// Made on first use, because it holds the system's certificate authorities: 400 KiB.
    connector: OnceCell<TransportConnector>,
    addresses: AddressCache,
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
    /// says what a client gets by [`failure::status_for`](crate::proxy::failure::status_for): 502 or 504.
    pub(crate) async fn send(
        &self,
        target: SubrequestTarget<'_>,
        request: &Subrequest,
        limits: SubrequestLimits<'_>,
    ) -> Result<SubResponse> {
        let sender = SubrequestSender::new(self.connector().await?, request, limits);
        match target {
            SubrequestTarget::Host(lease, client) => sender.send_to_host(lease, client).await,
            SubrequestTarget::Url(endpoint) => {
                sender.send_to_url(endpoint, None, &self.addresses).await
            }
            SubrequestTarget::UrlTrusting(endpoint, ca) => {
                sender
                    .send_to_url(endpoint, Some(ca), &self.addresses)
                    .await
            }
        }
    }

    async fn connector(&self) -> Result<&TransportConnector> {
        // It reads files, and this thread serves clients.
        let made = || spawn_blocking(|| TransportConnector::new(None));
        let connector = self.connector.get_or_try_init(made).await;
        connector.map_err(|error| Error::because(ErrorType::InternalError, "a connector", error))
    }
}
