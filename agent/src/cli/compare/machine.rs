//! Checks of the machine before, during and after a comparison: what makes runs noisy, and what can be done
//! about it. Nothing here changes the verdict; the random order keeps it right on a noisy machine, too.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::exec::usage::RunUsage;

/// How long the load before the first run is measured.
pub(super) const LOOK: Duration = Duration::from_millis(300);

/// Load of others, in CPUs, that is worth a remark.
const BUSY: f64 = 0.1;

/// A rise in temperature, in °C, that is worth a remark.
const WARMER: f64 = 10.0;

/// Meters of processors are updated about every millisecond: a run has an edge of this length at each end.
const METER_STEP: f64 = 1e-3;

/// The part of a run that its edges may be.
const COARSE: f64 = 0.01;

/// The state of the machine at one time.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct State {
    /// Frequency governors of the CPUs, each once.
    governors: Vec<String>,
    /// Whether CPUs may exceed their nominal frequency; `None`: unknown.
    boosts: Option<bool>,
    /// Of the hottest package, °C.
    temperature: Option<f64>,
    /// How often CPUs were slowed down because of heat.
    throttled: u64,
    /// CPU time of all processes since boot, in seconds.
    busy_s: f64,
}

impl State {
    /// Reads the state from /sys and /proc under `root`.
    pub(super) fn read(root: &Path) -> Self {
        let cpus = root.join("sys/devices/system/cpu");
        let in_cpus = |file: &str| -> Vec<String> {
            let mut found: Vec<_> =
                entries(&cpus, "cpu").iter().filter_map(|cpu| text(&cpu.join(file))).collect();
            found.sort();
            found
        };
        let mut governors = in_cpus("cpufreq/scaling_governor");
        governors.dedup();
        let flag = |file: &str| text(&cpus.join(file)).map(|value| value != "0");
        let zones = entries(&root.join("sys/class/thermal"), "thermal_zone");
        let is_package = |zone: &&PathBuf| text(&zone.join("type")).is_some_and(|t| t == "x86_pkg_temp");
        let millidegrees = |zone: &PathBuf| text(&zone.join("temp"))?.parse::<f64>().ok();
        let hottest = zones.iter().filter(is_package).filter_map(millidegrees).reduce(f64::max);
        Self {
            governors,
            boosts: flag("intel_pstate/no_turbo").map(|no| !no).or_else(|| flag("cpufreq/boost")),
            temperature: hottest.map(|millidegrees| millidegrees / 1e3),
            throttled: in_cpus("thermal_throttle/core_throttle_count")
                .iter()
                .filter_map(|count| count.parse::<u64>().ok())
                .sum(),
            busy_s: text(&root.join("proc/stat")).and_then(|stat| busy_seconds(&stat)).unwrap_or_default(),
        }
    }

    /// What is worth knowing before the first run. `earlier` is the state at [`LOOK`] before this one.
    pub(super) fn before(&self, earlier: &State) -> Vec<String> {
        let mut remarks = Vec::new();
        let load = (self.busy_s - earlier.busy_s) / LOOK.as_secs_f64();
        if load > BUSY {
            remarks.push(format!("other processes keep {load:.1} CPUs busy: more runs may be needed"));
        }
        if self.governors.iter().any(|governor| governor != "performance") {
            remarks.push(format!(
                "the frequency governor is {}: `cpupower frequency-set -g performance` makes runs more alike",
                self.governors.join(", ")
            ));
        }
        if self.boosts == Some(true) {
            remarks.push("turbo is on: clock speeds depend on temperature and on other CPUs".to_owned());
        }
        remarks
    }

    /// What has changed since the state `before` the first run.
    pub(super) fn after(&self, before: &State) -> Vec<String> {
        let mut remarks = Vec::new();
        if let (Some(now), Some(then)) = (self.temperature, before.temperature)
            && now - then >= WARMER
        {
            remarks.push(format!(
                "the package warmed up from {then:.0} to {now:.0} °C: more warm-up (--warmup) reduces noise"
            ));
        }
        if self.throttled > before.throttled {
            let times = self.throttled - before.throttled;
            remarks.push(format!("the CPUs were slowed down because of heat {times} times: improve cooling"));
        }
        if self.governors != before.governors {
            remarks.push("the frequency governor was changed during the comparison: repeat it".to_owned());
        }
        remarks
    }
}

/// What the runs themselves say about the machine.
pub(super) fn during(runs: &[&RunUsage]) -> Vec<String> {
    let mut remarks = Vec::new();
    let loads: Vec<f64> = runs.iter().map(|run| run.other_cpu_time_s / run.wall_s.max(1e-9)).collect();
    let mean = loads.iter().sum::<f64>() / loads.len().max(1) as f64;
    if mean > BUSY {
        let (least, most) = loads.iter().fold((f64::MAX, 0.0_f64), |(l, m), &v| (l.min(v), m.max(v)));
        remarks.push(format!(
            "other processes kept {mean:.1} CPUs busy during the runs ({least:.1} to {most:.1})"
        ));
    }
    let shortest = runs.iter().map(|run| run.wall_s).fold(f64::INFINITY, f64::min);
    let is_metered = runs.iter().any(|run| run.origin == "measured");
    if is_metered && shortest < METER_STEP / COARSE {
        let part = METER_STEP / shortest.max(METER_STEP) * 100.0;
        remarks.push(format!(
            "the meter is updated every millisecond, {part:.1} % of the shortest run: longer runs are less \
             noisy"
        ));
    }
    remarks
}

fn text(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// Entries of a directory that are called `name` and a number.
fn entries(directory: &Path, name: &str) -> Vec<PathBuf> {
    let Ok(found) = fs::read_dir(directory) else { return Vec::new() };
    let is_numbered = |path: &PathBuf| {
        let rest = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_prefix(name));
        rest.is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
    };
    found.flatten().map(|entry| entry.path()).filter(is_numbered).collect()
}

/// Clock ticks of /proc/stat in a second, on every architecture.
const TICKS: f64 = 100.0;

/// The CPU time of all processes from the first line of /proc/stat: user, nice and system.
fn busy_seconds(stat: &str) -> Option<f64> {
    let mut columns = stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace();
    let ticks: Vec<f64> = columns.by_ref().take(3).filter_map(|c| c.parse().ok()).collect();
    (ticks.len() == 3).then(|| ticks.iter().sum::<f64>() / TICKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine made of files.
    fn machine(files: &[(&str, &str)]) -> State {
        let root = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        State::read(root.path())
    }

    const CPU: &str = "sys/devices/system/cpu";

    fn warm(millidegrees: &str, throttled: &str, governor: &str) -> State {
        machine(&[
            (&format!("{CPU}/cpu0/cpufreq/scaling_governor"), governor),
            (&format!("{CPU}/cpu1/cpufreq/scaling_governor"), governor),
            (&format!("{CPU}/cpu0/thermal_throttle/core_throttle_count"), throttled),
            (&format!("{CPU}/intel_pstate/no_turbo"), "0\n"),
            ("sys/class/thermal/thermal_zone0/type", "acpitz\n"),
            ("sys/class/thermal/thermal_zone0/temp", "99000\n"),
            ("sys/class/thermal/thermal_zone3/type", "x86_pkg_temp\n"),
            ("sys/class/thermal/thermal_zone3/temp", millidegrees),
            ("proc/stat", "cpu  100 20 30 4000 5 6 7 0 0 0\ncpu0 1 2 3\n"),
        ])
    }

    #[test]
    fn governor_turbo_and_load_are_named_before_the_first_run() {
        let state = warm("50000\n", "0\n", "powersave\n");
        let earlier = State { busy_s: state.busy_s - 0.3, ..state.clone() };
        let remarks = state.before(&earlier);
        assert_eq!(remarks.len(), 3, "{remarks:?}");
        assert!(remarks[0].contains("1.0 CPUs busy"), "{remarks:?}");
        assert!(remarks[1].contains("is powersave: `cpupower"), "{remarks:?}");
        let quiet = warm("50000\n", "0\n", "performance\n");
        let quiet = State { boosts: Some(false), ..quiet };
        assert_eq!(quiet.before(&quiet.clone()), Vec::<String>::new());
    }

    #[test]
    fn heat_and_a_changed_governor_are_named_afterwards() {
        let (before, after) =
            (warm("45000\n", "3\n", "powersave\n"), warm("71000\n", "8\n", "performance\n"));
        let remarks = after.after(&before);
        assert_eq!(remarks.len(), 3, "{remarks:?}");
        assert!(
            remarks[0].contains("from 45 to 71 °C") && remarks[1].contains("heat 5 times"),
            "{remarks:?}"
        );
        assert_eq!(before.after(&before), Vec::<String>::new());
    }

    #[test]
    fn a_machine_that_shows_nothing_has_no_remarks() {
        let nothing = machine(&[]);
        assert_eq!(nothing, State::default());
        assert_eq!(nothing.before(&nothing), Vec::<String>::new());
    }

    #[test]
    fn runs_that_are_short_for_the_meter_or_share_the_cpus_are_named() {
        let run = RunUsage {
            wall_s: 0.02,
            origin: "measured".into(),
            other_cpu_time_s: 0.01,
            ..RunUsage::default()
        };
        let remarks = during(&[&run]);
        assert!(remarks[0].contains("0.5 CPUs busy during the runs (0.5 to 0.5)"), "{remarks:?}");
        assert!(remarks[1].contains("5.0 % of the shortest run"), "{remarks:?}");
        let long = RunUsage { wall_s: 2.0, ..run };
        assert_eq!(during(&[&long]), Vec::<String>::new());
    }
}
