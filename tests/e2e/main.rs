//! End to end: the real binary over real sockets, on loopback. Each test's name is a promise.

mod cli;
mod demo;
mod failover;
mod handover;
mod harness;
mod headers;
mod health;
mod limits;
mod proxying;
mod routes;
mod support;
mod tls;
mod websocket;
