//! The request as the host receives it: the fields that the proxy sets on it.

use std::sync::Arc;

use http::Method;
use pingora::Result;

use super::certificate_fields::set_certificate_fields;
use super::header_editor::HeaderEditor;
use super::request_id::{REQUEST_ID, RequestId};
use super::trace_context;
use super::x_forwarded::{ClientOrigin, ConnectionInfo};
use crate::config::HostHeader;
use crate::message::RequestView;
use crate::proxy::context::RequestContext;
use crate::proxy::grpc::GrpcCall;
use crate::proxy::http_rules;
use crate::proxy::request_target::RequestTarget;

impl RequestContext {
    /// Reads from a request its id, client, upgrade and trace context. `peer` is the other end of its connection,
    /// `None` if that has connected to a Unix socket.
    pub(crate) fn identify(&mut self, request: RequestView<'_>, peer: Option<std::net::IpAddr>) {
        let id = request.get(&REQUEST_ID);
        self.id = id.map(|id| RequestId::FromClient(id.into()));
        let networks = &self.active.trusted_proxies;
        self.origin = Some(ClientOrigin::new(peer, request.fields, networks));
        let trusted = self.is_trusted();
        self.upgrade =
            http_rules::requested_upgrade(request, &self.active.upgrades).map(Arc::clone);
        self.grpc = GrpcCall::of(request, self.began);
        let sampling = self.active.sampling;
        self.trace =
            sampling.map(|sampling| trace_context::extract(request.fields, sampling, trusted));
    }

    /// Whether the peer is a trusted proxy.
    pub(crate) fn is_trusted(&self) -> bool {
        self.origin.is_some_and(|origin| origin.trusted)
    }

    /// Whether the client used https: on its connection, if `tls`, or as a trusted proxy reports.
    pub(crate) fn is_https(&self, request: RequestView<'_>, tls: bool) -> bool {
        let origin = self.origin;
        origin.map_or(tls, |origin| origin.is_https(request.fields, tls))
    }

    /// Sets the proxy's own fields on the request of the running attempt. `host` is the authority that the client asked
    /// for.
    pub(crate) fn set_upstream_fields(
        &mut self,
        received: RequestView<'_>,
        host: Option<&[u8]>,
        connection: ConnectionInfo<'_>,
        request: &mut impl HeaderEditor,
    ) -> Result<()> {
        let upgrade = self.upgrade.as_deref();
        http_rules::set_request_hop_fields(received, upgrade, request, self.active.via.as_ref())?;
        if let Some(origin) = self.origin {
            origin.set_forwarded_fields(received.fields, host, connection, request)?;
        }
        if let Some(verification) = connection.verification {
            set_certificate_fields(verification, request)?;
        }
        if !received.fields.contains(&REQUEST_ID) {
            let id = self.id.get_or_insert_with(RequestId::generate);
            request.set("X-Request-Id", id.as_bytes())?;
        }
        let attempt = self.attempts.last();
        trace_context::inject(received.fields, self.trace.as_ref(), attempt, request)?;
        if (host.is_none() || self.pool().host_header() == HostHeader::Upstream)
            && let Some(lease) = &self.lease
        {
            request.set("Host", lease.member().host_header().as_bytes())?;
        }
        if let Some(client) = &self.authenticated {
            client.copied_fields.apply(received.fields, request)?;
        }
        Ok(())
    }
}

/// Splits an absolute target into its authority and the target as an origin server gets it: in origin-form, or `*` for
/// OPTIONS of the whole server. `None`: the target is not absolute and is forwarded unchanged.
pub(crate) fn split_absolute_target(
    request: RequestView<'_>,
) -> Option<(&[u8], std::borrow::Cow<'_, [u8]>)> {
    let target = RequestTarget::of(request);
    let bare = |method: &Method| target.without_authority(method);
    target
        .absolute
        .then(|| (target.authority, bare(request.method)))
}
