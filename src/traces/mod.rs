//! Tracing: each recorded request and each of its attempts becomes a span, exported to a collector (OTLP over HTTP).
//!
//! A request only copies its facts into a bounded queue; a separate thread builds and exports the spans. A slow or
//! unreachable collector costs spans, never a request: requests that do not fit into the queue are dropped and counted.

mod collector_client;
mod export_counters;
mod exporter;
mod finished_request;
mod otlp;
mod span;
mod span_batch;
mod span_processor;

pub use export_counters::ExportCounters;
pub use span_processor::SpanProcessor;
