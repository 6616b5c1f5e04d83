//! A fixture for the integration tests: known series that are written to the plugin as the agent does, and
//! servers.
#![allow(dead_code, reason = "each test binary uses its own part")]

pub(crate) mod machine;
pub(crate) mod server;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use wattrace_api::testing::Rig;
use wattrace_api::{
    Attribute, Batch, Consumer, ConsumerKind, Domain, Error, Follows, Identity, Origin, Resource, SeriesId,
    SeriesSpec, Timestamp, Window, metric,
};
use wattrace_otlp::{Otlp, OtlpConfig};

/// Longest that anything is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Steps per joule.
pub(crate) const J: u64 = 1_000_000;

/// The plugin's output, and the series it is fed.
pub(crate) struct Fixture {
    pub(crate) rig: Rig,
}

impl Fixture {
    /// Starts the plugin on a clock that stands at `now` (of Unix time), without a spool unless it is given:
    /// the default one may be this machine's.
    pub(crate) fn new(mut config: OtlpConfig, now: u64) -> Self {
        if config.spool.as_os_str().is_empty() {
            config.spool = "none".into();
        }
        let mut rig = Rig::new();
        rig.clock.set(Timestamp(now));
        rig.start::<Otlp>(config).unwrap();
        Self { rig }
    }

    /// Opens a series of the energy that `consumer` used, or of the hardware's own, starting now.
    pub(crate) fn energy(&mut self, consumer: Option<Arc<Consumer>>) -> SeriesId {
        let metric = if consumer.is_some() { &metric::CONSUMER_ENERGY } else { &metric::HW_ENERGY };
        let (name, origin) = ("package-0".to_owned(), Origin::Simulated);
        let domain =
            Domain { name, origin, follows: Follows::Package(0), within: None, idle_microwatts: None };
        self.rig.registry.open(SeriesSpec {
            metric: self.rig.registry.metric(metric).unwrap(),
            resource: Resource::package(0),
            domain: Some(Arc::new(domain)),
            consumer,
            attributes: Vec::new(),
            start: self.rig.clock.now(),
        })
    }

    /// Advances the clock by `by` and writes a batch of that window.
    pub(crate) fn write(&mut self, by: Duration, points: &[(SeriesId, u64)], ended: &[SeriesId]) {
        let start = self.rig.clock.now();
        let mut batch = self.rig.batch(Window::new(start, start + by), points);
        ended.iter().for_each(|&id| batch.end(id));
        self.rig.clock.set(start + by);
        self.rig.outputs[0].1.write(&batch).unwrap();
        self.rig.registry.release(ended);
    }

    /// Advances the clock by `by` and writes an empty batch, so that the output checks what is due.
    pub(crate) fn write_nothing(&mut self, by: Duration) {
        self.rig.clock.set(self.rig.clock.now() + by);
        self.rig.outputs[0].1.write(&Batch::default()).unwrap();
    }

    pub(crate) fn flush(&mut self) -> Result<(), Error> {
        self.rig.outputs[0].1.flush()
    }

    pub(crate) fn losses(&mut self) -> Vec<(&'static str, u64)> {
        self.rig.outputs[0].1.take_losses()
    }
}

/// A process with its attributes.
pub(crate) fn process(pid: i64, name: &'static str) -> Arc<Consumer> {
    let identity =
        Identity { kind: ConsumerKind::Process, id: pid.to_string().into(), start_unix_nano: pid as u64 };
    let attributes =
        vec![Attribute::new("process.pid", pid), Attribute::new("process.executable.name", name)];
    Arc::new(Consumer::new(identity, None, attributes))
}

/// A process with what Wattrace knows of one.
pub(crate) fn described_process(pid: i64) -> Arc<Consumer> {
    let consumer = process(pid, "short");
    consumer.update(vec![
        Attribute::new("process.pid", pid),
        Attribute::new("process.parent_pid", pid - 1),
        Attribute::new("process.executable.name", format!("short-{}", pid % 100)),
        Attribute::new("process.executable.path", format!("/usr/lib/something/bin/short-{}", pid % 100)),
        Attribute::new("process.creation.time", "2026-11-27T10:00:00.123456789Z"),
        Attribute::new("process.owner", "somebody"),
        Attribute::new("linux.cgroup", "/user.slice/user-1000.slice/session-1.scope"),
        Attribute::new("container.id", format!("{pid:064x}")),
    ]);
    consumer
}

/// A service of both HTTP versions.
pub(crate) trait Web<B>:
    hyper::service::Service<
        hyper::Request<hyper::body::Incoming>,
        Response = hyper::Response<B>,
        Future: Send,
        Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    > + Clone
    + Send
    + 'static
{
}

impl<B, S> Web<B> for S where
    S: hyper::service::Service<
            hyper::Request<hyper::body::Incoming>,
            Response = hyper::Response<B>,
            Future: Send,
            Error: Into<Box<dyn std::error::Error + Send + Sync>>,
        > + Clone
        + Send
        + 'static
{
}

/// What a service answers with.
pub(crate) trait Answer:
    hyper::body::Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static
{
}

impl<B> Answer for B where
    B: hyper::body::Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static
{
}

/// Serves `service` on a free port, for as long as the runtime lives.
pub(crate) fn serve<B: Answer>(runtime: &tokio::runtime::Runtime, service: impl Web<B>) -> SocketAddr {
    let _within = runtime.enter();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    accept(listener, service);
    address
}

/// Serves `service` to every connection.
pub(crate) fn accept<B: Answer>(listener: tokio::net::TcpListener, service: impl Web<B>) {
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = service.clone();
            tokio::spawn(async move {
                _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
}
