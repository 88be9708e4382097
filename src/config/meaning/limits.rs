//! `limits`: how much there may be of anything.

use super::super::errors::Problems;
use super::super::model::Limits;
use super::super::place::Place;
use super::super::words::{quote, size, whole};
use super::super::yaml::{self, Said};
use super::edge;

/// What Pingora's parser takes, in bytes of a head and in fields; more cannot be allowed.
const PARSED_HEAD: u64 = 1024 * 1024;
const PARSED_FIELDS: usize = 256;
/// Less would refuse what every browser sends.
const SMALLEST_HEAD: u64 = 1024;
const SMALLEST_TARGET: u64 = 64;
const FEWEST_FIELDS: usize = 8;

/// nginx's value as well: a connection's memory comes back, and clients spread anew, at a cost of one connection in a
/// thousand requests.
const REQUESTS_PER_CONNECTION: u64 = 1_000;

pub(super) fn limits(said: yaml::Limits, place: &Place, problems: &mut Problems) -> Limits {
    let yaml::Limits {
        max_in_flight,
        head,
        target,
        fields,
        body,
        max_connections,
        max_connections_per_client,
        max_requests_per_connection,
        min_body_rate,
        rate,
    } = said;
    let max_connections = problems.optional(
        &place.key("max_connections"),
        max_connections.0.filter(|text| text != "auto"),
        |text| {
            whole(text, 1..=u64::MAX)
                .map_err(|_| format!("{} is neither `auto` nor a number above 0", quote(text)))
        },
    );
    let mut most = |key, said: Said<String>, default: u64| {
        let most = problems.value(&place.key(key), said.0, default, |text| {
            whole(text, 0..=u64::MAX)
        });
        (most > 0).then_some(most)
    };
    let max_in_flight = most("max_in_flight", max_in_flight, 0);
    let key = "max_connections_per_client";
    let max_connections_per_client = most(key, max_connections_per_client, 0);
    let key = "max_requests_per_connection";
    let default = REQUESTS_PER_CONNECTION;
    let max_requests_per_connection = most(key, max_requests_per_connection, default);
    let min_body_rate = most("min_body_rate", min_body_rate, 0);
    let rate = edge::rate(rate, &place.key("rate"), problems);
    let fields = problems.value(&place.key("fields"), fields.0, 100, |text| {
        whole(text, FEWEST_FIELDS..=PARSED_FIELDS)
    });
    let mut bytes = |key, said: Said<String>, default, range| {
        problems.value(&place.key(key), said.0, default, |text| size(text, range))
    };
    let head = bytes("head", head, 32 * 1024, SMALLEST_HEAD..=PARSED_HEAD);
    let target = bytes("target", target, 16 * 1024, SMALLEST_TARGET..=PARSED_HEAD);
    let body = bytes("body", body, 0, 0..=u64::MAX);
    Limits {
        max_in_flight,
        max_connections,
        max_connections_per_client,
        max_requests_per_connection,
        min_body_rate,
        rate,
        head: head as usize,
        target: target as usize,
        fields,
        body: (body > 0).then_some(body),
    }
}
