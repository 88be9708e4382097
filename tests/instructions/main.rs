//! The cost of one proxied request and of one pick by each algorithm, in instructions, compared with the record in
//! `benches/instructions.json`. More than 5 % above the record is a failure.
//!
//! Callgrind counts, so the figures depend neither on the machine's speed nor on its load. They do depend on the
//! compiler and on the profile: with another rustc or another optimisation level the check warns and does not compare.
//!
//! `BALLAST_RECORD=1 cargo test --test instructions` records the figures again.

mod callgrind;
#[expect(dead_code, reason = "the end-to-end tests need more of it")]
#[path = "../e2e/support/peers.rs"]
mod peers;
mod picks;
#[expect(dead_code, reason = "the end-to-end tests need more of it")]
#[path = "../e2e/support/ports.rs"]
mod ports;
mod record;
mod request;
#[expect(dead_code, reason = "the end-to-end tests need more of it")]
#[path = "../e2e/support/wait.rs"]
mod wait;

use std::thread;

use record::{Outcome, Record};

#[test]
fn a_request_and_each_pick_take_no_more_instructions_than_recorded() {
    let Some(valgrind) = peers::peer("valgrind") else {
        return;
    };
    let measured = thread::scope(|scope| {
        let request = scope.spawn(|| request::measure(&valgrind));
        let mut figures = picks::measure(&valgrind);
        let request = request.join().expect("the request could be measured");
        figures.insert(1, ("request".to_owned(), request));
        Record::now(figures)
    });
    if std::env::var_os("BALLAST_RECORD").is_some() {
        return measured.write();
    }
    let (table, outcome) = measured.compare(&Record::read());
    record::print(&table);
    match outcome {
        Outcome::Within => {}
        Outcome::Note(text) => record::print(&text),
        Outcome::Incomparable(text) => {
            assert!(!peers::ci(), "{text}");
            record::print(&format!("skipped: {text}"));
        }
        Outcome::Failure(text) => panic!("{text}"),
    }
}
