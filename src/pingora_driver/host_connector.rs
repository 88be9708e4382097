//! Connections to hosts on behalf of one client, in place of Pingora's own.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use pingora::Result;
use pingora::connectors::l4::Connect;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::protocols::l4::stream::Stream;
use pingora::proxy::Session;
use pingora::upstreams::peer::HttpPeer;

use super::client::{self, ConnectionState};
use super::{proxied, upgrade_connector};
use crate::host_socket::HostSocket;
use crate::proxy::context::RequestContext;
use crate::proxy_protocol::send_header;

/// How long an idle connection is kept for the only client that may use it. Pingora cannot be told that the client has
/// disconnected, so this is short: long enough for requests in a row.
const PRIVATE_IDLE_TIMEOUT: Duration = Duration::from_secs(2);

/// Makes `peer` connect to the leased host on behalf of the client, where that differs from what Pingora does.
pub(super) fn prepare(
    peer: &mut HttpPeer,
    session: &mut Session,
    ctx: &RequestContext,
    needs_http1: bool,
) {
    let header = make_private(peer, session, ctx);
    // Such a connection outlives its first client.
    let is_shared = ctx.pool().protocol().may_be_http2() && !needs_http1 && header.is_none();
    let client = match is_shared {
        true => None,
        false => client::lend_socket(session.as_downstream_mut()),
    };
    if ctx.upgrade.is_some() {
        let stream = || client::state_of(session.as_downstream()).map(Arc::clone);
        let client = client.or_else(stream);
        let connector = HostConnector::new(client.clone(), header);
        upgrade_connector::prepare(peer, connector, client);
    } else if let Some(connector) = HostConnector::new(client, header) {
        peer.options.custom_l4 = Some(Arc::new(connector));
    }
}

/// If the host learns of the client's connection: keeps its connections apart from those of other clients, and returns the
/// PROXY header with which they begin.
fn make_private(peer: &mut HttpPeer, session: &Session, ctx: &RequestContext) -> Option<Bytes> {
    let member = ctx.lease.as_ref()?.member();
    let version = member.proxy_protocol()?;
    let client = proxied(session)?;
    if member.prefers_http1() && ctx.pool().protocol().may_be_http1() {
        peer.options.set_http_version(1, 1);
    }
    peer.group_key = client.group_key(peer.group_key);
    let idle_timeout = &mut peer.options.idle_timeout;
    *idle_timeout = idle_timeout.map(|limit| limit.min(PRIVATE_IDLE_TIMEOUT));
    Some(client.header(version))
}

/// Connects to hosts on behalf of a client.
#[derive(Debug)]
pub(super) struct HostConnector {
    /// Connecting fails as soon as this client disconnects. `None`: it shares its connection with other requests.
    client: Option<Arc<ConnectionState>>,
    /// The PROXY header with which connections begin.
    header: Option<Bytes>,
}

impl HostConnector {
    /// `None`: Pingora's own connections do as well.
    fn new(client: Option<Arc<ConnectionState>>, header: Option<Bytes>) -> Option<Self> {
        let is_needed = client.is_some() || header.is_some();
        is_needed.then_some(HostConnector { client, header })
    }

    /// Opens a connection.
    pub(super) async fn open(&self, address: &SocketAddr) -> Result<HostSocket> {
        let mut socket = match &self.client {
            Some(client) => client.connect(address).await?,
            None => HostSocket::connect(address).await?,
        };
        if let Some(header) = &self.header {
            send_header(&mut socket, header).await?;
        }
        Ok(socket)
    }
}

#[async_trait]
impl Connect for HostConnector {
    // Pingora applies its timeout for the whole connection setup to this call.
    async fn connect(&self, address: &SocketAddr) -> Result<Stream> {
        Ok(self.open(address).await?.into())
    }
}
