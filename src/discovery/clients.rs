//! The clients of services that know hosts. Sources of the same service share one, with its connections.

use std::sync::Arc;

use tokio::sync::OnceCell;
use tokio::task::spawn_blocking;

use super::consul::ConsulClient;
use crate::config;
use crate::etcd::EtcdClient;

/// Clients by the settings of `discovery`, made when a source first needs them. Their connections belong to the runtime that
/// uses them first.
#[derive(Debug)]
pub(super) struct Clients {
    settings: Arc<config::Discovery>,
    etcd: OnceCell<EtcdClient>,
    consul: OnceCell<ConsulClient>,
}

impl Clients {
    pub(super) fn new(settings: Arc<config::Discovery>) -> Self {
        Clients {
            settings,
            etcd: OnceCell::new(),
            consul: OnceCell::new(),
        }
    }

    /// What the clients are made by.
    pub(super) fn settings(&self) -> &Arc<config::Discovery> {
        &self.settings
    }

    /// # Errors
    /// `discovery.etcd` is not set, or its files cannot be used.
    pub(super) async fn etcd(&self) -> Result<EtcdClient, String> {
        let made = self.etcd.get_or_try_init(|| async {
            let config = self.settings.etcd.clone();
            let config = config.ok_or_else(|| "`discovery.etcd` is not set".to_owned())?;
            // The system's authorities are files.
            let made = spawn_blocking(move || EtcdClient::new(&config)).await;
            made.map_err(|error| error.to_string())?
        });
        made.await.cloned()
    }

    pub(super) async fn consul(&self) -> &ConsulClient {
        let made = || async { ConsulClient::new(&self.settings.consul) };
        self.consul.get_or_init(made).await
    }
}
