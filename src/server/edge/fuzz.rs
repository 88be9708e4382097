//! Fuzzing of the PROXY protocol.

use std::net::{IpAddr, SocketAddr};

use super::proxy_protocol::{bytes_missing, client_address, read_header};
use crate::fuzz;

/// The longest header.
const MAX_HEADER: usize = 4 << 10;

/// The header at the start of `input`, as it is read; `None` if it is invalid or incomplete.
fn header(input: &[u8]) -> Option<&[u8]> {
    let mut length = 0;
    loop {
        let more = bytes_missing(&input[..length])?;
        assert!(length + more <= MAX_HEADER, "{more} bytes after {length}");
        if more == 0 {
            return Some(&input[..length]);
        }
        length += more;
        if length > input.len() {
            return None;
        }
    }
}

fn connection(input: &[u8]) {
    let header = header(input);
    let client = header.and_then(client_address);
    let mut rest = input;
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let read = runtime.expect("a runtime").block_on(read_header(&mut rest));
    assert_eq!(read.ok(), client);
    let (Some(header), Some(client)) = (header, client) else {
        return;
    };
    // No byte after the header is consumed, whatever the chunking.
    assert_eq!(rest.len(), input.len() - header.len());
    for length in 0..header.len() {
        let more = bytes_missing(&header[..length]).expect("the beginning of a header");
        assert!(more > 0 && length + more <= header.len(), "{length}");
    }
    if let Some(client) = client {
        assert_address(header, client);
    }
}

/// Compares the address with that of a second, independent parser.
fn assert_address(header: &[u8], client: SocketAddr) {
    if header.starts_with(b"PROXY ") {
        let line = str::from_utf8(header).expect("addresses and numbers");
        let words = Vec::from_iter(line.trim_end().split(' '));
        assert_eq!(words.len(), 6, "{line:?}");
        let address: IpAddr = words[2].parse().expect("an address");
        assert_eq!(client.ip(), address.to_canonical());
        assert_eq!(client.port(), words[4].parse::<u16>().expect("a port"));
        return;
    }
    let address = &header[16..];
    let (address, ports): (IpAddr, _) = match header[13] {
        0x11 => {
            let octets: [u8; 4] = address[..4].try_into().expect("four");
            (octets.into(), &address[8..])
        }
        0x21 => {
            let octets: [u8; 16] = address[..16].try_into().expect("sixteen");
            (octets.into(), &address[32..])
        }
        other => panic!("family {other:#x} has no address"),
    };
    assert_eq!(client.ip(), address.to_canonical());
    assert_eq!(client.port(), u16::from_be_bytes([ports[0], ports[1]]));
}

#[test]
fn fuzz_proxy_protocol() {
    const WORDS: &[&str] = &[
        "PROXY ",
        "TCP4 ",
        "TCP6 ",
        "UNKNOWN",
        "192.0.2.1 ",
        "2001:db8::1 ",
        "::ffff:192.0.2.1 ",
        "65535",
        "65536",
        "+1",
        " ",
        "\r",
        "\n",
        "\r\n",
        "\r\n\r\n\0\r\nQUIT\n",
        "\x20",
        "\x21",
        "\x11",
        "\x12",
        "\x0c",
        "\x24",
        "\0",
    ];
    fuzz::run("proxy_protocol", WORDS, connection);
}
