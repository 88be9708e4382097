//! Members of etcd that die, hang and forget, while balancers serve and are steered; balancers that start without etcd.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use super::{AGREED, cluster, member, member_of, member_with_state, run, state_of};
use crate::support::{
    Backend, Ballast, Client, Connections, Etcd, Load, SOON, Setup, get, long, wait_until,
};

/// After these times a balancer gives up a member of etcd that hangs: twice for a watch that is silent.
const IMPATIENT: &str = "connect_timeout: 300ms, request_timeout: 500ms";
const HANGING: Duration = Duration::from_millis(1_500);

/// The pause of a client between two requests: the machine is busy with etcd.
const PACE: Duration = Duration::from_millis(5);

/// Three balancers, and what they were told.
struct Steered<'a> {
    balancers: &'a [Ballast; 3],
    backends: &'a [Backend; 4],
    expected: BTreeMap<usize, String>,
    begun: Instant,
}

impl Steered<'_> {
    /// Changes a host on a balancer until that is reported done.
    fn change(&mut self, on: usize, host: usize, args: &[&str], expected: &str) {
        let id = self.backends[host].address().to_string();
        let args: Vec<&str> = args
            .iter()
            .map(|arg| if *arg == "HOST" { &id } else { *arg })
            .collect();
        wait_until(SOON, &format!("{args:?} is done"), || {
            self.balancers[on].command(&args).code == Some(0)
        });
        self.expected.insert(host, expected.to_owned());
    }

    fn drain(&mut self, on: usize, host: usize) {
        self.change(on, host, &["drain", "HOST"], "draining 1");
    }

    fn undrain(&mut self, on: usize, host: usize) {
        self.change(on, host, &["undrain", "HOST"], "up 1");
    }

    fn weigh(&mut self, on: usize, host: usize, weight: u32) {
        let number = weight.to_string();
        let args = ["host", "weight", "--pool", "web", "HOST", &number];
        self.change(on, host, &args, &format!("up {weight}"));
    }

    /// All balancers have all that was reported done. The time is printed, and bounded in the long form of the test: other
    /// tests may keep the machine busy.
    #[track_caller]
    fn agree(&self, within: Duration, after: &str) {
        let begun = Instant::now();
        let within = if long() { within } else { SOON };
        for ballast in self.balancers {
            for (host, state) in &self.expected {
                let left = within.saturating_sub(begun.elapsed());
                wait_until(left, &format!("{host} is {state} {after}"), || {
                    state_of(ballast, &self.backends[*host]) == *state
                });
            }
        }
        let took = begun.elapsed();
        println!("{:?}: agreed {after} within {took:?}", self.begun.elapsed());
    }
}

#[test]
fn nothing_is_lost_while_members_of_etcd_die_hang_and_forget() {
    let Some(mut etcd) = Etcd::start_members(3) else {
        return;
    };
    let backends = ["a", "b", "c", "d"].map(Backend::start_new);
    let setup = Setup::of(&[&backends[0], &backends[1], &backends[2], &backends[3]]);
    let section = etcd.section(IMPATIENT);
    let names = ["one", "three", "two"];
    let balancers = names.map(|name| Ballast::start(&member_of(&setup, &section, name)));
    for ballast in &balancers {
        super::wait_for_members(ballast, &names);
    }
    let loads = balancers
        .each_ref()
        .map(|ballast| Load::start_paced(ballast.address(), 2, Connections::Kept, PACE));
    let mut steered = Steered {
        balancers: &balancers,
        backends: &backends,
        expected: BTreeMap::new(),
        begun: Instant::now(),
    };
    steered.drain(0, 0);
    steered.agree(AGREED, "at rest");

    let leader = etcd.leader();
    etcd.kill(leader);
    steered.weigh(1, 1, 5);
    steered.undrain(2, 0);
    steered.agree(AGREED, "after the leader was killed");
    etcd.restart(leader);
    steered.weigh(0, 2, 3);
    steered.agree(AGREED, "after it was restarted");

    for hanging in 0..2 {
        etcd.pause(hanging);
        steered.weigh(hanging, 3, 7 + hanging as u32);
        steered.agree(AGREED + HANGING, "while a member hangs");
        etcd.resume(hanging);
        steered.weigh(2 - hanging, 1, 2 + hanging as u32);
        steered.agree(AGREED, "after it went on");
    }

    etcd.compact();
    // What the watches followed is gone for those that have to begin anew.
    let leader = etcd.leader();
    etcd.kill(leader);
    steered.weigh(2, 2, 9);
    etcd.compact();
    etcd.restart(leader);
    steered.weigh(1, 2, 4);
    steered.agree(AGREED, "after a compaction");

    // Without a majority changes are refused, and hold once there is one again.
    etcd.kill(0);
    etcd.kill(1);
    let id = backends[0].address().to_string();
    let refused = balancers[0].command(&["drain", &id]);
    assert_eq!(refused.code, Some(1), "{}", refused.stderr);
    etcd.restart(0);
    steered.drain(0, 0);
    steered.agree(AGREED, "after there is a majority again");
    for load in loads {
        load.wait_for_more(5);
        load.stop().assert_all_ok("three balancers");
    }
}

#[test]
fn a_member_that_starts_without_etcd_begins_with_what_it_knew() {
    let Some(mut etcd) = Etcd::start() else {
        return;
    };
    let [a, b] = ["a", "b"].map(Backend::start_new);
    let setup = Setup::of(&[&a, &b]).pool("sticky: { cookie: c }");
    let state = tempfile::tempdir().expect("a temporary folder can be made");
    let yaml = member_with_state(&setup, &etcd, "one", &state);
    let one = Ballast::start(&yaml);
    let two = Ballast::start(&member(&setup, &etcd, "two"));
    super::wait_for_members(&two, &["one", "two"]);
    let id = a.address().to_string();
    run(&one, &["host", "weight", "--pool", "web", &id, "3"]);
    run(&one, &["drain", &b.address().to_string()]);
    let file = state.path().join("cluster-test@one.json");
    let kept = || std::fs::read_to_string(&file).unwrap_or_default();
    let drained = format!("\"drained\":[\"{}\"]", b.address());
    wait_until(SOON, "it is kept", || {
        let kept = kept();
        [&drained, "\"members\":2", "\"secret\":\""]
            .iter()
            .all(|part| kept.contains(*part))
    });
    let mode = std::fs::metadata(&file).expect("a file").permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);
    let first = get(one.address(), "/");
    let cookie = first.head.get("set-cookie").expect("a cookie").to_owned();

    etcd.kill(0);
    drop(one);
    let one = Ballast::start(&yaml);
    one.wait_for_log(&["WARN", "this member goes on alone with what it knew at 20"]);
    assert_eq!(cluster(&one)["shares"], 2);
    assert_eq!(state_of(&one, &a), "up 3");
    assert_eq!(state_of(&one, &b), "draining 1");
    // The cookie is known, so there is no other one.
    let cookie = cookie.split(';').next().unwrap_or_default();
    let again = Client::connect(one.address()).get_with("/", &format!("Cookie: {cookie}\r\n"));
    assert_eq!(again.head.get("set-cookie"), None);
    // The secret is in the file only.
    let kept: serde_json::Value = serde_json::from_str(&kept()).expect("JSON");
    let secret = kept["secret"].as_str().expect("a text");
    let shown = one.command(&["status", "--cluster", "--json"]).stdout;
    assert!(!shown.contains(secret) && !one.log().join("\n").contains(secret));

    etcd.restart(0);
    for ballast in [&one, &two] {
        super::wait_for_members(ballast, &["one", "two"]);
        assert_eq!(state_of(ballast, &b), "draining 1");
    }
}
