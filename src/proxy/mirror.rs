//! Copies of requests for another pool, whose responses are dropped.
//!
//! A request that is to be copied keeps its head as the host gets it. Once the whole request has arrived, the copy runs
//! in a task of its own, so that nothing it does delays the request: it is sent at about the time that the host gets the
//! request, and also if the response takes hours. It holds no place among the requests in flight, so that neither a drain
//! nor the end of the process waits for it.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderName;
use http::header::{EXPECT, HOST, TRANSFER_ENCODING};
use log::debug;
use pingora::http::RequestHeader;
use pingora::{Error, ErrorType, Result};

use super::active_config::ActiveConfig;
use super::admission;
use super::context::RequestContext;
use super::forwarding::header_editor::HeaderEditor;
use super::forwarding::x_forwarded::ConnectionInfo;
use super::subrequest::{
    BodyLimit, Subrequest, SubrequestClient, SubrequestLimits, SubrequestTarget,
    lease_for_subrequest,
};
use crate::config::{HostHeader, Mirror};
use crate::message::RequestView;
use crate::message::chunked::ChunkedDecoder;
use crate::message::head::{HeadProgress, HeaderField, MessageHead};
use crate::pool::{CopyOutcome, Pool, PoolLease};
use crate::proxy_protocol::ProxiedConnection;
use crate::thread_random::thread_random;

/// Tells a host that the request is a copy.
const MIRRORED: HeaderName = HeaderName::from_static("x-mirrored");

/// Bytes of a response that are read to keep the connection.
const MAX_DISCARDED: usize = 1 << 20;

/// A request that is to be copied.
#[derive(Debug)]
pub(crate) struct RequestCopy {
    client: Arc<SubrequestClient>,
    proxied: Option<Arc<ProxiedConnection>>,
    host: CopiedHost,
    /// `None`: no host gets the request yet.
    head: Option<CopiedHead>,
}

/// The Host field of a copy.
#[derive(Debug)]
enum CopiedHost {
    /// It is that of the request's host, which the route sets.
    OfRoute,
    /// The pool of the copies says whether it is this one, from the client. `None`: the client has sent none.
    OfClient(Option<Vec<u8>>),
}

/// The head of a request as the host gets it.
#[derive(Debug)]
enum CopiedHead {
    /// As it is sent. The body may be chunked.
    Wire(Vec<u8>),
    /// The body is not chunked.
    Parsed(Box<RequestHeader>),
}

impl RequestCopy {
    /// The copy of a request, if `mirror` has one. `upgrade`: the protocol that the request asks for; what follows it
    /// cannot be copied. A copy is not copied again, so that a pool that leads back here makes no endless loop.
    pub(crate) fn draw(
        mirror: Option<&Mirror>,
        request: RequestView<'_>,
        upgrade: Option<&str>,
        connection: ConnectionInfo<'_>,
        client: &Arc<SubrequestClient>,
    ) -> Option<Box<Self>> {
        let mirror = mirror?;
        let is_copied = mirror.share.takes(thread_random())
            && upgrade.is_none()
            && !request.fields.contains(&MIRRORED);
        is_copied.then(|| {
            Box::new(RequestCopy {
                client: Arc::clone(client),
                proxied: connection.proxied.cloned(),
                host: CopiedHost::OfRoute,
                head: None,
            })
        })
    }
}

impl RequestContext {
    /// Keeps the head that the host gets, if the request is to be copied and no earlier attempt has kept one. `host` is
    /// the authority that the client asked for.
    pub(crate) fn keep_wire_head(&mut self, host: Option<&[u8]>, head: impl FnOnce() -> Vec<u8>) {
        self.keep_head(host, || CopiedHead::Wire(head()));
    }

    /// Like [`keep_wire_head`](Self::keep_wire_head), for a head that is not written yet.
    pub(crate) fn keep_parsed_head(&mut self, host: Option<&[u8]>, head: &RequestHeader) {
        self.keep_head(host, || CopiedHead::Parsed(Box::new(head.clone())));
    }

    fn keep_head(&mut self, host: Option<&[u8]>, head: impl FnOnce() -> CopiedHead) {
        let Some(copy) = self.copy.as_mut().filter(|copy| copy.head.is_none()) else {
            return;
        };
        copy.head = Some(head());
        let route = self.route.map(|route| &self.active.routes[route]);
        let mut set = route
            .iter()
            .flat_map(|route| route.request_headers.set_names());
        copy.host = match set.any(|field| field.name == HOST) {
            true => CopiedHost::OfRoute,
            false => CopiedHost::OfClient(host.map(<[u8]>::to_vec)),
        };
    }

    /// Sends the copy of the request, if it has one. To be called once the whole request has arrived, with its `body` as
    /// the host gets it; `None`: it was too large to be kept.
    pub(crate) fn send_copy(&mut self, body: Option<Bytes>) {
        let Some(copy) = self.copy.take() else {
            return;
        };
        let mirror = self.route().and_then(|route| route.mirror.as_ref());
        let (Some(mirror), Some(head)) = (mirror, copy.head) else {
            return;
        };
        let pool = Arc::clone(&self.active.pools[mirror.pool.index]);
        let counters = Arc::clone(pool.counters().enable_copies());
        let Some(body) = body else {
            return counters.count(CopyOutcome::TooLarge);
        };
        let Some(permit) = counters.begin(mirror.max_in_flight) else {
            return counters.count(CopyOutcome::TooMany);
        };
        let task = CopyTask {
            client: copy.client,
            proxied: copy.proxied,
            active: Arc::clone(&self.active),
            pool,
            from: self.origin.and_then(|origin| origin.client),
            head,
            host: copy.host,
            body,
        };
        tokio::spawn(async move {
            let outcome = task.run().await;
            counters.count(outcome);
            drop(permit);
        });
    }
}

/// A copy on its way.
struct CopyTask {
    client: Arc<SubrequestClient>,
    proxied: Option<Arc<ProxiedConnection>>,
    active: Arc<ActiveConfig>,
    pool: Arc<Pool>,
    /// The client's address.
    from: Option<IpAddr>,
    head: CopiedHead,
    host: CopiedHost,
    body: Bytes,
}

impl CopyTask {
    async fn run(self) -> CopyOutcome {
        let pool = Arc::clone(&self.pool);
        let failed = |error: Box<Error>| {
            debug!(
                "pool {}: the copy of a request failed: {error}",
                pool.name()
            );
            CopyOutcome::Failed
        };
        let (mut head, body) = match self.head.into_request(self.body) {
            Ok(request) => request,
            Err(error) => return failed(error),
        };
        if admission::maintenance(&pool, self.from).is_some() {
            return CopyOutcome::NoHost;
        }
        let Ok(lease) = lease_for_subrequest(&pool, (&head).into(), self.from, &[]) else {
            return CopyOutcome::NoHost;
        };
        let edited = edit_head(&mut head, self.host, &lease, pool.host_header());
        let request = match edited.and_then(|()| Subrequest::new(head, body)) {
            Ok(request) => request.at_most_once(),
            Err(error) => return failed(error),
        };
        let options = &lease.member().peer().options;
        let timeouts = [options.connection_timeout, options.read_timeout];
        let limits = SubrequestLimits {
            total: timeouts.into_iter().flatten().sum(),
            body: BodyLimit::Discard(MAX_DISCARDED),
            head: &self.active.limits,
        };
        let target = SubrequestTarget::Host(lease, self.proxied.as_deref());
        match self.client.send(target, &request, limits).await {
            Ok(_) => CopyOutcome::Ok,
            Err(error) => failed(error),
        }
    }
}

/// Sets what differs from the request that is copied.
fn edit_head(
    head: &mut RequestHeader,
    host: CopiedHost,
    lease: &PoolLease,
    host_header: HostHeader,
) -> Result<()> {
    // The host need not ask for the body.
    head.remove_header(&EXPECT);
    head.set("X-Mirrored", b"1")?;
    match host {
        CopiedHost::OfRoute => {}
        CopiedHost::OfClient(Some(host)) if host_header == HostHeader::Preserve => {
            head.set("Host", &host)?;
        }
        CopiedHost::OfClient(_) => {
            head.insert_header(HOST, lease.member().host_header().clone())?;
        }
    }
    Ok(())
}

impl CopiedHead {
    /// The head, and the body without its framing.
    fn into_request(self, body: Bytes) -> Result<(RequestHeader, Bytes)> {
        let wire = match self {
            CopiedHead::Parsed(head) => return Ok((*head, body)),
            CopiedHead::Wire(wire) => wire,
        };
        let head = parse(&wire)?;
        let body = match head.headers.contains_key(TRANSFER_ENCODING) {
            true => decode(&body)?,
            false => body,
        };
        Ok((head, body))
    }
}

fn parse(wire: &[u8]) -> Result<RequestHeader> {
    let mut parsed = MessageHead::default();
    if !matches!(
        parsed.read_request(wire, usize::MAX),
        Ok(HeadProgress::Complete(_))
    ) {
        return Err(unreadable("the head"));
    }
    let (method, target) = (parsed.method(wire), parsed.target(wire));
    let mut head = RequestHeader::build(method, target, Some(parsed.len()))?;
    for HeaderField { name, value } in parsed.fields(wire) {
        head.append_header(Bytes::copy_from_slice(name), value)?;
    }
    Ok(head)
}

/// The data of a chunked body.
fn decode(body: &[u8]) -> Result<Bytes> {
    let (mut decoder, mut data, mut rest) = (ChunkedDecoder::default(), Vec::new(), body);
    while !rest.is_empty() && !decoder.is_finished() {
        let piece = decoder
            .next_data(rest)
            .map_err(|_| unreadable("the body"))?;
        data.extend_from_slice(&rest[piece.data]);
        rest = &rest[piece.consumed..];
    }
    Ok(data.into())
}

/// The request is this proxy's own, so that this would be a bug.
fn unreadable(what: &'static str) -> Box<Error> {
    Error::explain(
        ErrorType::InternalError,
        format!("{what} of the copy is unreadable"),
    )
}
