//! The hosts of pools by what sources have told.

use std::collections::HashSet;

use super::answer::FoundHost;
use super::source_table::SourceTable;
use crate::config::{Config, Host, HostSettings, HostSource, Pool};
use ballast_balancer::{HostAddress, HostId};

/// The configuration `file` with the hosts that `table` knows. `before` is the last result; of its hosts that are not named
/// any more, those that `is_usable` stay, marked as leaving, while fewer than half of those that are named are usable: a
/// source that replaces all hosts at once does not leave the pool without any.
pub(crate) fn with_members(
    file: &Config,
    table: &SourceTable,
    before: Option<&Config>,
    is_usable: impl Fn(&str, &HostId) -> bool,
) -> Config {
    let mut config = file.clone();
    for pool in &mut config.pools {
        pool.members = named(pool, table);
        let mut pools = before.iter().flat_map(|before| &before.pools);
        let Some(before) = pools.find(|before| before.name == pool.name) else {
            continue;
        };
        let kept = kept(pool, &before.members, |id| is_usable(&pool.name, id));
        pool.members.extend(kept);
    }
    config
}

/// The hosts that the file and the sources of a pool name, each once.
fn named(pool: &Pool, table: &SourceTable) -> Vec<Host> {
    let mut members = Vec::new();
    for entry in &pool.hosts {
        match entry.source() {
            None => members.extend(entry.host()),
            Some(source) => {
                let found = table.state(&source).hosts;
                let hosts = found.iter();
                members
                    .extend(hosts.map(|found| host(found, &source, &entry.settings, entry.port())));
            }
        }
    }
    let settings = HostSettings::with_limit(pool.limits.max_in_flight);
    for source in pool.further_sources() {
        let found = table.state(&source).hosts;
        let hosts = found.iter();
        members.extend(hosts.map(|found| host(found, &source, &settings, None)));
    }
    let mut seen = HashSet::new();
    members.retain(|host| seen.insert(host.id.clone()));
    members
}

fn host(
    found: &FoundHost,
    source: &HostSource,
    settings: &HostSettings,
    port: Option<u16>,
) -> Host {
    let address = match (&found.address, port) {
        (HostAddress::Inet(address), Some(port)) => HostAddress::from((address.ip(), port)),
        (address, _) => address.clone(),
    };
    let id = address.to_string();
    let name = match &address {
        HostAddress::Inet(address) => address.ip().to_string(),
        HostAddress::Unix(_) => id.clone(),
    };
    let host = settings.host(&id, name, address);
    let weight = found.weight.unwrap_or(settings.weight);
    let server_name = match source {
        HostSource::Name(name) => Some(name.clone()),
        _ => found.server_name.clone(),
    };
    let label = settings.label.as_ref().map(|label| format!("{label} {id}"));
    let mut labels = settings.labels.clone();
    labels.extend(found.labels.clone());
    Host {
        server_name,
        label: found.label.clone().or(label),
        labels,
        source: Some(source.clone()),
        weight,
        file_weight: Some(weight),
        backup: found.backup.unwrap_or(settings.backup),
        max_in_flight: found.max_in_flight.or(settings.max_in_flight),
        ..host
    }
}

/// The hosts among `before` that stay although no source names them any more.
fn kept(pool: &Pool, before: &[Host], is_usable: impl Fn(&HostId) -> bool) -> Vec<Host> {
    let named: HashSet<_> = pool.members.iter().map(|host| &host.id).collect();
    let mut kept = Vec::new();
    for source in pool.sources() {
        let of_source = |host: &&Host| host.source.as_ref() == Some(&source);
        let (mut count, mut usable) = (0, 0);
        for host in pool.members.iter().filter(of_source) {
            count += 1;
            usable += usize::from(is_usable(&host.id));
        }
        if usable * 2 >= count {
            continue;
        }
        let gone = before.iter().filter(of_source);
        let gone = gone.filter(|host| !named.contains(&host.id) && is_usable(&host.id));
        kept.extend(gone.map(|host| Host {
            is_leaving: true,
            ..host.clone()
        }));
    }
    kept
}

#[cfg(test)]
mod tests;
