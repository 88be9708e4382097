//! The samples of the pools over the last minutes.

use std::collections::BTreeMap;

use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::{Api, ApiRequest, pools};
use crate::admin::response::ApiResponse;
use crate::history::{INTERVAL, Sample};

/// The samples of the pools over the last five minutes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PoolHistories {
    /// The time between two samples, in seconds.
    pub interval_seconds: f64,
    /// At most 300 samples of each pool, by pool name; newest last.
    pub pools: BTreeMap<String, Vec<Sample>>,
}

pub(super) fn all(api: &Api, request: &ApiRequest) -> Result<ApiResponse, ApiResponse> {
    let pool = request.query("pool");
    if let Some(pool) = &pool {
        pools::find_pool(api, pool)?;
    }
    let histories = PoolHistories {
        interval_seconds: INTERVAL.as_secs_f64(),
        pools: api.process.history().samples(pool.as_deref()),
    };

    Ok(ApiResponse::json(StatusCode::OK, &histories))
}
