//! `upgrades`: the protocols that a connection may be upgraded to.

use std::sync::Arc;

use serde_json::json;

use super::document::Node;
use super::hints::quote;
use super::scalars::is_token;
use super::schema::{List, Reader, Scalar, list, scalar};

/// A request is compared with each of them.
const MAX_UPGRADES: usize = 16;
/// Bytes of one protocol with its version.
const MAX_BYTES: usize = 64;
/// Protocols that carry HTTP requests. No route, limit or check would see those.
const CARRIES_REQUESTS: [&str; 4] = ["h2c", "h2", "http", "tls"];

/// Protocols, each with its version after a `/` if it has one.
pub(super) fn upgrades() -> List<Scalar<Arc<str>>> {
    let protocol = scalar("a protocol", protocol, |name: &Arc<str>| json!(**name));
    list("protocols", protocol)
        .up_to(MAX_UPGRADES)
        .checked(names_differ)
}

fn names_differ(node: &Node, protocols: &[(usize, Arc<str>)], reader: &mut Reader<'_>) {
    for (position, (index, protocol)) in protocols.iter().enumerate() {
        let mut earlier = protocols[..position].iter();
        let is_twice = earlier.any(|(_, other)| other.eq_ignore_ascii_case(protocol));
        if is_twice && let Some(element) = node.elements().get(*index) {
            let message = format!("{} is there twice", quote(protocol));
            reader.in_element(*index, |reader| reader.problem(element, message));
        }
    }
}

fn protocol(text: &str) -> Result<Arc<str>, String> {
    let (name, version) = match text.split_once('/') {
        Some((name, version)) => (name, Some(version)),
        None => (text, None),
    };
    if text.len() > MAX_BYTES || !is_token(name) || !version.is_none_or(is_token) {
        return Err(format!(
            "{} is not a protocol such as `websocket` or `SPDY/3.1`",
            quote(text)
        ));
    }
    let mut carriers = CARRIES_REQUESTS.iter();
    match carriers.any(|known| name.eq_ignore_ascii_case(known)) {
        true => Err(format!(
            "{} carries requests, which would pass unseen after the upgrade",
            quote(text)
        )),
        false => Ok(text.into()),
    }
}
