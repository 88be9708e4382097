//! Fuzzing: readers of what strangers send, fed with what nobody meant to send.
//!
//! A target is a function of bytes that asserts what must hold whatever they are, and a test named `fuzz::…` that gives
//! it to [`run`]. It stands where it sees what it tests: in a `fuzz.rs` beside private items, here if they are public.
//! Its corpus is `tests/fuzz/NAME/`: small inputs that a person can read, each of which reaches something of its own.
//!
//! A test replays the corpus and then edits it at random, always the same way, on any toolchain.

mod config;
mod route;
mod run;

pub(crate) use run::run;
