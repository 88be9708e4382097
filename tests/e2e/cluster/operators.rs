//! Operators who change the same pool on different members at once.

use std::thread;

use super::{AGREED, members, state_of};
use crate::admin::with_admin;
use crate::metrics::scrape::Scrape;
use crate::support::{Backend, Ballast, Etcd, Setup, wait_until};

/// What became of an operator's changes of one host.
#[derive(Debug, Default)]
struct Outcomes {
    done: u32,
    conflicts: u32,
    /// The weight of the last change that was reported done.
    last: u32,
}

fn weigh(ballast: &Ballast, host: &str, weights: std::ops::RangeInclusive<u32>) -> Outcomes {
    let mut outcomes = Outcomes::default();
    for weight in weights {
        let args = ["host", "weight", "--pool", "web", host, &weight.to_string()];
        let finished = ballast.command(&args);
        match finished.code {
            Some(0) => {
                outcomes.done += 1;
                outcomes.last = weight;
            }
            _ => {
                let conflict = "another member changed the same pool at the same time; try again";
                assert!(finished.stderr.contains(conflict), "{}", finished.stderr);
                outcomes.conflicts += 1;
            }
        }
    }
    outcomes
}

#[test]
fn changes_at_the_same_time_conflict_and_none_is_lost() {
    let Some(etcd) = Etcd::start() else { return };
    let [a, b] = ["a", "b"].map(Backend::start_new);
    let (setup, admins) = {
        let setup = Setup::of(&[&a, &b]);
        let (first, one) = with_admin(setup.clone());
        let (second, two) = with_admin(setup);
        ([first, second], [one, two])
    };
    let [one] = members(&setup[0], &etcd, ["one"]);
    let two = Ballast::start(&super::member(&setup[1], &etcd, "two"));
    super::wait_for_members(&two, &["one", "two"]);
    let ids = [&a, &b].map(|backend| backend.address().to_string());
    let outcomes = thread::scope(|scope| {
        let first = scope.spawn(|| weigh(&one, &ids[0], 2..=16));
        let second = scope.spawn(|| weigh(&two, &ids[1], 2..=16));
        [first, second].map(|operator| operator.join().expect("it does not panic"))
    });
    println!("{outcomes:?}");
    for ballast in [&one, &two] {
        for (backend, outcomes) in [&a, &b].into_iter().zip(&outcomes) {
            let expected = format!("up {}", outcomes.last.max(1));
            wait_until(AGREED, &expected, || state_of(ballast, backend) == expected);
        }
    }
    for (admin, outcomes) in admins.into_iter().zip(&outcomes) {
        let scrape = Scrape::of(admin);
        let count = |outcome| scrape.sum("ballast_cluster_changes_total", &[("outcome", outcome)]);
        assert_eq!(count("published"), f64::from(outcomes.done));
        assert_eq!(count("conflict"), f64::from(outcomes.conflicts));
        assert_eq!(count("refused") + count("unknown"), 0.0);
    }
}
