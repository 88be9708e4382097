//! Requests that the proxy never had.

use std::time::Instant;

use log::debug;

use super::gate::Peer;
use crate::proxy::Site;
use crate::record::{Ending, Record, Told};

/// Tells the observers of `site` of a request by `peer` that began at `began`, and the status and the bytes of a body that
/// it got for it.
pub(super) fn tell(
    site: &Site,
    (peer, began): (Peer, Instant),
    status: Option<u16>,
    sent: usize,
    ending: Ending,
) {
    let Peer { address, tls } = peer;
    let record = Record::headless(began, address, tls, status, sent as u64, ending);
    debug!("{}", Told(&record));
    for observer in &site.observers {
        observer.ended(&record);
    }
}
