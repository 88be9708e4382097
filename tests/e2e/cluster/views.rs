//! What operators and monitoring see of a cluster.

use serde_json::json;

use super::{cluster, member, members, run, wait_connected, wait_for_members};
use crate::admin::with_admin;
use crate::metrics::scrape::Scrape;
use crate::support::{Backend, Ballast, Browser, Etcd, SOON, Setup, wait_until};

#[test]
fn shares_are_told_in_words() {
    let Some(etcd) = Etcd::start() else { return };
    let a = Backend::start_new("a");
    let setup = Setup::of(&[&a])
        .top("limits: { rate: 100/s, max_in_flight: 10 }")
        .pool("limits: { max_in_flight: 7 }");
    let [one, two, _three] = members(&setup, &etcd, ["one", "three", "two"]);
    let shown = two.command(&["status", "--cluster"]).stdout;
    let lines = Vec::from_iter(shown.lines().map(|line| {
        let words = Vec::from_iter(line.split_whitespace());
        words.join(" ")
    }));
    for expected in [
        "LIMIT WHOLE SHARE",
        "limits.max_in_flight 10 4",
        "limits.rate 100/s, burst 100, by client_ip 33.334/s, burst 34, by client_ip",
        "pools.web.limits.max_in_flight 7 3",
        "checks of hosts: at 3 times the interval in the file, as each member checks them",
    ] {
        assert!(lines.iter().any(|line| line == expected), "{shown}");
    }
    let told = cluster(&one);
    assert_eq!(told["check_stretch"], 3);
    let limit = json!({ "key": "limits.max_in_flight", "whole": "10", "share": "4" });
    assert_eq!(told["limits"][0], limit);
    // A reload changes the whole, and with it the share.
    let other = member(&setup, &etcd, "one").replace("max_in_flight: 10", "max_in_flight: 31");
    one.reload_by_sighup(&other);
    assert_eq!(cluster(&one)["limits"][0]["share"], "11");
}

#[test]
fn the_dashboard_and_the_metrics_show_the_cluster() {
    let Some(mut etcd) = Etcd::start() else {
        return;
    };
    let a = Backend::start_new("a");
    let (setup, admin) = with_admin(Setup::of(&[&a]));
    let [one] = members(&setup, &etcd, ["one"]);
    let metric = |name: &str| Scrape::of(admin).sum(name, &[]);
    assert_eq!(metric("ballast_cluster_members"), 1.0);
    let two = Ballast::start(&member(&Setup::of(&[&a]), &etcd, "two"));
    wait_for_members(&one, &["one", "two"]);
    assert_eq!(metric("ballast_cluster_members"), 2.0);
    assert_eq!(metric("ballast_cluster_connected"), 1.0);
    run(&one, &["drain", &a.address().to_string()]);
    let changes = |outcome| {
        let labels = [("outcome", outcome)];
        Scrape::of(admin).sum("ballast_cluster_changes_total", &labels)
    };
    assert_eq!(changes("published"), 1.0);
    let browser = Browser::start(1440, 900);
    let wait_for_line = |text: &str| {
        if let Some(browser) = &browser {
            browser.wait_for(&format!(
                "document.querySelector('#cluster').innerText.includes('{text}')"
            ));
        }
    };
    if let Some(browser) = &browser {
        browser.open(&format!("http://{admin}/"));
    }
    wait_for_line(
        "Cluster test: 2 members, each with 1/2 of the limits; one beside two, connected since ",
    );
    if let Some(browser) = &browser {
        browser.screenshot("cluster");
    }
    etcd.kill(0);
    wait_connected(&one, false);
    wait_until(SOON, "the metric", || {
        metric("ballast_cluster_connected") == 0.0
    });
    // The last number stays.
    assert_eq!(metric("ballast_cluster_members"), 2.0);
    wait_for_line("etcd lost since ");
    wait_for_line("changes are refused: ");
    if let Some(browser) = &browser {
        browser.wait_for("document.querySelector('#cluster').classList.contains('bad')");
        assert_eq!(browser.complaints(), Vec::<String>::new());
    }
    let refused = one.command(&["undrain", &a.address().to_string()]);
    assert_eq!(refused.code, Some(1));
    assert_eq!(changes("refused"), 1.0);
    drop(two);
}
