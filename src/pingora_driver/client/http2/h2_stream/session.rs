//! Implements Pingora's custom session for [`H2Stream`].

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_core::Stream;
use http::HeaderMap;
use pingora::Result;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::Digest;
use pingora::protocols::http::HttpTask;
use pingora::protocols::http::custom::CustomMessageWrite;
use pingora::protocols::http::custom::server::Session;
use pingora::protocols::l4::socket::SocketAddr;
use tokio::time::Instant;

use super::super::extended_connect::Tunnel;
use super::H2Stream;

#[async_trait]
impl Session for H2Stream {
    fn req_header(&self) -> &RequestHeader {
        &self.request
    }

    fn req_header_mut(&mut self) -> &mut RequestHeader {
        &mut self.request
    }

    async fn read_body_bytes(&mut self) -> Result<Option<Bytes>> {
        if self.is_body_done() {
            return Ok(None);
        }
        self.read(false).await
    }

    async fn read_body_or_idle(&mut self, no_body_expected: bool) -> Result<Option<Bytes>> {
        self.read(no_body_expected).await
    }

    async fn drain_request_body(&mut self) -> Result<()> {
        // Closing the stream tells the client to stop and does not affect other streams, RFC 9113 8.1.
        Ok(())
    }

    async fn write_response_header(&mut self, head: Box<ResponseHeader>, end: bool) -> Result<()> {
        let outcome = self.write_head(head, end);
        self.note_write(outcome)
    }

    async fn write_response_header_ref(&mut self, head: &ResponseHeader, end: bool) -> Result<()> {
        self.write_response_header(Box::new(head.clone()), end)
            .await
    }

    async fn write_body(&mut self, data: Bytes, end: bool) -> Result<()> {
        self.response.write_body(data, end).await
    }

    async fn write_trailers(&mut self, trailers: HeaderMap) -> Result<()> {
        self.response.write_trailers(trailers)
    }

    async fn response_duplex_vec(&mut self, tasks: Vec<HttpTask>) -> Result<bool> {
        let began = Instant::now();
        let outcome = self.write_tasks(tasks).await;
        self.note_progress(began);
        self.note_write(outcome)
    }

    fn set_read_timeout(&mut self, timeout: Option<Duration>) {
        self.body.read_timeout = timeout;
    }

    fn get_read_timeout(&self) -> Option<Duration> {
        self.body.read_timeout
    }

    fn set_write_timeout(&mut self, timeout: Option<Duration>) {
        self.response.write_timeout = timeout;
    }

    fn get_write_timeout(&self) -> Option<Duration> {
        self.response.write_timeout
    }

    // Nothing is drained.
    fn set_total_drain_timeout(&mut self, _timeout: Option<Duration>) {}

    fn get_total_drain_timeout(&self) -> Option<Duration> {
        None
    }

    fn request_summary(&self) -> String {
        format!("{} {}", self.request.method, self.request.uri)
    }

    fn response_written(&self) -> Option<&ResponseHeader> {
        self.response.written()
    }

    async fn shutdown(&mut self, _code: u32, _why: &str) {
        self.give_up();
    }

    fn is_body_done(&mut self) -> bool {
        H2Stream::is_body_done(self)
    }

    async fn finish(&mut self) -> Result<()> {
        self.response.finish()
    }

    fn is_body_empty(&mut self) -> bool {
        self.tunnel == Tunnel::Requested || self.body.is_empty()
    }

    fn body_bytes_sent(&self) -> usize {
        self.response.bytes_sent()
    }

    fn body_bytes_read(&self) -> usize {
        self.body.bytes_read()
    }

    fn digest(&self) -> Option<&Digest> {
        Some(&self.digest)
    }

    fn digest_mut(&mut self) -> Option<&mut Digest> {
        // The streams of a connection share it.
        Arc::get_mut(&mut self.digest)
    }

    fn client_addr(&self) -> Option<&SocketAddr> {
        self.digest.socket_digest.as_ref()?.peer_addr()
    }

    fn server_addr(&self) -> Option<&SocketAddr> {
        self.digest.socket_digest.as_ref()?.local_addr()
    }

    fn pseudo_raw_h1_request_header(&self) -> Bytes {
        // Only requests of Pingora's own, which there are none of, are made from it.
        Bytes::new()
    }

    fn enable_retry_buffering(&mut self) {
        self.body.keep_for_retries();
    }

    fn retry_buffer_truncated(&self) -> bool {
        self.body.is_too_long_to_keep()
    }

    fn get_retry_buffer(&self) -> Option<Bytes> {
        self.body.kept()
    }

    fn is_upgrade_req(&self) -> bool {
        matches!(self.tunnel, Tunnel::Requested | Tunnel::Open)
    }

    fn was_upgraded(&self) -> bool {
        self.tunnel == Tunnel::Open
    }

    // The remaining methods concern custom protocols and do nothing for HTTP/2.

    async fn finish_custom(&mut self) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_reader(&mut self) -> Option<MessageReader> {
        None
    }

    fn restore_custom_message_reader(&mut self, _reader: MessageReader) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_writer(&mut self) -> Option<Box<dyn CustomMessageWrite>> {
        None
    }

    fn restore_custom_message_writer(&mut self, _: Box<dyn CustomMessageWrite>) -> Result<()> {
        Ok(())
    }
}

type MessageReader = Box<dyn Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>;

impl H2Stream {
    /// Writes pieces of a response. Returns whether it has ended.
    async fn write_tasks(&mut self, tasks: Vec<HttpTask>) -> Result<bool> {
        let mut is_last = false;
        for task in tasks {
            is_last |= match task {
                HttpTask::Header(head, end) => {
                    self.write_head(head, end)?;
                    end
                }
                HttpTask::Body(data, end) | HttpTask::UpgradedBody(data, end) => {
                    if let Some(data) = data.filter(|data| !data.is_empty()) {
                        self.response.write_body(data, end).await?;
                    }
                    end
                }
                HttpTask::Trailer(trailers) => {
                    if let Some(trailers) = trailers {
                        self.response.write_trailers(*trailers)?;
                    }
                    true
                }
                HttpTask::Done => true,
                HttpTask::Failed(error) => return Err(error),
            };
        }
        if is_last {
            self.response.finish()?;
        }
        // A refused tunnel has ended before the response of the host.
        Ok(is_last || self.response.is_ended())
    }
}
