//! The reload in place, by SIGHUP and by `ballast reload`: what changes, what stays, and which changes are refused as
//! a whole.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::Duration;

use nix::sys::signal::Signal;
use tungstenite::Message;

use crate::support::{
    Authority, Backend, Ballast, Client, Connections, DeadHost, HEALTH_PATH, LISTEN, Load, Reply,
    SOON, Setup, free, get, long, wait_until,
};
use crate::websocket::{echo, open};

const CHECKED: &str = "{ type: http, path: /healthz, interval: 60s, timeout: 1s }";

/// The entry of a host for the file, with a weight.
fn weighted(backend: &Backend, weight: u32) -> String {
    format!("{{ address: \"{}\", weight: {weight} }}", backend.address())
}

#[test]
fn many_sighups_under_load_fail_no_request_and_leave_a_websocket_alive() {
    let rounds = if long() { 200 } else { 20 };
    let [a, b, c] = ["a", "b", "c"].map(Backend::start_new);
    let check = "{ interval: 1s, timeout: 1s }";
    let ballast = Setup::of(&[&a, &b]).health(check).start();
    for backend in [&a, &b] {
        backend.set(echo());
    }
    let mut socket = open(ballast.address());
    for backend in [&a, &b] {
        backend.set(Reply::ok());
    }
    let kept = Load::start(ballast.address(), 8, Connections::Kept);
    let new = Load::start(ballast.address(), 4, Connections::OnePerRequest);
    for round in 0..rounds {
        let setup = match round % 5 {
            0 => Setup::of(&[&a, &b, &c]),
            1 => Setup::of(&[&a, &c]).algorithm("p2c"),
            2 => Setup::of(&[&b]).host_entry(&weighted(&a, 3)),
            3 => Setup::of(&[&a, &b, &c])
                .algorithm("consistent_hash")
                .top("timeouts: { read: 30s }"),
            _ => Setup::of(&[&b, &a]).algorithm("least_load"),
        };
        let line = ballast.reload_by_sighup(&setup.health(check).yaml());
        assert!(line.contains("reloaded in place"), "{line}");
    }
    kept.stop().assert_all_ok("kept connections");
    new.stop().assert_all_ok("new connections");
    socket.send(Message::text("still here")).expect("sent");
    assert_eq!(socket.read().expect("echoed"), Message::text("still here"));
}

#[test]
fn ballast_reload_reports_the_changes_and_the_method() {
    let [a, b] = ["a", "b"].map(Backend::start_new);
    let ballast = Setup::of(&[&a]).start();
    let end = ballast.reload();
    assert_eq!(end.code, Some(0), "{end:?}");
    assert_eq!(end.stdout, "reloaded, in-place\n  nothing changed\n");
    ballast.configure(&Setup::of(&[&b]).host_entry(&weighted(&a, 4)).yaml());
    let end = ballast.reload();
    assert_eq!(end.code, Some(0), "{end:?}");
    for line in [
        "reloaded, in-place".to_owned(),
        format!("  pools.web.hosts[{}] added", b.address()),
        format!(
            "  pools.web.hosts[{}].weight changed from 1 to 4",
            a.address()
        ),
    ] {
        assert!(
            end.stdout.lines().any(|preview| preview == line),
            "{line}\n{end:?}"
        );
    }
    wait_until(SOON, "the new host is asked", || {
        get(ballast.address(), "/").backend() == "b"
    });
}

#[test]
fn sighup_refuses_reloads_that_need_a_new_process() {
    let [a, b] = ["a", "b"].map(Backend::start_new);
    let ballast = Setup::of(&[&a]).start();
    let added = free();
    let listeners = format!("listeners: [\"{LISTEN}\", \"{added}\"]");
    for (top, words) in [
        (
            &*listeners,
            format!("needs a new process: listeners[{added}] added"),
        ),
        (
            "server: { threads: 3 }",
            "needs a new process: server.threads changed".to_owned(),
        ),
        (
            "server: { control_socket: other.sock }",
            "needs a new process: server.control_socket changed".to_owned(),
        ),
    ] {
        let line = ballast.reload_by_sighup(&Setup::of(&[&b]).top(top).yaml());
        assert!(line.contains("not reloaded"), "{line}");
        assert!(line.contains(&words), "{words}\n{line}");
        for _ in 0..4 {
            assert_eq!(get(ballast.address(), "/").backend(), "a");
        }
    }
    assert!(Client::try_connect(added).is_err());
}

#[test]
fn keys_of_the_remaining_hosts_do_not_move() {
    let backends = ["a", "b", "c", "d"].map(Backend::start_new);
    let setup = |hosts: &[&Backend]| {
        Setup::of(hosts)
            .algorithm("{ name: consistent_hash, key: \"header:X-Key\" }")
            .health(CHECKED)
    };
    let all: Vec<_> = backends.iter().collect();
    let ballast = setup(&all).start();
    let mapping = |address: SocketAddr| -> HashMap<u32, String> {
        let mut client = Client::connect(address);
        (0..300)
            .map(|key| {
                let response = client.get_with("/", &format!("X-Key: {key}\r\n"));
                (key, response.backend().to_owned())
            })
            .collect()
    };
    let before = mapping(ballast.address());
    ballast.reload_by_sighup(&setup(&all[..3]).yaml());
    let after = mapping(ballast.address());
    for (key, host) in &before {
        if host != "d" {
            assert_eq!(after[key], *host, "key {key}");
        }
    }
    assert!(after.values().all(|host| host != "d"));
    ballast.reload_by_sighup(&setup(&all).yaml());
    assert_eq!(mapping(ballast.address()), before);
}

#[test]
fn reloads_readmit_no_host_before_its_checks_do() {
    let [a, b] = ["a", "b"].map(Backend::start_new);
    let setup = |weight| {
        Setup::of(&[&a])
            .host_entry(&weighted(&b, weight))
            .health("{ type: http, path: /healthz, interval: 60s, timeout: 1s, rise: 2 }")
    };
    b.set_health(Reply::status(503));
    let ballast = setup(1).start();
    b.set_health(Reply::ok());
    // The host would work now, but it first needs two good checks in a row, a minute apart.
    for weight in 2..6 {
        ballast.reload_by_sighup(&setup(weight).yaml());
        for _ in 0..10 {
            assert_eq!(get(ballast.address(), "/").backend(), "a");
        }
    }
    assert_eq!((a.health_checks(), b.health_checks()), (1, 1));
    assert_eq!(b.requests(), 0);
}

#[test]
fn checks_keep_their_schedule_over_a_reload() {
    let [a, b] = ["a", "b"].map(Backend::start_new);
    let setup = |weight| {
        Setup::of(&[&a])
            .host_entry(&weighted(&b, weight))
            .health("{ type: http, path: /healthz, interval: 1s, timeout: 1s, rise: 2 }")
    };
    b.set_health(Reply::status(503));
    let ballast = setup(1).start();
    b.set_health(Reply::ok());
    ballast.reload_by_sighup(&setup(2).yaml());
    wait_until(SOON, "the host is back", || {
        get(ballast.address(), "/").backend() == "b"
    });
}

#[test]
fn a_new_host_is_checked_before_it_gets_a_request() {
    let [a, b] = ["a", "b"].map(Backend::start_new);
    let dead = DeadHost::new();
    b.set_health(Reply::status(500));
    let ballast = Setup::of(&[&a]).health(CHECKED).start();
    let with_new = Setup::of(&[&a, &b]).host(dead.address()).health(CHECKED);
    ballast.reload_by_sighup(&with_new.yaml());
    for _ in 0..20 {
        assert_eq!(get(ballast.address(), "/").backend(), "a");
    }
    assert_eq!(b.requests(), 0);
    assert_eq!(b.health_checks(), 1);
}

#[test]
fn a_reload_keeps_an_unchanged_pool() {
    let [a, b] = ["a", "b"].map(Backend::start_new);
    let pools = |weight| {
        format!(
            "listeners: [\"{LISTEN}\"]
routes: [{{ path: /b, pool: other }}, {{ pool: web }}]
pools:
  web: {{ hosts: [\"{}\"], health_check: {CHECKED} }}
  other: {{ hosts: [{}], health_check: {CHECKED} }}
",
            a.address(),
            weighted(&b, weight)
        )
    };
    let ballast = Ballast::start(&pools(1));
    let mut client = Client::connect(ballast.address());
    client.get("/");
    let connections = a.connections();
    for weight in 2..6 {
        ballast.reload_by_sighup(&pools(weight));
        assert_eq!(client.get("/").backend(), "a");
        assert_eq!(client.get("/b").backend(), "b");
    }
    assert_eq!(a.health_checks(), 1, "the checks continue");
    assert_eq!(a.connections(), connections, "the idle connection is used");
    assert_eq!(b.health_checks(), 1, "known, and not due");
}

#[test]
fn new_limits_and_routes_apply_to_the_next_request() {
    let a = Backend::start_new("a");
    let ballast = Setup::of(&[&a]).start();
    let mut client = Client::connect(ballast.address());
    assert_eq!(client.get("/").status, 200);
    ballast.reload_by_sighup(
        &Setup::of(&[&a])
            .top("routes: [{ path: /only, pool: web }]")
            .yaml(),
    );
    assert_eq!(client.get("/").status, 404);
    assert_eq!(client.get("/only").status, 200);
    a.set(Reply::Hang);
    let mut busy = Client::connect(ballast.address());
    busy.send("GET /only HTTP/1.1\r\nHost: test\r\n\r\n")
        .expect("sent");
    wait_until(SOON, "the request is under way", || a.requests() == 3);
    ballast.reload_by_sighup(&Setup::of(&[&a]).top("limits: { max_in_flight: 1 }").yaml());
    a.set(Reply::ok());
    // The request from before the reload counts towards the process's limit of concurrent requests.
    assert_eq!(client.get("/").status, 503);
    drop(busy);
    wait_until(SOON, "the slot is free", || client.get("/").status == 200);
}

#[test]
fn the_newest_grace_period_applies() {
    let a = Backend::start_new("a");
    a.set(Reply::Hang);
    let mut ballast = Setup::of(&[&a])
        .top("server: { grace_period: 60s }")
        .start();
    let mut busy = Client::connect(ballast.address());
    busy.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        .expect("sent");
    wait_until(SOON, "the request is under way", || a.requests() == 1);
    ballast.reload_by_sighup(
        &Setup::of(&[&a])
            .top("server: { grace_period: 100ms }")
            .yaml(),
    );
    ballast.signal(Signal::SIGTERM);
    assert_eq!(ballast.wait_exit(SOON).code(), Some(0));
}

#[test]
fn new_certificates_are_used_from_the_next_handshake_on() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let [old, new] = ["old", "new"].map(Authority::new);
    let a = Backend::start_new("a");
    let setup = |files: &(std::path::PathBuf, std::path::PathBuf)| {
        Setup::of(&[&a]).top(&format!(
            "listeners: [{{ address: \"{LISTEN}\", tls: {{ certificates: [{{ certificate: {}, key: {} }}] }} }}]",
            files.0.display(),
            files.1.display()
        ))
    };
    let files = old.issue(&["host.test"]).write(folder.path(), "host");
    let yaml = setup(&files).yaml();
    let ballast = Ballast::start(&yaml);
    let shows = |authority: &Authority| {
        let client = Client::tls(ballast.address(), "host.test", authority.client());
        client.and_then(|mut client| client.request("GET / HTTP/1.1\r\nHost: test\r\n\r\n"))
    };
    let mut kept = Client::tls(ballast.address(), "host.test", old.client())
        .expect("the old certificate is used");
    assert_eq!(kept.get("/").status, 200);
    // The same file names with new content, as in a renewal.
    new.issue(&["host.test"]).write(folder.path(), "host");
    let line = ballast.reload_by_sighup(&yaml);
    assert!(line.contains("tls.certificates has new content"), "{line}");
    assert_eq!(
        shows(&new).expect("the new certificate is used").status,
        200
    );
    shows(&old).expect_err("the old certificate is no longer used");
    assert_eq!(kept.get("/").status, 200, "connections stay");
}

#[test]
fn the_control_socket_is_private_and_removed_at_exit() {
    let a = Backend::start_new("a");
    let mut ballast = Setup::of(&[&a]).start();
    let socket = ballast.file_with_suffix(".sock");
    let found = std::fs::metadata(&socket).expect("the file exists");
    assert_eq!(found.permissions().mode() & 0o777, 0o600);
    assert_eq!(found.uid(), nix::unistd::geteuid().as_raw());
    // A peer with another user is refused, whatever the mode of the socket is.
    if let Some(reload_as_nobody) = reload_as_nobody(&ballast, &socket) {
        assert_eq!(reload_as_nobody.code, Some(1), "{reload_as_nobody:?}");
        ballast.wait_for_log(&["control socket: refused"]);
    }
    ballast.signal(Signal::SIGTERM);
    ballast.wait_exit(SOON);
    assert!(!socket.exists());
    let end = ballast.reload();
    assert_eq!(end.code, Some(1), "{end:?}");
    assert!(end.stderr.contains("no ballast runs"), "{end:?}");
}

/// Runs `ballast reload` as the user `nobody`, with the socket open to all users. Only root can do that.
fn reload_as_nobody(
    ballast: &Ballast,
    socket: &std::path::Path,
) -> Option<crate::support::Finished> {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: only root can change the user");
        return None;
    }
    let setpriv = crate::support::peer("setpriv")?;
    let open = |path: &std::path::Path| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777))
            .expect("the test owns the file");
    };
    let binary = ballast.folder().join("ballast");
    std::fs::copy(env!("CARGO_BIN_EXE_ballast"), &binary).expect("there is room");
    for path in [ballast.folder(), &ballast.path("run"), &binary, socket] {
        open(path);
    }
    let mut command = std::process::Command::new(setpriv);
    command
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"])
        .arg(&binary)
        .args(["reload", "--socket"])
        .arg(socket);
    Some(crate::support::finish(command))
}

#[test]
fn a_second_process_with_the_same_file_reports_the_running_one() {
    let a = Backend::start_new("a");
    let ballast = Setup::of(&[&a]).start();
    ballast.file_with_suffix(".sock");
    let end = ballast.run_again();
    assert_eq!(end.code, Some(1), "{end:?}");
    let words = format!("another ballast runs with this file, pid {}", ballast.pid());
    assert!(end.stderr.contains(&words), "{end:?}");
    assert_eq!(
        ballast.reload().code,
        Some(0),
        "the first process keeps the socket"
    );
}

#[test]
fn the_socket_of_a_killed_process_is_replaced() {
    let a = Backend::start_new("a");
    let mut first = Setup::of(&[&a]).start();
    let socket = first.file_with_suffix(".sock");
    first.signal(Signal::SIGKILL);
    first.wait_exit(SOON);
    assert!(socket.exists());
    let second = Setup::of(&[&a])
        .top(&format!(
            "server: {{ control_socket: \"{}\" }}",
            socket.display()
        ))
        .start();
    wait_until(SOON, "the second process responds", || {
        second.reload().code == Some(0)
    });
}

#[test]
fn a_reload_changes_health_checks() {
    let a = Backend::start_new("a");
    let ballast = Setup::of(&[&a]).start();
    assert_eq!(a.health_checks(), 0);
    let check = format!("{{ type: http, path: {HEALTH_PATH}, interval: 20ms, timeout: 20ms }}");
    ballast.reload_by_sighup(&Setup::of(&[&a]).health(&check).yaml());
    wait_until(SOON, "checks", || a.health_checks() > 3);
    ballast.reload_by_sighup(&Setup::of(&[&a]).yaml());
    // One check may still be running.
    let since = a.health_checks() + 1;
    for _ in 0..20 {
        assert_eq!(get(ballast.address(), "/").status, 200);
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(a.health_checks() <= since, "the checks have ended");
}

#[test]
fn ballast_reload_starts_a_new_process_where_one_is_needed() {
    let [a, b] = ["a", "b"].map(Backend::start_new);
    let mut ballast = Setup::of(&[&a]).start();
    let added = free();
    let listeners = format!("listeners: [\"{LISTEN}\", \"{added}\"]");
    ballast.configure(&Setup::of(&[&b]).top(&listeners).yaml());
    let end = ballast.reload();
    assert_eq!(end.code, Some(0), "{end:?}");
    assert!(end.stdout.starts_with("reloaded, handover\n"), "{end:?}");
    let words = format!("listeners[{added}] added");
    assert!(end.stdout.contains(&words), "{end:?}");
    assert_eq!(get(added, "/").backend(), "b");
    assert_eq!(get(ballast.address(), "/").backend(), "b");
    ballast.wait_exit(SOON);
    // The successor takes commands, and a signal ends it like any other process.
    assert_eq!(
        ballast.reload().stdout,
        "reloaded, in-place\n  nothing changed\n"
    );
    let pid = std::fs::read_to_string(ballast.file_with_suffix(".pid")).expect("the file exists");
    let pid = nix::unistd::Pid::from_raw(pid.trim().parse().expect("a number"));
    nix::sys::signal::kill(pid, Signal::SIGTERM).expect("the process runs");
    wait_until(SOON, "the process ends", || !ballast.listens());
}

#[test]
fn ballast_reload_reports_a_failed_handover() {
    let a = Backend::start_new("a");
    let ballast = Setup::of(&[&a]).start();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let taken = taken
        .local_addr()
        .map(|address| (taken, address))
        .expect("bound");
    let listeners = format!("listeners: [\"{LISTEN}\", \"{}\"]", taken.1);
    ballast.configure(&Setup::of(&[&a]).top(&listeners).yaml());
    let end = ballast.reload();
    assert_eq!(end.code, Some(1), "{end:?}");
    assert!(end.stderr.contains("not reloaded"), "{end:?}");
    assert_eq!(get(ballast.address(), "/").status, 200);
    ballast.configure(&Setup::of(&[&a]).yaml());
    assert_eq!(ballast.reload().code, Some(0));
}

#[test]
fn check_previews_a_reload_and_applies_nothing() {
    let [a, b] = ["a", "b"].map(Backend::start_new);
    let mut ballast = Setup::of(&[&a]).start();
    ballast.file_with_suffix(".sock");
    let preview = |setup: &Setup| {
        ballast.configure(&setup.yaml());
        let end = ballast.check();
        let words = end.stdout.split_once("the running process: ");
        let words = words.map(|(_, words)| words.to_owned());
        (end.code, words.unwrap_or_default(), end.stderr)
    };
    let same = Setup::of(&[&a]);
    assert_eq!(
        preview(&same),
        (Some(0), "nothing to reload\n".to_owned(), String::new())
    );
    let (code, words, _) = preview(&Setup::of(&[&a]).host_entry(&weighted(&b, 4)));
    assert_eq!(code, Some(0));
    let host = format!(
        "would reload in place\n  pools.web.hosts[{}] added\n",
        b.address()
    );
    assert_eq!(words, host);
    let with = |listener: &str| {
        Setup::of(&[&a]).top(&format!("listeners: [\"{LISTEN}\", \"{listener}\"]"))
    };
    let added = free();
    let (code, words, _) = preview(&with(&added.to_string()));
    assert_eq!(code, Some(0));
    assert!(words.starts_with("would reload by handover\n"), "{words}");
    let line = format!("listeners[{added}] added");
    assert!(words.contains(&line), "{words}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let taken = taken.local_addr().map(|address| (taken, address));
    let (_taken, address) = taken.expect("the socket is bound");
    let (code, _, reason) = preview(&with(&address.to_string()));
    assert_eq!(code, Some(2));
    let line = format!("a reload would fail: cannot listen on {address}: address in use\n");
    assert_eq!(reason, line);
    for _ in 0..4 {
        assert_eq!(get(ballast.address(), "/").backend(), "a");
    }
    assert!(ballast.log_with(&["reloaded"]).is_empty());
    ballast.signal(Signal::SIGTERM);
    ballast.wait_exit(SOON);
    let end = ballast.check();
    assert_eq!(
        end.code,
        Some(0),
        "check does not listen without a process: {end:?}"
    );
    let line = end.stdout.lines().nth(1).unwrap_or_default();
    assert!(
        line.starts_with("no preview of a reload: no ballast runs"),
        "{end:?}"
    );
    assert_eq!(end.stdout.lines().count(), 2, "{end:?}");
}

#[test]
fn a_new_file_beside_the_others_is_taken_and_an_error_in_it_names_it() {
    let [web, shop] = ["web", "shop"].map(Backend::start_new);
    let route = |path: &str, pool: &str| format!("routes: [{{ {path} pool: {pool} }}]");
    let yaml = Setup::of(&[&web])
        .top("include: conf.d/*.yaml")
        .top(&route("", "web"))
        .yaml();
    let ballast = Ballast::start_with_path(&yaml, |folder| {
        std::fs::create_dir(folder.join("conf.d")).expect("a new folder");
        folder.join("ballast.yaml")
    });
    assert_eq!(get(ballast.address(), "/shop").backend(), "web");
    let site = |host: &str| {
        let route = route("path: /shop,", "shop");
        let text = format!("{route}\npools:\n  shop: {{ hosts: [\"{host}\"] }}\n");
        let file = ballast.path("conf.d/shop.yaml");
        std::fs::write(&file, text).expect("the folder can be written");
        file.display().to_string()
    };
    let file = site("127.0.0.1");
    let place = format!("{file}:3:19: pools.shop.hosts[0]: ");
    let end = ballast.check();
    assert_eq!(end.code, Some(2), "{end:?}");
    assert!(end.stderr.starts_with(&place), "{end:?}");
    let line = ballast.reload_by_sighup(&yaml);
    assert!(
        line.contains("not reloaded") && line.contains(&place),
        "{line}"
    );
    assert_eq!(get(ballast.address(), "/shop").backend(), "web");
    site(&shop.address().to_string());
    let line = ballast.reload_by_sighup(&yaml);
    assert!(line.contains("pools.shop added"), "{line}");
    assert_eq!(get(ballast.address(), "/shop").backend(), "shop");
    assert_eq!(get(ballast.address(), "/").backend(), "web");
}
