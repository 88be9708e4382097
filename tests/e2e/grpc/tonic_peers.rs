//! A client and a server of tonic, with Ballast in between.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BufMut};
use http::uri::PathAndQuery;
use tokio::sync::mpsc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::Service;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::tokio_stream::{self, StreamExt};
use tonic::server::{Grpc, NamedService, StreamingService};
use tonic::transport::{Channel, Server};
use tonic::{Code, Request, Response, Status, Streaming};

use crate::support::http2::runtime;
use crate::support::{Ballast, LISTEN, SOON, Setup, free, wait_until};

/// Messages as they are.
#[derive(Debug, Default, Clone)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Raw;
    type Decoder = Raw;

    fn encoder(&mut self) -> Raw {
        Raw
    }

    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut message = vec![0; from.remaining()];
        from.copy_to_slice(&mut message);
        Ok(Some(message))
    }
}

/// The service, whose methods are told apart by their path.
#[derive(Debug, Clone)]
struct Orders;

impl NamedService for Orders {
    const NAME: &'static str = "shop.Orders";
}

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl Service<http::Request<tonic::body::Body>> for Orders {
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = Boxed<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        let method = Method(request.uri().path().to_owned());
        Box::pin(async move { Ok(Grpc::new(Raw).streaming(method, request).await) })
    }
}

struct Method(String);

impl StreamingService<Vec<u8>> for Method {
    type Response = Vec<u8>;
    type ResponseStream = ReceiverStream<Result<Vec<u8>, Status>>;
    type Future = Boxed<Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Streaming<Vec<u8>>>) -> Self::Future {
        let method = self.0.clone();
        Box::pin(async move {
            if method.ends_with("/Fail") {
                let mut status = Status::new(Code::InvalidArgument, "100 % wrong: \u{e9}");
                let fields = status.metadata_mut();
                fields.insert("x-reason", "quantity".parse().expect("a value"));
                return Err(status);
            }
            let mut messages = request.into_inner();
            let (sender, receiver) = mpsc::channel(1);
            tokio::spawn(async move {
                let mut total = 0;
                while let Ok(Some(message)) = messages.message().await {
                    total += message.len();
                    let copies = match method.rsplit('/').next() {
                        Some("Echo") => 1,
                        Some("List") => 50,
                        _ => 0,
                    };
                    for _ in 0..copies {
                        let _ = sender.send(Ok(message.clone())).await;
                    }
                }
                if method.ends_with("/Sum") {
                    let _ = sender.send(Ok(total.to_string().into_bytes())).await;
                }
                if method.ends_with("/Break") {
                    let lost = Status::new(Code::DataLoss, "in the middle");
                    let _ = sender.send(Err(lost)).await;
                }
                if method.ends_with("/Slow") {
                    sender.closed().await;
                }
            });
            Ok(Response::new(ReceiverStream::new(receiver)))
        })
    }
}

/// Runs a test with a client whose calls go through Ballast to a server.
fn with_client<F: Future<Output = ()>>(
    test: impl FnOnce(tonic::client::Grpc<Channel>) -> F,
) -> Ballast {
    let runtime = runtime();
    let address = free();
    runtime.spawn(Server::builder().add_service(Orders).serve(address));
    wait_until(SOON, "the server", || {
        std::net::TcpStream::connect(address).is_ok()
    });
    let ballast = Setup::of(&[])
        .host(address)
        .pool("protocol: h2c")
        .top(&format!(
            "listeners: [{{ address: \"{LISTEN}\", http2: cleartext }}]"
        ))
        .start();
    runtime.block_on(async {
        let channel = Channel::from_shared(format!("http://{}", ballast.address()));
        let channel = channel.expect("an address").connect().await;
        let client = tonic::client::Grpc::new(channel.expect("connected"));
        let done = tokio::time::timeout(SOON, test(client)).await;
        done.expect("the calls end in time");
    });
    ballast
}

fn path(method: &str) -> PathAndQuery {
    let path = format!("/shop.Orders/{method}");
    path.parse().expect("a path")
}

#[test]
fn calls_of_all_four_kinds_work() {
    with_client(|mut client| async move {
        client.ready().await.expect("ready");
        let unary = client.unary(Request::new(b"one".to_vec()), path("Echo"), Raw);
        assert_eq!(unary.await.expect("a response").into_inner(), b"one");
        let parts = tokio_stream::iter(vec![vec![1; 100]; 100]);
        client.ready().await.expect("ready");
        let sum = client.client_streaming(Request::new(parts), path("Sum"), Raw);
        assert_eq!(sum.await.expect("a response").into_inner(), b"10000");
        client.ready().await.expect("ready");
        let list = client.server_streaming(Request::new(vec![7; 10_000]), path("List"), Raw);
        let mut list = list.await.expect("a response").into_inner();
        let mut count = 0;
        while let Some(message) = list.message().await.expect("no error") {
            assert_eq!(message, [7; 10_000]);
            count += 1;
        }
        assert_eq!(count, 50);
    });
}

#[test]
fn much_flows_in_both_directions_at_once() {
    with_client(|mut client| async move {
        // Of the second one each message comes back 50 times, and the server takes no further one before.
        for (method, size, number, copies) in [("Echo", 100_000, 100, 1), ("List", 10_000, 100, 50)]
        {
            let messages = tokio_stream::iter(vec![vec![3; size]; number]);
            client.ready().await.expect("ready");
            let echo = client.streaming(Request::new(messages), path(method), Raw);
            let mut echo = echo.await.expect("a response").into_inner();
            let mut count = 0;
            while let Some(message) = echo.next().await {
                assert_eq!(message.expect("no error").len(), size);
                count += 1;
            }
            assert_eq!(count, number * copies, "{method}");
        }
    });
}

#[test]
fn errors_have_their_message_and_their_fields() {
    with_client(|mut client| async move {
        client.ready().await.expect("ready");
        let failed = client.unary(Request::new(Vec::new()), path("Fail"), Raw);
        let status = failed.await.expect_err("an error");
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(status.message(), "100 % wrong: \u{e9}");
        assert_eq!(status.metadata().get("x-reason").expect("sent"), "quantity");
        client.ready().await.expect("ready");
        let broken = client.server_streaming(Request::new(Vec::new()), path("Break"), Raw);
        let mut broken = broken.await.expect("a response").into_inner();
        let status = broken.message().await.expect_err("an error");
        assert_eq!(
            (status.code(), status.message()),
            (Code::DataLoss, "in the middle")
        );
        // Of the server's own.
        let unknown = PathAndQuery::from_static("/shop.Other/Get");
        client.ready().await.expect("ready");
        let unknown = client.unary(Request::new(Vec::new()), unknown, Raw);
        assert_eq!(
            unknown.await.expect_err("an error").code(),
            Code::Unimplemented
        );
    });
}

#[test]
fn a_deadline_of_the_client_holds() {
    let ballast = with_client(|mut client| async move {
        let mut request = Request::new(Vec::new());
        request
            .metadata_mut()
            .insert("grpc-timeout", "200m".parse().expect("a value"));
        client.ready().await.expect("ready");
        let slow = client.unary(request, path("Slow"), Raw);
        let status = tokio::time::timeout(Duration::from_secs(10), slow).await;
        let code = status.expect("in time").expect_err("an error").code();
        assert!(
            matches!(
                code,
                Code::DeadlineExceeded | Code::Cancelled | Code::Internal
            ),
            "{code:?}"
        );
        // The connection is not affected.
        client.ready().await.expect("ready");
        let next = client.unary(Request::new(b"x".to_vec()), path("Echo"), Raw);
        assert_eq!(next.await.expect("a response").into_inner(), b"x");
    });
    assert!(ballast.log_with(&["Fail to proxy"]).is_empty());
}
