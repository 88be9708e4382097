//! Fuzzing of the handover's messages and of the carried state.

use std::collections::HashSet;
use std::io::Write;
use std::net::Shutdown;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use serde_json::Value;
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};

use super::connection::{HandoverConnection, HandoverError};
use super::message::{Message, export, import};
use crate::config::Config;
use crate::discovery::SourceTable;
use crate::fuzz;
use crate::pool::{HostRegistry, Pool, PoolState};
use crate::proxy::ActiveConfig;
use crate::server::runtime_overrides::RuntimeOverrides;
use crate::server::tls::TicketKeys;
use ballast_balancer::Selection;

const CONFIG: &str = r#"
listeners: ["127.0.0.1:80"]
routes: [{ path: /turns, pool: turns }, { pool: loads }]
pools:
  turns: { algorithm: round_robin, hosts: ["127.0.0.1:1", { address: "127.0.0.1:2", weight: 3 }], health_check: { initial: up } }
  loads: { algorithm: { name: p2c, load: peak_ewma }, hosts: ["127.0.0.1:1", "[::1]:2"], health_check: none }
"#;

/// Bound of the frames per input.
const MAX_FRAMES: usize = 32;

/// New pools, whose hosts share no state with others.
fn pools() -> Vec<Arc<Pool>> {
    static CONFIGURED: OnceLock<Config> = OnceLock::new();
    let config = CONFIGURED.get_or_init(|| Config::parse(CONFIG, Path::new("b.yaml")).unwrap());
    let mut pools = Vec::new();
    for index in 0..config.pools.len() {
        let active = ActiveConfig::new(config, &mut HostRegistry::new()).unwrap();
        pools.push(Arc::clone(&active.pools[index]));
    }
    pools
}

/// Carries the state over to the pools, as a successor does, and lets them serve.
fn carry(pools: &[Arc<Pool>], known: &[PoolState]) {
    let each = |pool: &Pool, take: &dyn Fn(&PoolState)| {
        let known = known.iter().filter(|state| state.name == pool.name());
        known.for_each(take);
    };
    for pool in pools {
        each(pool, &|state| pool.restore(state));
        pool.begin();
        each(pool, &|state| pool.resume(state));
    }
}

fn states(pools: &[Arc<Pool>]) -> Vec<PoolState> {
    pools.iter().map(|pool| pool.state()).collect()
}

/// The input as the predecessor's state, once unchanged and once with the digests of our health checks.
fn state(input: &[u8]) {
    let Ok(input_state) = serde_json::from_slice::<Value>(input) else {
        return;
    };
    let mut ours = input_state.clone();
    for state in states(&pools()) {
        let digest = json(&state)["checks"].clone();
        let pools = ours.get_mut("pools").and_then(Value::as_array_mut);
        for pool in pools.into_iter().flatten() {
            if pool.get("name").and_then(Value::as_str) == Some(&state.name) {
                pool["checks"] = digest.clone();
            }
        }
    }
    assert_carried_over(input_state);
    assert_carried_over(ours);
}

fn json(state: &PoolState) -> Value {
    serde_json::to_value(state).expect("a state is serializable")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn assert_carried_over(input_state: Value) {
    let known = import(input_state).pools;
    let sent_states = Vec::from_iter(known.iter().map(json));
    let (fresh, pools) = (pools(), self::pools());
    carry(&fresh, &[]);
    carry(&pools, &known);
    for (before, after) in states(&fresh).iter().zip(states(&pools)) {
        let (before, after) = (json(before), json(&after));
        let sent_states = || {
            sent_states
                .iter()
                .filter(|sent_states| sent_states["name"] == after["name"])
        };
        assert_eq!(before["checks"], after["checks"]);
        for (before, after) in list(&before["hosts"]).iter().zip(list(&after["hosts"])) {
            let is_same = |other: &&Value| ["id", "address"].iter().all(|k| other[k] == after[k]);
            assert!(is_same(&before), "{before} became {after}");
            let success = after["success"].as_f64().expect("a share");
            assert!((0.0..=1.0).contains(&success), "{success}");
            // The state of a host is unchanged unless the input has an entry for it, at this address and with this
            // check.
            let of_host =
                |sent_states: &'_ Value| list(&sent_states["hosts"]).iter().any(|h| is_same(&h));
            if !sent_states().any(of_host) {
                // A host unknown to the predecessor counts as added, and starts slowly.
                assert_eq!(without_times(before.clone()), without_times(after.clone()));
            }
            if !sent_states().any(|sent_states| {
                sent_states["checks"] == json(&fresh_state(&fresh, sent_states))["checks"]
            }) {
                assert_eq!(before["verdict"], after["verdict"]);
            }
        }
        if sent_states().next().is_none() {
            let hosts = |state: &Value| {
                let hosts = list(&state["hosts"]).iter().cloned();
                Vec::from_iter(hosts.map(without_times))
            };
            assert_eq!(hosts(&before), hosts(&after));
        }
    }

    // The state survives a second handover unchanged.
    let sources = export(
        &pools,
        &RuntimeOverrides::default(),
        &TicketKeys::random(&[]),
        &SourceTable::default(),
    );
    let text = serde_json::to_string(&sources).expect("a state is serializable");
    let handed_on =
        import(serde_json::from_str(&text).expect("a serialized state can be parsed")).pools;
    assert_eq!(
        without_volatile(&handed_on),
        without_volatile(&states(&pools))
    );
    let third = self::pools();
    carry(&third, &handed_on);
    assert_eq!(
        without_volatile(&states(&third)),
        without_volatile(&states(&pools))
    );

    for (pool, third) in pools.iter().zip(&third) {
        // Slow start skips hosts at random, and an ejection may end at any moment.
        let state = json(&pool.state());
        let calm = |host: &Value| host["ejection"].is_null() && host["ramping_ms"].is_null();
        let calm = list(&state["hosts"]).iter().all(calm);
        for _ in 0..8 {
            let lease = pool.lease(&Selection::new(), true);
            let other = third.lease(&Selection::new(), true);
            if calm {
                let healthy = pool.members().iter().any(|member| member.is_healthy());
                assert_eq!((lease.is_ok(), other.is_ok()), (healthy, healthy));
            }
            if let (true, "turns", Ok(lease), Ok(other)) = (calm, pool.name(), &lease, &other) {
                assert_eq!(lease.member().host().id(), other.member().host().id());
            }
        }
        let mut running = pool
            .members()
            .iter()
            .map(|member| member.host().in_flight());
        assert!(running.all(|running| running == 0));
    }
}

/// States without the fields that change over time.
fn without_volatile(states: &[PoolState]) -> Vec<Value> {
    let mut states = Vec::from_iter(states.iter().map(json));
    let hosts = states
        .iter_mut()
        .flat_map(|state| state["hosts"].as_array_mut());
    for host in hosts.flatten() {
        *host = without_times(host.take());
    }
    states
}

fn without_times(mut host: Value) -> Value {
    for time in ["next_check_ms", "ramping_ms", "ejection", "facts"] {
        host[time] = Value::Null;
    }
    host
}

fn fresh_state(fresh: &[Arc<Pool>], sent_states: &Value) -> PoolState {
    let mut fresh = fresh.iter();
    let of_name = fresh.find(|pool| sent_states["name"].as_str() == Some(pool.name()));
    of_name.expect("only pools of ours are compared").state()
}

/// The input as bytes from the other end, and each of its lines as a frame.
fn messages(input: &[u8]) {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let runtime =
        RUNTIME.get_or_init(|| Builder::new_current_thread().enable_all().build().unwrap());
    let lines = || input.split(|byte| *byte == b'\n').take(MAX_FRAMES);
    let frames = lines().flat_map(|line| {
        let length = (line.len() as u32).to_be_bytes();
        [b"BLHO", &length[..], line].concat()
    });
    runtime.block_on(async {
        received(input).await;
        let received = received(&Vec::from_iter(frames)).await;
        let sent = lines().map(serde_json::from_slice::<Message>);
        let sent = Vec::from_iter(sent.map_while(Result::ok).filter(|m| !is_refusal(m)));
        let shown = |messages: &[Message]| format!("{messages:?}");
        // A refusal or an invalid message ends the connection.
        assert!(shown(&sent).starts_with(shown(&received).trim_end_matches(']')));
        for message in received {
            let text = format!("{message:?}");
            assert_eq!(format!("{:?}", round_trip(message).await), text);
        }
    });
}

fn is_refusal(message: &Message) -> bool {
    matches!(message, Message::Refused { .. })
}

/// The messages in `bytes`, up to the first invalid one.
async fn received(bytes: &[u8]) -> Vec<Message> {
    let (mut theirs, ours) = std::os::unix::net::UnixStream::pair().unwrap();
    theirs.write_all(bytes).unwrap();
    theirs.shutdown(Shutdown::Write).unwrap();
    ours.set_nonblocking(true).unwrap();
    let mut connection = HandoverConnection::new(UnixStream::from_std(ours).unwrap());
    let mut messages = Vec::new();
    loop {
        match connection.receive().await {
            Ok(message) => messages.push(message),
            Err(HandoverError::Closed) => break,
            Err(error) => {
                assert!(!error.to_string().is_empty() || bytes.len() > 8);
                break;
            }
        }
    }
    assert!(messages.len() <= bytes.len() / 8);
    messages
}

async fn round_trip(message: Message) -> Message {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let (mut ours, mut theirs) = (
        HandoverConnection::new(ours),
        HandoverConnection::new(theirs),
    );
    let (sent, received) = tokio::join!(ours.send(&message), theirs.receive());
    sent.expect("sent");
    received.expect("received")
}

#[test]
fn fuzz_state() {
    let names: HashSet<_> = pools().iter().map(|pool| pool.name().to_owned()).collect();
    assert_eq!(names.len(), 2, "the words below name the pools");
    const WORDS: &[&str] = &[
        "\"version\":1",
        "\"pools\":",
        "\"name\":\"turns\"",
        "\"name\":\"loads\"",
        "\"checks\":0",
        "\"turn\":null",
        "\"turn\":[\"127.0.0.1:1\",",
        "\"hosts\":[",
        "\"id\":\"127.0.0.1:1\"",
        "\"id\":\"[::1]:2\"",
        "\"address\":\"127.0.0.1:2\"",
        "\"verdict\":null",
        "\"healthy\":",
        "\"against\":",
        "\"latency_ns\":",
        "\"success\":",
        "18446744073709551615",
        "-1",
        "1e308",
        "1e-308",
        "0.5",
        "null",
        "true",
        "false",
        "{",
        "}",
        "[",
        "]",
        ",",
    ];
    fuzz::run("state", WORDS, state);
}

#[test]
fn fuzz_message() {
    const WORDS: &[&str] = &[
        "{\"say\":\"hello\",\"version\":1}",
        "{\"say\":\"prepared\"}",
        "{\"say\":\"ready\"}",
        "\"say\":",
        "welcome",
        "take",
        "farewell",
        "refused",
        "\"listeners\":[",
        "\"127.0.0.1:80\"",
        "\"[::1]:80\"",
        "\"state\":",
        "\"reason\":",
        "BLHO",
        "\0\0\0\u{10}",
        "{",
        "}",
        "[",
        "]",
        ",",
        "null",
    ];
    fuzz::run("message", WORDS, messages);
}
