//! How a connection is closed so that its client can read all that was sent.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::connection_state::ConnectionState;
use crate::proxy::local_response::LINGER;

/// Sends `last` on the stream that was left in `state`, and closes it. What the client still sends is read and thrown away
/// for a while, since it would find the connection reset otherwise, perhaps before it has read all that was sent.
pub(crate) async fn close_abandoned(state: &ConnectionState, last: &[u8]) {
    if let Some(stream) = state.take_abandoned() {
        linger_and_close(stream, last).await;
    }
}

/// The same with a stream of any kind.
pub(crate) async fn linger_and_close(mut stream: impl AsyncRead + AsyncWrite + Unpin, last: &[u8]) {
    let closing = async {
        stream.write_all(last).await?;
        stream.shutdown().await?;
        let mut ignored = vec![0; 4_096];
        while stream.read(&mut ignored).await? > 0 {}
        std::io::Result::Ok(())
    };
    // A client that has gone does not need it, and one that stays gets no more time.
    let _ = timeout(LINGER, closing).await;
}
