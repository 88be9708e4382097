//! How the pools did in the last minutes.

use std::collections::BTreeMap;

use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::{Api, Request, pools};
use crate::admin::reply::Reply;
use crate::history::{INTERVAL, Sample};

/// How the pools did in the last minutes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Histories {
    /// The time between two samples.
    pub interval_seconds: f64,
    /// At most 300 samples of each pool, by its name; the newest last.
    pub pools: BTreeMap<String, Vec<Sample>>,
}

pub(super) fn all(api: &Api, request: &Request) -> Result<Reply, Reply> {
    let only = request.query("pool");
    if let Some(only) = &only {
        pools::named(api, only)?;
    }
    let histories = Histories {
        interval_seconds: INTERVAL.as_secs_f64(),
        pools: api.running.history().samples(only.as_deref()),
    };

    Ok(Reply::json(StatusCode::OK, &histories))
}
