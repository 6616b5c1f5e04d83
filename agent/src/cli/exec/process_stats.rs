//! What processes used besides CPU time and energy: context switches, page faults, bytes, memory. The kernel
//! counts it, and `plugins/sched` reads it when a process exits. `recorder.rs` keeps it per process, and
//! `report.rs` shows it.

use serde::Serialize;
use wattrace_api::memory::PSS;
use wattrace_api::process_stats::{ALL, COUNT, PEAK_MEMORY};
use wattrace_api::{MetricId, Registry, Value};

use crate::config::Config;

/// The figures of one process, in the order of [`ALL`] and in units of the metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Figures([f64; COUNT]);

impl Figures {
    /// The sum over processes; `None` if none has figures.
    pub(super) fn sum<'a>(all: impl Iterator<Item = &'a Self>) -> Option<Self> {
        all.copied().reduce(|mut sum, figures| {
            sum.add(&figures);
            sum
        })
    }

    /// Takes in a point of figure number `which`.
    pub(super) fn set(&mut self, which: usize, value: Value) {
        self.0[which] = ALL[which].in_units(value);
    }

    /// Adds those of another process. Of memory, the larger one counts.
    fn add(&mut self, other: &Self) {
        for ((sum, other), metric) in self.0.iter_mut().zip(&other.0).zip(&ALL) {
            *sum = if metric.name == PEAK_MEMORY.name { sum.max(*other) } else { *sum + other };
        }
    }
}

/// Which figure a metric is.
pub(super) struct FigureIds {
    ids: [Option<MetricId>; COUNT],
    pss: Option<MetricId>,
}

impl FigureIds {
    /// Declares the metrics, if nobody has. One that somebody has declared differently is no figure.
    pub(super) fn declare(registry: &Registry) -> Self {
        let id = |metric| registry.metric(metric).ok();
        Self { ids: ALL.each_ref().map(id), pss: id(&PSS) }
    }

    /// The number of the figure whose metric `id` is.
    pub(super) fn position(&self, id: MetricId) -> Option<usize> {
        self.ids.iter().position(|&known| known == Some(id))
    }

    /// Whether it is the proportional set size of a living process.
    pub(super) fn is_pss(&self, id: MetricId) -> bool {
        self.pss == Some(id)
    }
}

/// Has the figures read: the report shows them.
pub(super) fn ask_for(config: &mut Config) {
    for plugin in config.plugins.iter_mut().filter(|plugin| plugin.table.contains_key("process_stats")) {
        plugin.table.insert("process_stats".into(), true.into());
    }
}

/// The figures in the report.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct FiguresJson {
    context_switches: Switches,
    page_faults: Faults,
    io_bytes: Bytes,
    disk_bytes: Bytes,
    cpu_wait_s: f64,
    peak_memory_bytes: u64,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Switches {
    voluntary: u64,
    involuntary: u64,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Faults {
    minor: u64,
    major: u64,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Bytes {
    read: u64,
    written: u64,
}

impl From<&Figures> for FiguresJson {
    fn from(figures: &Figures) -> Self {
        let [voluntary, involuntary, minor, major, read, written, disk_read, disk_written, wait, peak] =
            figures.0;
        Self {
            context_switches: Switches { voluntary: voluntary as u64, involuntary: involuntary as u64 },
            page_faults: Faults { minor: minor as u64, major: major as u64 },
            io_bytes: Bytes { read: read as u64, written: written as u64 },
            disk_bytes: Bytes { read: disk_read as u64, written: disk_written as u64 },
            cpu_wait_s: wait,
            peak_memory_bytes: peak as u64,
        }
    }
}

impl FiguresJson {
    /// Two lines for people.
    pub(super) fn for_people(&self) -> String {
        let Self { context_switches, page_faults, io_bytes, disk_bytes, .. } = self;
        format!(
            "  {} read, {} written (disk: {}, {}), max RSS {}\n  {} context switches, {} page faults, {:.3} \
             s waiting for a CPU\n",
            bytes(io_bytes.read),
            bytes(io_bytes.written),
            bytes(disk_bytes.read),
            bytes(disk_bytes.written),
            bytes(self.peak_memory_bytes),
            context_switches.voluntary + context_switches.involuntary,
            page_faults.minor + page_faults.major,
            self.cpu_wait_s
        )
    }
}

/// `12 B`, `3.4 MB`.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    if count < 1000 {
        return format!("{count} B");
    }
    let (mut value, mut unit) = (count as f64 / 1e3, 0);
    while value >= 999.95 && unit + 1 < UNITS.len() {
        (value, unit) = (value / 1e3, unit + 1);
    }
    format!("{value:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_add_up_and_memory_is_the_largest() {
        let of = |switches: u64, wait: u64, peak: f64| {
            let mut figures = Figures::default();
            figures.set(0, Value::of_steps(switches));
            figures.set(8, Value::of_steps(wait));
            figures.set(9, Value::of_gauge(peak));
            figures
        };
        let mut sum = of(3, 500_000_000, 4096.0);
        sum.add(&of(4, 250_000_000, 1024.0));
        let json = FiguresJson::from(&sum);
        assert_eq!(json.context_switches.voluntary, 7);
        assert_eq!((json.cpu_wait_s, json.peak_memory_bytes), (0.75, 4096));
    }

    #[test]
    fn two_lines_for_people_fit_80_columns() {
        let mut figures = Figures::default();
        for which in 0..COUNT {
            figures.set(
                which,
                match which {
                    0..4 => Value::of_steps(9_999_999),
                    8 => Value::of_steps(99_999_000_000_000),
                    9 => Value::of_gauge(999.9e6),
                    _ => Value::of_steps(999_900_000),
                },
            );
        }
        let text = FiguresJson::from(&figures).for_people();
        assert_eq!(
            text,
            "  999.9 MB read, 999.9 MB written (disk: 999.9 MB, 999.9 MB), max RSS 999.9 MB\n  19999998 \
             context switches, 19999998 page faults, 99999.000 s waiting for a CPU\n"
        );
        assert!(text.lines().all(|line| line.len() <= 80), "{text}");
    }

    #[test]
    fn bytes_have_four_digits_at_most() {
        let shown = [999, 1000, 999_949, 999_950, 12_345_678, 7_000_000_000_000_000].map(bytes);
        assert_eq!(shown, ["999 B", "1.0 kB", "999.9 kB", "1.0 MB", "12.3 MB", "7000.0 TB"]);
    }
}
