//! What a response says about a question: the records at the end of its aliases.

use std::net::IpAddr;

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::{DNSClass, Name, RData, Record, RecordType};

use super::client::Response;

/// Records of one type, at the end of all aliases.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) records: Vec<RData>,
    /// Seconds: the smallest TTL of the records and of the aliases that lead to them.
    pub(super) ttl: u32,
    /// Whether the response could not hold all records.
    pub(super) is_truncated: bool,
}

/// What a response says about a name.
#[derive(Debug)]
pub(super) enum Said {
    Records(Found),
    /// There is no such name, or it has no records of this type.
    Empty,
    /// The response ends with an alias; `ttl` is the smallest so far.
    Alias {
        target: Name,
        ttl: u32,
    },
    /// The aliases lead back to one of them.
    Circle,
    /// There may be records, but the response had no room for them.
    Truncated,
}

/// What `response` says about records of `name`. Records of other names and types do not count.
pub(super) fn find(response: Response, name: &Name, record_type: RecordType) -> Said {
    let Response {
        message,
        is_truncated,
    } = response;
    let mut end = name.clone();
    let mut ttl = u32::MAX;
    // Each alias counts once, so a response that has as many steps as aliases leads in a circle.
    let mut aliases = aliases(&message).count();
    while let Some((target, alias_ttl)) = next_alias(&message, &end) {
        if aliases == 0 {
            return Said::Circle;
        }
        aliases -= 1;
        ttl = ttl.min(alias_ttl);
        end = target.clone();
    }
    let is_missing = message.metadata.response_code == ResponseCode::NXDomain;
    let mut records = Vec::new();
    for record in message.answers {
        let is_asked_for = record.record_type() == record_type && record.dns_class == DNSClass::IN;
        if is_asked_for && record.name == end {
            ttl = ttl.min(record.ttl);
            records.push(record.data);
        }
    }
    match records.is_empty() {
        false => Said::Records(Found {
            records,
            ttl,
            is_truncated,
        }),
        true if is_truncated && end == *name => Said::Truncated,
        true if !is_missing && end != *name => Said::Alias { target: end, ttl },
        true => Said::Empty,
    }
}

fn aliases(message: &Message) -> impl Iterator<Item = (&Record, &Name)> {
    message
        .answers
        .iter()
        .filter_map(|record| match &record.data {
            RData::CNAME(target) => Some((record, &target.0)),
            _ => None,
        })
}

fn next_alias<'a>(message: &'a Message, name: &Name) -> Option<(&'a Name, u32)> {
    let mut of_name = aliases(message).filter(|(record, _)| record.name == *name);
    of_name.next().map(|(record, target)| (target, record.ttl))
}

/// The address in a record, if a host can have it. Filters answer with 0.0.0.0 or :: for names that they block, and a
/// connection to those would be one to this machine.
pub(super) fn host_address(record: &RData) -> Option<IpAddr> {
    let address = record.ip_addr()?.to_canonical();
    (!address.is_unspecified() && !address.is_multicast()).then_some(address)
}
