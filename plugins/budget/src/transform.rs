//! The pipeline element: adds up what the processes of each limited cgroup use, window by window, and acts.
//! It passes every point on, and adds how much of each limit is left.

use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};
use wattrace_api::{
    Attribute, AttributeValue, Batch, ConsumerKind, Error, Increments, Metric, MetricId, Registry, Resource,
    ResultExt, Role, Series, SeriesId, SeriesSpec, Timestamp, Transform, Unit, Usage, Value,
};
use wattrace_cgroup::Hierarchy;
use wattrace_select::Decisions;

use crate::allowance::{Advice, Allowance, Used};
use crate::config::{Action, BudgetConfig, LimitConfig};
use crate::target::{Target, cgroup_of};

/// What is left of a limit.
const LEFT: Metric = Metric::gauge(
    "wattrace.budget.left",
    Unit::Joule,
    "Energy that a limited cgroup or unit may use at once; below zero: it has used more than its limit",
);
/// What was done.
const ACTIONS: Metric = Metric::counter(
    "wattrace.budget.actions",
    Unit::Count("{action}"),
    1.0,
    "How often a limit was exceeded, and what was to be done",
);

/// How long processes that were asked to end may take.
const GRACE: Duration = Duration::from_secs(10);

/// A limit, and where it stands.
struct Limit {
    config: LimitConfig,
    allowance: Allowance,
    /// The cgroup, once a process of it has run.
    path: Option<String>,
    target: Option<Target>,
    /// In the current batch.
    used: Used,
    actions: u64,
    stopping: Option<Timestamp>,
    /// An error is reported once.
    failed: bool,
    left_series: Option<SeriesId>,
    actions_series: Option<SeriesId>,
}

/// What a point of a process counts as.
enum Counts {
    Energy,
    CpuTime,
}

/// What the points of a series are used for.
struct Tracked {
    /// The limits that its process is under, by their numbers.
    limits: Vec<usize>,
    counts: Counts,
    increments: Increments,
}

/// The element.
pub(crate) struct Transformer {
    registry: Arc<Registry>,
    hierarchy: Hierarchy,
    own: String,
    since: Option<Timestamp>,
    tracked: Decisions<Option<Tracked>>,
    limits: Vec<Limit>,
    left: MetricId,
    actions: MetricId,
}

impl Transformer {
    pub(crate) fn open(
        config: &BudgetConfig,
        hierarchy: Hierarchy,
        registry: Arc<Registry>,
    ) -> Result<Self, Error> {
        let limit = |config: &LimitConfig| Limit {
            allowance: Allowance::new(config.watts, config.over),
            config: config.clone(),
            path: None,
            target: None,
            used: Used::default(),
            actions: 0,
            stopping: None,
            failed: false,
            left_series: None,
            actions_series: None,
        };
        Ok(Self {
            left: registry.metric(&LEFT).or_fatal()?,
            actions: registry.metric(&ACTIONS).or_fatal()?,
            hierarchy,
            own: Hierarchy::own_path().unwrap_or_default(),
            since: None,
            tracked: Decisions::new(registry.clone(), true),
            limits: config.limits.iter().map(limit).collect(),
            registry,
        })
    }

    /// Adds up what was used. Returns the end of the newest window of energy.
    fn add_up(&mut self, batch: &Batch) -> Option<Timestamp> {
        let mut until = None;
        for segment in batch.segments() {
            let since = *self.since.get_or_insert(segment.window.start);
            for (id, value) in segment.points() {
                let limits = &mut self.limits;
                let decide = |series: &Arc<Series>, before: Option<Option<Tracked>>| {
                    track(series, before.flatten(), since, limits)
                };
                let Some(Some(tracked)) = self.tracked.of(id, decide) else { continue };
                let steps = tracked.increments.next(segment.window, value);
                for &number in &tracked.limits {
                    let used = &mut self.limits[number].used;
                    match tracked.counts {
                        Counts::Energy => used.microjoules += steps,
                        Counts::CpuTime => used.cpu_ns += steps,
                    }
                }
                if matches!(tracked.counts, Counts::Energy) {
                    until = until.max(Some(segment.window.end));
                }
            }
        }
        until
    }
}

/// What the points of `series` are used for; `before`, if its process has moved to another cgroup since.
fn track(
    series: &Series,
    before: Option<Tracked>,
    since: Timestamp,
    limits: &mut [Limit],
) -> Option<Tracked> {
    let counts = match series.role {
        Role::Energy if series.counts_in_totals() => Counts::Energy,
        Role::Usage(Usage::CpuTime) => Counts::CpuTime,
        _ => return None,
    };
    let consumer = series.consumer.as_ref().filter(|consumer| consumer.kind() == ConsumerKind::Process)?;
    let mut of_process = Vec::new();
    if let Some(AttributeValue::Str(path)) = consumer.attribute("process.linux.cgroup") {
        for (number, limit) in limits.iter_mut().enumerate() {
            // Units of several users may have one name: the first that runs is the one.
            if let Some(cgroup) = cgroup_of(&limit.config, &path)
                && limit.path.get_or_insert_with(|| cgroup.to_owned()) == cgroup
            {
                of_process.push(number);
            }
        }
    }
    let increments = before.map_or_else(|| Increments::new(series, since), |before| before.increments);
    Some(Tracked { limits: of_process, counts, increments })
}

impl Limit {
    /// After a window that ends at `until`: acts on what was used.
    fn act(&mut self, until: Timestamp, hierarchy: &Hierarchy, own: &str) {
        let advice = self.allowance.take(std::mem::take(&mut self.used), until);
        let exhausted = self.allowance.take_exhausted();
        if exhausted {
            self.actions += 1;
            let Self { config, .. } = self;
            warn!(
                "{} has used more than {} W over {:?}: {}",
                config.name(),
                config.watts,
                config.over,
                config.action.as_str()
            );
        }
        let result = match self.config.action {
            Action::Notify => Ok(()),
            Action::Throttle => self.throttle(advice, hierarchy, own),
            Action::Stop => self.stop(exhausted, until, hierarchy, own),
        };
        if let Err(e) = result
            && !std::mem::replace(&mut self.failed, true)
        {
            warn!("plugins.budget: {} cannot be limited: {e}", self.config.name());
        }
    }

    fn throttle(&mut self, advice: Advice, hierarchy: &Hierarchy, own: &str) -> Result<(), String> {
        match (advice, self.target.as_mut().filter(|target| target.is_slow())) {
            (Advice::Slow(cpus), _) => self.target(hierarchy, own)?.slow_down(cpus),
            (Advice::Free, Some(target)) => {
                target.set_free();
                info!("{} is within its limit again", self.config.name());
                Ok(())
            }
            (Advice::Free, None) => Ok(()),
        }
    }

    fn stop(
        &mut self,
        exhausted: bool,
        now: Timestamp,
        hierarchy: &Hierarchy,
        own: &str,
    ) -> Result<(), String> {
        if exhausted {
            self.stopping = Some(now);
            return self.target(hierarchy, own)?.stop(false);
        }
        match self.stopping {
            Some(since) if now.since(since) >= GRACE => {
                self.stopping = None;
                self.target(hierarchy, own)?.stop(true)
            }
            _ => Ok(()),
        }
    }

    fn target(&mut self, hierarchy: &Hierarchy, own: &str) -> Result<&mut Target, String> {
        let path = self.path.as_deref().ok_or("none of its processes has run")?;
        let target = match self.target.take() {
            Some(target) if target.path == path => target,
            _ => Target::open(hierarchy, path, own)?,
        };
        Ok(self.target.insert(target))
    }
}

impl Transform for Transformer {
    fn apply(&mut self, batch: &mut Batch) -> Result<(), Error> {
        let until = self.add_up(batch);
        for &id in batch.ended() {
            self.tracked.remove(id);
        }
        let Some(until) = until else { return Ok(()) };
        let since = self.since.unwrap_or(until);
        batch.begin(wattrace_api::Window::new(since.min(until), until));
        for limit in &mut self.limits {
            limit.act(until, &self.hierarchy, &self.own);
            let open = |metric, action: Option<Action>| {
                let mut attributes = vec![Attribute::new("wattrace.budget.name", limit.config.name())];
                attributes.extend(action.map(|a| Attribute::new("wattrace.budget.action", a.as_str())));
                let spec = SeriesSpec::new(metric, Resource::HOST, since);
                self.registry.open(SeriesSpec { attributes, ..spec })
            };
            let left = *limit.left_series.get_or_insert_with(|| open(self.left, None));
            let actions =
                *limit.actions_series.get_or_insert_with(|| open(self.actions, Some(limit.config.action)));
            batch.push(left, Value::of_gauge(limit.allowance.left()));
            batch.push(actions, Value::of_steps(limit.actions));
        }
        self.since = Some(until);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
