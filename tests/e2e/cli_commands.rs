//! Commands to a live process: its status, adding and removing hosts, its log level.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::{
    Backend, Ballast, Client, Connections, DeadHost, Finished, Load, SOON, Setup, finish, get,
    peer, run, wait_until,
};

/// A process with two hosts and frequent health checks.
fn start_with_two_hosts() -> ([Backend; 2], Ballast) {
    let hosts = ["a", "b"].map(Backend::start_new);
    let ballast = Setup::of(&[&hosts[0], &hosts[1]])
        .health("{ interval: 1s, timeout: 1s, fall: 1 }")
        .pool("slow_start: none")
        .start();
    (hosts, ballast)
}

/// The output of a command that succeeds.
#[track_caller]
fn assert_succeeds(end: &Finished) -> &str {
    assert_eq!((end.code, &*end.stderr), (Some(0), ""), "{end:?}");
    &end.stdout
}

/// The only line of a command that fails.
#[track_caller]
fn assert_fails(end: &Finished) -> &str {
    assert_eq!((end.code, &*end.stdout), (Some(1), ""), "{end:?}");
    assert_eq!(end.stderr.lines().count(), 1, "{end:?}");
    end.stderr.trim_end()
}

/// The line about a host in a table.
#[track_caller]
fn line_with(table: &str, host: &Backend) -> String {
    let host = host.address().to_string();
    let mut lines = table.lines();
    let line = lines.find(|line| line.starts_with(&host));
    line.unwrap_or_else(|| panic!("{host} in\n{table}"))
        .to_owned()
}

/// A command that runs until it is dropped, and its lines so far.
struct StatusWatch {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl StatusWatch {
    fn start(mut command: Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary has been built");
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (out, kept) = (child.stdout.take(), Arc::clone(&lines));
        std::thread::spawn(move || {
            let out = BufReader::new(out.expect("the output is piped"));
            for line in out.lines().map_while(Result::ok) {
                kept.lock().expect("the lock is not poisoned").push(line);
            }
        });
        StatusWatch { child, lines }
    }

    /// Waits for a new line that contains all of `parts`.
    #[track_caller]
    fn wait_for(&self, parts: &[&str]) {
        let lines = || self.lines.lock().expect("the lock is not poisoned");
        let seen = lines().len();
        wait_until(SOON, &format!("a line with {parts:?}"), || {
            let lines = lines();
            let mut new = lines[seen..].iter();
            new.any(|line| parts.iter().all(|part| line.contains(part)))
        });
    }
}

impl Drop for StatusWatch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn status_shows_each_host_with_its_state_and_the_reason() {
    let ([a, b], ballast) = start_with_two_hosts();
    for _ in 0..6 {
        get(ballast.address(), "/");
    }
    let end = ballast.command(&["status"]);
    let table = assert_succeeds(&end);
    let first = table.lines().next().unwrap_or_default();
    let pid = ballast.pid().to_string();
    for part in ["ballast ", "ready", &pid, "ballast.yaml"] {
        assert!(first.contains(part), "{first}");
    }
    assert!(table.contains("web round_robin, 2 of 2 usable"), "{table}");
    assert!(table.contains("6 requests, 0 errors"), "{table}");
    for host in [&a, &b] {
        let line = line_with(table, host);
        let words = Vec::from_iter(line.split_whitespace());
        assert_eq!((words[1], words[3], words[5]), ("up", "1", "3"), "{line}");
        assert!(line.contains("checks pass"), "{line}");
    }
    assert!(!table.contains('\x1b'), "no colours without a terminal");
    b.stop();
    wait_until(SOON, "b is down", || {
        let end = ballast.command(&["status"]);
        let line = line_with(assert_succeeds(&end), &b);
        line.contains(" down ") && line.contains("check failed")
    });
    assert_succeeds(&ballast.command(&["drain", &a.address().to_string()]));
    let end = ballast.command(&["status", "--pool", "web"]);
    let line = line_with(assert_succeeds(&end), &a);
    assert!(line.contains(" draining "), "{line}");
    assert!(line.contains("[drained"), "{line}");
}

#[test]
fn status_json_is_the_response_of_the_api() {
    let ([a, _b], ballast) = start_with_two_hosts();
    let mut narrow = ballast.prepare_command(&["status", "--json"]);
    narrow.env("COLUMNS", "20");
    let end = finish(narrow);
    let status: Value = serde_json::from_str(assert_succeeds(&end)).expect("JSON");
    assert_eq!(status["ready"], true);
    assert_eq!(status["pid"], ballast.pid().as_raw());
    let host = &status["pools"][0]["hosts"][0];
    assert_eq!(host["id"], a.address().to_string());
    let end = ballast.command(&["status", "--json", "--pool", "web"]);
    let pool: Value = serde_json::from_str(assert_succeeds(&end)).expect("JSON");
    assert_eq!(pool["name"], "web");
}

#[test]
fn no_line_is_wider_than_the_terminal() {
    let long = format!("a-pool-with-{}-name", "a-rather-long-".repeat(4));
    let dead = DeadHost::new();
    let yaml = format!(
        "listeners: [LISTEN]\npools: {{ {long}: {{ hosts: [\"{}\"], health_check: {{ initial: up, interval: 1s, timeout: 1s }} }} }}\n",
        dead.address()
    );
    let ballast = Ballast::start(&yaml);
    wait_until(SOON, "the host is down", || {
        ballast.command(&["status"]).stdout.contains("down")
    });
    let mut widest = 0;
    for columns in [1, 20, 40, 60, 80, 100, 200] {
        let mut command = ballast.prepare_command(&["status"]);
        command.env("COLUMNS", columns.to_string());
        let end = finish(command);
        let lines = assert_succeeds(&end).lines();
        let width = lines.map(|line| line.chars().count()).max().unwrap_or(0);
        assert!(width <= columns, "{columns}:\n{}", end.stdout);
        assert!(width > widest, "the table uses {columns} columns");
        widest = width;
        assert!(
            end.stdout.contains("down") || columns < 40,
            "{}",
            end.stdout
        );
    }
}

#[test]
fn terminals_get_colours_unless_disabled() {
    let Some(script) = peer("script") else { return };
    let (_hosts, ballast) = start_with_two_hosts();
    let on_terminal = |variable: &str| {
        let inner = ballast.prepare_command(&["status"]);
        let words = std::iter::once(inner.get_program()).chain(inner.get_args());
        let words = Vec::from_iter(words.map(|word| word.to_string_lossy()));
        let mut command = Command::new(&script);
        command
            .args([
                "-qec",
                &format!("{variable} {}", words.join(" ")),
                "/dev/null",
            ])
            .stdin(Stdio::null())
            .env_remove("COLUMNS")
            .env("RUNTIME_DIRECTORY", ballast.path("run"));
        finish(command).stdout
    };
    let shown = on_terminal("env -u NO_COLOR");
    assert!(shown.contains("\x1b[32mup"), "{shown:?}");
    let shown = on_terminal("NO_COLOR=1");
    assert!(shown.contains("checks pass"), "{shown:?}");
    assert!(!shown.contains('\x1b'), "{shown:?}");
}

#[test]
fn status_watch_survives_a_handover_and_shows_rates() {
    let ([a, _b], ballast) = start_with_two_hosts();
    let watching = StatusWatch::start(ballast.prepare_command(&["status", "--watch"]));
    watching.wait_for(&["pid", &ballast.pid().to_string()]);
    watching.wait_for(&["HOST", "REQ/S", "REASON"]);
    watching.wait_for(&[&a.address().to_string(), "checks pass"]);
    let load = Load::start(ballast.address(), 1, Connections::OnePerRequest);
    wait_until(SOON, "a rate", || {
        let lines = watching.lines.lock().expect("the lock is not poisoned");
        let mut rates = lines.iter().filter(|line| line.starts_with("web "));
        rates.any(|line| !line.contains(" 0 req/s") && !line.contains(" - req/s"))
    });
    load.stop().assert_all_ok("watched");
    ballast.signal(Signal::SIGQUIT);
    let old = format!("pid {},", ballast.pid());
    wait_until(SOON, "the successor is shown", || {
        let lines = watching.lines.lock().expect("the lock is not poisoned");
        let mut heads = lines.iter().rev().filter(|line| line.contains(", pid "));
        heads.next().is_some_and(|line| !line.contains(&old))
    });
}

#[test]
fn hosts_are_added_reweighted_and_removed() {
    let ([a, b], ballast) = start_with_two_hosts();
    let c = Backend::start_new("c");
    let [a, b, c_address] = [&a, &b, &c].map(|host| host.address().to_string());
    let end = ballast.command(&[
        "host",
        "add",
        &c_address,
        "--pool",
        "web",
        "--weight",
        "2",
        "--max-in-flight",
        "7",
    ]);
    let line = assert_succeeds(&end);
    assert!(
        line.starts_with(&format!("added {c_address} to web: ")),
        "{line}"
    );
    wait_until(SOON, "c serves", || {
        get(ballast.address(), "/").backend() == "c"
    });
    let end = ballast.command(&["status"]);
    let line = line_with(assert_succeeds(&end), &c);
    assert!(line.contains("added"), "{line}");
    assert_eq!(line.split_whitespace().nth(3), Some("2"), "{line}");

    let end = ballast.command(&["host", "weight", &c_address, "1", "--pool", "web"]);
    assert_eq!(
        assert_succeeds(&end),
        format!("the weight of {c_address} in web is 1\n")
    );
    for host in [&a, &b] {
        let end = ballast.command(&["host", "remove", host, "--pool", "web"]);
        let expected = format!("removed {host} from web; requests still in flight: 0\n");
        assert_eq!(assert_succeeds(&end), expected);
    }
    let mut client = Client::connect(ballast.address());
    for _ in 0..6 {
        assert_eq!(client.get("/").backend(), "c");
    }
    let remove = ["host", "remove", &c_address, "--pool", "web"];
    let end = ballast.command(&remove);
    assert!(assert_fails(&end).contains("last usable host"), "{end:?}");
    assert_succeeds(&ballast.command(&[&remove[..], &["--force"]].concat()));
    assert_eq!(get(ballast.address(), "/").status, 503);
}

#[test]
fn unknown_hosts_and_pools_print_one_line_and_exit_1() {
    let ([a, _b], ballast) = start_with_two_hosts();
    let a = a.address().to_string();
    for (args, reason) in [
        (&["status", "--pool", "wbe"][..], "there is no pool `wbe`"),
        (
            &["status", "--json", "--pool", "w b"],
            "there is no pool `w b`",
        ),
        (
            &["host", "add", "127.0.0.1:1", "--pool", "wbe"],
            "there is no pool `wbe`",
        ),
        (
            &["host", "remove", "nobody:1", "--pool", "web"],
            "the pool web does not have a host `nobody:1`",
        ),
        (
            &["host", "weight", "x/y?z:1", "1", "--pool", "web"],
            "the pool web does not have a host `x/y?z:1`",
        ),
        (
            &["host", "add", &a, "--pool", "web"],
            "the pool web has a host",
        ),
        (&["host", "add", "no-port", "--pool", "web"], "address: "),
    ] {
        let end = ballast.command(args);
        assert!(assert_fails(&end).contains(reason), "{args:?}: {end:?}");
    }
}

#[test]
fn usage_errors_exit_2() {
    for args in [
        &["host", "weight", "a:1", "10001", "--pool", "web"][..],
        &["host", "weight", "a:1", "-1", "--pool", "web"],
        &["host", "weight", "a:1", "--pool", "web"],
        &["host", "add"],
        &["drain", "a:1", "--timeout", "1s"],
        &["host", "add", "a:1", "--pool", "web", "--weight", "many"],
        &["host", "dance"],
        &["status", "--pool"],
    ] {
        let end = run(args);
        assert_eq!(end.code, Some(2), "{args:?}: {end:?}");
        assert!(end.stderr.contains("--help"), "{args:?}: {end:?}");
    }
}

#[test]
fn without_a_process_each_command_reports_that() {
    let (_hosts, mut ballast) = start_with_two_hosts();
    ballast.signal(Signal::SIGINT);
    ballast.wait_exit(SOON);
    for args in [
        &["status"][..],
        &["status", "--json"],
        &["host", "remove", "a:1", "--pool", "web"],
        &["log-level"],
    ] {
        let end = ballast.command(args);
        assert!(
            assert_fails(&end).starts_with("no ballast runs with "),
            "{end:?}"
        );
    }
    // With `--watch` the command waits for a process.
    let watching = StatusWatch::start(ballast.prepare_command(&["status", "--watch"]));
    watching.wait_for(&["no ballast runs with "]);
}

#[test]
fn the_log_level_is_shown_and_changed() {
    let (_hosts, ballast) = start_with_two_hosts();
    let before = ballast.command(&["log-level"]);
    assert!(assert_succeeds(&before).contains("info"), "{before:?}");
    let end = ballast.command(&["log-level", "debug,pingora=debug"]);
    assert!(assert_succeeds(&end).contains("pingora=debug"), "{end:?}");
    let deadline = Duration::from_secs(5);
    wait_until(deadline, "a line at the level debug", || {
        get(ballast.address(), "/");
        !ballast.log_with(&["DEBUG"]).is_empty()
    });
    let end = ballast.command(&["log-level", "loud"]);
    assert!(assert_fails(&end).contains("loud"), "{end:?}");
}
