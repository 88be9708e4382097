//! Raw HTTP/1.1, most of it malformed: what reaches the host, and what reaches the client.
//!
//! Each case uses its own connection. Two good requests then show whether the case left anything behind. With
//! `--nocapture` the tests print a table of the classes. `SEVERE` lists the outcomes that no case may have.

pub(crate) mod case;
mod judge;
pub(crate) mod origin;
pub(crate) mod wire;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use case::{Case, known_limits};
use judge::Verdict;
use origin::Origin;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::support::{Ballast, Setup, long};

/// The tests mostly wait for timeouts, so several threads share the cases.
const THREADS: usize = 8;

const LEVELS: [&str; 4] = ["MUST", "SHOULD", "POLICY", "CONTROL"];
/// The case damages the request or response of another client.
const SEVERE: [&str; 8] = [
    "CRASH", "DESYNC", "SMUGGLED", "MULTI", "EXTRA", "HANG", "POISON", "CANARY",
];

#[test]
fn corpus_of_requests() {
    let cases = Case::all(include_str!("requests.jsonl"));
    let verdicts = judge_in_parallel(&cases, judge_requests);
    report("requests", &verdicts);
}

#[test]
fn corpus_of_responses() {
    let cases = Case::all(include_str!("answers.jsonl"));
    let verdicts = judge_in_parallel(&cases, judge_responses);
    report("answers", &verdicts);
}

/// The violations that no input may cause.
const NEVER: [&str; 5] = ["CRASH", "HANG", "DESYNC", "CANARY", "FWD"];

/// Number of cases that are each changed at random.
fn mutated(cases: &[Case]) -> Vec<Case> {
    let mut random = SmallRng::seed_from_u64(4);
    let small: Vec<&Case> = cases.iter().filter(|c| c.raw().len() < 10_000).collect();
    let count = if long() { 40_000 } else { 1_000 };
    let numbers = 0..count;
    numbers
        .map(|number| small[random.gen_range(0..small.len())].mutated(number, &mut random))
        .collect()
}

fn assert_no_severe_fault(verdicts: &[Verdict]) {
    let mut bad = Vec::new();
    for Verdict { case, faults, seen } in verdicts {
        let is_bad = |fault: &String| NEVER.iter().any(|never| fault.starts_with(never));
        if faults.iter().any(is_bad) {
            println!("{}: {}", case.id, faults.join(", "));
            println!("sent: {}\n{seen}", case.raw().escape_ascii());
            bad.push(case.id.as_str());
        }
    }
    assert!(bad.is_empty(), "violated: {}", bad.join(", "));
}

#[test]
fn mutated_requests_harm_neither_hosts_nor_other_clients() {
    let cases = mutated(&Case::all(include_str!("requests.jsonl")));
    let verdicts = judge_in_parallel(&cases, judge_requests);
    assert_no_severe_fault(&verdicts);
}

#[test]
fn mutated_responses_harm_neither_their_client_nor_others() {
    let cases = mutated(&Case::all(include_str!("answers.jsonl")));
    let verdicts = judge_in_parallel(&cases, judge_responses);
    assert_no_severe_fault(&verdicts);
}

fn judge_requests(cases: &[Case]) -> Vec<Verdict> {
    let origin = Origin::recording();
    let ballast = proxy_of(origin.address());
    let judge = |case| judge::request(case, ballast.address(), &origin);
    cases.iter().map(judge).collect()
}

fn judge_responses(cases: &[Case]) -> Vec<Verdict> {
    let origin = Origin::responding(cases);
    let ballast = proxy_of(origin.address());
    let judge = |case| judge::response(case, ballast.address());
    cases.iter().map(judge).collect()
}

fn proxy_of(host: SocketAddr) -> Ballast {
    Setup::of(&[])
        .host(host)
        .top("server: { threads: 1 }")
        .start()
}

/// The results of `judge` for the cases, which a few threads share.
pub(crate) fn judge_in_parallel<T: Send>(
    cases: &[Case],
    judge: impl Fn(&[Case]) -> Vec<T> + Sync,
) -> Vec<T> {
    let judge = &judge;
    std::thread::scope(|scope| {
        let shares = cases.chunks(cases.len().div_ceil(THREADS));
        let threads: Vec<_> = shares
            .map(|share| scope.spawn(move || judge(share)))
            .collect();
        let results = threads.into_iter().map(|thread| thread.join());
        results
            .flat_map(|result| result.expect("the thread does not panic"))
            .collect()
    })
}

/// Prints the table and panics if there is a violation that is not a known limit.
fn report(what: &str, verdicts: &[Verdict]) {
    let limits = known_limits();
    let bad: Vec<&Verdict> = verdicts.iter().filter(|v| !v.faults.is_empty()).collect();
    let count = |verdicts: &[&Verdict], level: &str| {
        verdicts.iter().filter(|v| v.case.level == level).count()
    };
    println!("\n| {what} | cases | clean | {} |", LEVELS.join(" | "));
    println!("|---|---|---|---|---|---|---|");
    let mut classes: BTreeMap<&str, (usize, Vec<&Verdict>)> = BTreeMap::new();
    for verdict in verdicts {
        let (cases, bad) = classes.entry(&verdict.case.class).or_default();
        *cases += 1;
        if !verdict.faults.is_empty() {
            bad.push(verdict);
        }
    }
    for (class, (cases, bad)) in &classes {
        let levels = LEVELS.map(|level| count(bad, level).to_string());
        let clean = cases - bad.len();
        println!("| {class} | {cases} | {clean} | {} |", levels.join(" | "));
    }
    let all: Vec<&Verdict> = verdicts.iter().collect();
    let levels = LEVELS.map(|level| format!("{} of {}", count(&bad, level), count(&all, level)));
    let clean = verdicts.len() - bad.len();
    let cases = verdicts.len();
    println!("| all | {cases} | {clean} | {} |\n", levels.join(" | "));
    let mut unknown = Vec::new();
    for Verdict { case, faults, seen } in bad {
        let limit = limits.get(case.id.as_str());
        let severe = faults
            .iter()
            .any(|fault| SEVERE.iter().any(|severe| fault.starts_with(severe)));
        println!(
            "{} ({}): {} [{}] {}",
            case.id,
            case.level,
            faults.join(", "),
            case.why,
            limit.map_or(String::new(), |limit| format!("- known: {limit}")),
        );
        if severe || limit.is_none() {
            println!("{seen}");
            unknown.push(case.id.as_str());
        }
    }
    assert!(unknown.is_empty(), "violated: {}", unknown.join(", "));
}
