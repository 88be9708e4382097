//! End to end: the real binary over real sockets, on loopback. Each test's name is a promise.

mod harness;
mod support;
