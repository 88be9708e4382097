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
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The part of version 2 whose length is the same always; its last two bytes are the length of the rest.
const FIXED: usize = 16;
/// Addresses and what some proxies tell of the TLS that they have ended; the protocol wants 536 to be taken at least.
const LONGEST: usize = 4 << 10;

/// What version 1 begins with.
const WORD: &[u8] = b"PROXY ";
/// As the protocol has it, with the end of the line.
const LONGEST_LINE: usize = 107;

/// `PROXY UNKNOWN` with the end of its line. Version 2 is longer.
const SHORTEST: usize = 15;

/// Why there is no header.
#[derive(Debug)]
pub(super) enum ReadError {
    /// The connection was closed without a word.
    Closed,
    /// What has come is none.
    Malformed,
    /// It has not come whole.
    Io(io::Error),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Closed => f.write_str("closed without a PROXY header"),
            ReadError::Malformed => f.write_str("what comes first is no PROXY header"),
            ReadError::Io(error) => write!(f, "no whole PROXY header: {error}"),
        }
    }
}

/// Reads the header that a connection begins with, and tells who the client is. `None`: the proxy speaks for itself, as
/// for a health check.
pub(super) async fn read(
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<Option<SocketAddr>, ReadError> {
    let mut header = Vec::new();
    loop {
        let begin = header.len();
        let more = missing(&header).ok_or(ReadError::Malformed)?;
        if more == 0 {
            return source(&header).ok_or(ReadError::Malformed);
        }
        header.resize(begin + more, 0);
        let came = stream.read(&mut header[begin..]).await;
        let came = came.map_err(ReadError::Io)?;
        header.truncate(begin + came);
        match (begin, came) {
            (0, 0) => return Err(ReadError::Closed),
            (_, 0) => return Err(ReadError::Io(io::ErrorKind::UnexpectedEof.into())),
            _ => {}
        }
    }
}

/// How many bytes belong to a header for certain that begins so, beyond these; 0: it is whole. `None`: there is no such
/// header.
pub(super) fn missing(begun: &[u8]) -> Option<usize> {
    let length = begun.len();
    if length < SHORTEST {
        let could_be = |begin: &[u8]| begun.iter().zip(begin).all(|(byte, due)| byte == due);
        return (could_be(SIGNATURE) || could_be(WORD)).then_some(SHORTEST - length);
    }
    if begun.starts_with(SIGNATURE) {
        let Some(rest) = begun.get(FIXED - 2..FIXED) else {
            return Some(FIXED - length);
        };
        let whole = FIXED + usize::from(u16::from_be_bytes([rest[0], rest[1]]));
        return (whole <= LONGEST).then(|| whole.saturating_sub(length));
    }
    if !begun.starts_with(WORD) {
        return None;
    }
    match begun {
        [.., b'\r', b'\n'] => Some(0),
        _ if length >= LONGEST_LINE => None,
        [.., b'\r'] => Some(1),
        _ => Some(2.min(LONGEST_LINE - length)),
    }
}

/// Who the client is as a whole header says: `Some(None)` if it does not say. `None`: the header is none.
pub(super) fn source(header: &[u8]) -> Option<Option<SocketAddr>> {
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
