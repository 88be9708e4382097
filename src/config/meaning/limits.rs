//! `limits`: how much there may be of anything.

use super::super::errors::Problems;
use super::super::model::Limits;
use super::super::place::Place;
use super::super::words::{size, whole};
use super::super::yaml;

/// What Pingora's parser takes, in bytes of a head and in fields; more cannot be allowed.
const PARSED_HEAD: u64 = 1024 * 1024;
const PARSED_FIELDS: usize = 256;
/// Less would refuse what every browser sends.
const SMALLEST_HEAD: u64 = 1024;
const SMALLEST_TARGET: u64 = 64;
const FEWEST_FIELDS: usize = 8;

pub(super) fn limits(said: yaml::Limits, place: &Place, problems: &mut Problems) -> Limits {
    let yaml::Limits {
        max_in_flight,
        head,
        target,
        fields,
        body,
    } = said;
    let most = problems.value(&place.key("max_in_flight"), max_in_flight.0, 0, |text| {
        whole(text, 0..=u64::MAX)
    });
    let fields = problems.value(&place.key("fields"), fields.0, 100, |text| {
        whole(text, FEWEST_FIELDS..=PARSED_FIELDS)
    });
    let mut bytes = |key, said: yaml::Said<String>, default, range| {
        problems.value(&place.key(key), said.0, default, |text| size(text, range))
    };
    let head = bytes("head", head, 32 * 1024, SMALLEST_HEAD..=PARSED_HEAD);
    let target = bytes("target", target, 16 * 1024, SMALLEST_TARGET..=PARSED_HEAD);
    let body = bytes("body", body, 0, 0..=u64::MAX);
    Limits {
        max_in_flight: (most > 0).then_some(most),
        head: head as usize,
        target: target as usize,
        fields,
        body: (body > 0).then_some(body),
    }
}
