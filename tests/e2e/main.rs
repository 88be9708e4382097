//! End to end: the real binary over real sockets, on loopback. Each test's name is a promise.

mod access;
mod admin;
mod backup;
mod bounds;
mod cli;
mod corpus;
mod deadlines;
mod demo;
mod drain;
mod ejection;
mod failover;
mod handover;
mod harness;
mod headers;
mod health;
mod limits;
mod matrix;
mod messages;
mod proxying;
mod queue;
mod reload;
mod retries;
#[path = "../../benches/scenarios/rig/mod.rs"]
mod rig;
mod routes;
mod slow_start;
mod sticky;
mod support;
mod systemd;
mod tls;
mod websocket;
