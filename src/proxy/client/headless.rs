//! Requests that the proxy never had.

use std::time::Instant;

use super::gate::Peer;
use crate::proxy::Site;
use crate::proxy::telling::tell_headless;
use crate::record::Ending;

/// Tells the observers of `site` of a request by `peer` that began at `began`, and the status and the bytes of a body that
/// it got for it.
pub(super) fn tell(
    site: &Site,
    (peer, began): (Peer, Instant),
    status: Option<u16>,
    sent: usize,
    ending: Ending,
) {
    tell_headless(site, (peer.address, peer.tls), began, status, sent, ending);
}
