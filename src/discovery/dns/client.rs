//! Asks servers, one after the other, by UDP and where that is too small by TCP.

use std::net::SocketAddr;
use std::time::Duration;

use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::tcp::TcpClientStream;
use hickory_resolver::net::udp::UdpClientStream;
use hickory_resolver::net::xfer::{DnsHandle, FirstAnswer};
use hickory_resolver::proto::op::{DnsRequest, DnsRequestOptions, Message, Query, ResponseCode};
use tokio::time::timeout;

/// A response that says something about the question: records, or that there are none.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) message: Message,
    /// Whether records are missing.
    pub(super) is_truncated: bool,
}

/// Asks servers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Client<'a> {
    pub(super) servers: &'a [SocketAddr],
    /// For one response.
    pub(super) timeout: Duration,
    /// How many times the servers are asked.
    pub(super) attempts: u32,
}

impl Client<'_> {
    /// The first whole response, else a truncated one. A server that fails, refuses or is silent leaves the question to the
    /// next one: only what it says about the name counts. Attempts after the first do without EDNS, which some servers and
    /// firewalls between do not let through.
    ///
    /// # Errors
    ///
    /// For people, what was wrong with the first server.
    pub(super) async fn ask(&self, query: &Query) -> Result<Response, String> {
        let mut truncated = None;
        let mut failure = None;
        for attempt in 0..self.attempts {
            let mut options = DnsRequestOptions::default();
            options.use_edns = attempt == 0;
            for &server in self.servers {
                match self.ask_server(server, query, options).await {
                    Ok(response) if !response.is_truncated => return Ok(response),
                    Ok(response) => truncated = Some(response),
                    Err(reason) => {
                        failure.get_or_insert_with(|| format!("DNS server {server} {reason}"));
                    }
                }
            }
        }
        truncated.ok_or_else(|| failure.unwrap_or_else(|| "there are no DNS servers".to_owned()))
    }

    async fn ask_server(
        &self,
        server: SocketAddr,
        query: &Query,
        options: DnsRequestOptions,
    ) -> Result<Response, String> {
        let request = DnsRequest::from_query(query.clone(), options);
        let by_udp = match self.by_udp(server, request.clone()).await {
            Ok(message) if message.metadata.truncation => Some(message),
            Ok(message) => return response(message),
            // Some servers cut a message in the middle of a record.
            Err(NetError::Proto(_)) => None,
            Err(error) => return Err(failure(&error)),
        };
        match (self.by_tcp(server, request).await, by_udp) {
            (Ok(message), _) => response(message),
            (Err(_), Some(message)) if !message.answers.is_empty() => response(message),
            (Err(error), Some(_)) => Err(format!(
                "has an answer too long for UDP, and by TCP it {}",
                failure(&error)
            )),
            (Err(error), None) => Err(format!(
                "sent a malformed response by UDP, and by TCP it {}",
                failure(&error)
            )),
        }
    }

    /// From a new socket with a port of its own, which a forger of responses would have to guess.
    async fn by_udp(&self, server: SocketAddr, request: DnsRequest) -> Result<Message, NetError> {
        let exchange = UdpClientStream::builder(server, TokioRuntimeProvider::new())
            .with_timeout(Some(self.timeout))
            .exchange();
        let answer = exchange.send(request).first_answer();
        let answer = timeout(self.timeout, answer).await;
        answer
            .map_err(|_| NetError::Timeout)?
            .map(|response| response.into_message())
    }

    async fn by_tcp(&self, server: SocketAddr, request: DnsRequest) -> Result<Message, NetError> {
        // Its clones share the task that moves the messages, which ends with the last of them.
        let provider = TokioRuntimeProvider::new();
        let exchanged = async {
            let connected =
                TcpClientStream::exchange(server, None, self.timeout, None, provider.clone());
            connected.await?.send(request).first_answer().await
        };
        let answer = timeout(self.timeout, exchanged).await;
        answer
            .map_err(|_| NetError::Timeout)?
            .map(|response| response.into_message())
    }
}

/// Whether a message says something about the question.
fn response(message: Message) -> Result<Response, String> {
    match message.metadata.response_code {
        ResponseCode::NoError | ResponseCode::NXDomain => Ok(Response {
            is_truncated: message.metadata.truncation,
            message,
        }),
        ResponseCode::ServFail => Err("failed (SERVFAIL)".to_owned()),
        ResponseCode::Refused => Err("refused the question".to_owned()),
        code => Err(format!("answered with an error ({code})")),
    }
}

fn failure(error: &NetError) -> String {
    match error {
        NetError::Timeout => "did not answer in time".to_owned(),
        NetError::Proto(_) => "sent a malformed response".to_owned(),
        NetError::Io(error) => format!("cannot be reached: {error}"),
        error => format!("gave no answer: {error}"),
    }
}
