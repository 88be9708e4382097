//! The raw cases of the corpus: a case that one implementation refuses, the other does not pass on.

use super::{MODES, start_proxy};
use crate::corpus::case::Case;
use crate::corpus::judge_in_parallel;
use crate::corpus::origin::Origin;
use crate::corpus::wire::{Exchange, exchange};

/// What the client got, in short form: the exact status of a refusal does not matter.
fn outcome(seen: &Exchange) -> String {
    let statuses = seen.finals.iter().map(|response| match response.status {
        400.. => "refused".to_owned(),
        status if response.whole => status.to_string(),
        // Whether the fault shows before or after the head depends on the operating system.
        _ => "refused".to_owned(),
    });
    Vec::from_iter(statuses).join(", ")
}

/// The cases whose outcomes differ.
fn different(cases: &[Case], outcomes: [Vec<String>; 2]) -> Vec<String> {
    let [engine, pingora] = outcomes;
    let both = engine.into_iter().zip(pingora);
    let mut different = Vec::new();
    for (case, (engine, pingora)) in cases.iter().zip(both) {
        if engine != pingora {
            println!(
                "{}: {engine} / {pingora} ({}: {})",
                case.id, case.expect, case.why
            );
            println!(
                "  {}",
                &case.raw()[..case.raw().len().min(300)].escape_ascii()
            );
            different.push(case.id.clone());
        }
    }
    different
}

#[test]
fn engine_and_pingora_forward_the_same_raw_requests() {
    let cases = Case::all(include_str!("../corpus/requests.jsonl"));
    let outcomes = MODES.map(|mode| {
        judge_in_parallel(&cases, |cases| {
            let origin = Origin::recording();
            let ballast = start_proxy(&origin, mode, &[], &[]);
            let run = |case: &Case| {
                let seen = exchange(ballast.address(), &case.raw(), case.fin, case.close, None);
                let reached = origin
                    .take()
                    .iter()
                    .filter(|record| record.complete)
                    .count();
                format!("{reached} reached, {}", outcome(&seen))
            };
            cases.iter().map(run).collect()
        })
    });
    // Absolute targets with a different Host, which a proxy must ignore; Pingora refuses them.
    assert_eq!(different(&cases, outcomes), ["target-01", "target-x06"]);
}

#[test]
fn engine_and_pingora_forward_the_same_raw_responses() {
    let cases = Case::all(include_str!("../corpus/answers.jsonl"));
    let outcomes = MODES.map(|mode| {
        judge_in_parallel(&cases, |cases| {
            let origin = Origin::responding(cases);
            let ballast = start_proxy(&origin, mode, &[], &[]);
            let run = |case: &Case| {
                let (method, id) = (&case.method, &case.id);
                let ask = format!("{method} /r/{id} HTTP/1.1\r\nHost: probe.example\r\n\r\n");
                outcome(&exchange(
                    ballast.address(),
                    ask.as_bytes(),
                    false,
                    false,
                    None,
                ))
            };
            cases.iter().map(run).collect()
        })
    });
    // Pingora reads a chunk size without digits as the last chunk.
    assert_eq!(different(&cases, outcomes), ["r-chunk-09", "r-chunk-x04"]);
}
