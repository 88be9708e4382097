//! A gRPC server that answers each request with the bytes of a test.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What is answered.
#[derive(Debug, Clone)]
pub(super) enum Lie {
    /// A message with this content.
    Message(Vec<u8>),
    /// A message whose length is said to be this, and of which a few bytes follow.
    Length(u32),
    /// Nothing.
    Silence,
}

/// Answers while it exists.
pub(super) struct LyingServer {
    pub(super) address: SocketAddr,
    task: JoinHandle<()>,
}

impl LyingServer {
    pub(super) async fn start(lie: Lie) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, lie.clone()));
            }
        });
        LyingServer { address, task }
    }
}

impl Drop for LyingServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(stream: TcpStream, lie: Lie) {
    let Ok(mut connection) = h2::server::handshake(stream).await else {
        return;
    };
    // Streams that are dropped would be reset.
    let mut unanswered = Vec::new();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let (length, content) = match &lie {
            Lie::Silence => {
                unanswered.push((request, respond));
                continue;
            }
            Lie::Message(content) => (content.len() as u32, content.clone()),
            Lie::Length(length) => (*length, vec![0; 10]),
        };
        let head = Response::builder().header("content-type", "application/grpc");
        let head = head.body(()).expect("a valid head");
        let frame = [&[0], &length.to_be_bytes()[..], &content].concat();
        let Ok(mut body) = respond.send_response(head, false) else {
            continue;
        };
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
        let _ = body.send_data(Bytes::from(frame), false);
        let _ = body.send_trailers(trailers);
    }
}
