//! The PROXY protocol, versions 1 and 2: what a proxy in front says about its client before anything else.
//!
//! A header is read to its last byte and not beyond, so that what follows, TLS or HTTP, is read by whom it is for. Its
//! definition is <https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt>.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use proxy_header::{ParseConfig, Protocol, ProxyHeader};
use tokio::io::{AsyncRead, AsyncReadExt};

/// What version 2 begins with, as no other protocol does.
const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The part of version 2 whose length is the same always; its last two bytes are the length of the rest.
const V2_FIXED_SIZE: usize = 16;
/// Addresses and what some proxies tell of the TLS that they have ended; the protocol wants 536 to be taken at least.
const V2_MAX_SIZE: usize = 4 << 10;

/// What version 1 begins with.
const V1_PREFIX: &[u8] = b"PROXY ";
/// As the protocol has it, with the end of the line.
const V1_MAX_SIZE: usize = 107;

/// `PROXY UNKNOWN` with the end of its line. Version 2 is longer.
const MIN_SIZE: usize = 15;

/// Why there is no header.
#[derive(Debug)]
pub(super) enum ProxyHeaderError {
    /// The connection was closed without a word.
    Closed,
    /// What has come is none.
    Malformed,
    /// It has not come whole.
    Io(io::Error),
}

impl fmt::Display for ProxyHeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProxyHeaderError::Closed => f.write_str("closed without a PROXY header"),
            ProxyHeaderError::Malformed => f.write_str("what comes first is no PROXY header"),
            ProxyHeaderError::Io(error) => write!(f, "no whole PROXY header: {error}"),
        }
    }
}

/// Reads the header that a connection begins with, and tells who the client is. `None`: the proxy speaks for itself, as
/// for a health check.
pub(super) async fn read_header(
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<Option<SocketAddr>, ProxyHeaderError> {
    let mut header = Vec::new();
    loop {
        let begin = header.len();
        let more = bytes_missing(&header).ok_or(ProxyHeaderError::Malformed)?;
        if more == 0 {
            return client_address(&header).ok_or(ProxyHeaderError::Malformed);
        }
        header.resize(begin + more, 0);
        let count = stream.read(&mut header[begin..]).await;
        let count = count.map_err(ProxyHeaderError::Io)?;
        header.truncate(begin + count);
        match (begin, count) {
            (0, 0) => return Err(ProxyHeaderError::Closed),
            (_, 0) => return Err(ProxyHeaderError::Io(io::ErrorKind::UnexpectedEof.into())),
            _ => {}
        }
    }
}

/// How many bytes belong to a header for certain that begins so, beyond these; 0: it is whole. `None`: there is no such
/// header.
pub(super) fn bytes_missing(prefix: &[u8]) -> Option<usize> {
    let length = prefix.len();
    if length < MIN_SIZE {
        let could_be = |begin: &[u8]| prefix.iter().zip(begin).all(|(byte, due)| byte == due);
        return (could_be(V2_SIGNATURE) || could_be(V1_PREFIX)).then_some(MIN_SIZE - length);
    }
    if prefix.starts_with(V2_SIGNATURE) {
        let Some(rest) = prefix.get(V2_FIXED_SIZE - 2..V2_FIXED_SIZE) else {
            return Some(V2_FIXED_SIZE - length);
        };
        let total = V2_FIXED_SIZE + usize::from(u16::from_be_bytes([rest[0], rest[1]]));
        return (total <= V2_MAX_SIZE).then(|| total.saturating_sub(length));
    }
    if !prefix.starts_with(V1_PREFIX) {
        return None;
    }
    match prefix {
        [.., b'\r', b'\n'] => Some(0),
        _ if length >= V1_MAX_SIZE => None,
        [.., b'\r'] => Some(1),
        _ => Some(2.min(V1_MAX_SIZE - length)),
    }
}

/// Who the client is as a whole header says: `Some(None)` if it does not say. `None`: the header is none.
pub(super) fn client_address(header: &[u8]) -> Option<Option<SocketAddr>> {
    let config = ParseConfig {
        include_tlvs: false,
        ..ParseConfig::default()
    };
    let (parsed, length) = ProxyHeader::parse(header, config).ok()?;
    if length != header.len() {
        return None;
    }
    match parsed.proxied_address() {
        None => Some(None),
        Some(address) if address.protocol == Protocol::Stream => {
            let source = address.source;
            Some(Some(SocketAddr::new(
                source.ip().to_canonical(),
                source.port(),
            )))
        }
        // No datagram becomes a connection.
        Some(_) => None,
    }
}
