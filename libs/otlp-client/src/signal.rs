//! What differs between the signals of OpenTelemetry, metrics and traces, for who sends them.

/// Makes OTLP's JSON of an encoded request, or says why it is none.
pub type ToJson = fn(&[u8]) -> Result<Vec<u8>, String>;

/// A signal, and the plugin that exports it.
#[derive(Clone, Copy, Debug)]
pub struct Signal {
    /// The table of the plugin's configuration, as in `plugins.otlp`: for messages.
    pub section: &'static str,
    /// What the names of its variables contain, as in `OTEL_EXPORTER_OTLP_METRICS_ENDPOINT`: `METRICS`.
    pub variables: &'static str,
    /// The path of its requests over HTTP: `/v1/metrics`.
    pub path: &'static str,
    /// The path of its method over gRPC:
    /// `/opentelemetry.proto.collector.metrics.v1.MetricsService/Export`.
    pub method: &'static str,
    /// Makes the JSON of an encoded request, for `http/json`.
    ///
    /// # Errors
    /// It is no such request.
    pub json: ToJson,
}
