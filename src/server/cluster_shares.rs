//! Limits of a cluster, divided among its live members.
//!
//! Each member applies its share alone: no request waits for what another member says. Shares are rounded up, so that none
//! is nothing; together they exceed the limit by less than one for each member.

use std::collections::BTreeSet;
use std::fmt;
use std::num::{NonZeroU32, NonZeroU64};

use crate::cluster::LimitShare;
use crate::config::{Config, Rate};

/// A limit that is divided.
enum Divided<'a> {
    Count(&'a mut u64),
    Rate(&'a mut Rate),
}

/// `config` with the share of one of `members` in each limit of requests, connections and rates.
pub(super) fn with_shares(mut config: Config, members: u32) -> Config {
    if members > 1 {
        for (_, limit) in divided(&mut config) {
            limit.divide(members);
        }
    }
    config
}

/// The limits of `config` that are divided, with the share of one of `members`. What several hosts of a pool have in common
/// is there once.
pub(super) fn limit_shares(config: &Config, members: u32) -> Vec<LimitShare> {
    let mut whole = config.clone();
    let mut share = with_shares(config.clone(), members);
    let pairs = divided(&mut whole).into_iter().zip(divided(&mut share));
    let mut shares = Vec::new();
    let mut seen = BTreeSet::new();
    for ((key, whole), (_, share)) in pairs {
        let whole = whole.to_string();
        if seen.insert((key.clone(), whole.clone())) {
            let share = share.to_string();
            shares.push(LimitShare { key, whole, share });
        }
    }
    shares
}

/// All limits that are divided, with their keys.
fn divided(config: &mut Config) -> Vec<(String, Divided<'_>)> {
    let limits = &mut config.limits;
    let mut all = vec![
        (
            "limits.max_in_flight".to_owned(),
            count(&mut limits.max_in_flight),
        ),
        (
            "limits.max_connections".to_owned(),
            count(&mut limits.max_connections),
        ),
        (
            "limits.max_connections_per_client".to_owned(),
            count(&mut limits.max_connections_per_client),
        ),
        (
            "limits.rate".to_owned(),
            limits.rate.as_mut().map(Divided::Rate),
        ),
    ];
    for (number, route) in config.routes.iter_mut().enumerate() {
        let limit = count(&mut route.limits.max_in_flight);
        all.push((format!("routes[{number}].limits.max_in_flight"), limit));
        let limit = route.rate.as_mut().map(Divided::Rate);
        all.push((format!("routes[{number}].rate"), limit));
    }
    for pool in &mut config.pools {
        let key = format!("pools.{}.limits.max_in_flight", pool.name);
        let of_each = pool.limits.max_in_flight;
        for host in &mut pool.members {
            let key = match host.max_in_flight == of_each {
                true => key.clone(),
                false => format!("pools.{}.hosts[].max_in_flight", pool.name),
            };
            all.push((key, count(&mut host.max_in_flight)));
        }
        all.push((key, count(&mut pool.limits.max_in_flight)));
    }
    let limited = all.into_iter();
    limited
        .filter_map(|(key, limit)| Some((key, limit?)))
        .collect()
}

fn count(limit: &mut Option<u64>) -> Option<Divided<'_>> {
    limit.as_mut().map(Divided::Count)
}

impl Divided<'_> {
    fn divide(self, members: u32) {
        match self {
            Divided::Count(limit) => *limit = limit.div_ceil(u64::from(members)),
            Divided::Rate(rate) => {
                let thousandths = rate.thousandths.get().div_ceil(u64::from(members));
                let burst = rate.burst.get().div_ceil(members);
                // Rounded up, so neither is zero.
                rate.thousandths = NonZeroU64::new(thousandths).unwrap_or(NonZeroU64::MIN);
                rate.burst = NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN);
            }
        }
    }
}

impl fmt::Display for Divided<'_> {
    /// As an operator reads it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Divided::Count(limit) => limit.fmt(f),
            Divided::Rate(rate) => rate.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const FILE: &str = "
listeners: [\"127.0.0.1:80\"]
limits: { max_in_flight: 100, max_connections: 10, max_connections_per_client: 1, rate: 100/s }
routes: [{ pool: web, rate: { requests: 5/min, burst: 2 }, limits: { max_in_flight: 7 } }]
pools: { web: { hosts: [\"127.0.0.1:1\", { address: \"127.0.0.1:2\", max_in_flight: 0 }], limits: { max_in_flight: 9 } } }
";

    /// The numbers that are divided.
    fn limits(members: u32) -> Vec<Option<u64>> {
        let config = Config::parse(FILE, Path::new("b.yaml")).expect("a configuration");
        let config = with_shares(config, members);
        let rate = |rate: Option<&Rate>| {
            let rate = rate.expect("a rate");
            [Some(rate.thousandths.get()), Some(rate.burst.get().into())]
        };
        let Config {
            limits,
            routes,
            pools,
            ..
        } = &config;
        let mut all = vec![
            limits.max_in_flight,
            limits.max_connections,
            limits.max_connections_per_client,
            routes[0].limits.max_in_flight,
        ];
        all.extend(rate(limits.rate.as_ref()));
        all.extend(rate(routes[0].rate.as_ref()));
        all.extend(pools[0].members.iter().map(|host| host.max_in_flight));
        all
    }

    #[test]
    fn shares_are_rounded_up() {
        let some = |numbers: [u64; 9]| {
            let mut numbers = Vec::from(numbers.map(Some));
            // The host without a limit.
            numbers.push(None);
            numbers
        };
        let whole = some([100, 10, 1, 7, 100_000, 100, 5_000, 2, 9]);
        assert_eq!(limits(0), whole);
        assert_eq!(limits(1), whole);
        assert_eq!(limits(3), some([34, 4, 1, 3, 33_334, 34, 1_667, 1, 3]));
        assert_eq!(limits(1_000), some([1, 1, 1, 1, 100, 1, 5, 1, 1]));
    }

    #[test]
    fn shares_of_all_members_are_the_limit() {
        for members in 1..50 {
            for limit in limits(members).into_iter().zip(limits(1)) {
                let (Some(share), Some(limit)) = limit else {
                    continue;
                };
                let all = share * u64::from(members);
                assert!(
                    (limit..limit + u64::from(members)).contains(&all),
                    "{limit} {share}"
                );
            }
        }
    }

    #[test]
    fn shares_are_told_with_the_keys_of_the_file() {
        let config = Config::parse(FILE, Path::new("b.yaml")).expect("a configuration");
        let shares = limit_shares(&config, 3).into_iter();
        let shares =
            shares.map(|LimitShare { key, whole, share }| format!("{key}: {whole} {share}"));
        assert_eq!(
            Vec::from_iter(shares),
            [
                "limits.max_in_flight: 100 34",
                "limits.max_connections: 10 4",
                "limits.max_connections_per_client: 1 1",
                "limits.rate: 100/s, burst 100, by client_ip 33.334/s, burst 34, by client_ip",
                "routes[0].limits.max_in_flight: 7 3",
                "routes[0].rate: 5/min, burst 2, by client_ip 1.667/min, burst 1, by client_ip",
                "pools.web.limits.max_in_flight: 9 3",
            ]
        );
    }
}
