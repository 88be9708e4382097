//! `ballast plan`: what a reload would do to hosts, keys and connections, and nothing of it is done.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use serde_json::{Value, json};

use crate::support::{
    Backend, Ballast, Client, Framing, Head, LISTEN, Next, Reply, SOON, Setup, Wire, file, free,
    get, run, wait_for, wait_until,
};

/// An address of a pool's host that no request is sent to.
fn host(number: usize) -> String {
    format!("127.0.0.1:{number}")
}

/// A pool of hosts that no request is sent to.
fn pool(algorithm: &str, hosts: impl IntoIterator<Item = usize>) -> Setup {
    let setup = Setup::of(&[]).algorithm(algorithm);
    let hosts = hosts.into_iter();
    hosts.fold(setup, |setup, number| {
        setup.host_entry(&format!("\"{}\"", host(number)))
    })
}

/// The plan of the changed configuration.
#[track_caller]
fn plan_of(ballast: &Ballast, setup: &Setup) -> Value {
    ballast.configure(&setup.yaml());
    plan(ballast)
}

#[track_caller]
fn plan(ballast: &Ballast) -> Value {
    let end = ballast.command(&["plan", "--json"]);
    assert_eq!(end.code, Some(0), "{end:?}");
    serde_json::from_str(&end.stdout).expect("JSON")
}

/// The plan of a changed configuration, as text.
#[track_caller]
fn text_of(ballast: &Ballast, setup: &Setup) -> String {
    ballast.configure(&setup.yaml());
    let end = ballast.command(&["plan"]);
    assert_eq!(end.code, Some(0), "{end:?}");
    end.stdout
}

/// The share of the keys of the only pool that move, and how many must, in percent.
fn moved(plan: &Value) -> (f64, f64) {
    let keys = &plan["pools"][0]["keys"];
    assert_eq!(keys["sampled"], 10_000, "{plan}");
    let percent = |key: &str| keys[key].as_f64().expect("bound") * 100.0;
    (percent("moved"), percent("minimum"))
}

#[track_caller]
fn assert_near(value: f64, expected: f64, tolerance: f64) {
    assert!(
        (value - expected).abs() < tolerance,
        "{value}, not {expected}"
    );
}

#[test]
fn the_tenth_host_of_a_ring_moves_a_tenth_of_the_keys() {
    let ballast = pool("consistent_hash", 1..=9).start();
    let unchanged = plan(&ballast);
    assert_eq!(unchanged["way"], Value::Null, "{unchanged}");
    assert_eq!(unchanged["pools"], json!([]), "{unchanged}");
    let text = text_of(&ballast, &pool("consistent_hash", 1..=9));
    let file = ballast.file();
    assert_eq!(text, format!("{}: nothing would change\n", file.display()));

    let ten = pool("consistent_hash", 1..=10);
    let planned = plan_of(&ballast, &ten);
    assert_eq!(planned["way"], "in-place");
    let (share, minimum) = moved(&planned);
    assert_near(share, 10.0, 3.0);
    assert_near(minimum, 10.0, 0.001);
    let pool = &planned["pools"][0];
    let expected = json!([{
        "host": host(10), "before": null,
        "after": { "address": host(10), "weight": 1, "backup": false },
        // A ring has no slow start.
        "loses_state": false, "starts_slowly": false, "in_flight": null, "kept_connections": null,
    }]);
    assert_eq!(pool["hosts"], expected);
    let text = text_of(&ballast, &ten);
    for line in [
        format!("  pools.web.hosts[{}] added\n", host(10)),
        "pool web, consistent_hash\n".to_owned(),
        format!(
            "  of keys {share:.1} % move; for even shares at least 10.0 % must (10000 sampled)\n"
        ),
        format!("  {}  added, weight 1\n", host(10)),
        "connections of clients\n  none ends\n".to_owned(),
    ] {
        assert!(text.contains(&line), "{line}\n{text}");
    }
    // Nothing has been applied, and what was planned is what the reload does.
    let status = ballast.command(&["status", "--json"]).stdout;
    assert!(!status.contains(&host(10)), "{status}");
    let reloaded = ballast.reload();
    assert!(
        reloaded.stdout.contains("[127.0.0.1:10] added"),
        "{reloaded:?}"
    );
    assert_eq!(plan(&ballast)["way"], Value::Null);
}

#[test]
fn weights_and_algorithms_move_keys_as_they_must() {
    let ballast = pool("ip_hash", 1..=4).start();
    let (share, minimum) = moved(&plan_of(&ballast, &pool("ip_hash", 1..=5)));
    assert_near(share, 20.0, 1.5);
    assert_near(minimum, 20.0, 0.001);
    let heavy = pool("ip_hash", 1..=3).host_entry("{ address: \"127.0.0.1:4\", weight: 5 }");
    let planned = plan_of(&ballast, &heavy);
    // From a quarter to five eighths.
    let (share, minimum) = moved(&planned);
    assert_near(share, 37.5, 2.0);
    assert_near(minimum, 37.5, 0.001);
    let changed = &planned["pools"][0]["hosts"][0];
    assert_eq!(
        (&changed["before"]["weight"], &changed["after"]["weight"]),
        (&json!(1), &json!(5))
    );
    assert_eq!(changed["loses_state"], false);
    let (share, minimum) = moved(&plan_of(&ballast, &pool("consistent_hash", 1..=4)));
    assert_near(share, 75.0, 3.0);
    assert_eq!(minimum, 0.0);
    let text = text_of(&ballast, &pool("round_robin", 1..=4));
    let title = "pool web, ip_hash to round_robin\n  keys are no longer bound to hosts\n";
    assert!(text.contains(title), "{text}");
    ballast.reload_by_sighup(&pool("round_robin", 1..=4).yaml());
    let text = text_of(&ballast, &pool("round_robin", 2..=5));
    for line in [
        "  no key is bound to a host\n",
        "  127.0.0.1:5  added, weight 1; begins in slow start\n",
        "  127.0.0.1:1  removed; loses latency, health and ejection\n",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}

#[test]
fn what_operators_have_changed_is_part_of_the_plan() {
    let ballast = pool("ip_hash", 1..=3).start();
    for command in [
        ["drain", "127.0.0.1:1"],
        ["undrain", "127.0.0.1:1"],
        ["drain", "127.0.0.1:3"],
    ] {
        assert_eq!(ballast.command(&command).code, Some(0));
    }
    let added = ballast.command(&["host", "add", "127.0.0.1:9", "--pool", "web"]);
    assert_eq!(added.code, Some(0), "{added:?}");
    // Three of four hosts have keys, and a fifth joins them.
    let five = pool("ip_hash", 1..=4);
    let planned = plan_of(&ballast, &five);
    assert_eq!(
        planned["pools"][0]["hosts"].as_array().map(Vec::len),
        Some(1)
    );
    assert_near(moved(&planned).1, 25.0, 0.001);
    // The drain ends with an edit of the host's weight.
    let edited = pool("ip_hash", 1..=2).host_entry("{ address: \"127.0.0.1:3\", weight: 3 }");
    let (share, minimum) = moved(&plan_of(&ballast, &edited));
    assert_near(share, 50.0, 2.0);
    assert_near(minimum, 50.0, 0.001);
}

#[test]
fn requests_and_kept_connections_of_hosts_that_go_are_counted() {
    let [stays, goes] = ["stays", "goes"].map(Backend::start_new);
    goes.set(Reply::Hang);
    let ballast = Setup::of(&[&stays, &goes]).start();
    let mut clients = Vec::from_iter((0..4).map(|_| {
        let mut client = Client::connect(ballast.address());
        client
            .send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            .expect("sent");
        client
    }));
    wait_until(SOON, "both hosts have their requests", || {
        stays.requests() == 2 && goes.requests() == 2
    });
    let only = Setup::of(&[&stays]);
    let text = text_of(&ballast, &only);
    let line = format!(
        "  {}  removed; loses latency, health and ejection; 2 requests in flight finish\n",
        goes.address()
    );
    assert!(text.contains(&line), "{text}");
    clients.clear();
    let gone = |key: &str| plan(&ballast)["pools"][0]["hosts"][0][key].clone();
    wait_until(SOON, "the requests have ended", || gone("in_flight") == 0);
    // A connection that is kept to it. Pingora does not tell how many it keeps.
    goes.set(Reply::ok());
    for _ in 0..4 {
        assert_eq!(get(ballast.address(), "/").status, 200);
    }
    let file = std::fs::read_to_string(ballast.file()).expect("the file exists");
    let is_engine = !file.contains("http1: pingora");
    let kept = wait_for(SOON, "the count of kept connections", || {
        let kept = gone("kept_connections").as_u64()?;
        (kept > 0 || !is_engine).then_some(kept)
    });
    assert_eq!(kept, u64::from(is_engine));
    // They are those of the host that goes.
    let both_go = plan_of(&ballast, &Setup::of(&[&Backend::start_new("new")]));
    assert_eq!(
        both_go["pools"][0]["hosts"].as_array().map(Vec::len),
        Some(3)
    );
}

#[test]
fn a_new_process_ends_connections_and_tunnels() {
    let echo = Backend::start_new("a");
    echo.set(Reply::script(|head: &Head, wire: &mut Wire| {
        wire.read_body(head.framing().unwrap_or(Framing::Length(0)))?;
        wire.send("HTTP/1.1 101 Fine\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")?;
        wire.read_some(usize::MAX)?;
        Ok(Next::Close)
    }));
    let goes = free();
    let top = |listeners: &str| {
        let top =
            format!("listeners: [{listeners}]\nupgrades: [tcp]\nserver: {{ grace_period: 7s }}");
        Setup::of(&[&echo]).top(&top)
    };
    let ballast = top(&format!("\"{LISTEN}\", \"{goes}\"")).start();
    let connect = |address: SocketAddr| {
        wait_for(SOON, "the listener accepts", || {
            Client::try_connect(address).ok()
        })
    };
    let kept = [ballast.address(), goes, goes].map(connect);
    let mut tunnel = Client::connect(goes);
    let upgrade = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n";
    tunnel.send(upgrade).expect("sent");
    assert_eq!(tunnel.read_head().expect("a head").0, 101);

    ballast.configure(&top(&format!("\"{LISTEN}\"")).yaml());
    let expected = json!({
        "all_end": true, "grace_period_ms": 7_000, "open": 4, "in_flight": 1, "tunnels": 1,
        "removed_listeners": [{ "address": goes.to_string(), "open": 3 }],
    });
    wait_until(SOON, "all connections are accepted", || {
        plan(&ballast)["connections"] == expected
    });
    let planned = plan(&ballast);
    assert_eq!(planned["way"], "handover");
    assert_eq!(
        planned["in_new_process"],
        json!([format!("listeners[{goes}] removed")])
    );
    let text = ballast.command(&["plan"]).stdout;
    for line in [
        format!("listeners[{goes}] removed, needs a new process\n"),
        "  all 4 end with this process: idle ones within seconds, 1 request in flight (1 tunnel) have up to 7s\n"
            .to_owned(),
        format!("  listener {goes} goes away: clients of 3 connections cannot connect again\n"),
    ] {
        assert!(text.contains(&line), "{line}\n{text}");
    }
    drop((kept, tunnel));
    wait_until(SOON, "the counts return to 0", || {
        let connections = &plan(&ballast)["connections"];
        (&connections["open"], &connections["tunnels"]) == (&json!(0), &json!(0))
    });
}

#[test]
fn checks_and_cookies_that_begin_anew_are_told() {
    let a = Backend::start_new("a");
    let ballast = Setup::of(&[&a])
        .health("{ type: tcp }")
        .pool("sticky: { cookie: one }")
        .start();
    let changed = Setup::of(&[&a])
        .health("{ type: tcp, fall: 7 }")
        .pool("sticky: { cookie: other }");
    let text = text_of(&ballast, &changed);
    for line in [
        "  health checks start anew: each host is checked before it is used\n",
        "  sticky cookies become void, all: the cookie has another name\n",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    assert_eq!(plan(&ballast)["pools"][0]["checks"], "start_anew");
}

#[test]
fn what_cannot_be_done_is_refused_with_its_reason() {
    let a = Backend::start_new("a");
    let ballast = Setup::of(&[&a]).start();
    let setup = Setup::of(&[&a]);
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    let taken_at = taken.local_addr().expect("the socket is bound");
    for (top, reason) in [
        (
            format!("listeners: [\"{LISTEN}\", \"{taken_at}\"]"),
            format!("cannot listen on {taken_at}: address in use"),
        ),
        (
            "server: { control_socket: /nowhere/b.sock }".to_owned(),
            "server.control_socket: nothing can be created in /nowhere: No such file or directory"
                .to_owned(),
        ),
        (
            "access_log: { path: /nowhere/access.log }".to_owned(),
            "/nowhere/access.log".to_owned(),
        ),
    ] {
        ballast.configure(&setup.clone().top(&top).yaml());
        // The edited control socket is not there yet.
        let socket = ballast.file_with_suffix(".sock").display().to_string();
        let end = ballast.command(&["plan", "--socket", &socket]);
        assert_eq!(end.code, Some(1), "{end:?}");
        assert!(end.stdout.contains(": a reload would fail\n"), "{end:?}");
        let refusal = "the reload would fail: ";
        assert!(end.stderr.starts_with(refusal), "{end:?}");
        assert!(end.stderr.contains(&reason), "{reason}\n{end:?}");
    }
    // An invalid file is one with positions.
    ballast.configure(&setup.top("timeouts: { read: soon }").yaml());
    let end = ballast.command(&["plan"]);
    assert_eq!((end.code, &*end.stdout), (Some(2), ""), "{end:?}");
    assert!(end.stderr.contains("ballast.yaml:2:19: "), "{end:?}");
}

#[test]
fn two_files_are_compared_without_a_process() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let write = |name: &str, setup: &Setup| {
        let yaml = setup.yaml().replace(LISTEN, "127.0.0.1:80");
        file(folder.path(), name, &yaml).display().to_string()
    };
    let old = write("old.yaml", &pool("ip_hash", 1..=9));
    let new = write(
        "new.yaml",
        &pool("ip_hash", 2..=10).top("server: { threads: 1 }"),
    );
    let end = run(&["plan", "-c", &new, "--against", &old, "--json"]);
    assert_eq!(end.code, Some(0), "{end:?}");
    let planned: Value = serde_json::from_str(&end.stdout).expect("JSON");
    // The ninth part of the keys loses its server, and the new one takes all of them.
    let (share, minimum) = moved(&planned);
    assert_near(minimum, 100.0 / 9.0, 0.001);
    assert!(share >= minimum - 1.5 && share < 22.0, "{share}");
    assert_eq!(planned["connections"]["open"], Value::Null);
    let text = run(&["plan", "-c", &new, "--against", &old]).stdout;
    assert!(
        text.contains("requests and tunnels have up to 30s"),
        "{text}"
    );

    let end = run(&["plan", "-c", &new]);
    assert_eq!(end.code, Some(1), "{end:?}");
    assert!(end.stderr.starts_with("no ballast runs with "), "{end:?}");
    let broken = write("broken.yaml", &pool("fastest", 1..=2));
    for args in [
        &["plan", "-c", &broken][..],
        &["plan", "-c", &broken, "--against", &old],
        &["plan", "-c", &new, "--against", &broken],
    ] {
        let end = run(args);
        assert_eq!(end.code, Some(2), "{end:?}");
        assert!(end.stderr.contains("broken.yaml:4:16: "), "{end:?}");
    }
}
