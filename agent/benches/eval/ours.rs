//! The attribution plugin in each of its modes, fed by the sources of the simulator.

use std::collections::BTreeMap;
use std::sync::Arc;

use wattrace_api::{Batch, Consumer, ConsumerKind, Registry, Role, SeriesId, SeriesMap, Transform, metric};
use wattrace_attribution::{AttributionConfig, Transformer};
use wattrace_simulator::simulation::FIRST_PID;

use crate::Result;
use crate::methods::Attributed;

/// The modes, by the value of `plugins.attribution.weights`.
const MODES: [&str; 5] = ["cpu-time", "cycles", "instructions", "smt", "fitted"];

/// Attribution in one mode.
pub(crate) struct Ours {
    pub(crate) mode: &'static str,
    transformer: Transformer,
    registry: Arc<Registry>,
    kinds: SeriesMap<SeriesKind>,
    /// Last value of each series of energy, and of each meter, µJ, by domain.
    attributed: BTreeMap<SeriesId, u64>,
    /// Half the width of the interval of each, J.
    half_widths: BTreeMap<SeriesId, f64>,
    measured: BTreeMap<SeriesId, u64>,
}

/// What a series is to the evaluation.
#[derive(Clone, Copy)]
enum SeriesKind {
    Process(usize),
    /// The interval of a process's energy.
    Interval(usize),
    Idle,
    Unattributed,
    Meter,
    Other,
}

impl Ours {
    /// One for each mode.
    pub(crate) fn all(registry: &Arc<Registry>) -> Result<Vec<Self>> {
        Self::of(&MODES, registry)
    }

    /// The best mode alone.
    pub(crate) fn best(registry: &Arc<Registry>) -> Result<Vec<Self>> {
        Self::of(&MODES[MODES.len() - 1..], registry)
    }

    fn of(modes: &[&'static str], registry: &Arc<Registry>) -> Result<Vec<Self>> {
        let mut all = Vec::new();
        for &mode in modes {
            let config = format!("weights = \"{mode}\"\nstate = \"none\"");
            let config = toml::from_str::<AttributionConfig>(&config);
            let Ok(config) = config else {
                eprintln!("eval: attribution has no weights = \"{mode}\"; left out");
                continue;
            };
            all.push(Self {
                mode,
                transformer: Transformer::open(&config, registry.clone())?,
                registry: registry.clone(),
                kinds: SeriesMap::default(),
                attributed: BTreeMap::new(),
                half_widths: BTreeMap::new(),
                measured: BTreeMap::new(),
            });
        }
        Ok(all)
    }

    /// Passes a source's points through the plugin.
    pub(crate) fn take(&mut self, mut batch: Batch) -> Result<()> {
        self.transformer.apply(&mut batch)?;
        self.read(&batch);
        Ok(())
    }

    /// Ends the run.
    pub(crate) fn finish(&mut self) -> Result<()> {
        let mut batch = Batch::default();
        self.transformer.finish(&mut batch)?;
        self.read(&batch);
        Ok(())
    }

    fn read(&mut self, batch: &Batch) {
        for segment in batch.segments() {
            for (id, value) in segment.points() {
                if self.kinds.get(id).is_none() {
                    let kind = kind(&self.registry, id);
                    self.kinds.insert(id, kind);
                }
                match self.kinds.get(id) {
                    Some(SeriesKind::Meter) => _ = self.measured.insert(id, value.steps()),
                    Some(SeriesKind::Process(_) | SeriesKind::Idle | SeriesKind::Unattributed) => {
                        self.attributed.insert(id, value.steps());
                    }
                    Some(SeriesKind::Interval(_)) => _ = self.half_widths.insert(id, value.gauge()),
                    _ => {}
                }
            }
        }
    }

    /// Half the width of the interval of what each process received, J: those of its domains in squares.
    pub(crate) fn half_widths(&self) -> BTreeMap<usize, f64> {
        let mut all = BTreeMap::new();
        for (id, half_width) in &self.half_widths {
            if let Some(SeriesKind::Interval(number)) = self.kinds.get(*id) {
                let sum: &mut f64 = all.entry(*number).or_default();
                *sum = sum.hypot(*half_width);
            }
        }
        all
    }

    /// What it has attributed so far.
    pub(crate) fn attributed(&self) -> Attributed {
        let mut sums = Attributed { idle: Some(0.0), ..Attributed::default() };
        for (id, microjoules) in &self.attributed {
            let joules = *microjoules as f64 * metric::MICROJOULE;
            match self.kinds.get(*id) {
                Some(SeriesKind::Process(number)) => *sums.processes.entry(*number).or_default() += joules,
                Some(SeriesKind::Idle) => *sums.idle.get_or_insert(0.0) += joules,
                _ => {}
            }
        }
        sums
    }

    /// The largest difference of a domain between measured and attributed energy, in microjoules.
    pub(crate) fn residual(&self) -> f64 {
        let mut domains: BTreeMap<String, i128> = BTreeMap::new();
        let domain = |id| self.registry.get(id)?.domain.clone();
        let name = |id| domain(id).map_or(String::new(), |domain| domain.name.clone());
        for (id, microjoules) in &self.measured {
            *domains.entry(name(*id)).or_default() += i128::from(*microjoules);
        }
        for (id, microjoules) in &self.attributed {
            *domains.entry(name(*id)).or_default() -= i128::from(*microjoules);
        }
        domains.values().map(|residual| residual.unsigned_abs() as f64).fold(0.0, f64::max)
    }
}

/// The kind of a series. Series never end here, so ids are not reused.
fn kind(registry: &Registry, id: SeriesId) -> SeriesKind {
    let Some(series) = registry.get(id) else { return SeriesKind::Other };
    match (series.role, &series.consumer) {
        (Role::Meter, _) => SeriesKind::Meter,
        (Role::Energy, Some(consumer)) => match consumer.kind() {
            ConsumerKind::Idle => SeriesKind::Idle,
            ConsumerKind::Process => process(consumer).map_or(SeriesKind::Other, SeriesKind::Process),
            _ => SeriesKind::Unattributed,
        },
        (Role::Uncertainty, Some(consumer)) if consumer.kind() == ConsumerKind::Process => {
            process(consumer).map_or(SeriesKind::Other, SeriesKind::Interval)
        }
        _ => SeriesKind::Other,
    }
}

/// The number of a process in the script.
fn process(consumer: &Consumer) -> Option<usize> {
    let pid: u32 = consumer.identity().id.parse().ok()?;
    Some((pid - FIRST_PID) as usize)
}
