//! The statuses of gRPC.

use std::fmt;

use http::{HeaderMap, HeaderName};

/// How a call of gRPC ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GrpcStatus(u8);

/// The names of the statuses, each at its number.
const NAMES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

impl GrpcStatus {
    /// The number of statuses.
    pub const COUNT: usize = NAMES.len();

    /// The field, or the trailer, that has the number of the status.
    pub const FIELD: HeaderName = HeaderName::from_static("grpc-status");

    /// The call succeeded.
    pub const OK: GrpcStatus = GrpcStatus(0);
    /// The status is not known.
    pub const UNKNOWN: GrpcStatus = GrpcStatus(2);
    /// The call took too long.
    pub const DEADLINE_EXCEEDED: GrpcStatus = GrpcStatus(4);
    /// The caller may not do that.
    pub const PERMISSION_DENIED: GrpcStatus = GrpcStatus(7);
    /// A limit is exceeded.
    pub const RESOURCE_EXHAUSTED: GrpcStatus = GrpcStatus(8);
    /// There is no such method.
    pub const UNIMPLEMENTED: GrpcStatus = GrpcStatus(12);
    /// The server failed.
    pub const INTERNAL: GrpcStatus = GrpcStatus(13);
    /// The server cannot serve now.
    pub const UNAVAILABLE: GrpcStatus = GrpcStatus(14);
    /// Data was lost.
    pub const DATA_LOSS: GrpcStatus = GrpcStatus(15);
    /// The caller has not shown who it is.
    pub const UNAUTHENTICATED: GrpcStatus = GrpcStatus(16);

    /// All statuses, in the order of their numbers.
    pub fn all() -> impl Iterator<Item = GrpcStatus> {
        (0..NAMES.len() as u8).map(GrpcStatus)
    }

    /// The status that these fields or trailers have. One with another number is UNKNOWN, as the protocol wants it.
    pub fn of(fields: &HeaderMap) -> Option<Self> {
        let value = fields.get(GrpcStatus::FIELD)?.to_str().unwrap_or_default();
        let number = value.parse::<u8>().ok();
        let known = number.filter(|number| usize::from(*number) < NAMES.len());
        Some(known.map_or(GrpcStatus::UNKNOWN, GrpcStatus))
    }

    /// What a response of this proxy with an HTTP status is to a client of gRPC. Like the protocol's own table for clients
    /// that get such a response, with statuses that say more for limits and timeouts.
    pub fn of_http(status: u16) -> Self {
        match status {
            400 | 414 => GrpcStatus::INTERNAL,
            401 => GrpcStatus::UNAUTHENTICATED,
            403 => GrpcStatus::PERMISSION_DENIED,
            404 | 405 | 501 => GrpcStatus::UNIMPLEMENTED,
            408 | 504 => GrpcStatus::DEADLINE_EXCEEDED,
            413 | 429 | 431 => GrpcStatus::RESOURCE_EXHAUSTED,
            502 | 503 => GrpcStatus::UNAVAILABLE,
            _ => GrpcStatus::UNKNOWN,
        }
    }

    /// The status of HTTP that means the same. By it the policies judge the status: ejection, retries and error counts.
    pub fn http_status(self) -> u16 {
        match self.0 {
            0 => 200,
            1 => 499,
            3 | 9 | 11 => 400,
            4 => 504,
            5 => 404,
            6 | 10 => 409,
            7 => 403,
            8 => 429,
            12 => 501,
            14 => 503,
            16 => 401,
            _ => 500,
        }
    }

    /// Whether a call that ended like this has failed through no fault of its caller, who also sets its deadline.
    pub fn is_failure(self) -> bool {
        self.http_status() >= 500 && self != GrpcStatus::DEADLINE_EXCEEDED
    }

    /// Its number.
    pub fn number(self) -> u8 {
        self.0
    }

    /// Its name in the protocol.
    pub fn name(self) -> &'static str {
        NAMES[usize::from(self.0)]
    }
}

impl fmt::Display for GrpcStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_status_is_known_by_its_number() {
        let of = |value: &'static [u8]| {
            let value = HeaderValue::from_bytes(value).expect("a value");
            GrpcStatus::of(&HeaderMap::from_iter([(GrpcStatus::FIELD, value)]))
        };
        assert_eq!(of(b"0"), Some(GrpcStatus::OK));
        assert_eq!(of(b"14"), Some(GrpcStatus::UNAVAILABLE));
        for odd in [&b"17"[..], b"-1", b"", b"OK", b"\xff", b"999999"] {
            assert_eq!(of(odd), Some(GrpcStatus::UNKNOWN), "{odd:?}");
        }
        assert_eq!(GrpcStatus::of(&HeaderMap::new()), None);
        for (number, status) in GrpcStatus::all().enumerate() {
            assert_eq!(usize::from(status.number()), number);
        }
        assert_eq!(GrpcStatus::UNAUTHENTICATED.name(), "UNAUTHENTICATED");
        assert_eq!(GrpcStatus::UNIMPLEMENTED.to_string(), "UNIMPLEMENTED");
    }
}
