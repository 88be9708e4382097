//! A sample of one second.

use serde::{Deserialize, Serialize};

use crate::pool::STATUS_CLASSES;
use crate::timestamp::Timestamp;

/// The activity of a pool in one second.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HistorySample {
    /// When the second ended.
    pub t: Timestamp,
    /// Clients' requests that ended.
    pub requests_per_second: f64,
    /// The share of these requests that failed, 0 to 1; `None` if there were none.
    pub error_share: Option<f64>,
    /// The median duration in milliseconds.
    pub p50_ms: Option<f64>,
    /// The 99th percentile of the duration in milliseconds.
    pub p99_ms: Option<f64>,
    /// Requests in flight on the pool's hosts at the end of the second.
    pub in_flight: u64,
    /// Requests that ended, by the class of the client's response.
    pub responses: Responses,
    /// Retries: attempts beyond the first of each request.
    pub retries_per_second: f32,
    /// Body bytes of requests that ended.
    pub bytes_in_per_second: u64,
    /// Body bytes of their responses.
    pub bytes_out_per_second: u64,
}

/// Requests per second by the class of the status that the client received.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Responses {
    /// 101: the connection was switched to another protocol.
    #[serde(rename = "1xx")]
    pub switched: f32,
    /// Success.
    #[serde(rename = "2xx")]
    pub success: f32,
    /// Redirection.
    #[serde(rename = "3xx")]
    pub redirection: f32,
    /// Client errors.
    #[serde(rename = "4xx")]
    pub client_error: f32,
    /// Server errors.
    #[serde(rename = "5xx")]
    pub server_error: f32,
    /// The client received no status: it disconnected or its connection failed.
    pub none: f32,
}

impl Responses {
    /// From the classes in order, requests without a status first.
    pub(super) fn of(per_second: [f32; STATUS_CLASSES]) -> Self {
        let [
            none,
            switched,
            success,
            redirection,
            client_error,
            server_error,
        ] = per_second;
        Responses {
            switched,
            success,
            redirection,
            client_error,
            server_error,
            none,
        }
    }
}
