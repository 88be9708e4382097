//! An IP address as text, without an allocation and without the cost of `fmt`.

use std::io::Write;
use std::net::IpAddr;

/// An IP address as text, on the stack. The hash key `client_ip` is this text, as in nginx's `$remote_addr`.
#[derive(Debug)]
pub(crate) struct AddressText {
    bytes: [u8; Self::MAX_LENGTH],
    length: usize,
}

impl AddressText {
    /// Eight groups of four digits and seven colons.
    const MAX_LENGTH: usize = 39;

    pub(crate) fn new(address: IpAddr) -> Self {
        let mut text = AddressText {
            bytes: [0; Self::MAX_LENGTH],
            length: 0,
        };
        match address {
            IpAddr::V4(address) => {
                for octet in address.octets() {
                    text.push(itoa::Buffer::new().format(octet).as_bytes());
                    text.push(b".");
                }
                text.length -= 1;
            }
            IpAddr::V6(address) => {
                let mut rest = &mut text.bytes[..];
                // Cannot fail: no address is longer than the buffer.
                let _ = write!(rest, "{address}");
                text.length = Self::MAX_LENGTH - rest.len();
            }
        }
        text
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    fn push(&mut self, piece: &[u8]) {
        let end = self.length + piece.len();
        self.bytes[self.length..end].copy_from_slice(piece);
        self.length = end;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_address_is_written_as_by_the_standard_library(address: IpAddr) {
            let (text, expected) = (AddressText::new(address), address.to_string());
            prop_assert_eq!(text.as_bytes(), expected.as_bytes());
        }
    }
}
