//! `host-share`, in the guest: a source of the energy that the host attributes to this machine.
//! `host/fetch.rs` reads the host's message, `host/reader.rs` compares it with the last one.

mod fetch;
mod reader;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracing::{info, warn};
use wattrace_api::{
    Attribute, Batch, Clock, Domain, Error, Finding, Follows, Metric, MetricId, Origin, Plugin, Registry,
    Resource, ResourceKind, ResultExt, SeriesId, SeriesSpec, Setup, Source, Tick, Timestamp, Trigger, Unit,
    Value, Verdict, Window, metric,
};

use self::fetch::{FetchError, fetch};
use self::reader::{ANOMALIES, Anomaly, Change, Reader};
use crate::message::Share;

/// The plugin.
#[derive(Debug)]
pub struct HostShare;

/// `[plugins.host-share]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HostShareConfig {
    /// The mounted file that the host writes for this machine, or a unix socket that sends the same line.
    pub path: PathBuf,
    /// Time between readings, at least 10 ms.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
    /// The domain of the host to count. Empty: the sum of all domains that count in totals. Name a domain if
    /// the host has a meter of the whole machine only, such as `psys`.
    pub domain: String,
    /// After how long without a change the host's message is stale.
    #[serde(with = "humantime_serde")]
    pub stale_after: Duration,
}

impl Default for HostShareConfig {
    fn default() -> Self {
        Self {
            path: "/run/wattrace-host/share.json".into(),
            interval: Duration::from_secs(1),
            domain: String::new(),
            stale_after: Duration::from_secs(30),
        }
    }
}

impl HostShareConfig {
    fn validate(&self) -> Result<(), Error> {
        if self.path.as_os_str().is_empty() {
            return Err(Error::fatal("plugins.host-share.path: is empty: name the host's file or socket"));
        }
        if self.interval < Duration::from_millis(10) {
            let interval = self.interval;
            return Err(Error::fatal(format!("plugins.host-share.interval: {interval:?} is less than 10ms")));
        }
        if self.stale_after < self.interval * 2 {
            return Err(Error::fatal(format!(
                "plugins.host-share.stale_after: {:?} is less than two intervals",
                self.stale_after
            )));
        }
        Ok(())
    }
}

impl Plugin for HostShare {
    const NAME: &'static str = "host-share";
    const DESCRIPTION: &'static str = "energy of this virtual machine, as attributed by its host";
    type Config = HostShareConfig;

    // Few machines are guests of a host with Wattrace.
    fn on_by_default() -> bool {
        false
    }

    fn start(config: HostShareConfig, setup: &mut Setup) -> Result<(), Error> {
        config.validate()?;
        let (registry, clock) = (setup.registry(), setup.clock());
        setup.source("energy", Trigger::every(config.interval), move || {
            HostShareSource::open(&config, registry.clone(), clock.clone())
        });
        Ok(())
    }

    fn diagnose(config: &HostShareConfig) -> Vec<Finding> {
        let what = format!("the host's {}", config.path.display());
        vec![match fetch(&config.path) {
            Ok(fetched) => {
                let found = format!("it is about the machine {}", fetched.share.machine);
                Finding { what, verdict: Verdict::Ok, found, remedy: String::new() }
            }
            Err(FetchError { message, .. }) => {
                Finding { what, verdict: Verdict::Missing, found: message, remedy: REMEDY.to_owned() }
            }
        }]
    }
}

const REMEDY: &str =
    "enable plugins.guest-share on the host, and mount this machine's directory of it here (9p, virtiofs)";

/// Name of the domain. The `estimate` plugin yields to a domain of this name.
const DOMAIN: &str = "host-share";

const AGE: Metric = Metric::gauge(
    "wattrace.host_share.age",
    Unit::Second,
    "Age of the host's last message about this machine's energy",
);

struct HostShareSource {
    config: HostShareConfig,
    clock: Clock,
    reader: Reader,
    energy: SeriesId,
    age: SeriesId,
    microjoules: u64,
    read_at: Timestamp,
    origin: Origin,
    anomalies: Anomalies,
    is_stale: bool,
}

impl HostShareSource {
    fn open(config: &HostShareConfig, registry: Arc<Registry>, clock: Clock) -> Result<Self, Error> {
        let fetched = fetch(&config.path).map_err(|e| e.into_error(&config.path))?;
        let mut reader = Reader::new(config.domain.clone());
        let now = clock.now();
        let start = fetched.as_of(now, &clock, config.stale_after);
        reader.begin(&fetched.share, start);
        let origin = origin(&fetched.share, &config.domain);
        info!(
            "{}: the host's message is about {}, at {:.1} J; energy is counted from there on",
            config.path.display(),
            fetched.share.machine,
            reader.total() as f64 * metric::MICROJOULE
        );
        let domain = Domain {
            name: DOMAIN.to_owned(),
            origin,
            follows: Follows::Cpus,
            within: None,
            idle_microwatts: None,
        };
        let resource = Resource { kind: ResourceKind::Other(DOMAIN.into()), id: "".into() };
        let declare = |metric: &Metric| registry.metric(metric).or_fatal();
        let energy = registry.open(SeriesSpec {
            domain: Some(Arc::new(domain)),
            ..SeriesSpec::new(declare(&metric::HW_ENERGY)?, resource.clone(), start)
        });
        let age = registry.open(SeriesSpec::new(declare(&AGE)?, resource.clone(), start));
        let anomalies =
            Anomalies { metric: declare(&ANOMALIES)?, registry, resource, start, counts: Default::default() };
        Ok(Self {
            config: config.clone(),
            clock,
            reader,
            energy,
            age,
            microjoules: 0,
            read_at: start,
            origin,
            anomalies,
            is_stale: false,
        })
    }

    /// Writes the message's age and the anomalies.
    fn emit_state(&mut self, now: Timestamp, out: &mut Batch) {
        out.begin(Window::new(self.read_at, now));
        self.read_at = now;
        out.push(self.age, Value::of_gauge(now.since(self.reader.as_of()).as_secs_f64()));
        self.anomalies.emit(&mut self.reader, out);
    }
}

impl Source for HostShareSource {
    fn poll(&mut self, _tick: &Tick, out: &mut Batch) -> Result<(), Error> {
        let fetched = fetch(&self.config.path);
        let now = self.clock.now();
        let fetched = match fetched {
            Ok(fetched) => fetched,
            Err(error) => {
                if error.is_malformed {
                    self.reader.count(Anomaly::BadReading);
                }
                self.emit_state(now, out);
                // The host may restart, or the mount may come back. The counters are kept meanwhile.
                return Err(Error::retry(error.message));
            }
        };
        if origin(&fetched.share, &self.config.domain) != self.origin {
            return Err(Error::fatal(
                "the host's meter has another origin than before: counting starts again",
            ));
        }
        let as_of = fetched.as_of(now, &self.clock, self.config.stale_after);
        let result = match self.reader.take(&fetched.share, as_of, now) {
            Change::Energy { window, microjoules } => {
                if self.is_stale {
                    self.is_stale = false;
                    info!("the host's message changes again");
                }
                self.microjoules = self.microjoules.saturating_add(microjoules);
                out.begin(window);
                out.push(self.energy, Value::of_steps(self.microjoules));
                Ok(())
            }
            Change::None { since } if since > self.config.stale_after => {
                if !self.is_stale {
                    self.is_stale = true;
                    self.reader.count(Anomaly::Stale);
                    warn!("the host's message has not changed for {since:.0?}");
                }
                Err(Error::retry(format!(
                    "plugins.host-share.path: {}: unchanged for {since:.0?}; does the host's agent run?",
                    self.config.path.display()
                )))
            }
            Change::None { .. } => Ok(()),
            Change::NoSuchDomain => Err(Error::retry(no_such_domain(&fetched.share, &self.config.domain))),
        };
        self.emit_state(now, out);
        result
    }
}

fn no_such_domain(share: &Share, wanted: &str) -> String {
    let known: Vec<&str> = share.domains.iter().map(|d| &*d.domain).collect();
    let wanted = if wanted.is_empty() {
        "no domain that counts in totals".to_owned()
    } else {
        format!("no domain `{wanted}`")
    };
    format!("plugins.host-share.domain: the host's message has {wanted}; it has: {}", known.join(", "))
}

/// Attributed energy is estimated, or simulated if the host's meter is.
fn origin(share: &Share, wanted: &str) -> Origin {
    let mut counted = reader::counted(share, wanted);
    let simulated = counted.any(|domain| domain.origin == Origin::Simulated.as_str());
    if simulated { Origin::Simulated } else { Origin::Estimated }
}

/// The counters of anomalies. The series of a kind opens with its first anomaly.
struct Anomalies {
    registry: Arc<Registry>,
    metric: MetricId,
    resource: Resource,
    start: Timestamp,
    counts: [(u64, Option<SeriesId>); Anomaly::ALL.len()],
}

impl Anomalies {
    fn emit(&mut self, reader: &mut Reader, out: &mut Batch) {
        for anomaly in reader.take_anomalies() {
            let (count, series) = &mut self.counts[anomaly as usize];
            *count += 1;
            let series = *series.get_or_insert_with(|| {
                let attributes = vec![Attribute::new("wattrace.anomaly", anomaly.as_str())];
                let spec = SeriesSpec::new(self.metric, self.resource.clone(), self.start);
                self.registry.open(SeriesSpec { attributes, ..spec })
            });
            out.push(series, Value::of_steps(*count));
        }
    }
}

#[cfg(test)]
mod tests;
