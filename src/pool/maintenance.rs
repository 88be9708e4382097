//! Whether a pool is in maintenance, which changes without building the pool anew.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwapOption;

use super::Pool;
use crate::config::Maintenance;

/// The maintenance of a pool. Only the reloader changes it.
#[derive(Debug)]
pub(super) struct MaintenanceSwitch {
    /// Whether there are settings. Relaxed: a request that comes at the moment of a change may be served either way.
    is_on: AtomicBool,
    settings: ArcSwapOption<Maintenance>,
}

impl MaintenanceSwitch {
    pub(super) fn new(settings: Option<&Maintenance>) -> Self {
        MaintenanceSwitch {
            is_on: AtomicBool::new(settings.is_some()),
            settings: ArcSwapOption::from_pointee(settings.cloned()),
        }
    }
}

impl Pool {
    /// The settings of the maintenance; `None` if the pool is not in maintenance.
    pub fn maintenance(&self) -> Option<Arc<Maintenance>> {
        match self.maintenance.is_on.load(Ordering::Relaxed) {
            true => self.maintenance.settings.load_full(),
            false => None,
        }
    }

    /// Begins, changes or ends the maintenance.
    pub fn set_maintenance(&self, settings: Option<&Maintenance>) {
        let MaintenanceSwitch {
            is_on,
            settings: known,
        } = &self.maintenance;
        known.store(settings.cloned().map(Arc::new));
        is_on.store(settings.is_some(), Ordering::Relaxed);
    }
}
