//! How many lines many hosts produce, and that no counter falls.

use std::net::SocketAddr;
use std::time::Duration;

use super::scrape::Scrape;
use crate::admin::with_admin;
use crate::support::{Backend, Ballast, DeadHost, SOON, Setup, get, wait_until};

/// Starts a process with this many hosts, one of which is up. Returns it with its admin address.
fn start_with_hosts(backend: &Backend, count: usize, admin: &str) -> (Ballast, SocketAddr) {
    let address = crate::support::free();
    let setup = (1..count).fold(Setup::of(&[backend]), |setup, number| {
        setup.host_entry(&format!(
            "\"127.1.{}.{}:9\"",
            number / 250,
            number % 250 + 1
        ))
    });
    let setup = setup.top(&format!("admin: {{ address: \"{address}\"{admin} }}"));
    // A slow machine needs a while for this many hosts.
    let mut ballast = Ballast::spawn(&setup.yaml());
    assert!(ballast.listens_within(Duration::from_secs(120)));
    (ballast, address)
}

/// The most lines that a host has.
fn lines_of_a_host(scrape: &Scrape) -> usize {
    let of = |host: &str| {
        let label = format!("host=\"{host}\"");
        scrape
            .text
            .lines()
            .filter(|line| line.contains(&label))
            .count()
    };
    of("127.1.0.2:9").max(of("127.1.1.100:9"))
}

#[test]
fn from_five_hundred_hosts_on_each_has_fewer_than_ten_series() {
    let backend = Backend::start_new("a");
    for (hosts, brief) in [(499, false), (500, true)] {
        let (_ballast, admin) = start_with_hosts(&backend, hosts, "");
        let lines = lines_of_a_host(&Scrape::of(admin));
        assert_eq!(lines < 10, brief, "{lines} lines at {hosts} hosts");
        assert!(lines > 0);
    }
    let (_ballast, admin) = start_with_hosts(&backend, 5_000, "");
    let scrape = Scrape::of(admin);
    assert!(lines_of_a_host(&scrape) < 10);
    assert!(scrape.text.len() < 6 << 20, "{} bytes", scrape.text.len());
    assert!(scrape.text.lines().count() < 10 * 5_000 + 500);
}

#[test]
fn the_host_detail_is_configurable_and_series_keep_their_meaning() {
    let backend = Backend::start_new("a");
    let (setup, admin) = with_admin(Setup::of(&[&backend]));
    let with = |detail: &str| {
        let section = format!("{admin}\", metrics: {{ hosts: {detail} }} }}");
        setup.yaml().replace(&format!("{admin}\" }}"), &section)
    };
    let ballast = setup.start();
    get(ballast.address(), "/");
    let host = backend.address().to_string();
    let total = |labels: &[(&str, &str)]| Scrape::of(admin).sum("ballast_requests_total", labels);
    wait_until(SOON, "the request is counted", || total(&[]) == 1.0);
    ballast.reload_by_sighup(&with("brief"));
    assert_eq!(
        total(&[("pool", "web"), ("host", "*"), ("code", "2xx")]),
        1.0
    );
    assert_eq!(total(&[("host", &host)]), 0.0);
    assert_eq!(total(&[]), 1.0, "each request once");
    let by_host = [("host", &*host)];
    assert_eq!(
        Scrape::of(admin).sum("ballast_host_requests_total", &by_host),
        1.0
    );
    get(ballast.address(), "/");
    wait_until(SOON, "the request is counted", || total(&[]) == 2.0);
    ballast.reload_by_sighup(&with("full"));
    assert_eq!(total(&[("host", &host), ("code", "2xx")]), 2.0);
    assert_eq!(total(&[("host", "*")]), 0.0);
}

#[test]
fn counters_never_decrease_over_reloads() {
    let backend = Backend::start_new("a");
    let dead = DeadHost::new();
    let base = |log: &str, retries: &str| {
        Setup::of(&[&backend])
            .host(dead.address())
            .top(&format!("access_log: {{ path: {log} }}"))
            .pool(&format!("retries: {retries}"))
            .pool("ejection: none")
    };
    let (setup, admin) = with_admin(base("/dev/full", "{ attempts: 2, budget: 0%, min: 0 }"));
    let ballast = setup.start();
    let with = |log: &str, retries: &str| {
        let setup = base(log, retries).top(&format!("admin: {{ address: \"{admin}\" }}"));
        setup.yaml()
    };
    backend.set(crate::support::Reply::Reset);
    for _ in 0..20 {
        get(ballast.address(), "/");
    }
    let sum = |name: &str| Scrape::of(admin).sum(name, &[]);
    wait_until(SOON, "lines are lost and retries denied", || {
        sum("ballast_access_log_lost_lines_total") >= 20.0
            && sum("ballast_retries_denied_total") > 0.0
    });
    let names = |scrape: &Scrape| {
        let names = scrape
            .names()
            .into_iter()
            .filter(|name| name.ends_with("_total"));
        Vec::from_iter(
            names
                .filter(|name| name.starts_with("ballast_"))
                .map(str::to_owned),
        )
    };
    let mut before = Scrape::of(admin);
    for (log, retries) in [
        ("other.log", "{ attempts: 2, budget: 20% }"),
        ("other.log", "none"),
        ("/dev/full", "{ attempts: 1, budget: 10% }"),
    ] {
        ballast.reload_by_sighup(&with(log, retries));
        let now = Scrape::of(admin);
        for name in names(&before) {
            if name == "ballast_retries_denied_total" && retries == "none" {
                continue;
            }
            let (was, is) = (before.sum(&name, &[]), now.sum(&name, &[]));
            assert!(is >= was, "{name} falls from {was} to {is}");
        }
        if retries != "none" {
            before = now;
        }
    }
}
