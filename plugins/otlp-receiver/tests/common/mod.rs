//! Shared by the tests: a gateway in a rig, and senders in rigs of their own, which are this repository's
//! `otlp` output.
#![allow(dead_code, reason = "each test binary uses its own part")]

pub(crate) mod requests;

use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use wattrace_api::testing::{Point, Rig};
use wattrace_api::{
    Attribute, Batch, Consumer, ConsumerKind, Domain, Follows, Identity, Origin, Resource, SeriesId,
    SeriesSpec, Tick, Timestamp, Window, metric,
};
use wattrace_http::testing::{Authority, write_key};
use wattrace_otlp::{Otlp, OtlpConfig};
use wattrace_otlp_receiver::{OtlpReceiver, OtlpReceiverConfig};

/// The longest time that a test waits for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// Steps per joule.
pub(crate) const J: u64 = 1_000_000;
/// The Unix time at which the tests begin.
pub(crate) const START: u64 = 1_700_000_000_000_000_000;

/// The part of the loopback network that belongs to this process, by its number: at most 22 bits.
fn own_host() -> Ipv4Addr {
    let [_, a, b, c] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 64 + a, b, c)
}

/// An address that nothing else listens at: no other process uses the host, and each port is given away once.
pub(crate) fn unused_address() -> String {
    static NEXT: AtomicU16 = AtomicU16::new(20_000);
    format!("{}:{}", own_host(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A gateway and all that came out of it.
pub(crate) struct Gateway {
    pub(crate) rig: Rig,
    pub(crate) config: OtlpReceiverConfig,
    pub(crate) scheme: &'static str,
    /// The last point of every series.
    latest: HashMap<SeriesId, Point>,
    pub(crate) ended: Vec<SeriesId>,
}

impl Gateway {
    pub(crate) fn start(change: impl FnOnce(&mut OtlpReceiverConfig)) -> Self {
        let (grpc, http) = (unused_address(), unused_address());
        let mut config = OtlpReceiverConfig { grpc, http, ..Default::default() };
        change(&mut config);
        let mut rig = Rig::new();
        rig.clock.set(Timestamp(START));
        rig.start::<OtlpReceiver>(config.clone()).unwrap();
        Self { rig, config, scheme: "http", latest: HashMap::new(), ended: Vec::new() }
    }

    /// Advances the clock and takes what has arrived.
    pub(crate) fn poll(&mut self, by: Duration) {
        self.rig.clock.set(self.rig.clock.now() + by);
        self.take(false);
    }

    /// Polls once the source asks for it, without a tick.
    pub(crate) fn wake(&mut self) {
        let batch = self.rig.wake("metrics").unwrap();
        self.keep(&batch);
    }

    pub(crate) fn last(&mut self) {
        self.take(true);
    }

    fn take(&mut self, last: bool) {
        let (mut batch, now) = (Batch::default(), self.rig.clock.now());
        self.rig.sources[0].1.poll(&Tick { last, ..Tick::at(now) }, &mut batch).unwrap();
        self.keep(&batch);
    }

    fn keep(&mut self, batch: &Batch) {
        for point in self.rig.points(batch) {
            self.latest.insert(point.id, point);
        }
        // They are not released here, so that the tests can still look at them.
        self.ended.extend_from_slice(batch.ended());
    }

    /// Polls until `holds` is true.
    pub(crate) fn until(&mut self, mut holds: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds(self) {
            assert!(
                Instant::now() < deadline,
                "it never became true: {:#?}",
                self.latest.values().collect::<Vec<_>>()
            );
            self.poll(Duration::from_millis(1));
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Forgets the series that have ended.
    pub(crate) fn forget_ended(&mut self) {
        for id in self.ended.drain(..) {
            self.latest.remove(&id);
        }
    }

    fn find(&self, metric: &str, with: &[(&str, &str)]) -> Option<&Point> {
        let mut fitting = self.latest.values().filter(|point| {
            let attributes = attributes(point);
            point.metric == metric
                && with.iter().all(|(k, v)| attributes.get(*k).is_some_and(|have| have == v))
        });
        let found = fitting.next();
        assert!(fitting.next().is_none(), "several series of {metric} with {with:?}");
        found
    }

    /// The value of a counter of `host`, in steps.
    pub(crate) fn counter(&self, metric: &str, host: &str, with: &[(&str, &str)]) -> Option<u64> {
        Some(self.find(metric, &[with, &[("host.name", host)]].concat())?.steps)
    }

    pub(crate) fn attributes(&self, metric: &str, with: &[(&str, &str)]) -> BTreeMap<String, String> {
        attributes(self.find(metric, with).unwrap())
    }

    /// One of the gateway's own metrics, by fate or anomaly, summed over senders; 0 if there is none.
    pub(crate) fn own(&mut self, metric: &str, what: &str) -> u64 {
        self.poll(Duration::from_secs(10));
        let points = self.latest.values().filter(|p| p.metric == metric);
        let fitting = points.filter(|p| what.is_empty() || attributes(p).values().any(|v| v == what));
        fitting.map(|p| p.value as u64).sum()
    }
}

fn attributes(point: &Point) -> BTreeMap<String, String> {
    point.series.all_attributes().into_iter().map(|a| (a.key.into_owned(), a.value.to_string())).collect()
}

/// An agent's output: one meter and two processes.
pub(crate) struct Sender {
    rig: Rig,
    series: [SeriesId; 3],
}

impl Sender {
    pub(crate) fn start(
        gateway: &Gateway,
        protocol: &str,
        host: &str,
        change: impl FnOnce(&mut OtlpConfig),
    ) -> Self {
        let address = if protocol == "grpc" { &gateway.config.grpc } else { &gateway.config.http };
        let mut config = OtlpConfig {
            endpoint: format!("{}://{address}", gateway.scheme),
            protocol: protocol.to_owned(),
            compression: if host == "node-1" { "gzip" } else { "none" }.to_owned(),
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(2),
            resource_attributes: [("host.name".to_owned(), host.to_owned())].into(),
            // The default one may be this machine's.
            spool: "none".into(),
            ..OtlpConfig::default()
        };
        change(&mut config);
        let mut rig = Rig::new();
        rig.clock.set(gateway.rig.clock.now());
        rig.start::<Otlp>(config).unwrap();
        let series = [None, Some((101, "first")), Some((102, "second"))].map(|who| open(&rig, who));
        Self { rig, series }
    }

    /// Advances the clock by `by` and sends these steps. They arrive.
    pub(crate) fn send(&mut self, by: Duration, steps: [u64; 3]) {
        self.write(by, steps, &[]);
        self.rig.outputs[0].1.flush().unwrap();
    }

    /// The same, but they need not arrive.
    pub(crate) fn try_send(&mut self, by: Duration, steps: [u64; 3]) {
        self.write(by, steps, &[]);
        _ = self.rig.outputs[0].1.flush();
    }

    /// Ends the first process, with its last value.
    pub(crate) fn end_first(&mut self, by: Duration, steps: u64) {
        self.write(by, [J, steps, J], &[self.series[1]]);
        self.rig.outputs[0].1.flush().unwrap();
    }

    fn write(&mut self, by: Duration, steps: [u64; 3], ended: &[SeriesId]) {
        let start = self.rig.clock.now();
        let points: Vec<_> = self.series.into_iter().zip(steps).collect();
        let mut batch = self.rig.batch(Window::new(start, start + by), &points);
        ended.iter().for_each(|&id| batch.end(id));
        self.rig.clock.set(start + by);
        self.rig.outputs[0].1.write(&batch).unwrap();
    }

    pub(crate) fn losses(&mut self) -> Vec<(&'static str, u64)> {
        self.rig.outputs[0].1.take_losses()
    }
}

fn open(rig: &Rig, who: Option<(i64, &'static str)>) -> SeriesId {
    let consumer = who.map(|(pid, name)| {
        let kind = ConsumerKind::Process;
        let identity = Identity { kind, id: pid.to_string().into(), start_unix_nano: START };
        let facts = vec![Attribute::new("process.pid", pid), Attribute::new("process.executable.name", name)];
        Arc::new(Consumer::new(identity, None, facts))
    });
    let metric = if who.is_some() { &metric::CONSUMER_ENERGY } else { &metric::HW_ENERGY };
    let (name, origin) = ("package-0".to_owned(), Origin::Simulated);
    let domain = Domain { name, origin, follows: Follows::Package(0), within: None, idle_microwatts: None };
    rig.registry.open(SeriesSpec {
        domain: Some(Arc::new(domain)),
        consumer,
        ..SeriesSpec::new(rig.registry.metric(metric).unwrap(), Resource::package(0), rig.clock.now())
    })
}

/// PEM files of an authority, of a server on this process's host and a client that it signed, and a key
/// without a certificate.
pub(crate) struct Files(tempfile::TempDir);

impl Files {
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Sets the environment variable `what` of the `otlp` output to the file `name`.
    pub(crate) fn set(&self, what: &str, name: &str) {
        // SAFETY: the binary that calls this has one test, and nobody else reads the environment meanwhile.
        unsafe { std::env::set_var(format!("OTEL_EXPORTER_OTLP_{what}"), self.path(name)) };
    }
}

pub(crate) fn secured() -> Files {
    let files = Files(tempfile::tempdir().unwrap());
    let directory = files.0.path();
    let authority = Authority::new();
    authority.write(directory, "authority.pem");
    authority.issue(directory, "server", &own_host().to_string());
    authority.issue(directory, "client", "node-1");
    write_key(directory, "other.key");
    files
}

/// Forwards connections, or drops them when a request comes.
pub(crate) struct Proxy {
    pub(crate) address: String,
    dropping: Arc<AtomicBool>,
    dropped: Arc<AtomicU64>,
}

impl Proxy {
    pub(crate) fn start(to: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (dropping, to) = (Arc::new(AtomicBool::new(false)), to.to_owned());
        let dropped = Arc::new(AtomicU64::new(0));
        let (seen, count) = (dropping.clone(), dropped.clone());
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let server = TcpStream::connect(&to).unwrap();
                pump(client.try_clone().unwrap(), server.try_clone().unwrap(), seen.clone(), count.clone());
                pump(server, client, seen.clone(), count.clone());
            }
        });
        Self { address, dropping, dropped }
    }

    /// The reads that were dropped: at least one per request.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::SeqCst)
    }

    pub(crate) fn drop_requests(&self, yes: bool) {
        self.dropping.store(yes, Ordering::SeqCst);
    }
}

fn pump(mut from: TcpStream, mut to: TcpStream, dropping: Arc<AtomicBool>, dropped: Arc<AtomicU64>) {
    std::thread::spawn(move || {
        let mut buffer = [0; 16 * 1024];
        while let Ok(n) = from.read(&mut buffer) {
            let drop = n > 0 && dropping.load(Ordering::SeqCst);
            dropped.fetch_add(u64::from(drop), Ordering::SeqCst);
            let hang_up = n == 0 || drop;
            if hang_up || to.write_all(&buffer[..n]).is_err() {
                break;
            }
        }
        _ = from.shutdown(std::net::Shutdown::Both);
        _ = to.shutdown(std::net::Shutdown::Both);
    });
}
