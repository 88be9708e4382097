//! The text for a terminal.

use std::collections::BTreeMap;

use super::*;
use crate::pool::HostState;
use crate::proxy::ExplainedKey;

fn candidate(
    host: &str,
    verdict: CandidateStatus,
    load: Option<f64>,
    text: &str,
) -> HostExplanation {
    HostExplanation {
        order: 1,
        host: host.to_owned(),
        source: "configuration".to_owned(),
        labels: BTreeMap::new(),
        tier: "primary".to_owned(),
        state: HostState::Up,
        in_flight: 3,
        weight: 1,
        load,
        score: None,
        verdict,
        why: "loaded".to_owned(),
        text: text.to_owned(),
    }
}

#[test]
fn a_table_is_aligned_and_fits() {
    let explanation = RequestExplanation {
        pool: Some("web".to_owned()),
        route: Some(2),
        unmatched: vec![UnmatchedRoute {
            route: 1,
            matches: "/v1/, header X-A: ~ \n".to_owned(),
            why: "header X-A".to_owned(),
        }],
        authentication: Some("auth http://auth:80/".to_owned()),
        split: None,
        algorithm: Some("p2c".to_owned()),
        key: Some(ExplainedKey {
            source: "path".to_owned(),
            value: Some("a".repeat(200)),
        }),
        outcome: SelectionOutcome::Host {
            host: "b:1".to_owned(),
            why: "balanced".to_owned(),
        },
        candidates: vec![
            candidate(
                "a.example.com:80",
                CandidateStatus::Skipped,
                Some(12.5),
                &"long ".repeat(40),
            ),
            HostExplanation {
                source: "srv _http._tcp.b".to_owned(),
                labels: BTreeMap::from([("zone".to_owned(), "\ta".to_owned())]),
                ..candidate("b:1", CandidateStatus::Selected, None, "short")
            },
        ],
    };
    let text = render(&explanation);
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines.iter().all(|line| line.chars().count() <= MAX_WIDTH),
        "{text}"
    );
    assert!(
        lines[0].starts_with("pool web by route 2, p2c, key path = `aaa"),
        "{text}"
    );
    assert_eq!(lines[1], "if the client is let in: auth http://auth:80/");
    assert_eq!(lines[2], "goes to b:1: balanced");
    assert_eq!(lines[3], "found by srv _http._tcp.b, zone=\\ta");
    assert_eq!(
        lines[4],
        "not by route 1, because the header X-A does not fit: /v1/, header X-A: ~ \\n"
    );
    assert_eq!(
        lines[6],
        "  HOST              STATE      IN FLIGHT  WEIGHT   LOAD  WHY"
    );
    assert!(
        lines[7].contains("       3       1  12.50  loaded: long"),
        "{text}"
    );
    assert_eq!(
        lines[8],
        "> b:1               up                 3       1         loaded: short"
    );
    assert_eq!(lines.len(), 9);
}

#[test]
fn figures_are_short() {
    let figures = [0.0, 1.0 / 3.0, 12.0, 1e-9, 2.5e15];
    assert_eq!(
        figures.map(number),
        ["0", "0.33", "12.00", "1.0e-9", "2.5e15"]
    );
}

#[test]
fn fields_have_a_name_and_a_value() {
    let parsed = |text: &str| parse_header(text).ok();
    let pair = |name: &str, value: &str| Some((name.to_owned(), value.to_owned()));
    assert_eq!(parsed("X-User: a:b "), pair("X-User", "a:b"));
    assert_eq!(parsed("X-User:"), pair("X-User", ""));
    assert_eq!(parsed("X-User"), None);
}
