//! Log files that are renamed, replaced and handed over: each line is in exactly one of them, complete and once.

use std::collections::HashSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::{Group, User, getgid, getuid};
use serde_json::Value;

use super::{FILE, logging, objects, wait_for_lines};
use crate::handover::Service;
use crate::support::{
    Backend, Client, Connections, Load, SOON, Setup, file, get, long, peer, wait_until,
};

/// The lines of all files together.
fn all_lines(files: &[PathBuf]) -> Vec<Value> {
    files.iter().flat_map(|file| objects(file)).collect()
}

/// Each request of a load has exactly one line in one of the files.
#[track_caller]
fn assert_each_once(files: &[PathBuf], load: Load) {
    let tally = load.stop();
    tally.assert_all_ok("while files change");
    let total = tally.total() as usize;
    let count = |file: &PathBuf| fs::read_to_string(file).map_or(0, |text| text.lines().count());
    wait_until(SOON, "every line is written", || {
        files.iter().map(count).sum::<usize>() >= total
    });
    let lines = all_lines(files);
    let key = |line: &Value| format!("{} {}", line["client"], line["target"]);
    let distinct: HashSet<_> = lines.iter().map(key).collect();
    assert_eq!([lines.len(), distinct.len()], [total, total]);
}

#[test]
fn rotation_under_load_keeps_every_line_whole() {
    let backend = Backend::start_new("a");
    let ballast = logging(Setup::of(&[&backend]), "format: json").start();
    let load = Load::start(ballast.address(), 8, Connections::Kept);
    let current = ballast.path(FILE);
    let mut files = Vec::new();
    for number in 0..if long() { 50 } else { 5 } {
        let before = load.done();
        wait_until(SOON, "requests go on", || load.done() > before + 200);
        let renamed = ballast.path(&format!("{FILE}.{number}"));
        fs::rename(&current, &renamed).expect("the file exists");
        ballast.signal(Signal::SIGUSR1);
        wait_until(SOON, "the file exists again", || current.exists());
        files.push(renamed);
    }
    files.push(current);
    assert_each_once(&files, load);
    for file in &files {
        assert!(!objects(file).is_empty());
    }
}

#[test]
fn a_file_that_cannot_be_reopened_stays_in_use() {
    let backend = Backend::start_new("a");
    let ballast = logging(Setup::of(&[&backend]), "format: json").start();
    get(ballast.address(), "/1");
    wait_for_lines(&ballast, 1);
    let renamed = ballast.path("renamed");
    fs::rename(ballast.path(FILE), &renamed).expect("the file exists");
    fs::create_dir(ballast.path(FILE)).expect("the folder can be written");
    ballast.signal(Signal::SIGUSR1);
    ballast.wait_for_log(&["access_log.path: cannot open", "the old file is written on"]);
    get(ballast.address(), "/2");
    wait_until(SOON, "the line is written", || objects(&renamed).len() == 2);
}

#[test]
fn a_draining_process_reopens_its_file() {
    let backend = Backend::start_new("a");
    let setup = logging(Setup::of(&[&backend]), "format: json");
    let ballast = setup.top("server: { drain_delay: 60s }").start();
    get(ballast.address(), "/1");
    wait_for_lines(&ballast, 1);
    ballast.signal(Signal::SIGTERM);
    ballast.wait_for_log(&["SIGTERM: not ready any more"]);
    let renamed = ballast.path("renamed");
    fs::rename(ballast.path(FILE), &renamed).expect("the file exists");
    ballast.signal(Signal::SIGUSR1);
    wait_until(SOON, "the file exists again", || {
        ballast.path(FILE).exists()
    });
    get(ballast.address(), "/2");
    let lines = wait_for_lines(&ballast, 1);
    assert_eq!(lines[0]["target"], "/2");
    assert_eq!(objects(&renamed)[0]["target"], "/1");
}

/// The shipped logrotate file, with this test's folder and user instead of those of the service.
#[test]
fn logrotate_works_with_the_shipped_configuration() {
    let Some(logrotate) = peer("logrotate") else {
        return;
    };
    let backend = Backend::start_new("a");
    let setup = logging(Setup::of(&[&backend]), "format: json");
    let ballast = setup.top("server: { pid_file: ballast.pid }").start();
    let folder = ballast.path("");
    fs::set_permissions(&folder, Permissions::from_mode(0o755)).expect("the test owns the file");
    let user = User::from_uid(getuid()).ok().flatten();
    let user = user.expect("the user of this process has a name").name;
    let group = Group::from_gid(getgid()).ok().flatten();
    let group = group.expect("the group has a name").name;
    let text = include_str!("../../../conf/logrotate")
        .replace("/var/log/ballast/", &format!("{}/", folder.display()))
        .replace("/run/ballast/", &format!("{}/", folder.display()))
        .replace("su ballast ballast", &format!("su {user} {group}"));
    let config = file(&folder, "logrotate", &text);
    fs::set_permissions(&config, Permissions::from_mode(0o644)).expect("the test owns the file");
    let load = Load::start(ballast.address(), 4, Connections::Kept);
    let mut files = vec![ballast.path(FILE)];
    for number in 1..=2 {
        // logrotate does not rotate an empty file.
        wait_until(SOON, "the file has lines", || {
            fs::metadata(ballast.path(FILE)).is_ok_and(|file| file.len() > 0)
        });
        let output = Command::new(&logrotate)
            .args(["--force", "--state"])
            .args([&folder.join("state"), &config])
            .output()
            .expect("the program is installed");
        assert!(output.status.success(), "{output:?}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        files.push(ballast.path(&format!("{FILE}.{number}")));
    }
    // The older file is compressed by now.
    let older = format!("{}.gz", files[2].display());
    let unpacked = Command::new("gunzip").arg(&older).status();
    assert!(
        unpacked.expect("gzip is part of Debian").success(),
        "{older}"
    );
    assert_each_once(&files, load);
}

#[test]
fn a_reload_applies_a_changed_log_and_keeps_an_unchanged_one() {
    let backend = Backend::start_new("a");
    let setup = || Setup::of(&[&backend]);
    let ballast = logging(setup(), "format: json").start();
    let ask = |target: &str| assert_eq!(get(ballast.address(), target).status, 200);
    ask("/1");
    wait_for_lines(&ballast, 1);
    let renamed = ballast.path("renamed");
    fs::rename(ballast.path(FILE), &renamed).expect("the file exists");
    // A second format is a second log that writes to the same open file.
    let same = logging(setup(), "format: combined").top("limits: { body: 1MiB }");
    let line = ballast.reload_by_sighup(&same.yaml());
    assert!(
        line.contains("access_log.format changed from json to combined"),
        "{line}"
    );
    ask("/2");
    let has =
        |file: &PathBuf, part: &str| fs::read_to_string(file).is_ok_and(|text| text.contains(part));
    wait_until(SOON, "the line is written", || {
        has(&renamed, "\"GET /2 HTTP/1.1\" 200 ")
    });
    assert!(!ballast.path(FILE).exists());
    let other = ballast.path("other.log");
    let line = ballast.reload_by_sighup(&setup().top("access_log: { path: other.log }").yaml());
    assert!(line.contains("access_log.path changed"), "{line}");
    ask("/3");
    wait_until(SOON, "the line is written", || has(&other, "\"/3\""));
    let line = ballast.reload_by_sighup(&setup().yaml());
    assert!(line.contains("access_log changed"), "{line}");
    ask("/4");
    ballast.reload_by_sighup(&setup().top("access_log: { path: other.log }").yaml());
    ask("/5");
    wait_until(SOON, "the line is written", || has(&other, "\"/5\""));
    assert_eq!(objects(&other).len(), 2, "no lines while there was no log");
}

#[test]
fn the_last_lines_are_written_before_the_process_ends() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let backend = Backend::start_new("a");
        let mut ballast = logging(Setup::of(&[&backend]), "format: json").start();
        let mut client = Client::connect(ballast.address());
        // The first request has ended completely once the second has a response.
        for target in ["/first", "/second"] {
            client.get(target);
        }
        ballast.signal(signal);
        ballast.wait_exit(SOON);
        let lines = objects(&ballast.path(FILE));
        assert_eq!(lines[0]["target"], "/first", "{signal}");
    }
}

#[test]
fn handovers_under_load_keep_every_line_whole() {
    let backend = Backend::start_new("a");
    let setup = logging(
        Setup::of(&[&backend]).health("{ interval: 1s }"),
        "format: json",
    );
    let service = Service::start(&setup);
    let address = service.ballast.address();
    let load = Load::start_paced(address, 8, Connections::Kept, Duration::from_millis(5));
    for _ in 0..2 {
        service.hand_over();
    }
    // A rotation between two processes.
    let current = service.ballast.path(FILE);
    let renamed = service.ballast.path("renamed");
    fs::rename(&current, &renamed).expect("the file exists");
    service.signal(Signal::SIGUSR1);
    wait_until(SOON, "the file exists again", || current.exists());
    let before = load.done();
    wait_until(SOON, "requests go on", || load.done() > before + 100);
    assert_each_once(&[renamed, current], load);
}
