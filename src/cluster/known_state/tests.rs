use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::*;
use crate::cluster::PoolChanges;

const POOLS: [&str; 3] = ["a", "b", "c"];

fn changes(by: &str, revision: i64) -> SharedChanges {
    let changes = PoolChanges {
        by: by.to_owned(),
        ..PoolChanges::default()
    };
    SharedChanges { revision, changes }
}

fn view(pools: &[(&str, i64)]) -> ClusterView {
    let changes = pools
        .iter()
        .map(|(pool, revision)| ((*pool).to_owned(), changes("other", *revision)));
    ClusterView {
        changes: changes.collect(),
        ..ClusterView::default()
    }
}

fn revision_of(state: &KnownState, pool: &str) -> Option<i64> {
    state.view().changes.get(pool).map(|known| known.revision)
}

#[test]
fn an_older_snapshot_does_not_undo_what_was_published() {
    let mut state = KnownState::default();
    assert!(state.take(view(&[("a", 3)]), 5, 1));
    assert!(!state.take(view(&[("a", 3)]), 5, 1));
    state.note_published("a", changes("this", 8));
    // A snapshot that was on its way.
    assert!(!state.take(view(&[("a", 3)]), 7, 1));
    assert_eq!(revision_of(&state, "a"), Some(8));
    assert!(state.take(view(&[("a", 9)]), 9, 1));
    assert_eq!(revision_of(&state, "a"), Some(9));
    // Noted late: the snapshot is newer.
    state.note_published("a", changes("this", 8));
    assert_eq!(revision_of(&state, "a"), Some(9));
    // The key was deleted.
    assert!(state.take(view(&[]), 10, 1));
    assert_eq!(revision_of(&state, "a"), None);
}

#[test]
fn another_etcd_begins_anew_and_keeps_the_secret() {
    let mut state = KnownState::default();
    let secret = Some(ClusterSecret::random());
    let with_secret = ClusterView {
        secret: secret.clone(),
        ..view(&[("a", 90)])
    };
    state.take(with_secret, 100, 1);
    state.note_published("b", changes("this", 101));
    assert!(state.take(view(&[("a", 2)]), 4, 2));
    assert_eq!(revision_of(&state, "a"), Some(2));
    assert_eq!(revision_of(&state, "b"), None);
    assert_eq!(state.secret(), secret);
}

#[test]
fn the_secret_does_not_show() {
    let mut state = KnownState::default();
    let secret = ClusterSecret::random();
    let shown = secret.encode();
    let numbers = format!("{:?}", secret.as_bytes());
    let with_secret = ClusterView {
        secret: Some(secret),
        ..ClusterView::default()
    };
    state.take(with_secret, 1, 1);
    let debug = format!("{state:?}");
    assert!(!debug.contains(&shown), "{debug}");
    assert!(!debug.contains(numbers.trim_matches(['[', ']'])), "{debug}");
}

/// What happens at a member while others change pools, too.
#[derive(Debug, Clone)]
enum Step {
    /// This member or another changes a pool; whether this one notes it at once or after the next steps.
    Change {
        pool: usize,
        here: bool,
        is_late: bool,
    },
    /// A snapshot as of so many revisions ago arrives.
    Snapshot { age: i64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..POOLS.len(), any::<bool>(), any::<bool>()).prop_map(|(pool, here, is_late)| {
            Step::Change {
                pool,
                here,
                is_late,
            }
        }),
        (0..6_i64).prop_map(|age| Step::Snapshot { age }),
    ]
}

/// The pools of etcd as of a revision.
fn as_of(log: &[&'static str], revision: i64) -> ClusterView {
    let revisions = (1..=revision).zip(log);
    let last: BTreeMap<&str, i64> = revisions
        .map(|(revision, pool)| (*pool, revision))
        .collect();
    view(&Vec::from_iter(last))
}

proptest! {
    #![proptest_config(ProptestConfig {
        rng_seed: RngSeed::Fixed(17),
        ..ProptestConfig::with_cases(512)
    })]

    #[test]
    fn no_pool_ever_goes_back(steps in prop::collection::vec(step(), 1..60)) {
        let mut state = KnownState::default();
        state.take(view(&[]), 0, 1);
        // The pool that each revision changed, from 1 on.
        let mut log: Vec<&'static str> = Vec::new();
        let mut late: Vec<(&str, i64)> = Vec::new();
        for step in steps {
            let before = state.view();
            match step {
                Step::Change { pool, here, is_late } => {
                    log.push(POOLS[pool]);
                    let revision = log.len() as i64;
                    match (here, is_late) {
                        (true, false) => state.note_published(POOLS[pool], changes("this", revision)),
                        (true, true) => late.push((POOLS[pool], revision)),
                        (false, _) => {}
                    }
                }
                Step::Snapshot { age } => {
                    let revision = (log.len() as i64 - age).max(0);
                    state.take(as_of(&log, revision), revision, 1);
                    for (pool, revision) in late.drain(..) {
                        state.note_published(pool, changes("this", revision));
                    }
                }
            }
            for (pool, known) in &before.changes {
                prop_assert!(revision_of(&state, pool) >= Some(known.revision), "{pool}");
            }
        }
        // Once everything has arrived, it is as in etcd.
        let revision = log.len() as i64;
        state.take(as_of(&log, revision), revision, 1);
        let expected = as_of(&log, revision);
        for pool in POOLS {
            let expected = expected.changes.get(pool).map(|known| known.revision);
            prop_assert_eq!(revision_of(&state, pool), expected);
        }
    }
}
