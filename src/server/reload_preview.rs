//! The preview of a reload. It runs beside the reloader, so that it does not delay a reload.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use super::config_diff::ConfigDiff;
use super::listening_service::{BoundSocket, addresses};
use super::reloader::{ReloadError, read_file};
use super::runtime_overrides::RuntimeOverrides;
use crate::config::Config;
use crate::discovery::{SourceTable, with_members};

/// The result of a preview.
#[derive(Debug)]
pub(super) struct ReloadForecast {
    pub(super) changes: ConfigDiff,
    /// One line for each new address that cannot be bound.
    pub(super) unavailable: Vec<String>,
    /// The configuration in effect now: that of the file, with what sources have told and the changes of operators.
    pub(super) before: Config,
    /// The one that would be.
    pub(super) after: Config,
}

/// Makes forecasts. Clones share the loaded configuration.
#[derive(Debug, Clone)]
pub(super) struct ReloadPreviewer {
    /// `None`: there is no file to reload.
    file: Option<PathBuf>,
    /// The file's content at the last reload.
    file_config: Arc<ArcSwap<Config>>,
    overrides: Arc<ArcSwap<RuntimeOverrides>>,
    /// What sources of hosts have told. Those that are new in the file are not asked for a forecast.
    sources: Arc<SourceTable>,
    /// Held while addresses are bound for a try: two concurrent forecasts would collide.
    bind_lock: Arc<Mutex<()>>,
}

impl ReloadPreviewer {
    pub(super) fn new(
        file: Option<PathBuf>,
        file_config: Config,
        overrides: Arc<ArcSwap<RuntimeOverrides>>,
        sources: Arc<SourceTable>,
    ) -> Self {
        ReloadPreviewer {
            file,
            file_config: Arc::new(ArcSwap::from_pointee(file_config)),
            overrides,
            sources,
            bind_lock: Arc::default(),
        }
    }

    /// The file that a reload reads; `None`: there is none.
    pub(super) fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Records the file's content after a reload.
    pub(super) fn set_file_config(&self, file_config: &Config) {
        self.file_config.store(Arc::new(file_config.clone()));
    }

    /// Compares the file with the running configuration; applies nothing.
    pub(super) async fn forecast(&self) -> Result<ReloadForecast, ReloadError> {
        let file_config = read_file(self.file.clone()).await?;
        let before = self.file_config.load();
        let mut changes = ConfigDiff::between(&before, &file_config);
        let mut overrides = RuntimeOverrides::clone(&self.overrides.load());
        let found = |config: &Config| with_members(config, &self.sources, None, |_, _| false);
        let (in_effect, _) = overrides.clone().apply_to(&found(&before));
        let (after, dropped) = overrides.apply_to(&found(&file_config));
        changes.in_place.extend(dropped);
        // A successor inherits the listeners that stay.
        let bound = addresses(&before);
        let all = addresses(&file_config);
        let mut added = all.clone();
        added.retain(|address| !bound.contains(address));
        let _guard = self
            .bind_lock
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let unavailable = added
            .into_iter()
            .filter_map(|address| BoundSocket::try_out(&address, &all).err());
        Ok(ReloadForecast {
            unavailable: unavailable.collect(),
            changes,
            before: in_effect,
            after,
        })
    }
}
