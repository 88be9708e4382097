//! What a reload would come across. It is found out beside the keeper, so that a preview does not hold up a reload.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::config_diff::ConfigDiff;
use super::listening_service::BoundSocket;
use super::reloader::{ReloadError, read_file};
use super::runtime_overrides::RuntimeOverrides;
use crate::config::Config;

/// What a reload would come across.
#[derive(Debug)]
pub(super) struct ReloadForecast {
    pub(super) changes: ConfigDiff,
    /// One line for each address that could not be listened on.
    pub(super) unavailable: Vec<String>,
}

/// Makes forecasts. Clones share what the file said.
#[derive(Debug, Clone)]
pub(super) struct ReloadPreviewer {
    /// `None`: there is no file, and nothing to reload.
    file: Option<PathBuf>,
    /// What the file said when it was taken in.
    file_config: Arc<ArcSwap<Config>>,
    overrides: Arc<ArcSwap<RuntimeOverrides>>,
    /// Held while addresses are tried: two forecasts would find each other there.
    bind_lock: Arc<Mutex<()>>,
}

impl ReloadPreviewer {
    pub(super) fn new(
        file: Option<PathBuf>,
        file_config: Config,
        overrides: Arc<ArcSwap<RuntimeOverrides>>,
    ) -> Self {
        ReloadPreviewer {
            file,
            file_config: Arc::new(ArcSwap::from_pointee(file_config)),
            overrides,
            bind_lock: Arc::default(),
        }
    }

    /// The file was taken in, and said this.
    pub(super) fn set_file_config(&self, file_config: &Config) {
        self.file_config.store(Arc::new(file_config.clone()));
    }

    /// What a reload would come across now; nothing is applied.
    pub(super) async fn forecast(&self) -> Result<ReloadForecast, ReloadError> {
        let file_config = read_file(self.file.clone()).await?;
        let before = self.file_config.load();
        let mut changes = ConfigDiff::between(&before, &file_config);
        let mut overrides = RuntimeOverrides::clone(&self.overrides.load());
        let (_, dropped) = overrides.apply_to(&file_config);
        changes.in_place.extend(dropped);
        // A successor inherits the others.
        let own = addresses(&before);
        let all = addresses(&file_config);
        let mut added = all.clone();
        added.retain(|address| !own.contains(address));
        let _guard = self
            .bind_lock
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let unavailable = added.into_iter().filter_map(|address| {
            let bound = BoundSocket::bind(address, &all, Duration::ZERO);
            bound.err()
        });
        Ok(ReloadForecast {
            unavailable: unavailable.collect(),
            changes,
        })
    }
}

/// Every address that is listened on.
fn addresses(config: &Config) -> Vec<SocketAddr> {
    let listeners = config.listeners.iter().map(|listener| listener.address);
    listeners.chain(config.admin.address).collect()
}
