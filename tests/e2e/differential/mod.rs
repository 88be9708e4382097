//! The same exchanges with the engine and with Pingora. Hosts and clients see the same from both, except for what HTTP
//! leaves open and for the differences in `INTENDED`.

mod corpora;
mod generate;
mod responses;
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

/// Lines for the top level and for the pool of a configuration.
const SETUPS: [(&str, &[&str], &[&str]); 6] = [
    ("plain", &[], &[]),
    ("trusted", &["trusted_proxies: [127.0.0.0/8]"], &[]),
    (
        "identity",
        &["headers: { client_identity: { drop: [X-Odd], pass: [X-Client-IP] } }"],
        &[],
    ),
    ("sticky", &[], &["sticky: { cookie: at }"]),
    ("via", &["headers: { via: edge-1, underscores: pass }"], &[]),
    ("traced", &["tracing: { sample: 100% }"], &[]),
];

/// An intended difference.
struct Intended {
    /// The suffixes of the names of the differing items; see [`view`].
    what: &'static str,
    /// Whether a difference is this one, given what the engine and Pingora show.
    is: fn(&Exchange, &str, &str) -> bool,
}

const INTENDED: [Intended; 3] = [
    // RFC 9112 3.2.2: a proxy ignores Host if the target has an authority. Pingora refuses a Host that is not identical
    // to it.
    Intended {
        what: "",
        is: |exchange, _, _| exchange.two_authorities,
    },
    // Pingora closes in cases where it need not: for HTTP/1.0 if `keep-alive` is not alone in the first Connection
    // field, or if the body would have been chunked but for the method or the status; and after "100 Continue". The
    // second request of a pair is not served then.
    Intended {
        what: "",
        is: |exchange, engine, pingora| {
            let closes = (engine, pingora) == ("nothing", "close")
                || (engine, pingora) == ("true", "false")
                || (exchange.plans.len() > 1 && pingora == "nothing");
            closes && (exchange.contains("HTTP/1.0") || exchange.contains("Expect:"))
        },
    },
    // The engine passes targets on unchanged; Pingora encodes characters that a URI cannot contain.
    Intended {
        what: " line",
        is: |_, engine, pingora| encoded(engine) == pingora,
    },
];

/// A target as Pingora passes it on.
fn encoded(target: &str) -> String {
    let target = target.replace("\\\"", "%22").replace('<', "%3C");
    target.replace('>', "%3E").replace('`', "%60")
}

const MODES: [&str; 2] = ["engine", "pingora"];

fn start_proxy(origin: &Origin, mode: &str, top: &[&str], pool: &[&str]) -> Ballast {
    let setup = Setup::of(&[])
        .host(origin.address())
        .pool("ejection: none")
        .top(&format!("server: {{ threads: 1, http1: {mode} }}"));
    let setup = top.iter().fold(setup, |setup, line| setup.top(line));
    let setup = pool.iter().fold(setup, |setup, line| setup.pool(line));
    setup.start()
}

/// A host, with both implementations in front of it.
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
            let plans = planned.lock().expect("the lock is not poisoned");
            plans.get(&number).cloned()
        });
        let both = MODES.map(|mode| start_proxy(&origin, mode, top, pool));
        Scene {
            plans,
            origin,
            both,
        }
    }

    /// What host and client see of an exchange with each implementation.
    fn run(&self, exchange: &Exchange) -> [Seen; 2] {
        let plans = exchange.plans.iter().cloned();
        *self.plans.lock().expect("the lock is not poisoned") = plans.collect();
        self.both.each_ref().map(|ballast| {
            let client = view::client(ballast.address(), exchange);
            let records: Vec<Record> = self.origin.take();
            view::seen(ballast.address(), exchange, client, &records)
        })
    }
}

/// The differences that are not intended.
fn differences(exchange: &Exchange, [engine, pingora]: &[Seen; 2]) -> BTreeMap<String, String> {
    let keys = engine.keys().chain(pingora.keys());
    let differ = keys.filter(|key| engine.get(*key) != pingora.get(*key));
    let shown = |seen: &Seen, key: &String| seen.get(key).cloned().unwrap_or("nothing".to_owned());
    let intended = |key: &String| {
        let (engine, pingora) = (shown(engine, key), shown(pingora, key));
        let mut intended = INTENDED
            .iter()
            .filter(|intended| key.ends_with(intended.what));
        intended.any(|intended| (intended.is)(exchange, &engine, &pingora))
    };
    differ
        .filter(|key| !intended(key))
        .map(|key| {
            let shown = format!("{} / {}", shown(engine, key), shown(pingora, key));
            (key.clone(), shown)
        })
        .collect()
}

/// Runs the exchanges of one configuration and returns the differences of each exchange that differs.
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
        for (key, shown) in differing {
            let _ = writeln!(text, "  {key}: {shown}");
        }
        different.push(format!("{text}{exchange}"));
    }
    different
}

#[test]
fn engine_and_pingora_show_hosts_and_clients_the_same() {
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
            .flat_map(|result| result.expect("the thread does not panic"))
            .collect()
    });

    for text in &different {
        println!("{text}");
    }
    let count = different.len();
    assert_eq!(count, 0, "exchanges that differ, engine / Pingora");
}
