//! Keys in etcd as sources of hosts, with a real etcd.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use super::{hosts, setup, wait_for_hosts, wait_for_kept};
use crate::support::{
    Backend, Connections, ETCD_PASSWORD, Etcd, Load, SOON, Setup, file, get, wait_until,
};

fn with(folder: &TempDir, section: &str) -> Setup {
    setup(folder.path())
        .replacing("discovery: { ", &format!("discovery: {{ etcd: {section}, "))
        .pool("etcd: /services/web/")
}

fn folder() -> TempDir {
    TempDir::new().expect("a folder")
}

fn put(etcd: &Etcd, key: &str, backend: &Backend) {
    etcd.control(&["put", key, &backend.address().to_string()]);
}

#[test]
fn keys_that_are_put_and_deleted_are_hosts_that_join_and_leave() {
    let Some(etcd) = Etcd::start() else { return };
    let [a, b, c] = ["a", "b", "c"].map(Backend::start_new);
    let folder = folder();
    put(&etcd, "/services/web/a", &a);
    put(&etcd, "/services/webs/other", &c);
    let ballast = with(&folder, &etcd.section("")).start();
    assert_eq!(hosts(&ballast), [a.address().to_string()]);
    let load = Load::start(ballast.address(), 2, Connections::Kept);
    let heavy = format!(
        "{{\"address\": \"{}\", \"weight\": 7, \"name\": \"the b\", \"labels\": {{\"zone\": \"b\"}}}}",
        b.address()
    );
    etcd.control(&["put", "/services/web/b", &heavy]);
    wait_for_hosts(&ballast, &[&a, &b]);
    let line = ballast.wait_for_log(&["pool web: source etcd /services/web/", "added"]);
    assert!(line.contains(&b.address().to_string()), "{line}");
    let shown = ballast.command(&["status"]).stdout;
    let row = shown.lines().find(|line| line.contains("the b"));
    assert!(row.is_some_and(|row| row.contains(" 7 ")), "{shown}");
    etcd.control(&["del", "/services/web/a"]);
    wait_for_hosts(&ballast, &[&b]);
    load.wait_for_more(10);
    load.stop().assert_all_ok("the changes");
    // Without any key the last host stays.
    etcd.control(&["del", "--prefix", "/services/web/"]);
    ballast.wait_for_log(&[
        "WARN",
        "its answer is empty; the host that it told before stays",
    ]);
    assert_eq!(get(ballast.address(), "/").backend(), "b");
}

#[test]
fn a_host_whose_lease_ends_leaves() {
    let Some(etcd) = Etcd::start() else { return };
    let [a, b] = ["a", "b"].map(Backend::start_new);
    let folder = folder();
    put(&etcd, "/services/web/a", &a);
    let granted = etcd.control(&["lease", "grant", "2"]);
    let lease = granted.split(' ').nth(1).expect("an id").to_owned();
    let address = b.address().to_string();
    etcd.control(&["put", "--lease", &lease, "/services/web/b", &address]);
    let ballast = with(&folder, &etcd.section("")).start();
    wait_for_hosts(&ballast, &[&a]);
    ballast.wait_for_log(&["pool web: source etcd /services/web/", "removed", &address]);
}

#[test]
fn hosts_stay_while_etcd_is_away_and_follow_it_when_it_is_back() {
    let Some(mut etcd) = Etcd::start() else {
        return;
    };
    let [a, b] = ["a", "b"].map(Backend::start_new);
    let folder = folder();
    put(&etcd, "/services/web/a", &a);
    let setup = with(&folder, &etcd.section(""));
    let ballast = setup.start();
    wait_for_kept(folder.path());
    etcd.kill(0);
    ballast.wait_for_log(&["WARN", "source etcd /services/web/: ", "stays"]);
    assert_eq!(get(ballast.address(), "/").backend(), "a");
    drop(ballast);
    // A start without etcd.
    let ballast = setup.start();
    assert_eq!(get(ballast.address(), "/").backend(), "a");
    ballast.wait_for_log(&["WARN", "source etcd /services/web/: ", "stays"]);
    etcd.restart(0);
    put(&etcd, "/services/web/b", &b);
    etcd.control(&["del", "/services/web/a"]);
    // What happened in the meantime cannot be watched any more.
    etcd.compact();
    wait_for_hosts(&ballast, &[&b]);
    ballast.wait_for_log(&["INFO", "source etcd /services/web/: answers again"]);
}

#[test]
fn a_wrong_value_is_named_and_removes_nobody() {
    let Some(etcd) = Etcd::start() else { return };
    let [a, b, c] = ["a", "b", "c"].map(Backend::start_new);
    let folder = folder();
    put(&etcd, "/services/web/a", &a);
    put(&etcd, "/services/web/b", &b);
    let ballast = with(&folder, &etcd.section("")).start();
    etcd.control(&["put", "/services/web/wrong", "app.internal:80"]);
    let line = ballast.wait_for_log(&["WARN", "the value of `/services/web/wrong` is no host"]);
    assert!(
        line.contains("`app.internal:80` is not an address"),
        "{line}"
    );
    // The rest counts, and none leaves.
    etcd.control(&["del", "/services/web/a"]);
    put(&etcd, "/services/web/c", &c);
    wait_for_hosts(&ballast, &[&a, &b, &c]);
    etcd.control(&["del", "/services/web/wrong"]);
    wait_for_hosts(&ballast, &[&b, &c]);
}

#[test]
fn pools_have_prefixes_of_their_own_and_a_reload_adds_one() {
    let Some(etcd) = Etcd::start() else { return };
    let [a, b] = ["a", "b"].map(Backend::start_new);
    let folder = folder();
    put(&etcd, "/services/web/a", &a);
    put(&etcd, "/services/api/b", &b);
    let setup = with(&folder, &etcd.section(""));
    let ballast = setup.start();
    assert_eq!(get(ballast.address(), "/").backend(), "a");
    let both = setup.top("routes: [{ path: /api/, pool: api }, { pool: web }]");
    let yaml = format!(
        "{}  api:\n    health_check: none\n    etcd: /services/api/\n",
        both.yaml()
    );
    ballast.configure(&yaml);
    let reloaded = ballast.reload();
    assert_eq!(reloaded.code, Some(0), "{}", reloaded.stderr);
    assert_eq!(get(ballast.address(), "/api/").backend(), "b");
    assert_eq!(get(ballast.address(), "/").backend(), "a");
}

#[test]
fn etcd_with_tls_and_users() {
    let Some(mut etcd) = Etcd::start_with_tls() else {
        return;
    };
    let [a, b] = ["a", "b"].map(Backend::start_new);
    let folder = folder();
    etcd.enable_users();
    put(&etcd, "/services/web/a", &a);
    let password = |text: &str| {
        let password = file(folder.path(), "password", text);
        fs::set_permissions(&password, fs::Permissions::from_mode(0o600)).expect("changed");
        format!("user: root, password_file: {}", password.display())
    };
    let wrong = with(&folder, &etcd.section(&password("wrong"))).start();
    wrong.wait_for_log(&[
        "WARN",
        "source etcd /services/web/",
        "authentication failed",
    ]);
    assert_eq!(get(wrong.address(), "/").status, 503);
    drop(wrong);
    let ballast = with(&folder, &etcd.section(&password(ETCD_PASSWORD))).start();
    wait_until(SOON, "the host serves", || {
        get(ballast.address(), "/").status == 200
    });
    put(&etcd, "/services/web/a", &b);
    wait_for_hosts(&ballast, &[&b]);
}
