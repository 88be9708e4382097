//! How the pools did in the last minutes.

use std::collections::BTreeMap;

use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::{Api, ApiRequest, pools};
use crate::admin::response::ApiResponse;
use crate::history::{INTERVAL, Sample};

/// How the pools did in the last minutes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PoolHistories {
    /// The time between two samples.
    pub interval_seconds: f64,
    /// At most 300 samples of each pool, by its name; the newest last.
    pub pools: BTreeMap<String, Vec<Sample>>,
}

pub(super) fn all(api: &Api, request: &ApiRequest) -> Result<ApiResponse, ApiResponse> {
    let only = request.query("pool");
    if let Some(only) = &only {
        pools::find_pool(api, only)?;
    }
    let histories = PoolHistories {
        interval_seconds: INTERVAL.as_secs_f64(),
        pools: api.process.history().samples(only.as_deref()),
    };

    Ok(ApiResponse::json(StatusCode::OK, &histories))
}
