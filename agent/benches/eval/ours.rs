//! The attribution plugin itself, in each of its modes, behind the sources of the simulator.

use std::collections::BTreeMap;
use std::sync::Arc;

use wattrace_api::{Batch, ConsumerKind, Registry, SeriesId, SeriesMap, Transform, metric};
use wattrace_attribution::{AttributionConfig, Transformer};
use wattrace_simulator::simulation::FIRST_PID;

use crate::Result;
use crate::methods::Books;

/// The modes, by the value of `plugins.attribution.weights`.
const MODES: [&str; 5] = ["cpu-time", "cycles", "instructions", "smt", "fitted"];

/// Attribution in one mode.
pub(crate) struct Ours {
    pub(crate) mode: &'static str,
    transformer: Transformer,
    registry: Arc<Registry>,
    roles: SeriesMap<Role>,
    /// Last value of each series of energy, and of each meter, µJ, by domain.
    attributed: BTreeMap<SeriesId, u64>,
    measured: BTreeMap<SeriesId, u64>,
}

#[derive(Clone, Copy)]
enum Role {
    Process(usize),
    Idle,
    Unattributed,
    Meter,
    Other,
}

impl Ours {
    /// All modes that this version of the plugin has.
    pub(crate) fn all(registry: &Arc<Registry>) -> Result<Vec<Self>> {
        let mut all = Vec::new();
        for mode in MODES {
            let config = toml::from_str::<AttributionConfig>(&format!("weights = \"{mode}\""));
            let Ok(config) = config else {
                eprintln!("eval: attribution has no weights = \"{mode}\"; left out");
                continue;
            };
            all.push(Self {
                mode,
                transformer: Transformer::open(&config, registry.clone())?,
                registry: registry.clone(),
                roles: SeriesMap::default(),
                attributed: BTreeMap::new(),
                measured: BTreeMap::new(),
            });
        }
        Ok(all)
    }

    /// Takes in a source's points.
    pub(crate) fn take(&mut self, mut batch: Batch) -> Result<()> {
        self.transformer.apply(&mut batch)?;
        self.read(&batch);
        Ok(())
    }

    /// Nothing more comes.
    pub(crate) fn finish(&mut self) -> Result<()> {
        let mut batch = Batch::default();
        self.transformer.finish(&mut batch)?;
        self.read(&batch);
        Ok(())
    }

    fn read(&mut self, batch: &Batch) {
        for segment in batch.segments() {
            for (id, value) in segment.points() {
                if self.roles.get(id).is_none() {
                    let role = role(&self.registry, id);
                    self.roles.insert(id, role);
                }
                match self.roles.get(id) {
                    Some(Role::Meter) => _ = self.measured.insert(id, value.steps()),
                    Some(Role::Process(_) | Role::Idle | Role::Unattributed) => {
                        self.attributed.insert(id, value.steps());
                    }
                    _ => {}
                }
            }
        }
    }

    /// What it has attributed so far.
    pub(crate) fn books(&self) -> Books {
        let mut books = Books { idle: Some(0.0), ..Books::default() };
        for (id, microjoules) in &self.attributed {
            let joules = *microjoules as f64 * metric::MICROJOULE;
            match self.roles.get(*id) {
                Some(Role::Process(number)) => *books.processes.entry(*number).or_default() += joules,
                Some(Role::Idle) => *books.idle.get_or_insert(0.0) += joules,
                _ => {}
            }
        }
        books
    }

    /// Measured minus attributed in all, in microjoules: the largest such difference of a domain.
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

/// What a series is to the judge. Series are never given back here, so that ids stay what they are.
fn role(registry: &Registry, id: SeriesId) -> Role {
    let Some(series) = registry.get(id) else { return Role::Other };
    if series.metric.name == metric::HW_ENERGY.name && series.consumer.is_none() {
        return Role::Meter;
    }
    let Some(consumer) =
        series.consumer.as_ref().filter(|_| series.metric.name == metric::CONSUMER_ENERGY.name)
    else {
        return Role::Other;
    };
    match consumer.kind() {
        ConsumerKind::Idle => Role::Idle,
        ConsumerKind::Process => match consumer.identity().id.parse::<u32>() {
            Ok(pid) => Role::Process((pid - FIRST_PID) as usize),
            Err(_) => Role::Other,
        },
        _ => Role::Unattributed,
    }
}
