//! Requests that the proxy never had.

use super::gate::Peer;
use crate::proxy::Site;
use crate::record::{Ending, Record};

/// Tells the observers of `site` of a request by `peer`, and the status and the bytes of a body that it got for it.
pub(super) fn tell(site: &Site, peer: Peer, status: Option<u16>, sent: usize, ending: Ending) {
    let Peer { address, tls } = peer;
    let record = Record::headless(address, tls, status, sent as u64, ending);
    for observer in &site.observers {
        observer.ended(&record);
    }
}
