//! What a reload would come across. It is found out beside the keeper, so that a preview does not hold up a reload.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::changes::Changes;
use super::listen::Socket;
use super::overlay::Overlay;
use super::reload::{Refusal, read};
use crate::config::Config;

/// What a reload would come across.
#[derive(Debug)]
pub(super) struct Forecast {
    pub(super) changes: Changes,
    /// One line for each address that could not be listened on.
    pub(super) taken: Vec<String>,
}

/// Makes forecasts. Clones share what the file said.
#[derive(Debug, Clone)]
pub(super) struct Forecasts {
    /// `None`: there is no file, and nothing to reload.
    file: Option<PathBuf>,
    /// What the file said when it was taken in.
    said: Arc<ArcSwap<Config>>,
    overlay: Arc<ArcSwap<Overlay>>,
    /// Held while addresses are tried: two forecasts would find each other there.
    trying: Arc<Mutex<()>>,
}

impl Forecasts {
    pub(super) fn new(file: Option<PathBuf>, said: Config, overlay: Arc<ArcSwap<Overlay>>) -> Self {
        Forecasts {
            file,
            said: Arc::new(ArcSwap::from_pointee(said)),
            overlay,
            trying: Arc::default(),
        }
    }

    /// The file was taken in, and said this.
    pub(super) fn read(&self, said: &Config) {
        self.said.store(Arc::new(said.clone()));
    }

    /// What a reload would come across now; nothing is applied.
    pub(super) async fn forecast(&self) -> Result<Forecast, Refusal> {
        let said = read(self.file.clone()).await?;
        let before = self.said.load();
        let mut changes = Changes::between(&before, &said);
        let mut overlay = Overlay::clone(&self.overlay.load());
        let (_, dropped) = overlay.on(&said);
        changes.in_place.extend(dropped);
        // A successor inherits the others.
        let own = addresses(&before);
        let all = addresses(&said);
        let mut added = all.clone();
        added.retain(|address| !own.contains(address));
        let _alone = self.trying.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = added.into_iter().filter_map(|address| {
            let tried = Socket::bind(address, &all, Duration::ZERO);
            tried.err()
        });
        Ok(Forecast {
            taken: taken.collect(),
            changes,
        })
    }
}

/// Every address that is listened on.
fn addresses(config: &Config) -> Vec<SocketAddr> {
    let listeners = config.listeners.iter().map(|listener| listener.address);
    listeners.chain(config.admin.address).collect()
}
