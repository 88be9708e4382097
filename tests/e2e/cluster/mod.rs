//! Several balancers that know of each other through etcd.

mod acme;
mod operators;
mod outages;
mod partition;
mod views;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{
    Backend, Ballast, Client, Connections, Etcd, Load, SOON, Setup, get, wait_until,
};

/// The time within which all members agree.
const AGREED: std::time::Duration = std::time::Duration::from_secs(2);

/// The configuration of a member. What it knows is kept nowhere.
fn member(setup: &Setup, etcd: &Etcd, name: &str) -> String {
    member_of(setup, &etcd.section(TIMES), name)
}

/// The times after which a member of etcd that does not answer is given up.
const TIMES: &str = "connect_timeout: 500ms, request_timeout: 1s";

/// The same with another `etcd`.
fn member_of(setup: &Setup, etcd: &str, name: &str) -> String {
    let cluster = format!("cluster: {{ name: test, member: {name}, etcd: {etcd} }}");
    let setup = setup.clone().top(&cluster);
    setup.top("discovery: { state_directory: none }").yaml()
}

/// The configuration of a member that keeps what it knows in a directory.
fn member_with_state(setup: &Setup, etcd: &Etcd, name: &str, state: &TempDir) -> String {
    let directory = format!("state_directory: \"{}\"", state.path().display());
    member(setup, etcd, name).replace("state_directory: none", &directory)
}

fn members<const N: usize>(setup: &Setup, etcd: &Etcd, names: [&str; N]) -> [Ballast; N] {
    let members = names.map(|name| Ballast::start(&member(setup, etcd, name)));
    for ballast in &members {
        wait_for_members(ballast, &names);
    }
    members
}

fn cluster(ballast: &Ballast) -> Value {
    let shown = ballast.command(&["status", "--cluster", "--json"]).stdout;
    serde_json::from_str(&shown).unwrap_or_default()
}

#[track_caller]
fn wait_for_members(ballast: &Ballast, names: &[&str]) {
    wait_until(SOON, &format!("the members are {names:?}"), || {
        let shown = cluster(ballast);
        let members = shown["members"].as_array().into_iter().flatten();
        let found = Vec::from_iter(members.filter_map(|member| member["name"].as_str()));
        found == names && shown["connected"] == true
    });
}

#[track_caller]
fn wait_connected(ballast: &Ballast, connected: bool) {
    wait_until(SOON, &format!("connected: {connected}"), || {
        cluster(ballast)["connected"] == connected
    });
}

fn state_of(ballast: &Ballast, backend: &Backend) -> String {
    let shown = ballast.command(&["status", "--json"]).stdout;
    let shown: Value = serde_json::from_str(&shown).unwrap_or_default();
    let hosts = shown["pools"][0]["hosts"].as_array().into_iter().flatten();
    let id = backend.address().to_string();
    let mut hosts = hosts.filter(|host| host["id"] == *id);
    hosts.next().map_or_else(
        || "absent".to_owned(),
        |host| {
            let state = host["state"].as_str().unwrap_or_default();
            // In slow start it is `starting`.
            format!("{} {}", state.replace("starting", "up"), host["weight"])
        },
    )
}

#[track_caller]
fn run(ballast: &Ballast, args: &[&str]) {
    let done = ballast.command(args);
    assert_eq!(done.code, Some(0), "{args:?}: {}", done.stderr);
}

#[test]
fn what_operators_change_holds_in_all_members_and_at_a_later_start() {
    let Some(etcd) = Etcd::start() else { return };
    let [a, b, c] = ["a", "b", "c"].map(Backend::start_new);
    let setup = Setup::of(&[&a, &b]);
    let [one, two] = members(&setup, &etcd, ["one", "two"]);
    let ids = [&a, &b, &c].map(|backend| backend.address().to_string());
    let agree = |backend: &Backend, state: &str| {
        for ballast in [&one, &two] {
            wait_until(AGREED, &format!("{} is {state}", backend.name()), || {
                state_of(ballast, backend).starts_with(state)
            });
        }
    };
    run(&one, &["drain", &ids[0]]);
    agree(&a, "draining 1");
    run(&two, &["host", "weight", "--pool", "web", &ids[1], "7"]);
    agree(&b, "up 7");
    run(&two, &["host", "add", "--pool", "web", &ids[2]]);
    agree(&c, "up 1");
    run(&one, &["host", "remove", "--pool", "web", &ids[1]]);
    agree(&b, "removed ");
    one.wait_for_log(&[
        "INFO",
        "pool web: took in what an operator has changed on member two",
    ]);
    let mut clients = [&one, &two].map(|ballast| Client::connect(ballast.address()));
    for _ in 0..10 {
        for client in &mut clients {
            assert_eq!(client.get("/").backend(), "c");
        }
    }
    run(&two, &["undrain", &ids[0]]);
    agree(&a, "up 1");
    run(&one, &["maintenance", "on", "web"]);
    wait_until(AGREED, "maintenance", || {
        get(two.address(), "/").status == 503
    });
    run(&two, &["maintenance", "off", "web"]);
    wait_until(AGREED, "no maintenance", || {
        get(one.address(), "/").status == 200
    });
    // One that starts later knows all of it from the first request on.
    run(&one, &["drain", &ids[0]]);
    let late = Ballast::start(&member(&setup, &etcd, "three"));
    assert_eq!(get(late.address(), "/").backend(), "c");
    wait_for_members(&late, &["one", "three", "two"]);
    let shown = late.command(&["status", "--cluster"]).stdout;
    assert!(
        shown.contains(
            "cluster test as three: 3 members, each with 1/3 of the limits, connected for"
        ),
        "{shown}"
    );
    assert!(
        shown.lines().any(|line| line.starts_with("one ")),
        "{shown}"
    );
    assert!(
        shown.lines().any(|line| line.ends_with("(this one)")),
        "{shown}"
    );
    // It holds over a reload and a handover.
    one.reload_by_sighup(&member(&setup, &etcd, "one").replace("round_robin", "random"));
    assert_eq!(get(one.address(), "/").backend(), "c");
    let successor = two.successor();
    wait_until(SOON, "the successor serves", || successor.listens());
    assert_eq!(get(successor.address(), "/").backend(), "c");
}

#[test]
fn without_etcd_all_goes_on_but_changes() {
    let Some(mut etcd) = Etcd::start() else {
        return;
    };
    let [a, b] = ["a", "b"].map(Backend::start_new);
    let setup = Setup::of(&[&a, &b]);
    let [one, two] = members(&setup, &etcd, ["one", "two"]);
    let id = a.address().to_string();
    run(&one, &["drain", &id]);
    wait_until(AGREED, "drained", || state_of(&two, &a) == "draining 1");
    let load = [&one, &two].map(|ballast| Load::start(ballast.address(), 1, Connections::Kept));
    etcd.kill(0);
    for ballast in [&one, &two] {
        wait_connected(ballast, false);
        let refused = ballast.command(&["undrain", &id]);
        assert_eq!(refused.code, Some(1));
        assert!(
            refused.stderr.contains("nothing was changed"),
            "{}",
            refused.stderr
        );
        assert_eq!(state_of(ballast, &a), "draining 1");
        // The last share stays.
        assert_eq!(cluster(ballast)["shares"], 2);
    }
    // One that starts meanwhile is alone.
    let alone = Ballast::start(&member(&setup, &etcd, "alone"));
    alone.wait_for_log(&["WARN", "cluster test: this member goes on alone"]);
    assert_eq!(get(alone.address(), "/").status, 200);
    etcd.restart(0);
    for ballast in [&one, &two, &alone] {
        wait_for_members(ballast, &["alone", "one", "two"]);
    }
    wait_until(AGREED, "drained", || state_of(&alone, &a) == "draining 1");
    etcd.compact();
    run(&alone, &["undrain", &id]);
    for ballast in [&one, &two] {
        wait_until(AGREED, "undrained", || state_of(ballast, &a) == "up 1");
    }
    for load in load {
        load.wait_for_more(5);
        load.stop().assert_all_ok("the outage of etcd");
    }
}

#[test]
fn limits_and_checks_are_divided_by_the_live_members() {
    let Some(etcd) = Etcd::start() else { return };
    let a = Backend::start_new("a");
    let setup = Setup::of(&[&a]).top("limits: { rate: { requests: 4/h, burst: 4 } }");
    let [one, two] = members(&setup, &etcd, ["one", "two"]);
    let served = |ballast: &Ballast| {
        let statuses = [(); 4].map(|()| get(ballast.address(), "/").status);
        statuses.iter().filter(|status| **status == 200).count()
    };
    assert_eq!(served(&two), 2);
    // One that leaves in order gives its share back at once.
    let mut one = one;
    one.signal(nix::sys::signal::Signal::SIGTERM);
    one.wait_exit(SOON);
    wait_for_members(&two, &["two"]);
    assert_eq!(cluster(&two)["shares"], 1);
}

#[test]
fn cookies_and_tickets_of_one_member_are_known_to_all() {
    let Some(etcd) = Etcd::start() else { return };
    let backends = ["a", "b", "c", "d"].map(Backend::start_new);
    let setup = Setup::of(&[&backends[0], &backends[1], &backends[2], &backends[3]])
        .pool("sticky: { cookie: c }");
    let [one, two] = members(&setup, &etcd, ["one", "two"]);
    let mut clients = [&one, &two].map(|ballast| Client::connect(ballast.address()));
    let known = |clients: &mut [Client; 2]| {
        let first = clients[0].get("/");
        let cookie = first
            .head
            .get("set-cookie")
            .and_then(|cookie| cookie.split(';').next());
        let cookie = cookie.expect("a cookie").to_owned();
        let second = clients[1].get_with("/", &format!("Cookie: {cookie}\r\n"));
        second.backend() == first.backend() && second.head.get("set-cookie").is_none()
    };
    wait_until(SOON, "the secret is shared", || known(&mut clients));
    for _ in 0..8 {
        assert!(known(&mut clients));
    }
}

#[test]
fn rings_are_the_same_on_all_members() {
    let Some(etcd) = Etcd::start() else { return };
    let backends = ["a", "b", "c", "d"].map(Backend::start_new);
    let setup = Setup::of(&[&backends[0], &backends[1], &backends[2], &backends[3]])
        .algorithm("{ name: consistent_hash, key: path }");
    let [one, two] = members(&setup, &etcd, ["one", "two"]);
    let mut clients = [&one, &two].map(|ballast| Client::connect(ballast.address()));
    for key in 0..50 {
        let path = format!("/{key}");
        let picked = clients
            .each_mut()
            .map(|client| client.get(&path).backend().to_owned());
        assert_eq!(picked[0], picked[1], "{path}");
    }
}
