//! A TCP forwarder between a client and etcd, which can be cut.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Whether bytes pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line {
    Open,
    /// Connections end, and new ones end at once.
    Cut,
    /// Connections stay, and no byte passes.
    Silent,
}

/// Forwards connections while it exists.
pub(super) struct Forwarder {
    pub(super) address: SocketAddr,
    line: watch::Sender<Line>,
    task: JoinHandle<()>,
}

impl Forwarder {
    pub(super) async fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let line = watch::Sender::new(Line::Open);
        let states = line.clone();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(forward(client, to, states.subscribe()));
            }
        });
        Forwarder {
            address,
            line,
            task,
        }
    }

    pub(super) fn set(&self, line: Line) {
        self.line.send_replace(line);
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn forward(mut client: TcpStream, to: SocketAddr, mut line: watch::Receiver<Line>) {
    let Ok(mut server) = TcpStream::connect(to).await else {
        return;
    };
    let mut cut = line.clone();
    let cut = cut.wait_for(|line| *line == Line::Cut);
    let copying = async {
        loop {
            let open = line.wait_for(|line| *line == Line::Open).await;
            if open.map(|line| *line).is_err() {
                return;
            }
            let mut silent = line.clone();
            tokio::select! {
                _ = tokio::io::copy_bidirectional(&mut client, &mut server) => return,
                _ = silent.wait_for(|line| *line == Line::Silent) => {}
            }
        }
    };
    tokio::select! {
        _ = cut => {}
        () = copying => {}
    }
}
