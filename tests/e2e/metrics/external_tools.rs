//! Checks by other programs: Prometheus' own tools, and a load generator that counts for itself.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::scrape::{Scrape, after};
use super::{CHECKED, disrupt, host};
use crate::admin::with_admin;
use crate::support::{Backend, Client, SOON, Setup, file, free, get, peer, wait_until};

#[test]
fn promtool_reports_no_problems() {
    let Some(promtool) = peer("promtool") else {
        return;
    };
    let backend = Backend::start_new("a");
    let (setup, admin) = with_admin(Setup::of(&[&backend]));
    let ballast = setup.start();
    get(ballast.address(), "/");
    let scrape = after(admin, 1);
    let mut check = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool runs");
    let mut input = check.stdin.take().expect("the output is piped");
    input
        .write_all(scrape.text.as_bytes())
        .expect("promtool reads");
    drop(input);
    let output = check.wait_with_output().expect("promtool ends");
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && text.is_empty(), "{text}");
}

/// A running Prometheus that scrapes one target. It is killed when dropped.
struct Prometheus {
    child: Child,
    address: SocketAddr,
    _folder: TempDir,
}

impl Prometheus {
    fn start(program: &Path, target: SocketAddr) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let address = free();
        let config = format!(
            "global: {{ scrape_interval: 200ms, scrape_timeout: 200ms }}\n\
             scrape_configs: [{{ job_name: ballast, static_configs: [{{ targets: [\"{target}\"] }}] }}]\n"
        );
        let config = file(folder.path(), "prometheus.yml", &config);
        let child = Command::new(program)
            .arg(format!("--config.file={}", config.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.path().join("data").display()
            ))
            .arg(format!("--web.listen-address={address}"))
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let mut prometheus = Prometheus {
            child: child.expect("prometheus runs"),
            address,
            _folder: folder,
        };
        // No other code reads the pipe, and a full pipe would stop Prometheus.
        let log = prometheus.child.stderr.take().expect("the output is piped");
        thread::spawn(move || BufReader::new(log).lines().map_while(Result::ok).count());
        wait_until(Duration::from_secs(30), "prometheus is ready", || {
            let ready = "GET /-/ready HTTP/1.1\r\nHost: test\r\n\r\n";
            let response =
                Client::try_connect(address).and_then(|mut client| client.request(ready));
            response.is_ok_and(|response| response.status == 200)
        });
        prometheus
    }

    /// The value of a query; `None` if it has no value yet.
    fn query(&self, query: &str) -> Option<f64> {
        let query = query.replace(' ', "%20").replace('"', "%22");
        let response = get(self.address, &format!("/api/v1/query?query={query}"));
        let response: Value = serde_json::from_slice(&response.body).expect("JSON");
        assert_eq!(response["status"], "success", "{response}");
        let value = response["data"]["result"][0]["value"][1].as_str()?;
        value.parse().ok()
    }

    #[track_caller]
    fn wait_for(&self, query: &str, value: f64) {
        let mut last = None;
        wait_until(SOON, &format!("{query} is {value}"), || {
            last = self.query(query);
            last == Some(value)
        });
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn prometheus_scrapes_the_exact_counts() {
    let Some(program) = peer("prometheus") else {
        return;
    };
    let [a, b] = ["a", "b"].map(Backend::start_new);
    let (setup, admin) = with_admin(Setup::of(&[&a, &b]));
    let ballast = setup.start();
    let prometheus = Prometheus::start(&program, admin);
    prometheus.wait_for("up", 1.0);
    for _ in 0..57 {
        assert_eq!(get(ballast.address(), "/").status, 200);
    }
    prometheus.wait_for("sum(ballast_requests_total)", 57.0);
    prometheus.wait_for("sum(ballast_requests_total{code=\"2xx\"})", 57.0);
    prometheus.wait_for("count(ballast_host_serving == 1)", 2.0);
    let p99 = "histogram_quantile(0.99, sum by (le) (ballast_request_duration_seconds_bucket))";
    let p99 = prometheus.query(p99).expect("there were requests");
    assert!((0.0..60.0).contains(&p99), "{p99}");
    // A removed host is gone at the next scrape.
    let left = Setup::of(&[&a]).top(&format!("admin: {{ address: \"{admin}\" }}"));
    let line = ballast.reload_by_sighup(&left.yaml());
    assert!(line.contains("reloaded in place"), "{line}");
    prometheus.wait_for("count(ballast_host_serving)", 1.0);
    let removed = format!("ballast_host_serving{{host=\"{}\"}}", host(&b));
    wait_until(SOON, "the host is gone", || {
        prometheus.query(&removed).is_none()
    });
}

/// Counts the requests that wrk has begun; wrk builds one more before the first, to see what it will send.
const COUNT_STARTED: &str = "\
begun = -1
request = function() begun = begun + 1 return wrk.format('GET', '/' .. begun) end
local threads = {}
setup = function(thread) table.insert(threads, thread) end
done = function(summary)
    local errors = summary.errors
    print('completed ' .. summary.requests)
    print('begun ' .. threads[1]:get('begun'))
    print('lost ' .. errors.connect + errors.read + errors.write + errors.timeout)
    print('refused ' .. errors.status)
end
";

/// wrk counts the requests it has completed. At its end it abandons up to one request on each connection, which the
/// process may have handled completely or not at all. This script reports how many requests wrk has begun, so the
/// counts can be compared to the exact request.
#[test]
fn counts_equal_those_of_wrk_after_faults() {
    const CONNECTIONS: u64 = 16;
    let Some(wrk) = peer("wrk") else { return };
    let backends = ["a", "b", "c"].map(Backend::start_new);
    let setup = Setup::of(&backends.each_ref()).health(CHECKED);
    let (setup, admin) = with_admin(setup);
    let ballast = setup.start();
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let script = file(folder.path(), "count.lua", COUNT_STARTED);
    let run = Command::new(wrk)
        .args(["-t1", &format!("-c{CONNECTIONS}"), "-d4s", "-s"])
        .arg(script)
        .arg(format!("http://{}", ballast.address()))
        .stdout(Stdio::piped())
        .spawn()
        .expect("wrk runs");
    disrupt(&ballast, &setup.yaml(), &backends);
    let output = run.wait_with_output().expect("wrk ends");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{text}");
    let count_of = |name: &str| -> u64 {
        let mut lines = text.lines().filter_map(|line| line.split_once(' '));
        let (_, number) = lines
            .find(|(word, _)| *word == name)
            .expect("wrk prints every count");
        number.parse().expect("a number")
    };
    let (completed, begun, lost) = (count_of("completed"), count_of("begun"), count_of("lost"));
    let abandoned = begun - completed - lost;
    assert!(completed > 0 && abandoned <= CONNECTIONS, "{text}");
    // The requests that wrk calls lost broke off after the process had read them: the host breaks off in the middle of
    // a response.
    let scrape = after(admin, completed + lost + abandoned);
    let failed = ["5xx", "500", "502", "503", "504"];
    let failed = failed.map(|code| scrape.sum("ballast_requests_total", &[("code", code)]));
    let failed = failed.iter().sum::<f64>();
    let refused = count_of("refused") as f64;
    assert!(
        (refused..=refused + abandoned as f64).contains(&failed),
        "{failed} of {refused}"
    );
    assert!(Scrape::of(admin).sum("ballast_retries_total", &[]) > 0.0);
}
