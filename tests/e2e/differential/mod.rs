//! The same exchanges by the engine and by Pingora: hosts and clients see the same of both, but for what HTTP leaves free
//! and for what is in [`INTENDED`].

mod answers;
mod generate;
mod view;

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::sync::{Arc, Mutex};

use generate::Exchange;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use view::Seen;

use crate::corpus::origin::{Origin, Plan, Record};
use crate::support::{Ballast, Setup, long};

/// Lines of a configuration for its top and its pool.
const SETUPS: [(&str, &[&str], &[&str]); 6] = [
    ("plain", &[], &[]),
    ("trusted", &["trusted_proxies: [127.0.0.0/8]"], &[]),
    (
        "identity",
        &["headers: { client_identity: { drop: [X-Odd], pass: [X-Real-IP] } }"],
        &[],
    ),
    ("sticky", &[], &["sticky: { cookie: at }"]),
    ("via", &["headers: { via: edge-1, underscores: pass }"], &[]),
    ("traced", &["tracing: { sample: 100% }"], &[]),
];

/// Differences that are meant: a part of what differs (see [`view`]), what the exchange has, and why.
const INTENDED: [Intended; 0] = [];

struct Intended {
    what: &'static str,
    of: fn(&Exchange) -> bool,
    #[allow(dead_code, reason = "it is read by people")]
    why: &'static str,
}

/// A host, and both in front of it.
struct Scene {
    plans: Arc<Mutex<HashMap<u64, Plan>>>,
    origin: Origin,
    both: [Ballast; 2],
}

impl Scene {
    fn new(top: &[&str], pool: &[&str]) -> Self {
        let plans: Arc<Mutex<HashMap<u64, Plan>>> = Arc::default();
        let planned = Arc::clone(&plans);
        let origin = Origin::planned(move |record| {
            let number = view::number(record)?;
            let plans = planned.lock().expect("no thread panics with it");
            plans.get(&number).cloned()
        });
        let both = ["engine", "pingora"].map(|mode| {
            let setup = Setup::of(&[])
                .host(origin.address())
                .pool("ejection: none")
                .top(&format!("server: {{ threads: 1, http1: {mode} }}"));
            let setup = top.iter().fold(setup, |setup, line| setup.top(line));
            let setup = pool.iter().fold(setup, |setup, line| setup.pool(line));
            setup.start()
        });
        Scene {
            plans,
            origin,
            both,
        }
    }

    /// What host and client see of an exchange by each of both.
    fn run(&self, exchange: &Exchange) -> [Seen; 2] {
        let plans = exchange.plans.iter().cloned();
        *self.plans.lock().expect("no thread panics with it") = plans.collect();
        self.both.each_ref().map(|ballast| {
            let client = view::client(ballast.address(), exchange);
            let records: Vec<Record> = self.origin.take();
            view::seen(ballast.address(), exchange, client, &records)
        })
    }
}

/// What differs, but for what is meant.
fn differences(exchange: &Exchange, [engine, pingora]: &[Seen; 2]) -> BTreeMap<String, String> {
    let keys = engine.keys().chain(pingora.keys());
    let differ = keys.filter(|key| engine.get(*key) != pingora.get(*key));
    let meant = |key: &String| {
        let mut meant = INTENDED.iter();
        meant.any(|intended| key.contains(intended.what) && (intended.of)(exchange))
    };
    let told = |seen: &Seen, key: &String| seen.get(key).cloned().unwrap_or("nothing".to_owned());
    differ
        .filter(|key| !meant(key))
        .map(|key| {
            let told = format!("{} / {}", told(engine, key), told(pingora, key));
            (key.clone(), told)
        })
        .collect()
}

/// Exchanges of one configuration; what differed of each that did.
fn compared(name: &str, top: &[&str], pool: &[&str], seed: u64, count: u64) -> Vec<String> {
    let scene = Scene::new(top, pool);
    let mut random = SmallRng::seed_from_u64(seed);
    let mut different = Vec::new();
    for number in 0..count {
        let exchange = generate::exchange(&mut random, number * 2);
        let differing = differences(&exchange, &scene.run(&exchange));
        if differing.is_empty() {
            continue;
        }
        let mut text = format!("{name} {number}:\n");
        for (key, told) in differing {
            let _ = writeln!(text, "  {key}: {told}");
        }
        different.push(format!("{text}{exchange}"));
    }
    different
}

#[test]
fn both_ways_of_http1_show_hosts_and_clients_the_same() {
    let count = if long() { 20_000 } else { 600 };
    let different: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..)
            .zip(SETUPS)
            .map(|(seed, (name, top, pool))| {
                scope.spawn(move || compared(name, top, pool, seed, count))
            })
            .collect();
        let results = threads.into_iter().map(|thread| thread.join());
        results
            .flat_map(|result| result.expect("its panic is in the output"))
            .collect()
    });
    let most = if long() { usize::MAX } else { 10 };
    let shown = &different[..different.len().min(most)];
    assert!(
        different.is_empty(),
        "{} exchanges differ (engine / Pingora):\n{}",
        different.len(),
        shown.join("\n")
    );
}
