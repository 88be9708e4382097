use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use arc_swap::ArcSwap;
use pingora::protocols::l4::stream::Stream;
use pingora::protocols::l4::virt::{VirtualSockOpt, VirtualSocket, VirtualSocketStream};
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex,
};
use tokio::net::TcpListener;

use super::*;
use crate::config::Config;
use crate::engine::{ClientInfo, Engine};
use crate::pool::HostRegistry;
use crate::proxy::{ActiveConfig, Proxy, TrafficState};

/// A socket that panics when it reads a `!`.
#[derive(Debug)]
struct PanickingSocket(DuplexStream);

impl AsyncRead for PanickingSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.0).poll_read(context, into);
        assert!(
            !into.filled().contains(&b'!'),
            "the panic that the client requested"
        );
        outcome
    }
}

impl AsyncWrite for PanickingSocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

impl VirtualSocket for PanickingSocket {
    fn set_socket_option(&self, _option: VirtualSockOpt) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_panic_in_a_tunnel_leaks_no_count() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("bound");
    let file = format!(
        "listeners: [\"127.0.0.1:8080\"]\npools: {{ web: {{ algorithm: bounded, hosts: [\"{address}\"], health_check: none }} }}"
    );
    let config = Config::parse(&file, Path::new("ballast.yaml")).expect("a configuration");
    let active = ActiveConfig::new(&config, &mut HostRegistry::new()).expect("a configuration");
    let pool = Arc::clone(&active.pools[0]);
    pool.begin();
    let (active, traffic) = (
        Arc::new(ArcSwap::from_pointee(active)),
        Arc::<TrafficState>::default(),
    );
    let proxy = Proxy::new(Arc::clone(&active), Arc::clone(&traffic));
    let engine = Engine::new(proxy, active, Arc::clone(&traffic), 1);
    let in_flight = || pool.members()[0].host().in_flight();

    let (mut client, near) = duplex(1 << 10);
    let near: Stream = VirtualSocketStream::new(Box::new(PanickingSocket(near))).into();
    let peer = ClientInfo {
        address: None,
        destination: None,
        tls: true,
        listener: None,
        verification: None,
    };
    let serving = engine.serve_tls(Box::new(near), peer);
    let conversation = async {
        let request =
            "GET / HTTP/1.1\r\nHost: test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
        client.write_all(request.as_bytes()).await.expect("sent");
        let (mut host, _) = listener.accept().await.expect("accepted");
        let switch = "HTTP/1.1 101 Fine\r\nUpgrade: websocket\r\n\r\n";
        host.write_all(switch.as_bytes()).await.expect("sent");
        let mut bytes = [0; 12];
        client.read_exact(&mut bytes).await.expect("a head");
        assert_eq!(&bytes, b"HTTP/1.1 101");
        assert_eq!((traffic.present(), in_flight()), (1, 1));
        client.write_all(b"!").await.expect("sent");
        // Both sides see the end of the tunnel.
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).await.expect("an end");
        host.read_to_end(&mut rest).await.expect("an end");
    };
    tokio::join!(serving, conversation);
    assert_eq!((traffic.present(), in_flight()), (0, 0));
    assert_eq!(traffic.panics(), 1);
}
