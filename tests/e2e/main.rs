//! End to end: the real binary over real sockets, on loopback. Each test's name is a promise.

mod access;
mod admin;
mod bounds;
mod cli;
mod corpus;
mod deadlines;
mod demo;
mod failover;
mod handover;
mod harness;
mod headers;
mod health;
mod limits;
mod messages;
mod proxying;
mod reload;
mod routes;
mod support;
mod systemd;
mod tls;
mod websocket;
