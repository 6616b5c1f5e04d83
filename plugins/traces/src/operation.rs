//! The agent's own operation as a trace, for debugging: spans of `tracing` whose target is
//! [`OPERATION`](wattrace_api::trace::OPERATION) go through `tracing-opentelemetry` and the SDK's batch
//! processor to the collector that OpenTelemetry's variables name. The agent adds the layer if it is asked
//! to. Otherwise nothing of this runs, and the spans are not created.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_proto::transform::trace::tonic::group_spans_by_resource_and_scope;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
use prost::Message as _;
use prost::bytes::Bytes;
use tokio::runtime::{Builder, Runtime};
use tracing::level_filters::LevelFilter;
use tracing::{Subscriber, warn};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::registry::LookupSpan;
use wattrace_api::trace::OPERATION;
use wattrace_api::{Error, ResultExt as _};
use wattrace_otlp_client::{Config, Env, Outcome, Settings, Transport};

use crate::config::TRACES;
use crate::resource;

/// The scope of the spans. Those of processes have the scope `wattrace`.
const SCOPE: &str = "wattrace.agent";
/// Time between the attempts to send a request, which go on until its time is up.
const PAUSE: Duration = Duration::from_millis(500);
/// Longest that the end of the agent waits for the last spans.
const LAST: Duration = Duration::from_secs(3);

/// The trace of the agent's own operation. Dropping it sends what is left.
pub struct Operation {
    provider: SdkTracerProvider,
    lost: Arc<AtomicU64>,
}

impl fmt::Debug for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Operation").finish_non_exhaustive()
    }
}

impl Operation {
    /// Connects to the collector of `OTEL_EXPORTER_OTLP_TRACES_*` and `OTEL_EXPORTER_OTLP_*`, with the first
    /// span.
    ///
    /// # Errors
    /// A variable whose value cannot be used, or no thread can be started.
    pub fn start() -> Result<Self, Error> {
        let settings = Settings::resolve(Config::default(), &Env::process(TRACES))?;
        // The batch processor calls the exporter on a thread of its own, which has no runtime.
        let runtime = Builder::new_current_thread().enable_all().build().or_fatal()?;
        let transport = {
            let _within = runtime.enter();
            wattrace_otlp_client::connect(&settings)?
        };
        let (resource, lost) = (resource::describe(), Arc::default());
        let exporter = Exporter {
            transport,
            runtime,
            timeout: settings.timeout,
            resource: (&resource).into(),
            lost: Arc::clone(&lost),
        };
        let provider =
            SdkTracerProvider::builder().with_resource(resource).with_batch_exporter(exporter).build();
        Ok(Self { provider, lost })
    }

    /// The layer that makes spans of OpenTelemetry of those of `tracing`; log lines within them are their
    /// events.
    pub fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let wanted = Targets::new()
            .with_target(OPERATION, LevelFilter::TRACE)
            .with_target("wattrace", LevelFilter::INFO);
        tracing_opentelemetry::layer()
            .with_tracer(self.provider.tracer(SCOPE))
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_filter(wanted)
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        if let Err(cause) = self.provider.shutdown_with_timeout(LAST) {
            warn!("the last spans of the agent's own operation may be lost: {cause}");
        }
        let lost = self.lost.load(Ordering::Relaxed);
        if lost > 0 {
            warn!("{lost} spans of the agent's own operation were lost");
        }
    }
}

/// Sends spans by `wattrace-otlp-client`, as the plugin does.
struct Exporter {
    transport: Arc<dyn Transport>,
    runtime: Runtime,
    timeout: Duration,
    resource: ResourceAttributesWithSchema,
    lost: Arc<AtomicU64>,
}

impl fmt::Debug for Exporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exporter").finish_non_exhaustive()
    }
}

impl SpanExporter for Exporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len() as u64;
        let resource_spans = group_spans_by_resource_and_scope(batch, &self.resource);
        let body = ExportTraceServiceRequest { resource_spans }.encode_to_vec().into();
        let (lost, cause) = match self.runtime.block_on(self.deliver(&body)) {
            Ok((rejected, cause)) => (rejected.min(spans), cause),
            Err(cause) => (spans, cause),
        };
        if lost > 0 && self.lost.fetch_add(lost, Ordering::Relaxed) == 0 {
            warn!("{lost} spans of the agent's own operation are lost: {cause}; more are counted");
        }
        // It is counted and reported.
        Ok(())
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.resource = resource.into();
    }
}

impl Exporter {
    /// Sends a request until it is answered for good or its time is up. Returns how many of its spans the
    /// collector rejected, and why.
    async fn deliver(&self, body: &Bytes) -> Result<(u64, String), String> {
        let begun = Instant::now();
        loop {
            let (cause, wait) = match self.transport.send(body.clone()).await {
                Outcome::Accepted { rejected, message } => return Ok((rejected, message)),
                Outcome::TooLarge { cause, .. } | Outcome::Refused { cause } => return Err(cause),
                Outcome::Later { cause, after } => (cause, after.unwrap_or(PAUSE).max(PAUSE)),
                Outcome::Unreached { cause, .. } => (cause, PAUSE),
            };
            if begun.elapsed() + wait >= self.timeout {
                return Err(cause);
            }
            tokio::time::sleep(wait).await;
        }
    }
}
