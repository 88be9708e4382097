//! What is told of a second.

use serde::{Deserialize, Serialize};

use crate::timestamp::Timestamp;

use super::observer::CLASSES;

/// What a pool did in a second.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// When the second ended.
    pub t: Timestamp,
    /// Clients' requests that ended in it.
    pub requests_per_second: f64,
    /// The share of them that failed, 0 to 1; `None` if there were none.
    pub error_share: Option<f64>,
    /// The time that half of them took at most, in milliseconds.
    pub p50_ms: Option<f64>,
    /// The time that 99 of 100 took at most, in milliseconds.
    pub p99_ms: Option<f64>,
    /// Requests that ran on its hosts at its end.
    pub in_flight: u64,
    /// Requests that ended in it, by what the client got.
    pub responses: Responses,
    /// Attempts beyond the first of each request.
    pub retries_per_second: f32,
    /// Bytes of the bodies of requests that ended in it.
    pub bytes_in_per_second: u64,
    /// Bytes of the bodies of their answers.
    pub bytes_out_per_second: u64,
}

/// Requests per second by the class of the status that the client got.
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
    /// The client got no status, because it left or its connection broke.
    pub none: f32,
}

impl Responses {
    /// In the order of the classes, those without a status first.
    pub(super) fn of(per_second: [f32; CLASSES]) -> Self {
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
