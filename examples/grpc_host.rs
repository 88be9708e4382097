//! A host for benchmarks that answers every call of gRPC over cleartext HTTP/2 with one short message.
//!
//!     cargo run --release --example grpc_host 127.0.0.1:50051 127.0.0.1:50052

use std::error::Error;

use bytes::Bytes;
use http::{HeaderMap, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::task::JoinSet;

/// A message of five bytes, not compressed.
const MESSAGE: &[u8] = b"\0\0\0\0\x05hello";

fn main() -> Result<(), Box<dyn Error>> {
    let addresses = Vec::from_iter(std::env::args().skip(1));
    Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(async {
            let mut listening = JoinSet::new();
            for address in addresses {
                let listener = TcpListener::bind(&address).await?;
                listening.spawn(listen(listener));
            }
            while let Some(ended) = listening.join_next().await {
                ended??;
            }
            Ok(())
        })
}

async fn listen(listener: TcpListener) -> std::io::Result<()> {
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        tokio::spawn(async move {
            // A client that leaves ends its connection.
            let _ = serve(socket).await;
        });
    }
}

async fn serve(socket: TcpStream) -> Result<(), h2::Error> {
    let mut connection = h2::server::Builder::new()
        .max_concurrent_streams(1_000)
        .handshake::<_, Bytes>(socket)
        .await?;
    while let Some(accepted) = connection.accept().await {
        let (request, mut responder) = accepted?;
        tokio::spawn(async move {
            let mut body = request.into_body();
            while let Some(data) = body.data().await {
                body.flow_control().release_capacity(data?.len())?;
            }
            let mut head = Response::new(());
            let content_type = "application/grpc".parse();
            let content_type = content_type.expect("a valid value");
            head.headers_mut().insert("content-type", content_type);
            let mut stream = responder.send_response(head, false)?;
            stream.send_data(Bytes::from_static(MESSAGE), false)?;
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", "0".parse().expect("a valid value"));
            stream.send_trailers(trailers)
        });
    }
    Ok(())
}
