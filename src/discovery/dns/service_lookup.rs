//! The lookup of a service: its targets, and then all their addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use hickory_resolver::proto::rr::rdata::SRV;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use tokio::task::JoinSet;

use super::answer::{DnsError, ServiceTarget, WholeFamilies};
use super::lookup::{Collected, Lookup, MAX_ADDRESSES};
use super::records::Found;

/// Targets that are looked up at the same time.
const MAX_CONCURRENT: usize = 16;

impl Lookup {
    /// The targets of a service with their addresses, for which there is another deadline that is as far away.
    pub(super) async fn services(&self, name: &Name) -> Result<Collected<ServiceTarget>, DnsError> {
        for candidate in self.candidates(name) {
            match self.records(&candidate, RecordType::SRV).await {
                Ok(found) => return self.targets(name, found).await,
                Err(DnsError::Empty) => {}
                Err(failed) => return Err(failed),
            }
        }
        Err(DnsError::Empty)
    }

    async fn targets(
        &self,
        service: &Name,
        found: Found,
    ) -> Result<Collected<ServiceTarget>, DnsError> {
        let records = found.records.into_iter().filter_map(|record| match record {
            // The root stands for a service that is not offered (RFC 2782).
            RData::SRV(record) => (!record.target.is_root()).then_some(record),
            _ => None,
        });
        let records = Vec::from_iter(records);
        if records.is_empty() {
            return Err(DnsError::Empty);
        }
        let names = records.iter().map(|record| record.target.to_lowercase());
        let resolved = self.again().all_addresses(names.collect()).await;

        let mut ttl = found.ttl;
        let mut is_complete = !found.is_truncated;
        let mut failure = None;
        let mut room = MAX_ADDRESSES;
        let mut targets = BTreeSet::new();
        for record in &records {
            let mut addresses = Vec::new();
            match resolved.get(&record.target.to_lowercase()) {
                Some(Ok(collected)) => {
                    ttl = ttl.min(collected.ttl);
                    is_complete &= collected.is_complete && collected.values.len() <= room;
                    addresses.extend(collected.values.iter().take(room));
                }
                Some(Err(error)) => {
                    is_complete = false;
                    failure.get_or_insert_with(|| format!("{}: {error}", record.target));
                }
                None => is_complete = false,
            }
            room -= addresses.len();
            targets.insert(target(record, addresses));
        }
        match targets.iter().any(|target| !target.addresses.is_empty()) {
            true => Ok(Collected {
                values: targets.into_iter().collect(),
                ttl,
                is_complete,
                whole: WholeFamilies::default(),
            }),
            false => Err(DnsError::Failed(format!(
                "no target of {service} has an address; {}",
                failure.unwrap_or_default()
            ))),
        }
    }

    /// The addresses of all names, a few at a time.
    async fn all_addresses(
        &self,
        names: BTreeSet<Name>,
    ) -> BTreeMap<Name, Result<Collected<IpAddr>, DnsError>> {
        let mut waiting = names.into_iter();
        let mut running = JoinSet::new();
        let mut resolved = BTreeMap::new();
        loop {
            for name in waiting.by_ref().take(MAX_CONCURRENT - running.len()) {
                let lookup = self.clone();
                running.spawn(async move {
                    let addresses = lookup.addresses(&name).await;
                    (name, addresses)
                });
            }
            match running.join_next().await {
                Some(Ok((name, addresses))) => {
                    resolved.insert(name, addresses);
                }
                // It panicked, and the target counts as one that did not resolve.
                Some(Err(_)) => {}
                None => return resolved,
            }
        }
    }
}

fn target(record: &SRV, addresses: Vec<IpAddr>) -> ServiceTarget {
    let name = record.target.to_lowercase().to_ascii();
    ServiceTarget {
        priority: record.priority,
        name: name.trim_end_matches('.').to_owned(),
        port: record.port,
        weight: record.weight,
        addresses,
    }
}
