//! Requests that the proxy never had.

use std::time::Instant;

use super::connection_state::DownstreamPeer;
use crate::proxy::ActiveConfig;
use crate::proxy::completion::report_early_error;
use crate::record::TerminationReason;

/// Tells the observers of `active` of a request by `peer` that began at `began`, and the status and the bytes of a body that
/// it got for it.
pub(crate) fn report(
    active: &ActiveConfig,
    (peer, began): (DownstreamPeer, Instant),
    status: Option<u16>,
    sent: usize,
    ending: TerminationReason,
) {
    report_early_error(
        active,
        (peer.address, peer.tls),
        began,
        status,
        sent,
        ending,
    );
}
