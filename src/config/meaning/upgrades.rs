//! `upgrades`: the protocols that a connection may be upgraded to.

use std::sync::Arc;

use super::super::errors::Problems;
use super::super::place::Place;
use super::super::words::quote;
use crate::message::chunks::is_token;

/// What is allowed if nothing is said.
const DEFAULT: &str = "websocket";

/// A request is compared with each of them.
const MOST: usize = 16;

/// Bytes of one protocol with its version.
const LONGEST: usize = 64;

/// Protocols that carry requests of HTTP. Behind such an upgrade no route, limit or check would see them.
const CARRY_REQUESTS: [&str; 4] = ["h2c", "h2", "http", "tls"];

pub(super) fn upgrades(
    said: Option<Vec<String>>,
    place: &Place,
    problems: &mut Problems,
) -> Vec<Arc<str>> {
    let Some(said) = said else {
        return vec![DEFAULT.into()];
    };
    if said.len() > MOST {
        let count = said.len();
        problems.add(
            place,
            format!("there are {count} protocols; at most {MOST} are taken"),
        );
        return Vec::new();
    }
    let mut upgrades: Vec<Arc<str>> = Vec::new();
    for (index, text) in said.iter().enumerate() {
        let place = place.index(index);
        let Some(upgrade) = problems.take(&place, protocol(text)) else {
            continue;
        };
        match upgrades
            .iter()
            .any(|other| other.eq_ignore_ascii_case(upgrade))
        {
            true => problems.add(&place, format!("{} is there twice", quote(text))),
            false => upgrades.push(upgrade.into()),
        }
    }
    upgrades
}

fn protocol(text: &str) -> Result<&str, String> {
    let is_token = |text: &str| !text.is_empty() && text.bytes().all(is_token);
    let (name, version) = match text.split_once('/') {
        Some((name, version)) => (name, Some(version)),
        None => (text, None),
    };
    if text.len() > LONGEST || !is_token(name) || !version.is_none_or(is_token) {
        return Err(format!(
            "{} is not a protocol such as `websocket` or `SPDY/3.1`",
            quote(text)
        ));
    }
    match CARRY_REQUESTS
        .iter()
        .any(|known| name.eq_ignore_ascii_case(known))
    {
        true => Err(format!(
            "{} carries requests, which would pass unseen behind the upgrade",
            quote(text)
        )),
        false => Ok(text),
    }
}
