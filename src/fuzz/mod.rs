//! Fuzzing of everything that parses untrusted input.
//!
//! A target is a function of bytes that asserts invariants for any input, and a test named `fuzz::…` that passes it to
//! [`run`]. Targets of private items are in a `fuzz.rs` beside them, those of public items here. The corpus of a target
//! is `tests/fuzz/NAME/`: small, readable inputs, each of which covers something of its own.
//!
//! A test replays the corpus, then mutates it with a fixed sequence of seeds. It runs on any toolchain.

mod config;
mod route;
mod run;

pub(crate) use run::run;
