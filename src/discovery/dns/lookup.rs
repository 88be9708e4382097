//! One lookup, from a name to everything that is to be known of it, within a deadline.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RecordType};
use tokio::time::{Instant, timeout_at};

use super::answer::{DnsError, WholeFamilies};
use super::client::Client;
use super::records::{Found, Said, find, host_address};
use super::system_files::SystemConfig;
use crate::config;

/// Addresses that one answer has at most: as many A records as the largest message can hold.
pub(super) const MAX_ADDRESSES: usize = 4_096;
/// Responses with nothing but an alias that are followed. Unbound follows as many.
const MAX_ALIASES: usize = 11;

/// What was found, before its TTL is brought within bounds.
#[derive(Debug)]
pub(super) struct Collected<T> {
    pub(super) values: Vec<T>,
    /// Seconds.
    pub(super) ttl: u32,
    pub(super) is_complete: bool,
    /// Of addresses: the families of which all are there, and at least one.
    pub(super) whole: WholeFamilies,
}

/// A lookup under way.
#[derive(Debug, Clone)]
pub(super) struct Lookup {
    config: Arc<config::Dns>,
    system: Arc<SystemConfig>,
    deadline: Instant,
}

impl Lookup {
    /// A lookup that begins now. Its deadline leaves every server every attempt, by UDP and by TCP, and one response for
    /// what comes on top of that.
    pub(super) fn begin(config: Arc<config::Dns>, system: Arc<SystemConfig>) -> Lookup {
        let mut lookup = Lookup {
            config,
            system,
            deadline: Instant::now(),
        };
        let servers = lookup.client().servers.len();
        let servers = u32::try_from(servers).unwrap_or(u32::MAX);
        let responses = (2 * lookup.config.attempts)
            .saturating_mul(servers)
            .saturating_add(1);
        lookup.deadline += lookup.config.timeout.saturating_mul(responses);
        lookup
    }

    /// One more, with a deadline of its own.
    pub(super) fn again(&self) -> Lookup {
        Lookup::begin(Arc::clone(&self.config), Arc::clone(&self.system))
    }

    fn client(&self) -> Client<'_> {
        let Lookup { config, system, .. } = self;
        Client {
            servers: match config.servers.is_empty() {
                true => &system.servers,
                false => &config.servers,
            },
            timeout: config.timeout,
            attempts: config.attempts,
        }
    }

    /// The absolute names that a name may stand for.
    pub(super) fn candidates(&self, name: &Name) -> Vec<Name> {
        self.system.candidates(name, self.config.search)
    }

    /// The addresses of a name, from /etc/hosts or else from DNS; sorted, and each once.
    pub(super) async fn addresses(&self, name: &Name) -> Result<Collected<IpAddr>, DnsError> {
        let mut in_hosts = self.system.in_hosts(name);
        if in_hosts.is_empty() && name.is_localhost() {
            // Servers are not asked for it (RFC 6761, section 6.3).
            in_hosts = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        }
        if !in_hosts.is_empty() {
            return Ok(sorted_addresses(
                in_hosts,
                u32::MAX,
                true,
                WholeFamilies::default(),
            ));
        }
        for candidate in self.candidates(name) {
            match self.both_families(&candidate).await {
                Err(DnsError::Empty) => {}
                answer => return answer,
            }
        }
        Err(DnsError::Empty)
    }

    async fn both_families(&self, name: &Name) -> Result<Collected<IpAddr>, DnsError> {
        let (v4, v6) = tokio::join!(
            self.records(name, RecordType::A),
            self.records(name, RecordType::AAAA)
        );
        let mut addresses = Vec::new();
        let mut ttl = u32::MAX;
        let mut is_complete = true;
        let mut failure = None;
        let mut whole = WholeFamilies::default();
        for (family, is_whole) in [(v4, &mut whole.v4), (v6, &mut whole.v6)] {
            match family {
                Ok(found) => {
                    let before = addresses.len();
                    addresses.extend(found.records.iter().filter_map(host_address));
                    ttl = ttl.min(found.ttl);
                    is_complete &= !found.is_truncated;
                    *is_whole = !found.is_truncated && addresses.len() > before;
                }
                Err(DnsError::Empty) => {}
                Err(failed) => {
                    is_complete = false;
                    failure.get_or_insert(failed);
                }
            }
        }
        match addresses.is_empty() {
            true => Err(failure.unwrap_or(DnsError::Empty)),
            false => Ok(sorted_addresses(addresses, ttl, is_complete, whole)),
        }
    }

    /// The records of an absolute name, through all aliases.
    pub(super) async fn records(
        &self,
        name: &Name,
        record_type: RecordType,
    ) -> Result<Found, DnsError> {
        let followed = timeout_at(self.deadline, self.follow(name, record_type)).await;
        followed.unwrap_or_else(|_| {
            Err(DnsError::Failed(format!(
                "the lookup of {name} {record_type} did not end in time"
            )))
        })
    }

    async fn follow(&self, name: &Name, record_type: RecordType) -> Result<Found, DnsError> {
        let mut end = name.clone();
        let mut ttl = u32::MAX;
        for _ in 0..=MAX_ALIASES {
            let query = Query::query(end.clone(), record_type);
            let response = self.client().ask(&query).await;
            let response = response
                .map_err(|reason| DnsError::Failed(format!("{name} {record_type}: {reason}")))?;
            match find(response, &end, record_type) {
                Said::Records(found) => {
                    return Ok(Found {
                        ttl: ttl.min(found.ttl),
                        ..found
                    });
                }
                Said::Empty => return Err(DnsError::Empty),
                Said::Circle => break,
                Said::Truncated => {
                    return Err(DnsError::Failed(format!(
                        "{name} {record_type}: the answer is too long for UDP, and TCP failed"
                    )));
                }
                Said::Alias {
                    target,
                    ttl: alias_ttl,
                } => {
                    ttl = ttl.min(alias_ttl);
                    end = target;
                }
            }
        }
        Err(DnsError::Failed(format!(
            "the aliases (CNAME) of {name} do not end"
        )))
    }
}

fn sorted_addresses(
    mut values: Vec<IpAddr>,
    ttl: u32,
    is_complete: bool,
    whole: WholeFamilies,
) -> Collected<IpAddr> {
    values.sort_unstable();
    values.dedup();
    let fit = values.len() <= MAX_ADDRESSES;
    values.truncate(MAX_ADDRESSES);
    Collected {
        values,
        ttl,
        is_complete: is_complete && fit,
        whole: match fit {
            true => whole,
            false => WholeFamilies::default(),
        },
    }
}
