//! What a point of a counter or of a histogram covers: all since its start, or what came since the last one.

use tracing::warn;
use wattrace_api::Error;
use wattrace_otlp_client::Env;

/// What a point covers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Temporality {
    /// Everything since the start of the stream: a lost point costs nothing.
    #[default]
    Cumulative,
    /// What came since the point before: each must arrive.
    Delta,
}

/// The temporality by kind of metric.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Temporalities {
    pub(crate) counters: Temporality,
    pub(crate) histograms: Temporality,
}

const VARIABLE: &str = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE";

impl Temporalities {
    /// Those that are configured or, if that is empty, preferred by the environment; otherwise cumulative.
    ///
    /// # Errors
    /// An unknown preference in the configuration.
    pub(crate) fn resolve(configured: &str, env: &Env<'_>) -> Result<Self, Error> {
        if !configured.is_empty() {
            let problem = || format!("`{configured}` is unknown; it is `cumulative`, `delta` or `lowmemory`");
            return preferred(configured).ok_or_else(|| env.bad("temporality", problem()));
        }
        let Some(value) = env.get(VARIABLE) else { return Ok(Self::default()) };
        Ok(preferred(&value.to_ascii_lowercase()).unwrap_or_else(|| {
            warn!("{VARIABLE}={value} is ignored: it is neither cumulative, delta nor lowmemory");
            Self::default()
        }))
    }
}

fn preferred(name: &str) -> Option<Temporalities> {
    use Temporality::{Cumulative, Delta};
    let (counters, histograms) = match name {
        "cumulative" => (Cumulative, Cumulative),
        "delta" => (Delta, Delta),
        // Our counters are what OpenTelemetry calls asynchronous: somebody else counts.
        "lowmemory" => (Cumulative, Delta),
        _ => return None,
    };
    Some(Temporalities { counters, histograms })
}

#[cfg(test)]
mod tests;
