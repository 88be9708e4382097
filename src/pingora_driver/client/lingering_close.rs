//! Lingering close: a client can read everything that was sent before its connection closes.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::connection_state::ConnectionState;
use crate::proxy::local_response::LINGER;

/// Sends `last` on the stream left in `state`, and closes it. Further input is read and discarded for a limited time:
/// closing at once would reset the connection, and the client could lose the response.
pub(crate) async fn close_abandoned(state: &ConnectionState, last: &[u8]) {
    if let Some(stream) = state.take_abandoned() {
        linger_and_close(stream, last).await;
    }
}

/// Does the same for any stream.
pub(crate) async fn linger_and_close(mut stream: impl AsyncRead + AsyncWrite + Unpin, last: &[u8]) {
    let closing = async {
        stream.write_all(last).await?;
        stream.shutdown().await?;
        let mut ignored = vec![0; 4_096];
        while stream.read(&mut ignored).await? > 0 {}
        std::io::Result::Ok(())
    };
    // A client that has disconnected does not need more time, and no client gets more.
    let _ = timeout(LINGER, closing).await;
}
