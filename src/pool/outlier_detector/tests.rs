use proptest::prelude::*;

use super::*;
use crate::config::Failures;

/// The defaults of the configuration.
pub(in crate::pool) fn rules() -> Ejection {
    Ejection {
        failures: Failures {
            connect: true,
            timeout: true,
            reset: true,
            malformed: true,
            statuses: vec![(500, 599)],
        },
        consecutive: Some(5),
        rate: Some(50),
        window: Duration::from_secs(10),
        min_requests: 20,
        base: Duration::from_secs(10),
        max: Duration::from_secs(300),
        max_ejected: 50,
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn five_failures_in_a_row_eject_and_a_success_resets_the_row() {
    let (rules, now) = (rules(), Instant::now());
    let mut outlier_detector = OutlierDetector::new(now);
    for _ in 0..4 {
        assert_eq!(outlier_detector.observe(&rules, now, true), None);
    }
    assert_eq!(outlier_detector.observe(&rules, now, false), None);
    for _ in 0..4 {
        assert_eq!(outlier_detector.observe(&rules, now, true), None);
    }
    assert_eq!(
        outlier_detector.observe(&rules, now, true),
        Some(EjectionReason::Consecutive(5))
    );
}

#[test]
fn half_of_twenty_requests_eject_within_the_window_only() {
    let (rules, start) = (rules(), Instant::now());
    let mut outlier_detector = OutlierDetector::new(start);
    for request in 0..19 {
        assert_eq!(
            outlier_detector.observe(&rules, start, request % 2 == 0),
            None
        );
    }
    assert_eq!(
        outlier_detector.observe(&rules, start, true),
        Some(EjectionReason::FailureRate(11, 20))
    );

    let mut outlier_detector = OutlierDetector::new(start);
    for request in 0..19 {
        outlier_detector.observe(&rules, start, request % 2 == 0);
    }
    // All earlier requests are out of the window by then.
    let later = start + 12 * SECOND;
    assert_eq!(outlier_detector.observe(&rules, later, true), None);
    assert_eq!(outlier_detector.window.sums(), (1, 1));
}

#[test]
fn ejections_grow_to_the_maximum_and_reset_after_a_long_time_without_one() {
    let (rules, mut now) = (rules(), Instant::now());
    let mut outlier_detector = OutlierDetector::new(now);
    let mut times = Vec::new();
    for _ in 0..7 {
        let time = outlier_detector.eject(&rules, now);
        times.push(time.as_secs());
        now += time;
        outlier_detector.tick(now);
        assert!(outlier_detector.begin_probe());
        outlier_detector.uneject(now);
        now += 299 * SECOND;
    }
    assert_eq!(times, [10, 20, 40, 80, 160, 300, 300]);
    assert_eq!(outlier_detector.eject(&rules, now), 300 * SECOND);
    now += 300 * SECOND;
    outlier_detector.uneject(now);
    assert_eq!(
        outlier_detector.eject(&rules, now + 300 * SECOND),
        10 * SECOND
    );
}

#[test]
fn one_probe_at_a_time_and_none_before_the_ejection_ends() {
    let (rules, now) = (rules(), Instant::now());
    let mut outlier_detector = OutlierDetector::new(now);
    outlier_detector.eject(&rules, now);
    outlier_detector.tick(now + 9 * SECOND);
    assert!(!outlier_detector.begin_probe());
    outlier_detector.tick(now + 10 * SECOND);
    assert!(outlier_detector.begin_probe());
    assert!(!outlier_detector.begin_probe());
    outlier_detector.cancel_probe();
    assert!(outlier_detector.begin_probe());
    // It failed.
    assert_eq!(outlier_detector.eject(&rules, now), 20 * SECOND);
    assert!(!outlier_detector.begin_probe());
}

#[test]
fn the_rest_of_an_ejection_carries_over() {
    let (rules, now) = (rules(), Instant::now());
    let mut before = OutlierDetector::new(now);
    assert_eq!(before.export(now), None);
    before.eject(&rules, now);
    let carried = before.export(now + 4 * SECOND).expect("it is ejected");
    let mut after = OutlierDetector::new(now);
    after.resume(&rules, carried, now);
    after.tick(now + 5 * SECOND);
    assert!(!after.begin_probe());
    after.tick(now + 6 * SECOND);
    assert!(after.begin_probe());
    assert_eq!(after.eject(&rules, now), 20 * SECOND);
}

proptest! {
    /// Never more hosts than allowed are ejected, and never the last usable one.
    #[test]
    fn a_pool_is_never_ejected_completely(
        hosts in 1_usize..12,
        percent in 1_u32..=100,
        events in prop::collection::vec((0_usize..12, any::<bool>(), 0_u64..4_000), 0..300),
    ) {
        let rules = Ejection { max_ejected: percent, ..rules() };
        let mut now = Instant::now();
        let mut detectors: Vec<_> = (0..hosts).map(|_| OutlierDetector::new(now)).collect();
        for (host, failed, millis) in events {
            let host = host % hosts;
            now += Duration::from_millis(millis);
            for outlier_detector in &mut detectors {
                outlier_detector.tick(now);
                if outlier_detector.begin_probe() {
                    outlier_detector.uneject(now);
                }
            }
            let reason = detectors[host].observe(&rules, now, failed);
            let ejected = detectors.iter().filter(|outlier_detector| outlier_detector.is_ejected()).count();
            let others = hosts - ejected - usize::from(!detectors[host].is_ejected());
            if reason.is_some() && may_eject(percent, hosts, ejected, others) {
                let time = detectors[host].eject(&rules, now);
                prop_assert!(time >= rules.base && time <= rules.max);
            }
            let ejected = detectors.iter().filter(|outlier_detector| outlier_detector.is_ejected()).count();
            prop_assert!(ejected < hosts);
            prop_assert!(ejected <= (hosts * percent as usize / 100).max(1));
        }
    }
}
