//! `limits`: how much there may be of anything.

use super::rate::{Rate, rate};
use super::schema::{or_word, or_zero, section, size, whole};

/// What Pingora's parser takes, in bytes of a head and in fields.
const MAX_HEAD: u64 = 1024 * 1024;
const MAX_FIELDS: usize = 256;
/// Less would refuse what every browser sends.
const MIN_HEAD: u64 = 1024;
const MIN_TARGET: u64 = 64;
const MIN_FIELDS: usize = 8;

section! {
    /// How much there may be of anything.
    pub struct Limits: Eq {
        /// Requests in the whole process at the same time; beyond it 503. 0: no limit.
        max_in_flight: Option<u64> { or_zero(whole(0..=u64::MAX)), default "0" },
        /// Connections of clients at the same time; further ones wait to be accepted. `auto`: as many as the limit of
        /// file descriptors allows. One takes at most 48 KiB while idle and 96 KiB within a head.
        max_connections: Option<u64> { or_word("auto", whole(1..=u64::MAX)), default "auto" },
        /// Connections of one client address (of IPv6 the first 64 bits) at the same time; further ones are closed. 0: no
        /// limit.
        max_connections_per_client: Option<u64> { or_zero(whole(0..=u64::MAX)), default "0" },
        /// TLS handshakes with clients at the same time; beyond it connections are closed. A worker computes about 1,000 each
        /// second with an RSA key and 5,000 with an EC key, so that of more than this many some would not be done in time.
        /// 0: no limit but that of connections.
        max_handshakes: Option<u64> { or_zero(whole(0..=u64::MAX)), default "10000" },
        /// Requests on one client connection, which is then closed in order. 0: no limit.
        max_requests_per_connection: Option<u64> { or_zero(whole(0..=u64::MAX)), default "1000" },
        /// Bytes per second that the body of a request must arrive with on average, after 5s of waiting. 0: no limit.
        min_body_rate: Option<u64> { or_zero(whole(0..=u64::MAX)), default "0" },
        /// How many requests a client may send, whatever they are for.
        rate: Option<Rate> { rate(), optional "" },
        /// Bytes of a request's head: the request line and all fields; beyond it 431. A longer head of a response
        /// becomes 502. Sizes are in bytes or have a unit: KiB, MiB, GiB.
        head: usize { size::<usize>(MIN_HEAD..=MAX_HEAD), default "32KiB" },
        /// Bytes of a request's target, which is the path with the query; beyond it 414.
        target: usize { size::<usize>(MIN_TARGET..=MAX_HEAD), default "16KiB" },
        /// Header fields of a message; beyond it 431, or 502 for a response.
        fields: usize { whole(MIN_FIELDS..=MAX_FIELDS), default "100" },
        /// Bytes of a request's body; beyond it 413, at once if it is announced. 0: no limit.
        body: Option<u64> { or_zero(size::<u64>(0..=u64::MAX)), default "0" },
    }
}

section! {
    /// How much there may be of anything on one route.
    pub struct RouteLimits: Copy, Eq, Default {
        /// Bytes of a request's body; beyond it 413, at once if it is announced. 0: no limit, whatever the top level says.
        body: Option<Option<u64>> { or_zero(size::<u64>(0..=u64::MAX)), optional "100MiB" },
        /// Requests of the route at the same time; beyond it 503. 0: no limit but that of the process.
        max_in_flight: Option<u64> { or_zero(whole(0..=u64::MAX)), default "0" },
    }
}
