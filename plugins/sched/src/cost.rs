//! What the kernel programs cost, as metrics of the agent's own. Measuring costs something itself, so it is
//! done in short bursts: a timer, which wakes the source, begins and ends them.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::debug;
use wattrace_api::{
    Attribute, Batch, Error, Metric, MetricId, Registry, Resource, ResultExt, SeriesId, SeriesSpec,
    Timestamp, Unit, Value,
};

use crate::kernel::{Burst, Kernel, ProgramRuns};

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

/// How long a burst takes, and the time between the end of one and the beginning of the next.
const BURST: Duration = Duration::from_millis(100);
const PAUSE: Duration = Duration::from_secs(30);

/// Measures the cost of programs in bursts, and emits it.
pub(crate) struct CostSampler {
    timer: Timer,
    burst: Option<(Burst, Instant)>,
    costs: Costs,
}

impl CostSampler {
    /// Begins the first burst. Without the permission to measure, there will be none.
    pub(crate) fn new(kernel: &Kernel, registry: Arc<Registry>, start: Timestamp) -> Result<Self, Error> {
        let mut sampler =
            Self { timer: Timer::new().or_fatal()?, burst: None, costs: Costs::new(registry, start)? };
        kernel.add_wakeup(sampler.timer.as_fd()).or_fatal()?;
        sampler.begin_burst(kernel).or_fatal()?;
        Ok(sampler)
    }

    /// If the timer has expired: ends the burst, or begins the next one.
    ///
    /// # Errors
    /// The timer cannot be set.
    pub(crate) fn advance(&mut self, kernel: &Kernel) -> io::Result<()> {
        if !self.timer.take_expired() {
            return Ok(());
        }
        let Some((burst, begun)) = self.burst.take() else { return self.begin_burst(kernel) };
        self.costs.update(&kernel.end_burst(burst), begun.elapsed().as_secs_f64());
        self.timer.set(PAUSE)
    }

    fn begin_burst(&mut self, kernel: &Kernel) -> io::Result<()> {
        match kernel.begin_burst() {
            Ok(burst) => {
                self.burst = Some((burst, Instant::now()));
                self.timer.set(BURST)
            }
            Err(e) => {
                debug!("the cost of the kernel programs is not measured: {e}");
                Ok(())
            }
        }
    }

    /// Pushes what was measured since the last call.
    pub(crate) fn emit(&mut self, out: &mut Batch) {
        self.costs.emit(out);
    }
}

/// The last measurement of each program.
struct Costs {
    registry: Arc<Registry>,
    metrics: [MetricId; 3],
    start: Timestamp,
    programs: Vec<ProgramCost>,
    is_new: bool,
}

struct ProgramCost {
    program: &'static str,
    series: [SeriesId; 3],
    values: [f64; 3],
}

impl Costs {
    fn new(registry: Arc<Registry>, start: Timestamp) -> Result<Self, Error> {
        let metrics = [registry.metric(&COST), registry.metric(&RATE), registry.metric(&SHARE)];
        let [cost, rate, share] = metrics.map(|metric| metric.or_fatal());
        Ok(Self { metrics: [cost?, rate?, share?], registry, start, programs: Vec::new(), is_new: false })
    }

    fn update(&mut self, runs: &[ProgramRuns], seconds: f64) {
        for run in runs.iter().filter(|run| run.count > 0) {
            let (count, ns) = (run.count as f64, run.ns as f64);
            let values = [ns * 1e-9 / count, count / seconds, ns * 1e-9 / seconds];
            match self.programs.iter_mut().find(|program| program.program == run.program) {
                Some(program) => program.values = values,
                None => {
                    let series = self.metrics.map(|metric| {
                        let attributes = vec![Attribute::new("wattrace.probe", run.program)];
                        let about_host = SeriesSpec::new(metric, Resource::HOST, self.start);
                        self.registry.open(SeriesSpec { attributes, ..about_host })
                    });
                    self.programs.push(ProgramCost { program: run.program, series, values });
                }
            }
        }
        self.is_new = true;
    }

    fn emit(&mut self, out: &mut Batch) {
        if !std::mem::take(&mut self.is_new) {
            return;
        }
        for program in &self.programs {
            for (series, value) in program.series.into_iter().zip(program.values) {
                out.push(series, Value::of_gauge(value));
            }
        }
    }
}

/// A timerfd that expires once each time it is set.
struct Timer(OwnedFd);

impl Timer {
    fn new() -> io::Result<Self> {
        // SAFETY: the call has no preconditions; its result is checked.
        let fd =
            unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call has just returned this descriptor.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    fn set(&self, after: Duration) -> io::Result<()> {
        let zero = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let (tv_sec, tv_nsec) = (after.as_secs() as libc::time_t, after.subsec_nanos().into());
        let value = libc::itimerspec { it_interval: zero, it_value: libc::timespec { tv_sec, tv_nsec } };
        // SAFETY: `value` is valid for the call, and the old value is not asked for.
        match unsafe { libc::timerfd_settime(self.0.as_raw_fd(), 0, &value, std::ptr::null_mut()) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Whether it has expired since the last call.
    fn take_expired(&self) -> bool {
        let mut expirations = [0; 8];
        let buffer = expirations.as_mut_ptr().cast();
        // SAFETY: the length passed is that of `expirations`.
        unsafe { libc::read(self.0.as_raw_fd(), buffer, expirations.len()) == expirations.len() as isize }
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_expires_once_each_time_it_is_set() {
        let timer = Timer::new().unwrap();
        assert!(!timer.take_expired(), "it is not set yet");
        for _ in 0..2 {
            timer.set(Duration::from_millis(1)).unwrap();
            std::thread::sleep(Duration::from_millis(20));
            assert!(timer.take_expired());
            assert!(!timer.take_expired(), "it has been read");
        }
    }

    #[test]
    fn costs_are_emitted_once_per_measurement() {
        let mut costs = Costs::new(Registry::new(), Timestamp(0)).unwrap();
        let mut batch = Batch::default();
        costs.emit(&mut batch);
        assert!(batch.is_empty());
        costs.update(&[ProgramRuns { program: "sched_switch", count: 50, ns: 4_000 }], 0.1);
        batch.begin(wattrace_api::Window::default());
        costs.emit(&mut batch);
        let values: Vec<f64> = batch
            .segments()
            .flat_map(|segment| segment.points().map(|(_, value)| value.gauge()).collect::<Vec<_>>())
            .collect();
        assert_eq!(values.len(), 3);
        assert!((values[0] - 80e-9).abs() < 1e-12 && (values[1] - 500.0).abs() < 1e-6, "{values:?}");
        costs.emit(&mut batch);
        assert_eq!(batch.len(), 3);
    }
}
