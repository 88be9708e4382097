//! Builds the export message for a batch of requests.

use super::finished_request::FinishedRequest;
use super::otlp::{ProtoMessage, field};
use super::span;

/// The maximum number of requests in a message, which has then some hundred kilobytes.
const MAX_REQUESTS: usize = 512;

/// The encoded spans of a batch. Its buffers are reused for the next batch.
#[derive(Debug)]
pub(super) struct SpanBatch {
    requests: usize,
    resource: ProtoMessage,
    /// `ScopeSpans`.
    spans: ProtoMessage,
    /// The span being written.
    span: ProtoMessage,
    /// The part of the message before the spans.
    head: ProtoMessage,
}

impl SpanBatch {
    /// Creates an empty batch; `service` is the resource's `service.name`.
    pub(super) fn new(service: &str) -> Self {
        let mut resource = ProtoMessage::default();
        let mut attributes = resource.attributes(field::RESOURCE_ATTRIBUTES);
        attributes.text("service.name", service);
        attributes.text("service.version", env!("CARGO_PKG_VERSION"));
        attributes.integer("process.pid", std::process::id());
        let mut batch = SpanBatch {
            requests: 0,
            resource,
            spans: ProtoMessage::default(),
            span: ProtoMessage::default(),
            head: ProtoMessage::default(),
        };
        batch.clear();
        batch
    }

    pub(super) fn requests(&self) -> usize {
        self.requests
    }

    pub(super) fn is_full(&self) -> bool {
        self.requests >= MAX_REQUESTS
    }

    /// Adds the spans of a request.
    pub(super) fn add(&mut self, request: &FinishedRequest) {
        self.requests += 1;
        span::write_request_span(&mut self.span, request);
        self.take_span();
        for number in 0..request.attempts.len() {
            if span::write_attempt_span(&mut self.span, request, number) {
                self.take_span();
            }
        }
    }

    fn take_span(&mut self) {
        self.spans.bytes(field::SPANS, self.span.as_bytes());
        self.span.clear();
    }

    /// The export message, in two pieces.
    pub(super) fn message(&mut self) -> [&[u8]; 2] {
        let (head, spans) = (&mut self.head, self.spans.as_bytes());
        // Protobuf puts the length before the content.
        let mut inside = ProtoMessage::default();
        inside.bytes(field::RESOURCE, self.resource.as_bytes());
        inside.length(field::SCOPE_SPANS, spans.len());
        head.clear();
        head.length(field::RESOURCE_SPANS, inside.as_bytes().len() + spans.len());
        head.append(&mut inside);
        [head.as_bytes(), spans]
    }

    /// Removes all spans.
    pub(super) fn clear(&mut self) {
        self.requests = 0;
        self.spans.clear();
        let mut scope = ProtoMessage::default();
        scope.bytes(field::SCOPE_NAME, b"ballast");
        scope.bytes(field::SCOPE_VERSION, env!("CARGO_PKG_VERSION").as_bytes());
        self.spans.bytes(field::SCOPE, scope.as_bytes());
    }
}
