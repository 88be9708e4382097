//! The command line: its output, its exit codes, and the effect of signals.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::{
    Backend, Ballast, Client, Finished, LISTEN, Reply, SOON, Setup, file, free, run, wait_until,
};

const ALGORITHMS: [&str; 7] = [
    "random",
    "round_robin",
    "p2c",
    "consistent_hash",
    "bounded",
    "ip_hash",
    "least_load",
];

/// Runs a command on a file with the text `yaml`.
fn run_on_file(command: &str, yaml: &str) -> Finished {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let path = file(folder.path(), "ballast.yaml", yaml);
    run(&[command, "-c", &path.display().to_string()])
}

fn lines(text: &str) -> Vec<&str> {
    text.lines()
        .filter(|line| !line.trim().is_empty())
        .collect()
}

#[test]
fn a_port_in_use_prints_one_line_and_exits() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = taken.local_addr().expect("the socket is bound").to_string();
    let backend = Backend::start_new("a");
    let yaml = Setup::of(&[&backend]).yaml().replace(LISTEN, &address);
    let end = run_on_file("run", &yaml);
    assert_eq!(end.code, Some(1), "{end:?}");
    let about: Vec<&str> = lines(&end.stderr)
        .into_iter()
        // The first line of each start names the listeners, so the test leaves it out.
        .filter(|line| line.contains(&address) && !line.contains("starting"))
        .collect();
    assert_eq!(about.len(), 1, "{}", end.stderr);
    assert!(about[0].contains("in use"), "{}", end.stderr);
    assert!(!end.stderr.contains("panicked"), "{}", end.stderr);
}

#[test]
fn one_port_in_use_among_several_listeners_ends_the_process() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = taken.local_addr().expect("the socket is bound").to_string();
    let backend = Backend::start_new("a");
    let yaml = Setup::of(&[&backend])
        .top(&format!("listeners: [\"{}\", \"{address}\"]", free()))
        .yaml();
    let end = run_on_file("run", &yaml);
    assert_eq!(end.code, Some(1), "{end:?}");
    assert!(end.stderr.contains(&address), "{}", end.stderr);
}

#[test]
fn an_address_of_another_machine_ends_the_process() {
    let backend = Backend::start_new("a");
    let yaml = Setup::of(&[&backend])
        .yaml()
        .replace(LISTEN, "192.0.2.1:8080");
    let end = run_on_file("run", &yaml);
    assert_eq!(end.code, Some(1), "{end:?}");
    assert!(end.stderr.contains("192.0.2.1:8080"), "{}", end.stderr);
}

#[test]
fn a_missing_file_prints_one_line_and_exits_2() {
    for command in ["run", "check"] {
        let end = run(&[command, "-c", "/nonexistent/ballast.yaml"]);
        assert_eq!(end.code, Some(2), "{end:?}");
        assert_eq!(lines(&end.stderr).len(), 1, "{}", end.stderr);
        assert!(end.stderr.contains("/nonexistent/ballast.yaml"));
    }
}

#[test]
fn usage_errors_are_explained_and_exit_2() {
    for arguments in [
        &["dance"][..],
        &[],
        &["run", "--nonsense"],
        &["run", "-c"],
        &["check", "-c", "a", "b"],
    ] {
        let end = run(arguments);
        assert_eq!(end.code, Some(2), "{arguments:?}: {end:?}");
        assert!(end.stderr.contains("help"), "{arguments:?}: {}", end.stderr);
    }
    // The error for a misspelled command contains a hint.
    assert!(run(&["chek"]).stderr.contains("check"));
}

#[test]
fn help_lists_the_commands_and_version_prints_the_version() {
    let help = run(&["--help"]);
    assert_eq!(help.code, Some(0));
    for command in ["run", "check", "demo", "algorithms"] {
        assert!(help.stdout.contains(command), "{}", help.stdout);
    }
    let version = run(&["--version"]);
    assert_eq!(version.code, Some(0));
    assert_eq!(
        version.stdout.trim(),
        format!("ballast {}", env!("CARGO_PKG_VERSION"))
    );
    assert!(run(&["run", "--help"]).stdout.contains("ballast.yaml"));
}

#[test]
fn algorithms_lists_all_seven() {
    let end = run(&["algorithms"]);
    assert_eq!(end.code, Some(0), "{end:?}");
    for name in ALGORITHMS {
        assert!(
            lines(&end.stdout).iter().any(|line| line.contains(name)),
            "{name} is missing:\n{}",
            end.stdout
        );
    }
}

#[test]
fn check_accepts_both_spellings_of_every_algorithm() {
    for name in ALGORITHMS {
        for name in [name.to_owned(), name.replace('_', "-")] {
            let end = run_on_file(
                "check",
                &format!(
                    "listeners: [\"127.0.0.1:8080\"]\n\
                     pools: {{ web: {{ algorithm: {name}, hosts: [\"127.0.0.1:8081\"] }} }}\n"
                ),
            );
            assert_eq!(end.code, Some(0), "{name}: {end:?}");
        }
    }
}

#[test]
fn check_refuses_an_upgrade_socket_in_an_open_directory() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let open = folder.path().join("open");
    std::fs::create_dir(&open).expect("the folder can be written");
    for (mode, code) in [(0o755, 2), (0o700, 0)] {
        std::fs::set_permissions(&open, std::fs::Permissions::from_mode(mode))
            .expect("the test owns the file");
        let end = run_on_file(
            "check",
            &format!(
                "listeners: [\"127.0.0.1:8080\"]\n\
                 server: {{ upgrade_socket: {}/up }}\n\
                 pools: {{ web: {{ hosts: [\"127.0.0.1:8081\"] }} }}\n",
                open.display()
            ),
        );
        assert_eq!(end.code, Some(code), "{end:?}");
        assert_eq!(end.stderr.contains("must have mode 0700"), code == 2);
    }
}

#[test]
fn check_reports_all_validation_errors_with_their_positions() {
    let yaml = "listeners: [\"127.0.0.1:8080\"]\n\
                timeouts: { connect: 0s }\n\
                routes: [{ pool: wbe }]\n\
                pools: { web: { algorithm: round_robbin, hosts: [\"127.0.0.1:8081\", \"127.0.0.1:8081\"] } }\n";
    for command in ["check", "run"] {
        let end = run_on_file(command, yaml);
        assert_eq!(end.code, Some(2), "{end:?}");
        for part in [
            "timeouts.connect",
            "wbe",
            "round_robbin",
            "round_robin",
            "pools.web.hosts[1]",
        ] {
            assert!(end.stderr.contains(part), "{part}:\n{}", end.stderr);
        }
    }
    let end = run_on_file("check", "listeners: [\"127.0.0.1:8080\"]\npols: {}\n");
    assert_eq!(end.code, Some(2), "{end:?}");
    assert!(end.stderr.contains("ballast.yaml:2:"), "{}", end.stderr);
    assert!(end.stderr.contains("pools"), "a hint:\n{}", end.stderr);
}

#[test]
fn schema_and_manual_page_contain_the_keys() {
    let end = run(&["schema"]);
    assert_eq!(end.code, Some(0), "{end:?}");
    let schema: serde_json::Value = serde_json::from_str(&end.stdout).expect("JSON");
    let read = &schema["properties"]["timeouts"]["properties"]["read"];
    assert_eq!(read["default"], "60s");
    let folder = tempfile::tempdir().expect("a folder");
    let pages = folder.path().to_str().expect("a path in UTF-8");
    let end = run(&["man", pages]);
    assert_eq!(end.code, Some(0), "{end:?}");
    let page = std::fs::read_to_string(folder.path().join("ballast.yaml.5")).expect("a page");
    assert!(page.contains("timeouts.read") && page.contains("pools.NAME.hosts[].weight"));
}

/// The address `[::]` takes only IPv6 where an IPv4 listener uses the same port.
#[test]
fn both_wildcard_addresses_can_be_listened_on() {
    let Ok(probe) = std::net::TcpListener::bind("[::1]:0") else {
        println!("skipped: there is no IPv6 here");
        return;
    };
    let backend = Backend::start_new("a");
    let port = probe.local_addr().expect("bound").port();
    drop(probe);
    let yaml = format!(
        "listeners: [\"0.0.0.0:{port}\", \"[::]:{port}\"]\npools: {{ web: {{ hosts: [\"{}\"] }} }}\n",
        backend.address()
    );
    let ballast = Ballast::spawn(&yaml);
    for address in [format!("127.0.0.1:{port}"), format!("[::1]:{port}")] {
        let address = address.parse().expect("an address");
        wait_until(SOON, "the process listens", || {
            std::net::TcpStream::connect(address).is_ok()
        });
        let response = Client::connect(address).get("/");
        assert_eq!(response.status, 200, "{address}");
    }
    drop(ballast);
}

#[test]
fn sigterm_waits_for_running_requests_and_then_exits() {
    let backend = Backend::start_new("a");
    let mut ballast = Setup::of(&[&backend])
        .top("server: { grace_period: 30s }")
        .start();
    backend.set(Reply::ok().body("slow").after(Duration::from_millis(1500)));
    let mut idle = Client::connect(ballast.address());
    let mut busy = Client::connect(ballast.address());
    busy.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        .expect("sent");
    wait_until(SOON, "the request is under way", || backend.requests() == 1);
    ballast.signal(Signal::SIGTERM);
    wait_until(SOON, "no new connections are accepted", || {
        !ballast.listens()
    });
    assert!(ballast.is_running());
    assert_eq!(
        busy.read_response(false)
            .expect("a complete response")
            .text(),
        "slow"
    );
    // `SOON` is far less than the grace period.
    assert_eq!(ballast.wait_exit(SOON).code(), Some(0));
    assert!(idle.is_closed_within(SOON));
}

#[test]
fn sigterm_without_requests_exits_at_once() {
    let backend = Backend::start_new("a");
    let mut ballast = Setup::of(&[&backend]).start();
    let mut kept = Client::connect(ballast.address());
    assert_eq!(kept.get("/").status, 200);
    ballast.signal(Signal::SIGTERM);
    assert_eq!(ballast.wait_exit(SOON).code(), Some(0));
    assert!(kept.is_closed_within(SOON));
}

#[test]
fn sigterm_waits_no_longer_than_the_grace_period() {
    let backend = Backend::start_new("a");
    backend.set(Reply::Hang);
    let mut ballast = Setup::of(&[&backend])
        .top("server: { grace_period: 1s }")
        .start();
    let mut busy = Client::connect(ballast.address());
    busy.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        .expect("sent");
    wait_until(SOON, "the request is under way", || backend.requests() == 1);
    let start = Instant::now();
    ballast.signal(Signal::SIGTERM);
    ballast.wait_exit(SOON);
    assert!(
        start.elapsed() >= Duration::from_millis(900),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn sigint_exits_at_once() {
    let backend = Backend::start_new("a");
    backend.set(Reply::Hang);
    let mut ballast = Setup::of(&[&backend]).start();
    let mut busy = Client::connect(ballast.address());
    busy.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        .expect("sent");
    wait_until(SOON, "the request is under way", || backend.requests() == 1);
    ballast.signal(Signal::SIGINT);
    // `SOON` is far less than the default grace period.
    let status = ballast.wait_exit(SOON);
    assert!(
        status.code().is_some() || status.signal() == Some(Signal::SIGINT as i32),
        "{status:?}"
    );
}

#[test]
fn the_log_has_only_lines_of_the_chosen_level() {
    let backend = Backend::start_new("a");
    let ballast: Ballast = Setup::of(&[&backend]).start();
    Client::connect(ballast.address()).get("/");
    // The harness sets the level `info`.
    assert!(!ballast.log().is_empty(), "the start is logged");
    assert!(ballast.log_with(&["DEBUG"]).is_empty());
}
