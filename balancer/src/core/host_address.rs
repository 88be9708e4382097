//! The address of a host: an IP address with a port, or the path of a Unix socket.

use std::error::Error;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

/// What the text of a Unix socket's address begins with.
const UNIX_PREFIX: &str = "unix:";

/// The longest path of a Unix socket in bytes: `sun_path` has 108, the last one is a NUL.
const MAX_PATH: usize = 107;

/// Where a host listens. The text of it is `127.0.0.1:80`, `[::1]:80` or `unix:/run/app.sock`.
///
/// Cloning does not allocate.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HostAddress {
    /// An IP address and a port.
    Inet(SocketAddr),
    /// The absolute path of a Unix socket, of at most 107 bytes.
    Unix(Arc<Path>),
}

impl HostAddress {
    /// The IP address and the port; `None` for a Unix socket.
    pub fn as_inet(&self) -> Option<SocketAddr> {
        match self {
            HostAddress::Inet(address) => Some(*address),
            HostAddress::Unix(_) => None,
        }
    }

    /// The path of a Unix socket.
    pub fn as_unix(&self) -> Option<&Path> {
        match self {
            HostAddress::Inet(_) => None,
            HostAddress::Unix(path) => Some(path),
        }
    }

    /// The port; `None` for a Unix socket.
    pub fn port(&self) -> Option<u16> {
        self.as_inet().map(|address| address.port())
    }

    /// Whether `text` is meant as the address of a Unix socket.
    pub fn names_unix_socket(text: &str) -> bool {
        text.starts_with(UNIX_PREFIX)
    }
}

impl From<SocketAddr> for HostAddress {
    fn from(address: SocketAddr) -> Self {
        HostAddress::Inet(address)
    }
}

impl<T: Into<IpAddr>> From<(T, u16)> for HostAddress {
    fn from(address: (T, u16)) -> Self {
        HostAddress::Inet(address.into())
    }
}

impl fmt::Display for HostAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostAddress::Inet(address) => address.fmt(f),
            HostAddress::Unix(path) => write!(f, "{UNIX_PREFIX}{}", path.display()),
        }
    }
}

impl FromStr for HostAddress {
    type Err = InvalidHostAddress;

    fn from_str(text: &str) -> Result<Self, InvalidHostAddress> {
        let Some(path) = text.strip_prefix(UNIX_PREFIX) else {
            let address = text.parse::<SocketAddr>();
            return address
                .map(HostAddress::Inet)
                .map_err(|_| InvalidHostAddress::NotInet);
        };
        if !path.starts_with('/') {
            return Err(InvalidHostAddress::RelativePath);
        }
        if path.starts_with("//") {
            return Err(InvalidHostAddress::DoubleSlash);
        }
        if path.ends_with('/') {
            return Err(InvalidHostAddress::Directory);
        }
        if path.len() > MAX_PATH {
            return Err(InvalidHostAddress::LongPath(path.len()));
        }
        if path.chars().any(char::is_control) {
            return Err(InvalidHostAddress::ControlCharacter);
        }
        Ok(HostAddress::Unix(Path::new(path).into()))
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for HostAddress {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for HostAddress {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl serde::de::Visitor<'_> for Text {
            type Value = HostAddress;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the address of a host")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<HostAddress, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// Why a text is not an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidHostAddress {
    /// It is not an IP address with a port, and does not begin with `unix:`.
    NotInet,
    /// The path does not begin with `/`.
    RelativePath,
    /// The path begins with `//`, as in a URL.
    DoubleSlash,
    /// The path ends with `/`.
    Directory,
    /// The path has so many bytes; the limit is 107.
    LongPath(usize),
    /// The path has a NUL or another control character.
    ControlCharacter,
}

impl fmt::Display for InvalidHostAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InvalidHostAddress::NotInet => {
                f.write_str("neither an IP address with a port nor `unix:` with a path")
            }
            InvalidHostAddress::RelativePath => f.write_str(
                "the path of a Unix socket is absolute, as in `unix:/run/app.sock`",
            ),
            InvalidHostAddress::DoubleSlash => f.write_str(
                "the address of a Unix socket is no URL; it has one slash, as in `unix:/run/app.sock`",
            ),
            InvalidHostAddress::Directory => {
                f.write_str("the path of a Unix socket does not end with `/`")
            }
            InvalidHostAddress::LongPath(length) => write!(
                f,
                "the path of a Unix socket has at most {MAX_PATH} bytes, and this one has {length}"
            ),
            InvalidHostAddress::ControlCharacter => {
                f.write_str("the path of a Unix socket has no control characters")
            }
        }
    }
}

impl Error for InvalidHostAddress {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_path_that_the_kernel_would_not_take_is_refused() {
        let long = |length: usize| format!("unix:/{}", "x".repeat(length - 1));
        for (text, error) in [
            ("unix:", InvalidHostAddress::RelativePath),
            ("unix:run/app.sock", InvalidHostAddress::RelativePath),
            ("unix:@abstract", InvalidHostAddress::RelativePath),
            ("unix:///run/app.sock", InvalidHostAddress::DoubleSlash),
            ("unix:/run/", InvalidHostAddress::Directory),
            ("unix:/run/a\0b", InvalidHostAddress::ControlCharacter),
            ("/run/app.sock", InvalidHostAddress::NotInet),
            ("127.0.0.1", InvalidHostAddress::NotInet),
            (&long(108), InvalidHostAddress::LongPath(108)),
        ] {
            assert_eq!(text.parse::<HostAddress>(), Err(error), "{text}");
        }
        assert!(long(107).parse::<HostAddress>().is_ok());
    }

    proptest! {
        #[test]
        fn an_address_is_what_its_text_says(inet: SocketAddr, path in "/[a-z][ -~é]{0,40}[a-z]") {
            // The flow of an IPv6 address is in no text.
            let inet = SocketAddr::new(inet.ip(), inet.port());
            for address in [HostAddress::from(inet), HostAddress::Unix(Path::new(&path).into())] {
                prop_assert_eq!(address.to_string().parse(), Ok(address));
            }
        }
    }
}
