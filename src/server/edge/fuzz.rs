//! Fuzzing of the PROXY protocol.

use std::net::IpAddr;

use super::proxy_protocol::{ClientAddresses, announced_addresses, bytes_missing, read_header};
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
    let client = header.and_then(announced_addresses);
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
    if let Some(announced) = client {
        assert_addresses(header, announced);
    }
}

/// Compares the addresses with those of a second, independent parser.
fn assert_addresses(header: &[u8], announced: ClientAddresses) {
    let read = [announced.client, announced.destination];
    let read = read.map(|address| address.expect("the header has both"));
    if header.starts_with(b"PROXY ") {
        let line = str::from_utf8(header).expect("addresses and numbers");
        let words = Vec::from_iter(line.trim_end().split(' '));
        assert_eq!(words.len(), 6, "{line:?}");
        for (index, read) in read.into_iter().enumerate() {
            let address: IpAddr = words[2 + index].parse().expect("an address");
            assert_eq!(read.ip(), address.to_canonical());
            assert_eq!(
                read.port(),
                words[4 + index].parse::<u16>().expect("a port")
            );
        }
        return;
    }
    let addresses = &header[16..];
    let size = match header[13] {
        0x11 => 4,
        0x21 => 16,
        other => panic!("family {other:#x} has no address"),
    };
    for (index, read) in read.into_iter().enumerate() {
        let octets = &addresses[index * size..][..size];
        let address = <[u8; 4]>::try_from(octets).map(IpAddr::from);
        let address = address.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from));
        let port = &addresses[2 * size + 2 * index..][..2];
        assert_eq!(read.ip(), address.expect("4 or 16 octets").to_canonical());
        assert_eq!(read.port(), u16::from_be_bytes([port[0], port[1]]));
    }
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
