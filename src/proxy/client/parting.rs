//! How a connection is closed so that its client can read all that was sent.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::gate::Gate;
use crate::proxy::answer::LINGER;

/// Sends `last` on the stream that was left in `gate`, and closes it. What the client still sends is read and thrown away
/// for a while, since it would find the connection reset otherwise, perhaps before it has read all that was sent.
pub(super) async fn part(gate: &Gate, last: &[u8]) {
    if let Some(stream) = gate.take_left() {
        close(stream, last).await;
    }
}

/// The same with a stream of any kind.
pub(super) async fn close(mut stream: impl AsyncRead + AsyncWrite + Unpin, last: &[u8]) {
    let parting = async {
        stream.write_all(last).await?;
        stream.shutdown().await?;
        let mut ignored = vec![0; 4_096];
        while stream.read(&mut ignored).await? > 0 {}
        std::io::Result::Ok(())
    };
    // A client that has gone does not need it, and one that stays gets no more time.
    let _ = timeout(LINGER, parting).await;
}
