//! `wattrace calibrate`: loads the CPUs step by step on a machine that has a meter, reads energy and CPU time
//! through the normal pipeline, and writes a profile of what a package draws at which load, for machines
//! without a meter.
//!
//! | file | holds |
//! | --- | --- |
//! | `calibrate/plan.rs` | which CPUs are loaded in which step |
//! | `calibrate/load.rs` | the threads that load them |
//! | `calibrate/recorder.rs` | what the pipeline produces, and the means of each step |
//! | `calibrate/report.rs` | the results for people |
//!
//! `plugins/estimate/src/fit.rs` fits the model.

mod load;
mod plan;
mod recorder;
mod report;

use std::collections::BTreeMap;
use std::fs;
use std::future::Future;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use clap::Args;
use tokio::runtime::{Handle, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep};
use wattrace_api::{Clock, Origin, Timestamp, Window};
use wattrace_estimate::cpuinfo::CpuInfo;
use wattrace_estimate::fit::{Sample, fit};
use wattrace_estimate::profile::{Profile, SCHEMA};
use wattrace_progress::Progress;

use self::load::Load;
use self::plan::{Machine, Step};
use self::recorder::{CalibrationRecorder, Recording, StepMeans, lock};
use super::failure::{Failure, print};
use super::options::Configuration;
use super::session::{self, Outputs};
use crate::config::{Config, Request};
use crate::pipeline::Pipeline;
use crate::plugins::Registered;

/// Time limit for the reading of each step.
const POLL_TIMEOUT: Duration = Duration::from_secs(1);

/// Time limit for the last readings.
const STOP_TIMEOUT: Duration = Duration::from_millis(4500);
/// The first part of a step is left out: frequencies and voltages settle in it.
const SETTLING: f64 = 0.25;
/// Readings in a step.
const READINGS_PER_STEP: u32 = 10;
/// Minimum length of a step.
const MIN_STEP: Duration = Duration::from_millis(500);

#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    configuration: Configuration,
    /// Write the profile to this file
    #[arg(short, long, value_name = "FILE", default_value = "wattrace-profile.toml")]
    output: PathBuf,
    /// How long to measure, all steps together, as in 30s or 5min
    #[arg(short, long, value_parser = humantime::parse_duration, default_value = "1min")]
    duration: Duration,
}

/// What a calibration needs to know.
struct Calibration<'a> {
    plugins: &'a [Registered],
    config: Config,
    machine: Machine,
    steps: Vec<Step>,
    /// The length of each step.
    length: Duration,
}

pub(super) fn main(options: &Options, plugins: &[Registered]) -> Result<ExitCode, Failure> {
    let machine = Machine::find().map_err(Failure::new)?;
    let steps = machine.steps();
    let length = options.duration / steps.len() as u32;
    if length < MIN_STEP {
        let least = MIN_STEP * steps.len() as u32;
        return Err(Failure::usage(format!("--duration: {} steps take at least {least:?}", steps.len())));
    }
    let config = Config::load(&request(options, length, plugins), plugins).map_err(Failure::usage)?;
    let cannot_write =
        |e: std::io::Error| Failure::new(format!("--output {}: {e}", options.output.display()));
    let runtime = session::runtime()?;
    let stopped = {
        let _in_runtime = runtime.enter();
        stopped()
    };
    // Written before the measurement, so that an error is reported before it.
    let temporary = options.output.with_extension("toml.new");
    fs::write(&temporary, "").map_err(cannot_write)?;
    let calibration = Calibration { plugins, config, machine, steps, length };
    let (profile, means) = calibration.run(runtime, stopped).inspect_err(|_| {
        let _ = fs::remove_file(&temporary);
    })?;
    let text = profile.to_toml().map_err(Failure::new)?;
    fs::write(&temporary, text)
        .and_then(|()| fs::rename(&temporary, &options.output))
        .map_err(cannot_write)?;
    print(&report::text(&options.output, &profile, &means))?;
    Ok(ExitCode::SUCCESS)
}

/// The configuration: by default only the plugins that measure, with intervals that fit the steps.
fn request(options: &Options, length: Duration, plugins: &[Registered]) -> Request {
    let mut request = options.configuration.request();
    let has = |name: &&str| plugins.iter().any(|p| p.name == *name);
    let measuring: Vec<&str> = ["sched", "rapl"].into_iter().filter(has).collect();
    let interval = (length / READINGS_PER_STEP).clamp(Duration::from_millis(20), Duration::from_secs(1));
    let interval = interval.as_millis();
    let mut set: Vec<_> =
        measuring.iter().map(|name| format!("plugins.{name}.interval={interval}ms")).collect();
    // For the frequencies. The plugin leaves the counters out if reading them is expensive here.
    if has(&"sched") && has_counters() {
        set.push("plugins.sched.counters=[\"cycles\"]".to_owned());
    }
    set.append(&mut request.set);
    request.set = set;
    request.only.get_or_insert_with(|| measuring.iter().map(|&name| name.to_owned()).collect());
    request
}

/// Whether the kernel has a driver for the processor's counters: `cpu`, `cpu_core` on hybrid processors,
/// `armv8_pmuv3_0` on ARM.
fn has_counters() -> bool {
    let Ok(devices) = fs::read_dir("/sys/bus/event_source/devices") else { return false };
    let mut names = devices.flatten().filter_map(|device| device.file_name().into_string().ok());
    names.any(|name| name == "cpu" || name.starts_with("cpu_") || name.starts_with("armv8"))
}

impl Calibration<'_> {
    /// Measures, and fits the profile. Returns it with the means of all steps.
    fn run(
        &self,
        runtime: Runtime,
        stopped: impl Future<Output = ()>,
    ) -> Result<(Profile, Vec<StepMeans>), Failure> {
        let recording = Arc::new(Mutex::new(Recording::default()));
        let measured = runtime.block_on(self.measure(&recording, runtime.handle(), stopped));
        runtime.shutdown_timeout(Duration::from_millis(100));
        let windows = measured?;
        let recording = lock(&recording);
        let means: Vec<_> =
            windows.iter().flat_map(|(step, window)| recording.means(*step, *window)).collect();
        let profile = self.profile(&recording, &means)?;
        Ok((profile, means))
    }

    /// Goes through the steps. Returns each with the window in which its load was constant.
    async fn measure(
        &self,
        recording: &Arc<Mutex<Recording>>,
        runtime: &Handle,
        stopped: impl Future<Output = ()>,
    ) -> Result<Vec<(Step, Window)>, Failure> {
        tokio::pin!(stopped);
        let pipeline = self.start(recording, runtime)?;
        pipeline.poll_all(Instant::now() + POLL_TIMEOUT).await;
        pipeline.settle(Instant::now() + STOP_TIMEOUT).await;
        if let Some(missing) = lock(recording).missing() {
            return Err(refusal(missing, &pipeline));
        }
        eprintln!(
            "wattrace: calibrating, {} steps of {:.1?} on {} CPUs; the machine should be idle otherwise",
            self.steps.len(),
            self.length,
            self.machine.cpus()
        );
        let clock = Clock::system();
        let load = Load::start().map_err(|e| Failure::new(format!("cannot load the CPUs: {e}")))?;
        let mut windows = Vec::new();
        let mut progress = Progress::new("wattrace", true);
        let total = self.steps.len();
        for (number, step) in self.steps.iter().enumerate() {
            load.set(&self.machine.duties(*step));
            let settled = clock.now() + self.length.mul_f64(SETTLING);
            let end = clock.now() + self.length;
            progress.show_step(number, total, &format!("step {} of {total}: {step}", number + 1));
            tokio::select! {
                () = sleep(end.since(clock.now())) => {}
                () = &mut stopped => return Err(Failure::new("interrupted; nothing was written")),
            }
            windows.push((*step, Window::new(settled, Timestamp(end.0))));
        }
        drop((load, progress));
        let health = pipeline.stop(Instant::now() + STOP_TIMEOUT).await;
        session::report_losses(&health);
        Ok(windows)
    }

    /// Starts a pipeline that fills `recording`.
    fn start(&self, recording: &Arc<Mutex<Recording>>, runtime: &Handle) -> Result<Pipeline, Failure> {
        let (mut config, recording) = (self.config.clone(), recording.clone());
        let counter = move |registry, since| CalibrationRecorder::new(recording.clone(), registry, since);
        let host = session::start_counting(&mut config, self.plugins, runtime, Outputs::None, counter)?;
        session::start_pipeline(host, &config)
    }

    fn profile(&self, recording: &Recording, means: &[StepMeans]) -> Result<Profile, Failure> {
        let machine = &self.machine;
        let sample = |mean: &StepMeans| Sample {
            level: mean.step.number(),
            busy: mean.busy,
            shared: machine.shares_cores().then_some(mean.shared),
            watts: mean.watts,
            mhz: mean.mhz,
        };
        let samples = |is_wanted: &dyn Fn(&StepMeans) -> bool| -> Vec<Sample> {
            means.iter().filter(|m| is_wanted(m)).map(sample).collect()
        };
        let package = fit(&samples(&|m| m.is_package))
            .map_err(|cause| Failure::new(format!("no profile can be made: {cause}; nothing was written")))?;
        let mut idle_watts = BTreeMap::new();
        for domain in recording.domains() {
            // The idle power of a domain that does not depend on the CPUs' load cannot be found by loading
            // them.
            if let Ok(model) = fit(&samples(&|m| m.domain == domain.name)) {
                idle_watts.insert(domain.name.clone(), model.idle_watts);
            }
        }
        let cpu = CpuInfo::parse(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default());
        let is_simulated = recording.domains().any(|domain| domain.origin == Origin::Simulated);
        let others = means.iter().map(|m| m.others).sum::<f64>() / means.len().max(1) as f64;
        Ok(Profile {
            schema: SCHEMA.to_owned(),
            cpu: cpu.model,
            packages: machine.packages(),
            cpus_per_package: machine.cpus() as f64 / f64::from(machine.packages()),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
            created: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            origin: if is_simulated { Origin::Simulated } else { Origin::Measured }.as_str().to_owned(),
            others_percent: (others * 1e3).round() / 10.0,
            package,
            idle_watts,
        })
    }
}

/// Listens for SIGINT and SIGTERM from now on. Returns what waits for one of them.
fn stopped() -> impl Future<Output = ()> {
    let listen = |kind| signal(kind).ok();
    let (interrupt, terminate) = (listen(SignalKind::interrupt()), listen(SignalKind::terminate()));
    async move {
        // If signals cannot be listened for, they end the process as usual.
        let (Some(mut interrupt), Some(mut terminate)) = (interrupt, terminate) else {
            return std::future::pending().await;
        };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    }
}

/// The failure that `missing` causes, with the state of each source.
fn refusal(missing: &str, pipeline: &Pipeline) -> Failure {
    let health = pipeline.health();
    let sources = health.iter().filter(|h| h.name.starts_with("source/"));
    let states: Vec<_> = sources.map(|h| format!("  {} is {}", h.name, h.state())).collect();
    Failure::new(format!("calibration needs {missing}.\n{}", states.join("\n")))
}
