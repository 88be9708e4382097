//! `hosts_file`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use tempfile::TempDir;

use super::{hosts, setup, wait_for_hosts, wait_for_kept};
use crate::support::{
    Backend, Ballast, Client, Connections, HEALTH_PATH, Load, Reply, SOON, Setup, get, wait_until,
};

const CHECK: &str = "interval: 1s, timeout: 1s, rise: 1, fall: 1";

fn list(backends: &[&Backend]) -> String {
    let lines = backends
        .iter()
        .map(|backend| format!("{}\n", backend.address()));
    lines.collect()
}

/// Replaces a file as a whole.
pub(super) fn replace(file: &Path, text: &str) {
    let new = file.with_extension("new");
    fs::write(&new, text).expect("written");
    fs::rename(new, file).expect("renamed");
}

pub(super) fn with_file(folder: &TempDir, text: &str) -> Setup {
    let file = folder.path().join("web.hosts");
    replace(&file, text);
    setup(folder.path()).pool(&format!("hosts_file: {}", file.display()))
}

#[test]
fn a_list_is_taken_in_however_it_is_replaced() {
    let [a, b, c] = ["a", "b", "c"].map(Backend::start_new);
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("web.hosts");
    let ballast = with_file(&folder, &list(&[&a])).start();
    assert_eq!(get(ballast.address(), "/").backend(), "a");
    // Written in place.
    fs::write(
        &file,
        format!(
            "# ours\n- {}\n- {{ address: {}, weight: 3 }}\n",
            a.address(),
            b.address()
        ),
    )
    .expect("written");
    wait_for_hosts(&ballast, &[&a, &b]);
    let line = ballast.wait_for_log(&["pool web: source file ", "added"]);
    assert!(line.contains(&b.address().to_string()), "{line}");
    let shown = ballast.command(&["status"]).stdout;
    let row = shown
        .lines()
        .find(|line| line.contains(&b.address().to_string()));
    assert!(row.is_some_and(|row| row.contains(" 3 ")), "{shown}");
    // Renamed over.
    replace(&file, &format!("[{{\"address\":\"{}\"}}]", c.address()));
    wait_for_hosts(&ballast, &[&c]);
    assert_eq!(get(ballast.address(), "/").backend(), "c");
    // Swapped behind a symbolic link, as Kubernetes does with a ConfigMap.
    for (version, backend) in [("1", &a), ("2", &b)] {
        let data = folder.path().join(version);
        fs::create_dir(&data).expect("made");
        fs::write(data.join("web.hosts"), list(&[backend])).expect("written");
        let link = folder.path().join("data.new");
        symlink(&data, &link).expect("linked");
        fs::rename(&link, folder.path().join("data")).expect("renamed");
        if version == "1" {
            fs::remove_file(&file).expect("removed");
            symlink(folder.path().join("data/web.hosts"), &file).expect("linked");
        }
        wait_for_hosts(&ballast, &[backend]);
    }
}

#[test]
fn what_is_wrong_with_a_list_removes_nobody() {
    let [a, b] = ["a", "b"].map(Backend::start_new);
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("web.hosts");
    let ballast = with_file(&folder, &list(&[&a])).start();
    for (wrong, reason) in [
        (format!("{}\nnonsense\n", b.address()), "web.hosts:2:1: "),
        (String::new(), "its answer is empty"),
        (
            format!("- {}\n- {{ addres: 1 }}\n", b.address()),
            "web.hosts:2:",
        ),
        (
            "app.internal:80\n".to_owned(),
            "`app.internal:80` is not an address",
        ),
        ("\u{0}\u{1}".to_owned(), "web.hosts:1:1"),
    ] {
        replace(&file, &wrong);
        let line = ballast.wait_for_log(&["WARN", "source file ", reason]);
        assert!(
            line.ends_with("the host that it told before stays"),
            "{line}"
        );
        assert_eq!(get(ballast.address(), "/").backend(), "a");
    }
    fs::remove_file(&file).expect("removed");
    ballast.wait_for_log(&["WARN", "source file ", "cannot read it"]);
    assert_eq!(hosts(&ballast), [a.address().to_string()]);
    replace(&file, &list(&[&b]));
    ballast.wait_for_log(&["INFO", "source file ", "answers again"]);
    wait_for_hosts(&ballast, &[&b]);
}

#[test]
fn replaced_hosts_stay_until_half_of_the_others_are_usable() {
    let [a, b, c] = ["a", "b", "c"].map(Backend::start_new);
    for backend in [&b, &c] {
        backend.set_health(Reply::status(500));
    }
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("web.hosts");
    let ballast = with_file(&folder, &list(&[&a]))
        .health(&format!("{{ type: http, path: {HEALTH_PATH}, {CHECK} }}"))
        .start();
    let load = Load::start(ballast.address(), 2, Connections::Kept);
    load.wait_for_more(10);
    replace(&file, &list(&[&b, &c]));
    wait_for_hosts(&ballast, &[&a, &b, &c]);
    // Both have been checked, and have failed.
    for backend in [&b, &c] {
        ballast.wait_for_log(&[&backend.address().to_string(), "is down"]);
    }
    assert_eq!(get(ballast.address(), "/").backend(), "a");
    b.set_health(Reply::ok());
    wait_for_hosts(&ballast, &[&b, &c]);
    load.wait_for_more(10);
    load.stop().assert_all_ok("the replacement");
    assert_eq!(get(ballast.address(), "/").backend(), "b");
}

#[test]
fn the_last_list_is_used_at_a_start_without_the_file() {
    let a = Backend::start_new("a");
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("web.hosts");
    let setup = with_file(&folder, &list(&[&a]));
    let ballast = setup.start();
    let kept = wait_for_kept(folder.path());
    drop(ballast);
    fs::remove_file(&file).expect("removed");
    let ballast = setup.start();
    assert_eq!(get(ballast.address(), "/").backend(), "a");
    drop(ballast);
    // Garbage is not taken for a list.
    fs::write(kept, "{}").expect("written");
    let ballast = setup.start();
    ballast.wait_for_log(&["WARN", "source file ", "what was kept of it cannot be read"]);
    ballast.wait_for_log(&[
        "WARN",
        "pool web: source file ",
        "has told no hosts",
        "clients get 503",
    ]);
    assert_eq!(get(ballast.address(), "/").status, 503);
    replace(&file, &list(&[&a]));
    let mut client = Client::connect(ballast.address());
    wait_until(SOON, "the host serves", || client.get("/").status == 200);
}

#[test]
fn strict_refuses_to_start_without_hosts() {
    let folder = TempDir::new().expect("a folder");
    let setup = with_file(&folder, "");
    let strict = setup
        .yaml()
        .replace("state_directory", "strict: true, state_directory");
    let mut ballast = Ballast::spawn(&strict);
    let status = ballast.wait_exit(SOON);
    assert_eq!(status.code(), Some(2));
    ballast.wait_for_log(&[
        "pools.web: source file ",
        "its answer is empty (discovery.strict is set)",
    ]);
}

#[test]
fn a_reload_does_not_empty_a_pool_and_a_handover_keeps_its_hosts() {
    let [a, b] = ["a", "b"].map(Backend::start_new);
    let folder = TempDir::new().expect("a folder");
    let setup = with_file(&folder, &list(&[&a]));
    let ballast = setup.start();
    let other = folder.path().join("other.hosts");
    let yaml = setup.yaml().replace("web.hosts", "other.hosts");
    ballast.configure(&yaml);
    let refused = ballast.reload();
    assert_ne!(refused.code, Some(0));
    assert!(
        refused
            .stderr
            .contains("the pool would lose all of its hosts"),
        "{}",
        refused.stderr
    );
    assert_eq!(get(ballast.address(), "/").backend(), "a");
    replace(&other, &list(&[&b]));
    let reloaded = ballast.reload();
    assert_eq!(reloaded.code, Some(0), "{}", reloaded.stderr);
    assert_eq!(get(ballast.address(), "/").backend(), "b");
    // The successor knows what its predecessor knew.
    fs::remove_file(&other).expect("removed");
    fs::remove_dir_all(folder.path().join("state")).expect("removed");
    let successor = ballast.successor();
    wait_until(SOON, "the successor serves", || successor.listens());
    assert_eq!(get(successor.address(), "/").backend(), "b");
}

#[test]
fn keys_move_only_to_the_host_that_is_new() {
    let backends = ["a", "b", "c", "d", "e"].map(Backend::start_new);
    let all = Vec::from_iter(backends.iter());
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("web.hosts");
    let ballast = with_file(&folder, &list(&all[..4]))
        .algorithm("{ name: consistent_hash, key: path }")
        .start();
    let mut client = Client::connect(ballast.address());
    let mut picks = || {
        let picks = (0..200).map(|key| client.get(&format!("/{key}")).backend().to_owned());
        Vec::from_iter(picks)
    };
    let before = picks();
    replace(&file, &list(&all));
    wait_for_hosts(&ballast, &all);
    let mut after = picks();
    // The first check is over a moment later than the host is there.
    wait_until(SOON, "the new host serves", || {
        after = picks();
        after.iter().any(|host| host == "e")
    });
    let moved = before
        .iter()
        .zip(&after)
        .filter(|(before, after)| before != after);
    let moved = Vec::from_iter(moved.map(|(_, after)| after.as_str()));
    assert!(moved.iter().all(|host| *host == "e"), "{moved:?}");
    assert!((10..80).contains(&moved.len()), "{}", moved.len());
}

#[test]
fn operators_change_hosts_of_a_source_as_others() {
    let [a, b, c] = ["a", "b", "c"].map(Backend::start_new);
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("web.hosts");
    let ballast = with_file(&folder, &list(&[&a, &b])).start();
    let name = |backend: &Backend| backend.address().to_string();
    let drained = ballast.command(&["drain", &name(&a)]);
    assert_eq!(drained.code, Some(0), "{}", drained.stderr);
    replace(&file, &list(&[&a, &b, &c]));
    wait_for_hosts(&ballast, &[&a, &b, &c]);
    let mut client = Client::connect(ballast.address());
    for _ in 0..10 {
        assert_ne!(client.get("/").backend(), "a");
    }
    let removed = ballast.command(&["host", "remove", "--pool", "web", &name(&b)]);
    assert_eq!(removed.code, Some(0), "{}", removed.stderr);
    for _ in 0..10 {
        assert_eq!(client.get("/").backend(), "c");
    }
}
