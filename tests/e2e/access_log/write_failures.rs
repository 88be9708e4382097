//! A log that cannot be written loses lines, which are counted. It fails no request.

use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Instant;

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::Value;

use super::{FILE, logging, wait_for_lines};
use crate::support::{Backend, Ballast, Connections, Load, SOON, Setup, get, wait_for, wait_until};

fn fifo(folder: &Path) -> PathBuf {
    let path = folder.join("fifo");
    mkfifo(&path, Mode::from_bits_truncate(0o600)).expect("the folder can be written");
    path
}

/// The number at the end of the latest line in the process's log that contains `part`.
fn last_count(ballast: &Ballast, part: &str) -> Option<usize> {
    let lines = ballast.log_with(&[part, "lines lost so far: "]);
    lines.last()?.rsplit(' ').next()?.parse().ok()
}

/// Sends requests until lines are lost, and then as many again. Returns the number of requests; all have a response.
#[track_caller]
fn request_until_lines_are_lost(ballast: &Ballast) -> usize {
    let load = Load::start(ballast.address(), 4, Connections::Kept);
    wait_until(SOON, "lines are lost", || {
        last_count(ballast, "faster").is_some()
    });
    let enough = load.done() * 2;
    wait_until(SOON, "requests go on", || load.done() >= enough);
    let tally = load.stop();
    tally.assert_all_ok("while nobody reads the log");
    tally.total() as usize
}

#[test]
fn an_unread_pipe_loses_only_lines_and_counts_them() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let fifo = fifo(folder.path());
    let backend = Backend::start_new("a");
    let ballast = Setup::of(&[&backend])
        .top(&format!(
            "access_log: {{ path: {}, buffer: 64KiB }}",
            fifo.display()
        ))
        .start();
    let sent = request_until_lines_are_lost(&ballast);

    // From here on the test reads the pipe, so the writer continues.
    let reading = thread::spawn(move || {
        let pipe = OpenOptions::new()
            .read(true)
            .open(fifo)
            .expect("the file exists");
        let lines = BufReader::new(pipe).lines().map_while(Result::ok);
        let objects = lines.map(|line| serde_json::from_str(&line).expect("a whole line"));
        let is_last = |line: &Value| line["target"] == "/last";
        objects.take_while(|line| !is_last(line)).count()
    });
    let lost = wait_for(SOON, "the log continues", || {
        last_count(&ballast, "written again")
    });
    assert_eq!(get(ballast.address(), "/last").status, 200);
    let read = reading.join().expect("reading does not panic");
    assert_eq!(read + lost, sent, "every line is read or counted as lost");
}

#[test]
fn an_unread_standard_output_delays_no_request() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let fifo = fifo(folder.path());
    let backend = Backend::start_new("a");
    let yaml = Setup::of(&[&backend])
        .top("access_log: { path: \"-\", buffer: 64KiB }")
        .yaml();
    let through = format!("exec \"$@\" 1<>{}", fifo.display());
    let mut ballast = Ballast::spawn_with_wrapper(&yaml, &["sh", "-c", &through, "sh"]);
    assert!(ballast.listens_within(SOON));
    request_until_lines_are_lost(&ballast);
    // The blocked log does not delay the end of the process either.
    ballast.signal(Signal::SIGINT);
    ballast.wait_exit(SOON);
}

#[test]
fn a_full_disk_loses_only_lines_and_is_logged_once_a_second() {
    let backend = Backend::start_new("a");
    let ballast = Setup::of(&[&backend])
        .top("access_log: { path: /dev/full }")
        .start();
    let start = Instant::now();
    let load = Load::start(ballast.address(), 4, Connections::Kept);
    let failures = || ballast.log_with(&["access log `/dev/full`: No space left", "lines lost"]);
    wait_until(SOON, "the failure is logged twice", || {
        failures().len() >= 2
    });
    load.stop().assert_all_ok("while the disk is full");
    let seconds = start.elapsed().as_secs() as usize;
    assert!(
        failures().len() <= seconds + 1,
        "{} in {seconds} s",
        failures().len()
    );
}

#[test]
fn a_log_that_cannot_be_opened_is_refused_by_check_start_and_reload() {
    let backend = Backend::start_new("a");
    let good = logging(Setup::of(&[&backend]), "format: json");
    let ballast = good.start();
    wait_for_lines(&ballast, 0);
    for (path, failures) in [
        ("nowhere/access.log", "No such file or directory"),
        ("run", "Is a directory"),
    ] {
        let bad = Setup::of(&[&backend]).top(&format!("access_log: {{ path: {path} }}"));
        let refused = ballast.reload_by_sighup(&bad.yaml());
        assert!(refused.contains("not reloaded"), "{refused}");
        assert!(refused.contains("access_log.path: cannot "), "{refused}");
        assert!(refused.contains(failures), "{refused}");
        let checked = ballast.check();
        assert_eq!(checked.code, Some(2), "{checked:?}");
        assert!(
            checked.stderr.contains("access_log.path: cannot "),
            "{checked:?}"
        );
        assert!(checked.stderr.contains(failures), "{checked:?}");
        let mut started = Ballast::spawn(&bad.yaml().replace("path: run", "path: /tmp"));
        assert_eq!(started.wait_exit(SOON).code(), Some(1));
        started.wait_for_log(&["access_log.path: cannot open", failures]);
    }
    assert!(!ballast.path("nowhere").exists());
    // The refused reloads have changed nothing, and a check creates no file.
    ballast.configure(&good.yaml().replace(FILE, "other.log"));
    assert_eq!(ballast.check().code, Some(0));
    assert!(!ballast.path("other.log").exists());
    get(ballast.address(), "/");
    wait_for_lines(&ballast, 1);
}

#[test]
fn a_pipe_may_be_opened_late_and_closed_early() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let fifo = fifo(folder.path());
    let backend = Backend::start_new("a");
    let ballast = Setup::of(&[&backend])
        .top(&format!("access_log: {{ path: {} }}", fifo.display()))
        .start();
    for _ in 0..2 {
        get(ballast.address(), "/");
        let pipe = OpenOptions::new()
            .read(true)
            .custom_flags(nix::libc::O_NONBLOCK)
            .open(&fifo);
        let mut pipe = BufReader::new(pipe.expect("the file exists"));
        let mut line = String::new();
        wait_until(SOON, "a line", || {
            let _ = pipe.read_line(&mut line);
            line.ends_with('\n')
        });
        assert!(line.contains("\"complete\""), "{line}");
    }
    assert!(ballast.log_with(&["lost"]).is_empty());
}

/// A small file system for this test; `None` if the test may not mount one.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"])
            .arg(folder.path())
            .status();
        if !mounted.is_ok_and(|status| status.success()) {
            println!("skipped: no right to mount");
            return None;
        }
        Some(SmallDisk(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn after_a_full_disk_lines_are_whole_and_lost_ones_counted() {
    let Some(disk) = SmallDisk::mount() else {
        return;
    };
    let backend = Backend::start_new("a");
    let path = disk.0.path().join("access.log");
    let filler = disk.0.path().join("filler");
    // Room for a few lines and a part of one more.
    fs::write(&filler, vec![0; 56 << 10]).expect("the file fits");
    let ballast = Setup::of(&[&backend])
        .top(&format!("access_log: {{ path: {} }}", path.display()))
        .start();
    const ASKED: usize = 200;
    for number in 0..ASKED {
        get(ballast.address(), &format!("/{number}"));
    }
    wait_until(SOON, "the disk is full", || {
        last_count(&ballast, "No space left").is_some()
    });
    fs::remove_file(&filler).expect("the file exists");
    get(ballast.address(), "/last");
    let lost = wait_for(SOON, "the log continues", || {
        last_count(&ballast, "written again")
    });
    // Lines that waited may be written first.
    let text = wait_for(SOON, "the last line", || {
        let text = fs::read_to_string(&path).expect("the file exists");
        text.contains("\"/last\"").then_some(text)
    });
    let whole = text.lines().map(serde_json::from_str::<Value>);
    let whole = Vec::from_iter(whole.map(|line| line.expect("every line is whole")));
    assert!(text.ends_with('\n'));
    assert!(lost > 0);
    assert_eq!(whole.len() + lost, ASKED + 1);
}
