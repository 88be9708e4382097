//! How many idle connections to hosts the process keeps.
//!
//! Pingora 0.9 has one pool of idle connections per process, with a size that is fixed at start; when it is full, the
//! connection that was idle longest is closed.

use crate::config::Config;

/// Idle connections per host.
const PER_HOST: u64 = 64;

/// Room for this many times the hosts at start, because a reload cannot grow the pool.
const GROWTH_FACTOR: u64 = 2;

/// Room for a few busy hosts, and for hosts that a reload adds.
const MIN_SIZE: u64 = 1_024;

/// The largest number of idle connections: what the hosts may need, and at most a quarter of the process's
/// `descriptors`.
pub(super) fn keepalive_pool_size(config: &Config, descriptors: u64) -> u64 {
    let hosts = config.pools.iter().flat_map(|pool| &pool.members);
    let needed = hosts.map(|host| {
        let limits = [host.max_in_flight, config.limits.max_in_flight];
        let max = limits.into_iter().flatten().min();
        max.map_or(PER_HOST, |max| max.min(PER_HOST))
    });
    let needed = needed.fold(0_u64, u64::saturating_add);
    needed
        .saturating_mul(GROWTH_FACTOR)
        .max(MIN_SIZE)
        .min(descriptors / 4)
        .max(1)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn config(hosts: usize, pool: &str, top: &str) -> Config {
        let hosts =
            (0..hosts).map(|number| format!("\"127.1.{}.{}:80\"", number / 256, number % 256));
        let hosts = Vec::from_iter(hosts).join(", ");
        let text = format!(
            "{top}\nlisteners: [\"127.0.0.1:8080\"]\npools: {{ web: {{ hosts: [{hosts}], {pool} }} }}"
        );
        Config::parse(&text, Path::new("ballast.yaml")).expect("a valid configuration")
    }

    #[test]
    fn the_store_has_room_for_what_hosts_and_limits_allow() {
        let many = 1 << 20;
        for (hosts, pool, top, descriptors, expected) in [
            (1, "", "", many, 1_024),
            (100, "", "", many, 12_800),
            (5_000, "", "", many, 1 << 18),
            (5_000, "", "", 20_000, 5_000),
            (100, "limits: { max_in_flight: 10 }", "", many, 2_000),
            (5_000, "", "limits: { max_in_flight: 2 }", many, 20_000),
            (1, "", "", 64, 16),
            (1, "", "", 0, 1),
        ] {
            let config = config(hosts, pool, top);
            let size = keepalive_pool_size(&config, descriptors);
            assert_eq!(size, expected, "{hosts} hosts, {pool} {top}");
        }
    }
}
