use std::path::Path;
use std::time::{Duration, Instant};

use super::*;
use crate::admin::{ChecksPlan, HostPlan, KeyPlan, PoolPlan};

/// A configuration with one pool, of these lines.
fn config(pool: &str) -> Config {
    let text = format!("listeners: [\"127.0.0.1:80\"]\npools:\n  web:\n{pool}");
    Config::parse(&text, Path::new("b.yaml")).unwrap_or_else(|errors| panic!("{errors}"))
}

fn plan(before: &str, after: &str) -> Plan {
    compare(Path::new("b.yaml"), &config(before), &config(after))
}

/// The plan of the only pool.
fn pool_plan(before: &str, after: &str) -> PoolPlan {
    let mut plan = plan(before, after);
    assert_eq!(plan.pools.len(), 1, "{plan:?}");
    plan.pools.remove(0)
}

fn hosts(algorithm: &str, count: usize) -> String {
    let hosts = (1..=count).map(|number| format!("\"10.0.0.{number}:80\""));
    let hosts = Vec::from_iter(hosts).join(", ");
    format!("    algorithm: {algorithm}\n    hosts: [{hosts}]\n")
}

fn of<'a>(plan: &'a PoolPlan, host: &str) -> &'a HostPlan {
    let mut hosts = plan.hosts.iter();
    let found = hosts.find(|plan| plan.host == host);
    found.unwrap_or_else(|| panic!("{host} in {plan:?}"))
}

#[test]
fn the_same_file_has_no_plan() {
    let pool = hosts("consistent_hash", 3);
    let plan = plan(&pool, &pool);
    assert_eq!((plan.way, plan.pools), (None, Vec::new()));
    assert!(!plan.connections.all_end);
}

#[test]
fn the_share_of_keys_is_always_the_same() {
    let moved = |algorithm: &str| {
        let plan = pool_plan(&hosts(algorithm, 9), &hosts(algorithm, 10));
        let KeyPlan {
            sampled,
            moved,
            minimum,
            ..
        } = plan.keys.expect("hosts change");
        assert_eq!(sampled, 10_000);
        let minimum = minimum.expect("keys are bound");
        assert!((minimum - 0.1).abs() < 1e-9, "{minimum}");
        moved.expect("keys are bound")
    };
    let algorithms = ["consistent_hash", "bounded", "ip_hash"];
    assert_eq!(algorithms.map(moved), KNOWN);
}

/// Of 10,000 keys, with the samples as they are.
const KNOWN: [f64; 3] = [0.1063, 0.1063, 0.102];

#[test]
fn keys_follow_what_is_hashed() {
    let keyed = |key: &str| hosts(&format!("{{ name: consistent_hash, key: {key} }}"), 4);
    // Another key is as good as a random host.
    let plan = pool_plan(&keyed("path"), &keyed("uri"));
    let moved = plan.keys.and_then(|keys| keys.moved).expect("bound");
    assert!((moved - 0.75).abs() < 0.03, "{moved}");
    assert!(plan.hosts.is_empty());
    for (before, after, expected) in [
        ("p2c", "ip_hash", (false, true)),
        ("ip_hash", "p2c", (true, false)),
        ("p2c", "random", (false, false)),
    ] {
        let plan = pool_plan(&hosts(before, 4), &hosts(after, 4));
        let keys = plan.keys.expect("the algorithm changes");
        assert_eq!((keys.bound_before, keys.bound_after), expected);
        assert_eq!((keys.sampled, keys.moved), (0, None));
    }
}

#[test]
fn backups_and_drained_hosts_have_no_keys() {
    let pool = |hosts: &str| format!("    algorithm: ip_hash\n    hosts: [{hosts}]\n");
    let host = |number: u8, more: &str| format!("{{ address: \"10.0.0.{number}:80\"{more} }}");
    let one = host(1, "");
    for idle in [", weight: 0", ", backup: true"] {
        let with_idle = pool(&format!("{one}, {}", host(2, idle)));
        let plan = pool_plan(&pool(&one), &with_idle);
        assert_eq!(plan.keys.and_then(|keys| keys.moved), Some(0.0), "{idle}");
        let plan = pool_plan(&with_idle, &pool(&format!("{one}, {}", host(2, ""))));
        let moved = plan.keys.and_then(|keys| keys.moved).expect("bound");
        assert!((moved - 0.5).abs() < 0.03, "{moved}");
    }
    // Without another host the backup has them all.
    let backup = pool(&host(1, ", backup: true"));
    let plan = pool_plan(&pool(&one), &backup);
    assert_eq!(plan.keys.and_then(|keys| keys.moved), Some(0.0));
}

#[test]
fn hosts_that_begin_to_serve_start_slowly_where_that_exists() {
    let more = |algorithm: &str, rest: &str| hosts(algorithm, 3) + rest;
    let host = "10.0.0.3:80";
    let plan = pool_plan(&hosts("p2c", 2), &more("p2c", ""));
    assert!(of(&plan, host).starts_slowly);
    assert!(!of(&plan, host).loses_state);
    for after in [more("ip_hash", ""), more("p2c", "    slow_start: none\n")] {
        assert!(!of(&pool_plan(&hosts("p2c", 2), &after), host).starts_slowly);
    }
    let weighted = |weight: u32| {
        format!("    hosts: [\"10.0.0.1:80\", {{ address: \"10.0.0.2:80\", weight: {weight} }}]\n")
    };
    let plan = pool_plan(&weighted(0), &weighted(2));
    assert!(of(&plan, "10.0.0.2:80").starts_slowly, "{plan:?}");
    let plan = pool_plan(&weighted(1), &weighted(2));
    assert!(!of(&plan, "10.0.0.2:80").starts_slowly, "{plan:?}");
    let removed = pool_plan(&more("p2c", ""), &hosts("p2c", 2));
    assert!(of(&removed, host).loses_state);
    assert_eq!(of(&removed, host).after, None);
}

#[test]
fn checks_and_cookies_that_lose_their_meaning_are_told() {
    let with = |rest: &str| hosts("p2c", 2) + rest;
    let checks = |before: &str, after: &str| pool_plan(&with(before), &with(after)).checks;
    let (none, path) = (
        "    health_check: none\n",
        "    health_check: { type: http, path: /a }\n",
    );
    assert_eq!(checks("", path), Some(ChecksPlan::StartAnew));
    assert_eq!(checks(none, path), Some(ChecksPlan::Begin));
    assert_eq!(checks("", none), Some(ChecksPlan::End));
    let cookie = |rest: &str| format!("    sticky: {{ cookie: a{rest} }}\n");
    let void = |before: &str, after: &str| pool_plan(before, after).void_cookies;
    assert_eq!(
        void(&with(&cookie("")), &with("")).as_deref(),
        Some("all: the pool has no cookie any more")
    );
    assert_eq!(
        void(&with(&cookie("")), &with("    sticky: { cookie: b }\n")).as_deref(),
        Some("all: the cookie has another name")
    );
    assert_eq!(
        void(&with(&cookie("")), &with(&cookie(", ttl: 1m"))).as_deref(),
        Some("those older than the new ttl")
    );
    let three = hosts("p2c", 3) + &cookie("");
    assert_eq!(
        void(&three, &with(&cookie(""))).as_deref(),
        Some("those of the hosts that go")
    );
    assert_eq!(void(&with(&cookie("")), &three), None);
}

#[test]
fn time_is_shared_by_the_pools_that_are_left() {
    let start = Instant::now();
    let after = |millis| start + Duration::from_millis(millis);
    let mut budget = keys::KeyBudget::for_pools(4, start);
    assert_eq!(budget.next_pool(start), after(500));
    // What the first pool has not used is for the others.
    assert_eq!(budget.next_pool(after(200)), after(800));
    assert_eq!(budget.next_pool(after(1_000)), after(1_500));
    assert_eq!(budget.next_pool(after(1_500)), after(2_000));
    assert_eq!(budget.next_pool(after(2_500)), after(2_500));
}
