//! Limits of a cluster, divided among its live members.
//!
//! Each member applies its share alone: no request waits for what another member says. Shares are rounded up, so that none
//! is nothing; together they exceed the limit by less than one for each member.

use std::num::{NonZeroU32, NonZeroU64};

use crate::config::{Config, Rate};

/// `config` with the share of one of `members` in each limit of requests, connections and rates.
pub(super) fn with_shares(mut config: Config, members: u32) -> Config {
    if members <= 1 {
        return config;
    }
    let share = |limit: &mut Option<u64>| {
        if let Some(limit) = limit {
            *limit = limit.div_ceil(u64::from(members));
        }
    };
    let limits = &mut config.limits;
    share(&mut limits.max_in_flight);
    share(&mut limits.max_connections);
    share(&mut limits.max_connections_per_client);
    share_rate(limits.rate.as_mut(), members);
    for route in &mut config.routes {
        share(&mut route.limits.max_in_flight);
        share_rate(route.rate.as_mut(), members);
    }
    for pool in &mut config.pools {
        share(&mut pool.limits.max_in_flight);
        for host in &mut pool.members {
            share(&mut host.max_in_flight);
        }
    }
    config
}

fn share_rate(rate: Option<&mut Rate>, members: u32) {
    let Some(rate) = rate else {
        return;
    };
    let thousandths = rate.thousandths.get().div_ceil(u64::from(members));
    let burst = rate.burst.get().div_ceil(members);
    // Rounded up, so neither is zero.
    rate.thousandths = NonZeroU64::new(thousandths).unwrap_or(NonZeroU64::MIN);
    rate.burst = NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN);
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
}
