use super::*;

const BARE: Phase = Phase::Starting {
    handles_signals: false,
};
const STARTING: Phase = Phase::Starting {
    handles_signals: true,
};
const TERMINATED: Phase = draining(DrainCause::Terminated, true);
const TERMINATED_CLOSED: Phase = draining(DrainCause::Terminated, false);
const ABORTED: Phase = draining(DrainCause::StartAborted, true);
const ABORTED_CLOSED: Phase = draining(DrainCause::StartAborted, false);
const HANDED_OVER: Phase = draining(DrainCause::HandedOver, false);

use Phase::{HandingOver, Serving, Stopped};

const fn draining(cause: DrainCause, accepts: bool) -> Phase {
    Phase::Draining { cause, accepts }
}

type Method = fn(&Lifecycle) -> bool;

const METHODS: [(&str, Method); 9] = [
    ("signals_installed", Lifecycle::signals_installed),
    ("serve", Lifecycle::serve),
    ("hand_over", Lifecycle::hand_over),
    ("resume", Lifecycle::resume),
    ("handed_over", Lifecycle::handed_over),
    ("terminate", Lifecycle::terminate),
    ("abort_start", Lifecycle::abort_start),
    ("stop_accepting", Lifecycle::stop_accepting),
    ("shut_down", Lifecycle::shut_down),
];

/// For each phase, where each of [`METHODS`] leads; `None`: it is refused.
#[rustfmt::skip]
const TRANSITIONS: [(Phase, [Option<Phase>; 9]); 10] = {
    const NO: Option<Phase> = None;
    const END: Option<Phase> = Some(Stopped);
    [
        (BARE, [Some(STARTING), NO, NO, NO, NO, Some(ABORTED), Some(ABORTED), NO, END]),
        (STARTING, [NO, Some(Serving), NO, NO, NO, Some(ABORTED), Some(ABORTED), NO, END]),
        (Serving, [NO, NO, Some(HandingOver), NO, NO, Some(TERMINATED), Some(ABORTED), NO, END]),
        (HandingOver, [NO, NO, NO, Some(Serving), Some(HANDED_OVER), NO, NO, NO, END]),
        (TERMINATED, [NO, NO, NO, NO, NO, Some(TERMINATED), Some(ABORTED), Some(TERMINATED_CLOSED), END]),
        (TERMINATED_CLOSED, [NO, NO, NO, NO, NO, Some(TERMINATED_CLOSED), Some(ABORTED_CLOSED), Some(TERMINATED_CLOSED), END]),
        (ABORTED, [NO, NO, NO, NO, NO, Some(ABORTED), Some(ABORTED), Some(ABORTED_CLOSED), END]),
        (ABORTED_CLOSED, [NO, NO, NO, NO, NO, Some(ABORTED_CLOSED), Some(ABORTED_CLOSED), Some(ABORTED_CLOSED), END]),
        (HANDED_OVER, [NO, NO, NO, NO, NO, Some(HANDED_OVER), NO, Some(HANDED_OVER), END]),
        (Stopped, [NO; 9]),
    ]
};

fn lifecycle_in(phase: Phase) -> Lifecycle {
    let lifecycle = Lifecycle::new(Arc::default());
    lifecycle.publish(phase);
    lifecycle.phase.send_replace(phase);
    lifecycle
}

#[test]
fn every_method_in_every_phase() {
    for (from, expected) in TRANSITIONS {
        for ((name, method), to) in METHODS.into_iter().zip(expected) {
            let lifecycle = lifecycle_in(from);
            let mut phase = lifecycle.watch_phase();
            assert_eq!(method(&lifecycle), to.is_some(), "{name} in {from:?}");
            let to = to.unwrap_or(from);
            assert_eq!(lifecycle.phase(), to, "{name} in {from:?}");
            let notified = phase.has_changed().unwrap();
            assert_eq!(notified, from != to, "{name} in {from:?}");
            assert_eq!(*phase.borrow_and_update(), to);
        }
    }
}

#[test]
fn what_each_phase_means() {
    // ready, may notify systemd, closes connections, has a successor, ends
    let meanings = [
        (BARE, [false, false, false, false, false]),
        (STARTING, [false, false, false, false, false]),
        (Serving, [true, true, false, false, false]),
        (HandingOver, [true, true, true, true, false]),
        (TERMINATED, [false, true, false, false, true]),
        (TERMINATED_CLOSED, [false, true, true, false, true]),
        (ABORTED, [false, false, false, false, true]),
        (ABORTED_CLOSED, [false, false, true, false, true]),
        (HANDED_OVER, [true, true, true, true, true]),
        (Stopped, [false, false, true, false, true]),
    ];
    for (phase, meaning) in meanings {
        let found = [
            phase.is_ready(),
            phase.may_notify_systemd(),
            phase.closes_connections(),
            phase.has_successor(),
            phase.is_ending(),
        ];
        assert_eq!(found, meaning, "{phase:?}");
    }
}

#[test]
fn connections_and_requests_follow_the_phase() {
    for (from, expected) in TRANSITIONS {
        for ((name, method), to) in METHODS.into_iter().zip(expected) {
            let lifecycle = lifecycle_in(from);
            let mut closing = lifecycle.watch_closing();
            method(&lifecycle);
            let closes = to.unwrap_or(from).closes_connections();
            let context = format!("{name} in {from:?}");
            assert_eq!(lifecycle.traffic.is_draining(), closes, "{context}");
            assert_eq!(lifecycle.lock_since().is_some(), closes, "{context}");
            // Each connection watches this, so it is notified of changes only.
            let changed = from.closes_connections() != closes;
            assert_eq!(closing.has_changed().unwrap(), changed, "{context}");
            assert_eq!(*closing.borrow_and_update(), closes, "{context}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_time_of_the_last_accepted_connection_lasts_through_the_drain() {
    let lifecycle = lifecycle_in(Serving);
    assert!(lifecycle.hand_over());
    let since = lifecycle.since();
    tokio::time::advance(std::time::Duration::from_secs(3)).await;
    assert!(lifecycle.handed_over());
    assert!(lifecycle.stop_accepting());
    assert_eq!(lifecycle.since(), since);
}

#[tokio::test]
async fn those_who_wait_are_woken_by_the_start() {
    let lifecycle = Arc::new(Lifecycle::new(Arc::default()));
    let waiting = tokio::spawn({
        let lifecycle = Arc::clone(&lifecycle);
        async move {
            lifecycle.wait_signals_installed().await;
            let phase = lifecycle.phase();
            lifecycle.wait_ready().await;
            (phase, lifecycle.phase())
        }
    });
    tokio::task::yield_now().await;
    assert!(lifecycle.signals_installed());
    tokio::task::yield_now().await;
    assert!(lifecycle.serve());
    assert_eq!(waiting.await.unwrap(), (STARTING, Serving));
}
