//! What the kernel programs cost, as metrics of the agent's own: measured now and then in short bursts,
//! because measuring costs something itself. Between bursts a program's time is its runs times what one cost
//! in the last.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tracing::debug;
use wattrace_api::{
    Attribute, Batch, Error, Metric, MetricId, Registry, Resource, ResultExt, SeriesId, SeriesSpec,
    Timestamp, Unit, Value,
};

use crate::accounts::Accounts;
use crate::kernel::Run;
use crate::source::lock;

const COST: Metric = Metric::gauge(
    "wattrace.agent.probe.cost",
    Unit::Second,
    "What a kernel program costs each time it runs, by the kernel's own measurement",
);
const RATE: Metric = Metric::gauge(
    "wattrace.agent.probe.rate",
    Unit::Other(std::borrow::Cow::Borrowed("Hz")),
    "How often a kernel program runs",
);
const SHARE: Metric = Metric::gauge(
    "wattrace.agent.probe.utilization",
    Unit::Count("1"),
    "Part of one CPU's time that a kernel program takes",
);

/// How long a burst is, and the time from one to the next.
const BURST: Duration = Duration::from_millis(100);
const PAUSE: Duration = Duration::from_secs(30);

/// What was measured last, to be emitted.
pub(crate) struct Costs {
    registry: Arc<Registry>,
    metrics: [MetricId; 3],
    start: Timestamp,
    programs: Vec<Program>,
    fresh: bool,
}

struct Program {
    name: &'static str,
    series: [SeriesId; 3],
    values: [f64; 3],
}

impl Costs {
    pub(crate) fn new(registry: Arc<Registry>, start: Timestamp) -> Result<Self, Error> {
        let metrics = [registry.metric(&COST), registry.metric(&RATE), registry.metric(&SHARE)];
        let [cost, rate, share] = metrics.map(|metric| metric.or_fatal());
        Ok(Self { metrics: [cost?, rate?, share?], registry, start, programs: Vec::new(), fresh: false })
    }

    /// Takes in what the programs did in `seconds`.
    fn take(&mut self, runs: &[Run], seconds: f64) {
        for run in runs.iter().filter(|run| run.count > 0) {
            let (count, ns) = (run.count as f64, run.ns as f64);
            let values = [ns * 1e-9 / count, count / seconds, ns * 1e-9 / seconds];
            match self.programs.iter_mut().find(|program| program.name == run.program) {
                Some(program) => program.values = values,
                None => {
                    let series = self.metrics.map(|metric| {
                        let attributes = vec![Attribute::new("wattrace.probe", run.program)];
                        let about_host = SeriesSpec::new(metric, Resource::HOST, self.start);
                        self.registry.open(SeriesSpec { attributes, ..about_host })
                    });
                    self.programs.push(Program { name: run.program, series, values });
                }
            }
        }
        self.fresh = true;
    }

    pub(crate) fn emit(&mut self, out: &mut Batch) {
        if !std::mem::take(&mut self.fresh) {
            return;
        }
        for program in &self.programs {
            for (series, value) in program.series.into_iter().zip(program.values) {
                out.push(series, Value::of_gauge(value));
            }
        }
    }
}

/// Measures now and then, for ever. Without the permission there is nothing to tell.
pub(crate) async fn sample(accounts: Arc<Mutex<Accounts>>) {
    loop {
        let begun = tokio::time::Instant::now();
        let burst = match lock(&accounts).kernel.begin_burst() {
            Ok(burst) => burst,
            Err(e) => return debug!("what the kernel programs cost stays unknown: {e}"),
        };
        tokio::time::sleep(BURST).await;
        {
            let mut accounts = lock(&accounts);
            let runs = accounts.kernel.end_burst(burst);
            accounts.costs.take(&runs, begun.elapsed().as_secs_f64());
        }
        tokio::time::sleep(PAUSE).await;
    }
}
