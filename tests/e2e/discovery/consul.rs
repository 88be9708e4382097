//! Services in Consul as sources of hosts, with an agent that waits, fails and lies as Consul may.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use super::{hosts, setup, wait_for_hosts, wait_for_kept};
use crate::support::{
    Authority, Backend, Ballast, Client, Connections, ConsulFault, ConsulInstance, ConsulServer,
    Load, SOON, Setup, file, get, wait_until,
};

/// A pool of the service `web`, with further keys of `discovery.consul`.
fn pool(folder: &TempDir, server: &ConsulServer, more: &str) -> Setup {
    let address = format!("address: \"http://{}\"", server.address());
    with(folder, &format!("{{ {address}, {more} }}"), "web")
}

fn with(folder: &TempDir, consul: &str, service: &str) -> Setup {
    setup(folder.path())
        .replacing(
            "discovery: { ",
            &format!("discovery: {{ consul: {consul}, "),
        )
        .pool(&format!("consul: {service}"))
}

fn instances(backends: &[&Backend]) -> Vec<ConsulInstance> {
    let instances = backends.iter();
    instances
        .map(|backend| ConsulInstance::at(backend.address()))
        .collect()
}

fn folder() -> TempDir {
    TempDir::new().expect("a folder")
}

fn ids(backends: &[&Backend]) -> Vec<String> {
    let mut ids = Vec::from_iter(backends.iter().map(|backend| backend.address().to_string()));
    ids.sort();
    ids
}

fn answers_again(ballast: &Ballast) -> usize {
    let lines = ballast.log_with(&["INFO", "source consul web: answers again"]);
    lines.len()
}

#[test]
fn instances_join_and_leave_as_consul_tells() {
    let [a, b, c] = ["a", "b", "c"].map(Backend::start_new);
    let (folder, server) = (folder(), ConsulServer::start());
    server.set("web", instances(&[&a, &b]));
    let ballast = pool(&folder, &server, "wait: 1s").start();
    assert_eq!(hosts(&ballast), ids(&[&a, &b]));
    let load = Load::start(ballast.address(), 2, Connections::Kept);
    server.set("web", instances(&[&b, &c]));
    wait_for_hosts(&ballast, &[&b, &c]);
    // One that fails its check in Consul, and one that is heavier.
    let mut some = instances(&[&a, &b, &c]);
    some[0].status = "warning";
    some[1].status = "critical";
    some[2].passing_weight = 7;
    server.set("web", some);
    wait_for_hosts(&ballast, &[&c]);
    load.wait_for_more(10);
    load.stop().assert_all_ok("the changes");
    wait_until(SOON, "the weight is shown", || {
        ballast.command(&["status"]).stdout.contains(" 7 ")
    });
    // Consul holds further queries back, and says that nothing has changed.
    server.wait_for_queries(2);
    let queries = server.queries();
    assert_eq!(queries[0], "/v1/health/service/web?passing&stale");
    let last = queries.last().expect("there are some");
    assert!(last.ends_with("&index=13&wait=1000ms"), "{queries:?}");
    assert!(queries.len() < 30, "{queries:?}");
    assert_eq!(hosts(&ballast), ids(&[&c]));
}

#[test]
fn no_failed_empty_or_doubtful_answer_removes_a_host() {
    let [a, b] = ["a", "b"].map(Backend::start_new);
    let (folder, server) = (folder(), ConsulServer::start());
    server.set("web", instances(&[&a]));
    let ballast = pool(&folder, &server, "timeout: 1s, wait: 1s").start();
    for (recovered, (fault, reason)) in [
        (
            ConsulFault::Status500,
            "Consul answers 500: rpc error: injected",
        ),
        (ConsulFault::Garbage, "its answer is not a list"),
        (ConsulFault::Truncated, ""),
        (
            ConsulFault::Filtered,
            "leaves out what the token may not read",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        server.fail(Some(fault));
        let kept = "the host that it told before stays";
        wait_until(SOON, "the failure is told", || {
            let lines = ballast.log_with(&["WARN", "source consul web: ", reason, kept]);
            lines.len() > if reason.is_empty() { recovered } else { 0 }
        });
        assert_eq!(hosts(&ballast), ids(&[&a]), "{fault:?}");
        assert_eq!(get(ballast.address(), "/").backend(), "a", "{fault:?}");
        server.fail(None);
        wait_until(SOON, "it answers again", || {
            answers_again(&ballast) > recovered
        });
    }
    server.set("web", Vec::new());
    ballast.wait_for_log(&["WARN", "source consul web: its answer is empty"]);
    assert_eq!(hosts(&ballast), ids(&[&a]));
    server.set("web", instances(&[&b]));
    wait_for_hosts(&ballast, &[&b]);
}

#[test]
fn a_query_that_is_never_answered_removes_nobody() {
    let a = Backend::start_new("a");
    let (folder, server) = (folder(), ConsulServer::start());
    server.set("web", instances(&[&a]));
    let ballast = pool(&folder, &server, "timeout: 1s, wait: 1s").start();
    server.fail(Some(ConsulFault::Hang));
    ballast.wait_for_log(&["WARN", "source consul web: ", "no response within"]);
    assert_eq!(get(ballast.address(), "/").backend(), "a");
}

#[test]
fn an_index_that_goes_back_loses_no_change() {
    let [a, b] = ["a", "b"].map(Backend::start_new);
    let (folder, server) = (folder(), ConsulServer::start());
    for _ in 0..5 {
        server.set("web", instances(&[&a]));
    }
    let ballast = pool(&folder, &server, "wait: 1s").start();
    assert_eq!(hosts(&ballast), ids(&[&a]));
    server.restore();
    // A query that comes with the old index now waits for its time; one that waits already is answered.
    server.set("web", instances(&[&b]));
    wait_for_hosts(&ballast, &[&b]);
    wait_until(SOON, "the new index is waited for", || {
        let queries = server.queries();
        queries.iter().any(|query| query.contains("&index=2&"))
    });
}

#[test]
fn answers_without_a_leader_are_taken_and_told_and_remove_nobody() {
    let [a, b] = ["a", "b"].map(Backend::start_new);
    let (folder, server) = (folder(), ConsulServer::start());
    server.set("web", instances(&[&a]));
    let ballast = pool(&folder, &server, "").start();
    server.set_leader(false);
    server.set("web", instances(&[&b]));
    wait_for_hosts(&ballast, &[&a, &b]);
    ballast.wait_for_log(&["WARN", "source consul web: Consul has no leader"]);
    server.set_leader(true);
    wait_for_hosts(&ballast, &[&b]);
    let kept = wait_for_kept(folder.path());
    wait_until(SOON, "the answer is kept", || {
        let kept = fs::read_to_string(&kept).unwrap_or_default();
        !kept.contains(&a.address().to_string())
    });
    drop(ballast);
    // Who does not want such answers gets none.
    server.set_leader(false);
    let strict = pool(&folder, &server, "stale: false").start();
    strict.wait_for_log(&["WARN", "Consul answers 500: No cluster leader"]);
    assert_eq!(get(strict.address(), "/").backend(), "b");
}

#[test]
fn a_token_opens_consul_and_a_refusal_says_what_it_needs() {
    let a = Backend::start_new("a");
    let (folder, server) = (folder(), ConsulServer::start());
    server.set("web", instances(&[&a]));
    server.require_token("f00d-cafe");
    let ballast = pool(&folder, &server, "").start();
    ballast.wait_for_log(&[
        "WARN",
        "source consul web: Consul answers 403: Permission denied",
        "needs service:read and node:read",
    ]);
    assert_eq!(get(ballast.address(), "/").status, 503);
    let token = file(folder.path(), "token", "f00d-cafe\n");
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).expect("changed");
    let setup = pool(
        &folder,
        &server,
        &format!("token_file: {}", token.display()),
    );
    ballast.configure(&setup.yaml());
    let reloaded = ballast.reload();
    assert_eq!(reloaded.code, Some(0), "{}", reloaded.stderr);
    wait_until(SOON, "the host serves", || {
        get(ballast.address(), "/").status == 200
    });
}

#[test]
fn consul_over_tls_shows_a_certificate_of_its_authority() {
    let a = Backend::start_new("a");
    let (folder, authority) = (folder(), Authority::new("consul's"));
    let server = ConsulServer::start_tls(authority.issue(&["localhost"]).server());
    server.set("web", instances(&[&a]));
    let ca = file(folder.path(), "ca.pem", &authority.pem());
    let address = format!("https://localhost:{}", server.address().port());
    let other = file(folder.path(), "other.pem", &Authority::new("another").pem());
    let of = |ca: &std::path::Path| {
        let consul = format!("{{ address: \"{address}\", ca: {} }}", ca.display());
        with(&folder, &consul, "web")
    };
    let ballast = of(&other).start();
    assert_eq!(get(ballast.address(), "/").status, 503);
    ballast.configure(&of(&ca).yaml());
    let reloaded = ballast.reload();
    assert_eq!(reloaded.code, Some(0), "{}", reloaded.stderr);
    wait_until(SOON, "the host serves", || {
        get(ballast.address(), "/").status == 200
    });
}

#[test]
fn an_instance_with_a_name_is_told_and_the_rest_counts() {
    let [a, b] = ["a", "b"].map(Backend::start_new);
    let (folder, server) = (folder(), ConsulServer::start());
    let mut all = instances(&[&a, &b]);
    for (instance, tag) in all.iter_mut().zip(["blue", "green"]) {
        instance.tags.push(tag);
    }
    let mut named = all[0].clone();
    named.address = "app.internal".to_owned();
    // Twice the same, and one without a port.
    let twice = all[0].clone();
    let mut portless = all[0].clone();
    portless.port = 0;
    all.extend([named, twice, portless]);
    server.set("web", all);
    let consul = format!("{{ address: \"http://{}\" }}", server.address());
    let ballast = with(&folder, &consul, "{ service: web, tag: blue }").start();
    assert_eq!(hosts(&ballast), ids(&[&a]));
    ballast.wait_for_log(&[
        "WARN",
        "source consul web with tag blue: the instance `web-2` on node `node-1` has the address `app.internal`",
        "has port 0",
    ]);
    let queries = server.queries();
    assert!(queries[0].contains("&tag=blue"), "{queries:?}");
}

#[test]
fn the_last_answer_is_used_at_a_start_without_consul() {
    let a = Backend::start_new("a");
    let (folder, server) = (folder(), ConsulServer::start());
    server.set("web", instances(&[&a]));
    let setup = pool(&folder, &server, "");
    let ballast = setup.start();
    wait_for_kept(folder.path());
    server.stop();
    ballast.wait_for_log(&["WARN", "source consul web: ", "stays"]);
    assert_eq!(get(ballast.address(), "/").backend(), "a");
    drop(ballast);
    let ballast = setup.start();
    assert_eq!(get(ballast.address(), "/").backend(), "a");
}

#[test]
fn thousands_of_instances_are_taken_at_once() {
    let a = Backend::start_new("a");
    let (folder, server) = (folder(), ConsulServer::start());
    let port = a.address().port();
    let many = |count: u16| {
        let numbers = 0..count;
        let addresses = numbers.map(|number| {
            let [high, low] = number.to_be_bytes();
            SocketAddr::from(([127, 0, high, low.max(1)], port + u16::from(low == 0)))
        });
        Vec::from_iter(addresses.map(ConsulInstance::at))
    };
    server.set("web", many(5_000));
    let ballast = pool(&folder, &server, "").algorithm("p2c").start();
    assert_eq!(hosts(&ballast).len(), 5_000);
    server.set("web", instances(&[&a]));
    wait_for_hosts(&ballast, &[&a]);
    let mut client = Client::connect(ballast.address());
    assert_eq!(client.get("/").backend(), "a");
}
