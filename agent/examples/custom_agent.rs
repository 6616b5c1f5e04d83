//! A custom agent: the standard plugins, and one more that reads the machine's load averages.
//!
//! ```sh
//! cargo run --example custom_agent -- plugins list
//! cargo run --example custom_agent -- run --plugins mine,jsonl --set plugins.jsonl.path=- --duration 3s
//! ```
//! docs/plugin-authors.md explains transforms, outputs and tests.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::ExitCode;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use wattrace_api::{
    Attribute, Batch, Clock, Error, Metric, Plugin, Registry, Resource, ResultExt, SeriesId, SeriesSpec,
    Setup, Source, Tick, Timestamp, Trigger, Unit, Value, Window,
};

fn main() -> ExitCode {
    wattrace::Agent::builder().standard_plugins().plugin::<Mine>().run()
}

/// The plugin.
struct Mine;

/// `[plugins.mine]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct MineConfig {
    /// Time between readings. The kernel updates the averages every five seconds.
    interval: String,
}

impl Default for MineConfig {
    fn default() -> Self {
        Self { interval: "5s".into() }
    }
}

impl Plugin for Mine {
    const NAME: &'static str = "mine";
    const DESCRIPTION: &'static str = "the machine's load averages";
    type Config = MineConfig;

    fn start(config: MineConfig, setup: &mut Setup) -> Result<(), Error> {
        let interval = humantime::parse_duration(&config.interval)
            .map_err(|e| Error::fatal(format!("plugins.mine.interval: {e}")))?;
        if interval.is_zero() {
            return Err(Error::fatal("plugins.mine.interval: must be longer than 0s"));
        }
        let (registry, clock) = (setup.registry(), setup.clock());
        setup.source("load", Trigger::every(interval), move || LoadSource::open(&registry, clock.clone()));
        Ok(())
    }
}

const PATH: &str = "/proc/loadavg";

const LOAD: Metric = Metric::gauge(
    "mine.load_average",
    Unit::Count("{thread}"),
    "Threads that ran or wanted to, averaged over the last minutes",
);

/// The pipeline element.
struct LoadSource {
    file: File,
    clock: Clock,
    read_at: Timestamp,
    /// In the order of the fields of /proc/loadavg.
    series: [SeriesId; 3],
}

impl LoadSource {
    fn open(registry: &Arc<Registry>, clock: Clock) -> Result<Self, Error> {
        let file = File::open(PATH).map_err(|e| Error::gone(format!("{PATH}: {e}; is /proc mounted?")))?;
        let metric = registry.metric(&LOAD).or_fatal()?;
        let start = clock.now();
        let series = [1, 5, 15].map(|minutes: u32| {
            registry.open(SeriesSpec {
                metric,
                resource: Resource::HOST,
                domain: None,
                consumer: None,
                attributes: vec![Attribute::new("mine.minutes", minutes)],
                start,
            })
        });
        Ok(Self { file, clock, read_at: start, series })
    }
}

impl Source for LoadSource {
    fn poll(&mut self, _tick: &Tick, out: &mut Batch) -> Result<(), Error> {
        // An open file and a buffer on the stack: a tick allocates nothing.
        let mut text = [0; 128];
        let length = self
            .file
            .read_at(&mut text, 0)
            .map_err(|e| Error::retry(format!("cannot read {PATH}: {e}; it will be read again")))?;
        let text = std::str::from_utf8(&text[..length]).or_retry()?;
        let now = self.clock.now();
        out.begin(Window::new(self.read_at, now));
        self.read_at = now;
        for (&series, field) in self.series.iter().zip(text.split(' ')) {
            let load = field.parse().map_err(|e| Error::retry(format!("{PATH}: `{field}`: {e}")))?;
            out.push(series, Value::of_gauge(load));
        }
        Ok(())
    }
}
