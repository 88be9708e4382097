//! Names in DNS as sources of hosts, asked again as their TTL says.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rand::Rng;
use tokio::time::sleep;

use super::answer::{Answer, FoundHost, Others, scaled_weight};
use super::dns::{
    AddressAnswer, DnsError, DnsResolver, ServiceAnswer, ServiceTarget, WholeFamilies,
};
use crate::config;

/// The wait after the first answer that is no good; it doubles with each further one.
const INITIAL_BACKOFF: Duration = Duration::from_millis(500);

/// Why an answer may not have all hosts.
const PARTIAL: &str = "a part of its records could not be looked up";

/// Reports the addresses of a name until it is cancelled.
pub(super) async fn watch_name(name: &str, dns: &config::Dns, report: &(dyn Fn(Answer) + Sync)) {
    let mut schedule = Schedule::new(dns);
    let resolver = resolver(dns, &mut schedule, report).await;
    loop {
        report(schedule.note(resolver.addresses(name).await.map(hosts)));
        schedule.wait().await;
    }
}

/// Reports the targets of a name's SRV records until it is cancelled.
pub(super) async fn watch_service(name: &str, dns: &config::Dns, report: &(dyn Fn(Answer) + Sync)) {
    let mut schedule = Schedule::new(dns);
    let resolver = resolver(dns, &mut schedule, report).await;
    loop {
        report(schedule.note(resolver.services(name).await.map(targets)));
        schedule.wait().await;
    }
}

/// A resolver, once the system's files can be read.
async fn resolver(
    dns: &config::Dns,
    schedule: &mut Schedule,
    report: &(dyn Fn(Answer) + Sync),
) -> DnsResolver {
    loop {
        match DnsResolver::new(dns) {
            Ok(resolver) => return resolver,
            Err(reason) => report(schedule.note(Err(DnsError::Failed(reason)))),
        }
        schedule.wait().await;
    }
}

/// What an answer of DNS says of hosts.
struct Looked {
    hosts: Vec<FoundHost>,
    ttl: Duration,
    /// Hosts that are left out and may exist; `None`: none.
    others: Option<Others>,
}

/// When a name is looked up next.
struct Schedule {
    next: Duration,
    backoff: Duration,
    max_backoff: Duration,
}

impl Schedule {
    fn new(dns: &config::Dns) -> Self {
        Schedule {
            next: Duration::ZERO,
            backoff: INITIAL_BACKOFF.min(dns.max_ttl),
            max_backoff: dns.max_ttl,
        }
    }

    /// The answer for the table.
    fn note(&mut self, looked: Result<Looked, DnsError>) -> Answer {
        match looked {
            Ok(Looked {
                hosts,
                ttl,
                others: None,
            }) => {
                self.backoff = INITIAL_BACKOFF.min(self.max_backoff);
                self.next = ttl;
                Answer::Complete {
                    hosts,
                    ttl: Some(ttl),
                }
            }
            Ok(Looked {
                hosts,
                others: Some(others),
                ..
            }) => {
                self.back_off();
                Answer::Partial {
                    hosts,
                    others,
                    reason: PARTIAL.to_owned(),
                    ttl: Some(self.next),
                }
            }
            Err(error) => {
                self.back_off();
                Answer::Failed(error.to_string())
            }
        }
    }

    fn back_off(&mut self) {
        self.next = self.backoff;
        self.backoff = (self.backoff * 2).min(self.max_backoff);
    }

    /// A tenth sooner or later than the rest, so that names with the same TTL are not looked up at the same time for ever.
    async fn wait(&self) {
        let factor = rand::thread_rng().gen_range(0.9..=1.1);
        sleep(self.next.mul_f64(factor)).await;
    }
}

fn hosts(answer: AddressAnswer) -> Looked {
    let addresses = answer.addresses.into_iter();
    // A server that fails for one family for good must not keep the addresses of the other for ever.
    let others = match (answer.is_complete, answer.whole) {
        (true, _) => None,
        (false, WholeFamilies { v4: true, .. }) => Some(Others::Ipv6),
        (false, WholeFamilies { v6: true, .. }) => Some(Others::Ipv4),
        (false, _) => Some(Others::Any),
    };
    Looked {
        hosts: addresses
            .map(|ip| FoundHost::at(SocketAddr::new(ip, 0)))
            .collect(),
        ttl: answer.ttl,
        others,
    }
}

/// Targets of the lowest priority are primary hosts, all others backups.
fn targets(answer: ServiceAnswer) -> Looked {
    let first = answer.targets.iter().map(|target| target.priority).min();
    let heaviest = answer.targets.iter().map(|target| target.weight).max();
    let heaviest = heaviest.unwrap_or(0);
    let hosts = answer.targets.iter().flat_map(|target| {
        let weight = scaled(target.weight, heaviest);
        let is_backup = Some(target.priority) != first;
        let addresses = target.addresses.iter();
        addresses.map(move |ip| found(target, *ip, weight, is_backup))
    });
    Looked {
        hosts: hosts.collect(),
        ttl: answer.ttl,
        others: (!answer.is_complete).then_some(Others::Any),
    }
}

fn found(target: &ServiceTarget, ip: IpAddr, weight: u32, is_backup: bool) -> FoundHost {
    let mut found = FoundHost::at(SocketAddr::new(ip, target.port));
    found.server_name = Some(target.name.clone());
    found.weight = Some(weight);
    found.backup = Some(is_backup);
    found
}

/// The weight of a target among those of which the heaviest has `heaviest`. SRV's weight 0 is a small share, not none
/// (RFC 2782).
fn scaled(weight: u16, heaviest: u16) -> u32 {
    scaled_weight(weight.into(), heaviest.into()).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_of_records_keep_their_proportions() {
        assert_eq!(scaled(0, 0), 1);
        assert_eq!(scaled(0, 100), 1);
        assert_eq!(scaled(70, 100), 70);
        assert_eq!(scaled(10_000, 10_000), 10_000);
        assert_eq!(scaled(65_535, 65_535), 10_000);
        assert_eq!(scaled(32_768, 65_535), 5_000);
        assert_eq!(scaled(1, 65_535), 1);
    }

    #[test]
    fn failures_are_asked_again_soon_and_then_less_often() {
        let dns = config::Dns {
            servers: Vec::new(),
            timeout: Duration::from_secs(2),
            attempts: 2,
            min_ttl: Duration::from_secs(1),
            max_ttl: Duration::from_secs(3),
            search: true,
        };
        let mut schedule = Schedule::new(&dns);
        let mut waits = Vec::new();
        for _ in 0..5 {
            assert!(matches!(
                schedule.note(Err(DnsError::Empty)),
                Answer::Failed(_)
            ));
            waits.push(schedule.next.as_millis());
        }
        assert_eq!(waits, [500, 1_000, 2_000, 3_000, 3_000]);
        let good = Looked {
            hosts: Vec::new(),
            ttl: Duration::from_secs(2),
            others: None,
        };
        schedule.note(Ok(good));
        assert_eq!(schedule.next.as_millis(), 2_000);
        schedule.note(Err(DnsError::Empty));
        assert_eq!(schedule.next.as_millis(), 500);
    }
}
