//! Begins and ends the maintenance of a pool at run time.

use http::StatusCode;

use super::{Api, ApiRequest, pools};
use crate::admin::process_handle::{MaintenanceSettings, PoolChange};
use crate::admin::response::ApiResponse;

pub(super) async fn begin(api: &Api, request: &ApiRequest) -> Result<ApiResponse, ApiResponse> {
    let settings = request.json::<MaintenanceSettings>()?;
    change(api, request, PoolChange::BeginMaintenance(settings)).await
}

pub(super) async fn end(api: &Api, request: &ApiRequest) -> Result<ApiResponse, ApiResponse> {
    let pool = pools::find_pool(api, request.segment(0))?;
    if pool.maintenance().is_none() {
        let reason = format!("the pool {} is not in maintenance", pool.name());
        return Err(ApiResponse::error(StatusCode::CONFLICT, reason));
    }
    change(api, request, PoolChange::EndMaintenance).await
}

/// Makes the change; the response has the status of the pool.
async fn change(
    api: &Api,
    request: &ApiRequest,
    change: PoolChange,
) -> Result<ApiResponse, ApiResponse> {
    let name = request.segment(0);
    let changed = api.process.change(name, change).await;
    changed.map_err(ApiResponse::from_change_error)?;
    let pool = pools::find_pool(api, name)?;
    Ok(ApiResponse::json(StatusCode::OK, &api.pool_report(&pool)))
}
