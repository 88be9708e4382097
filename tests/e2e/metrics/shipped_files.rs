//! The dashboard and the alerts in `conf`: they are well-formed, and every metric they query exists.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::scrape::Scrape;
use crate::admin::with_admin;
use crate::support::{Authority, Backend, LISTEN, Setup, file, peer};

fn conf(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("conf")
        .join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(conf(name)).expect("the file exists")
}

/// The names of Ballast's metrics in a text.
fn names(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let own = |word: &&str| word.starts_with("ballast_") || word.starts_with("process_");
    words.filter(own).collect()
}

#[test]
fn dashboard_and_alerts_query_existing_metrics() {
    let backend = Backend::start_new("a");
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let authority = Authority::new("any");
    authority.issue(&["a.test"]).write(folder.path(), "a");
    authority.write(folder.path(), "ca.pem");
    file(folder.path(), "ca.crl", &authority.revoke(&[], 2099));
    file(folder.path(), "web.hosts", "127.0.0.1:9\n");
    // Certificates, revocation lists and sources of hosts have their own series.
    let path = folder.path().display();
    let setup = Setup::of(&[&backend]).top(&format!(
        "listeners: [{{ address: \"{LISTEN}\", tls: {{ certificates: [{{ certificate: {path}/a.crt, key: {path}/a.key }}], \
         client_certificates: {{ ca: {path}/ca.pem, crl: {path}/ca.crl }} }} }}]"
    ));
    // A member of a cluster has its own, too, whether or not it reaches etcd.
    let setup = setup
        .top("cluster: { name: test, etcd: { endpoints: [\"http://127.0.0.1:9\"] } }")
        .top(&format!("discovery: {{ state_directory: {path}/state }}"))
        .pool(&format!("hosts_file: {path}/web.hosts"));
    let (setup, admin) = with_admin(setup);
    let _ballast = setup.start();
    let scrape = Scrape::of(admin);
    let exported = scrape.names();
    let dashboard: Value = serde_json::from_str(&read("grafana-dashboard.json")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let targets = panels
        .iter()
        .filter_map(|panel| panel["targets"].as_array());
    let queried = targets
        .flatten()
        .filter_map(|target| target["expr"].as_str());
    let queried: Vec<_> = queried.map(str::to_owned).collect();
    assert!(queried.len() >= 12, "{} queries", queried.len());
    for text in queried.into_iter().chain([read("alerts.yml")]) {
        let names = names(&text);
        assert!(!names.is_empty(), "{text}");
        let unknown: Vec<_> = names.difference(&exported).collect();
        assert!(unknown.is_empty(), "{unknown:?} in {text}");
    }
}

#[test]
fn promtool_accepts_the_alerts() {
    let Some(promtool) = peer("promtool") else {
        return;
    };
    let checked = Command::new(promtool)
        .args(["check", "rules", "--lint=all", "--lint-fatal"])
        .arg(conf("alerts.yml"))
        .output()
        .expect("promtool runs");
    assert!(checked.status.success(), "{checked:?}");
}
