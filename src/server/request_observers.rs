//! Who hears of requests once they have ended.

use std::sync::{Arc, Mutex, PoisonError};

use crate::access_log::OpenLogs;
use crate::config::{Config, Otlp};
use crate::history::History;
use crate::metrics::MetricsCounters;
use crate::proxy::ActiveConfig;
use crate::record::Observer;
use crate::traces::{self, SpanProcessor};

/// What outlives a site of those who hear of its requests: counts go on over a reload, and files stay open. Clones share
/// it.
#[derive(Debug, Clone, Default)]
pub(super) struct RequestObservers {
    history: Arc<History>,
    pub(super) counts: Arc<MetricsCounters>,
    pub(super) logs: Arc<OpenLogs>,
    /// Whoever told a collector of requests last.
    traces: Arc<Mutex<Option<Arc<SpanProcessor>>>>,
    pub(super) export_counts: Arc<traces::ExportCounters>,
}

impl RequestObservers {
    /// Those whom `config` asks for, for the requests of `active`. `before` is the site that it replaces.
    ///
    /// # Errors
    /// One line for a person: what an observer needs cannot be had.
    pub(super) fn build(
        &self,
        config: &Config,
        active: &ActiveConfig,
        _before: Option<&ActiveConfig>,
    ) -> Result<Vec<Arc<dyn Observer>>, String> {
        let mut observers: Vec<Arc<dyn Observer>> = vec![
            self.history.observer(&active.pools, &self.counts),
            self.counts.observer(&active.pools),
        ];
        if let Some(log) = &config.access_log {
            observers.push(Arc::new(self.logs.open(log)?));
        }
        let otlp = config.tracing.as_ref().and_then(|said| said.otlp.as_ref());
        observers.extend(self.traces(otlp)?.map(|traces| traces as Arc<dyn Observer>));
        Ok(observers)
    }

    /// How the pools did in the last minutes.
    pub(super) fn history(&self) -> Arc<History> {
        Arc::clone(&self.history)
    }

    /// The one who tells the collector of requests, the same as before if the configuration of that is.
    fn traces(&self, wanted: Option<&Otlp>) -> Result<Option<Arc<SpanProcessor>>, String> {
        // Nothing that is done under the lock can be half done.
        let mut traces = self.traces.lock().unwrap_or_else(PoisonError::into_inner);
        if traces.as_ref().map(|traces| traces.config()) != wanted {
            let start =
                |otlp: &Otlp| SpanProcessor::start(otlp.clone(), Arc::clone(&self.export_counts));
            *traces = wanted
                .map(start)
                .transpose()
                .map_err(|error| format!("cannot start the export of traces: {error}"))?
                .map(Arc::new);
        }
        Ok(traces.clone())
    }
}
