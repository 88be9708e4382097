//! The PROXY protocol, versions 1 and 2: a proxy in front sends its client's address before any other data.
//!
//! A header is read to its last byte and not beyond, so that TLS or HTTP reads what follows. The specification is
//! <https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt>.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use proxy_header::{ParseConfig, Protocol, ProxyHeader};
use tokio::io::{AsyncRead, AsyncReadExt};

/// The signature of version 2, which begins no other protocol.
const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The fixed part of version 2; its last two bytes are the length of the rest.
const V2_FIXED_SIZE: usize = 16;
/// Room for addresses and TLVs (for example about the client's TLS); the specification requires at least 536 bytes.
const V2_MAX_SIZE: usize = 4 << 10;

/// The prefix of version 1.
const V1_PREFIX: &[u8] = b"PROXY ";
/// The largest header of version 1 by the specification, with the line end.
const V1_MAX_SIZE: usize = 107;

/// `PROXY UNKNOWN` with its line end. Version 2 is longer.
const MIN_SIZE: usize = 15;

/// Why no header was read.
#[derive(Debug)]
pub(super) enum ProxyHeaderError {
    /// The peer closed the connection before the first byte.
    Closed,
    /// The first bytes are not a PROXY header.
    Malformed,
    /// The header is incomplete.
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

/// The ends of a client's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ClientAddresses {
    /// `None`: it has connected to a Unix socket.
    pub(super) client: Option<SocketAddr>,
    /// As a proxy in front announces it. `None`: it is the address of the accepted socket.
    pub(super) destination: Option<SocketAddr>,
}

impl ClientAddresses {
    /// Those of a client without a proxy in front.
    pub(super) fn of_socket(client: Option<SocketAddr>) -> Self {
        ClientAddresses {
            client,
            destination: None,
        }
    }
}

/// Reads the header at the start of a connection, and returns its addresses. `None`: the proxy itself is the client (LOCAL or
/// UNKNOWN), as for a health check.
pub(super) async fn read_header(
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<Option<ClientAddresses>, ProxyHeaderError> {
    let mut header = Vec::new();
    loop {
        let begin = header.len();
        let more = bytes_missing(&header).ok_or(ProxyHeaderError::Malformed)?;
        if more == 0 {
            return announced_addresses(&header).ok_or(ProxyHeaderError::Malformed);
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

/// The number of bytes that a header with this prefix is missing at least; 0: it is complete. `None`: no header begins
/// like this.
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

/// The addresses in a complete header; `Some(None)` if it has none. `None`: the header is invalid.
pub(super) fn announced_addresses(header: &[u8]) -> Option<Option<ClientAddresses>> {
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
            let canonical =
                |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
            Some(Some(ClientAddresses {
                client: Some(canonical(address.source)),
                destination: Some(canonical(address.destination)),
            }))
        }
        // A connection cannot come from a datagram.
        Some(_) => None,
    }
}
