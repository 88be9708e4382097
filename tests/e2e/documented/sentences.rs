//! Commands within a sentence name what there is.

use std::collections::BTreeMap;

use super::cargo_commands::{check_cargo, check_script};
use super::markdown::documents;
use crate::support::run;

/// Commands within a sentence: the subcommand and its options exist, and so do targets and tests of cargo.
#[test]
fn every_command_within_a_sentence_exists() {
    let mut helps: BTreeMap<String, String> = BTreeMap::new();
    for document in documents() {
        for (line, code) in document.inline_code() {
            let place = format!("{}:{line}: {code}", document.name);
            let command = code
                .trim_start_matches("BALLAST_TABLE=1 ")
                .trim_start_matches("BALLAST_LONG=1 ");
            let command = command
                .trim_start_matches("BALLAST_RECORD=1 ")
                .trim_start_matches("BALLAST_TEST_HTTP1=pingora ");
            if command.starts_with("cargo ") && !command.ends_with("cargo fmt") {
                check_cargo(command).unwrap_or_else(|error| panic!("{place}: {error}"));
            } else if command.starts_with("benches/") && command.contains(".py") {
                check_script(command).unwrap_or_else(|error| panic!("{place}: {error}"));
            } else if let Some(arguments) = command.strip_prefix("ballast ") {
                assert_exists(arguments, &place, &mut helps);
            }
        }
    }
}

#[track_caller]
fn assert_exists(arguments: &str, place: &str, helps: &mut BTreeMap<String, String>) {
    const NESTED: [&str; 2] = ["host", "maintenance"];
    let mut words = arguments.split_whitespace();
    let Some(mut subcommand) = words.next().map(str::to_owned) else {
        return;
    };
    if NESTED.contains(&subcommand.as_str())
        && let Some(nested) = words
            .next()
            .filter(|word| word.chars().all(char::is_lowercase))
    {
        subcommand = format!("{subcommand} {nested}");
    }
    let help = helps.entry(subcommand.clone()).or_insert_with(|| {
        let words = subcommand.split(' ').chain(["--help"]);
        let end = run(&Vec::from_iter(words));
        assert_eq!(end.code, Some(0), "{place}: {end:?}");
        end.stdout
    });
    for option in arguments
        .split_whitespace()
        .filter(|word| word.starts_with('-'))
    {
        let option = option.trim_end_matches(']');
        assert!(help.contains(option), "{place}: there is no {option}");
    }
}
