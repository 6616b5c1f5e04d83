//! `wattrace calibrate`: loads the CPUs step by step on a machine that has a meter, reads meter and CPU time
//! through the normal pipeline, and writes what a package draws under which load as a profile, for machines
//! that have no meter.
//!
//! | file | holds |
//! | --- | --- |
//! | `calibrate/plan.rs` | which CPUs are loaded in which step |
//! | `calibrate/load.rs` | the threads that load them |
//! | `calibrate/readings.rs` | what comes out of the pipeline, and each step's means of it |
//!
//! The model is fitted in `plugins/estimate/src/fit.rs`.

mod load;
mod plan;
mod readings;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use clap::Args;
use tokio::time::{Instant, sleep};
use wattrace_api::{Clock, Origin, Registry, Timestamp, Window};
use wattrace_estimate::cpuinfo::CpuInfo;
use wattrace_estimate::fit::{Sample, fit};
use wattrace_estimate::profile::{Profile, SCHEMA};

use self::load::Load;
use self::plan::{Machine, REPETITIONS, Step};
use self::readings::{Readings, ReadingsOutput, StepMeans, lock};
use super::{Configuration, Failure, print, session};
use crate::config::{Config, Request};
use crate::pipeline::Pipeline;
use crate::plugins::Registered;

/// How long the last readings may take.
const STOPPING: Duration = Duration::from_millis(4500);
/// The first part of a step is left out: frequencies and voltages settle.
const SETTLING: f64 = 0.25;
/// Readings a step.
const READINGS: u32 = 10;
/// More CPU time of others than this, as a part of all, is warned of.
const BUSY: f64 = 0.05;

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

pub(super) fn main(options: &Options, plugins: &[Registered]) -> Result<ExitCode, Failure> {
    let machine = Machine::find().map_err(Failure::new)?;
    let steps = machine.steps();
    let length = options.duration / steps.len() as u32;
    if length < Duration::from_millis(500) {
        let least = Duration::from_millis(500) * steps.len() as u32;
        return Err(Failure::usage(format!("--duration: {} steps take at least {least:?}", steps.len())));
    }
    let config = Config::load(&request(options, length, plugins), plugins).map_err(Failure::usage)?;
    // Before the minute of load, not after it.
    let beside = options.output.with_extension("toml.new");
    fs::write(&beside, "")
        .map_err(|e| Failure::new(format!("--output {}: {e}", options.output.display())))?;
    let result = calibrate(options, &config, &machine, &steps, length, plugins);
    let (profile, report) = match result {
        Ok(found) => found,
        Err(failure) => {
            let _ = fs::remove_file(&beside);
            return Err(failure);
        }
    };
    let text = profile.to_toml().map_err(Failure::new)?;
    fs::write(&beside, text)
        .and_then(|()| fs::rename(&beside, &options.output))
        .map_err(|e| Failure::new(format!("--output {}: {e}", options.output.display())))?;
    print(&report)?;
    Ok(ExitCode::SUCCESS)
}

/// The configuration, with intervals that fit the steps unless the user says otherwise, and only with what
/// measures.
fn request(options: &Options, length: Duration, plugins: &[Registered]) -> Request {
    let mut request = options.configuration.request();
    let has = |name: &&str| plugins.iter().any(|p| p.name == *name);
    let measuring: Vec<&str> = ["sched", "rapl"].into_iter().filter(has).collect();
    let interval = (length / READINGS).clamp(Duration::from_millis(20), Duration::from_secs(1)).as_millis();
    let mut set: Vec<_> =
        measuring.iter().map(|name| format!("plugins.{name}.interval={interval}ms")).collect();
    // For the frequencies. Where the processor has counters and reading one is dear, sched leaves it out.
    if has(&"sched") && has_counters() {
        set.push("plugins.sched.counters=[\"cycles\"]".to_owned());
    }
    set.append(&mut request.set);
    request.set = set;
    request.only.get_or_insert_with(|| measuring.iter().map(|&name| name.to_owned()).collect());
    request
}

/// Whether the kernel knows counters of the processor's: `cpu`, on hybrid ones `cpu_core`, on ARM
/// `armv8_pmuv3_0`.
fn has_counters() -> bool {
    let Ok(devices) = fs::read_dir("/sys/bus/event_source/devices") else { return false };
    let mut names = devices.flatten().filter_map(|device| device.file_name().into_string().ok());
    names.any(|name| name == "cpu" || name.starts_with("cpu_") || name.starts_with("armv8"))
}

fn calibrate(
    options: &Options,
    config: &Config,
    machine: &Machine,
    steps: &[Step],
    length: Duration,
    plugins: &[Registered],
) -> Result<(Profile, String), Failure> {
    let runtime = session::runtime()?;
    let readings = Arc::new(Mutex::new(Readings::default()));
    let measured =
        runtime.block_on(measure(config, machine, steps, length, plugins, &readings, runtime.handle()));
    runtime.shutdown_timeout(Duration::from_millis(100));
    let windows = measured?;
    let readings = lock(&readings);
    let means: Vec<_> = windows.iter().flat_map(|(step, window)| readings.means(*step, *window)).collect();
    let profile = profile(&readings, &means, machine)?;
    let report = report(options, &profile, &means);
    Ok((profile, report))
}

/// Goes through the steps. Returns each with the window in which its load stood still.
async fn measure(
    config: &Config,
    machine: &Machine,
    steps: &[Step],
    length: Duration,
    plugins: &[Registered],
    readings: &Arc<Mutex<Readings>>,
    runtime: &tokio::runtime::Handle,
) -> Result<Vec<(Step, Window)>, Failure> {
    let output = {
        let readings = readings.clone();
        move |registry: &Arc<Registry>| ReadingsOutput::new(readings.clone(), registry.clone())
    };
    let pipeline = session::start(config, plugins, &[], Some(output), runtime)?;
    pipeline.poll_all().await;
    pipeline.flush(Instant::now() + STOPPING).await;
    if let Some(lacking) = lock(readings).lacking() {
        return Err(refusal(lacking, &pipeline));
    }
    eprintln!(
        "wattrace: calibrating, {} steps of {length:.1?} on {} CPUs; the machine should do nothing else meanwhile",
        steps.len(),
        machine.cpus()
    );
    let clock = Clock::system();
    let load = Load::start().map_err(|e| Failure::new(format!("cannot load the CPUs: {e}")))?;
    let mut windows = Vec::new();
    for (number, step) in steps.iter().enumerate() {
        load.set(&machine.duties(*step));
        let settled = clock.now() + length.mul_f64(SETTLING);
        let end = clock.now() + length;
        eprintln!("wattrace: step {} of {}: {step}", number + 1, steps.len());
        sleep(end.since(clock.now())).await;
        windows.push((*step, Window::new(settled, Timestamp(end.0))));
    }
    drop(load);
    let health = pipeline.stop(Instant::now() + STOPPING).await;
    session::report_losses(&health);
    Ok(windows)
}

/// Why there is nothing to calibrate by, with what the sources say of it.
fn refusal(lacking: &str, pipeline: &Pipeline) -> Failure {
    let health = pipeline.health();
    let sources = health.iter().filter(|h| h.name.starts_with("source/"));
    let said: Vec<_> = sources.map(|h| format!("  {} is {}", h.name, h.state())).collect();
    Failure::new(format!("calibration needs {lacking}.\n{}", said.join("\n")))
}

fn profile(readings: &Readings, means: &[StepMeans], machine: &Machine) -> Result<Profile, Failure> {
    let sample = |mean: &StepMeans| Sample {
        level: mean.step.number(),
        busy: mean.busy,
        shared: machine.shares_cores().then_some(mean.shared),
        watts: mean.watts,
        mhz: mean.mhz,
    };
    let of = |chosen: &dyn Fn(&StepMeans) -> bool| -> Vec<Sample> {
        means.iter().filter(|m| chosen(m)).map(sample).collect()
    };
    let package = fit(&of(&|m| m.is_package))
        .map_err(|why| Failure::new(format!("no profile comes of this: {why}; nothing was written")))?;
    let mut idle_watts = BTreeMap::new();
    for domain in readings.domains() {
        // A domain that does not follow the CPUs has no idle power to be found by loading them.
        if let Ok(model) = fit(&of(&|m| m.domain == domain.name)) {
            idle_watts.insert(domain.name.clone(), model.idle_watts);
        }
    }
    let cpu = CpuInfo::parse(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default());
    let simulated = readings.domains().any(|domain| domain.origin == Origin::Simulated);
    let others = means.iter().map(|m| m.others).sum::<f64>() / means.len().max(1) as f64;
    Ok(Profile {
        schema: SCHEMA.to_owned(),
        cpu: cpu.model,
        packages: machine.packages(),
        cpus_per_package: machine.cpus() as f64 / f64::from(machine.packages()),
        kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
        created: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
        origin: if simulated { Origin::Simulated } else { Origin::Measured }.as_str().to_owned(),
        others_percent: (others * 1e3).round() / 10.0,
        package,
        idle_watts,
    })
}

/// What was found, for people.
fn report(options: &Options, profile: &Profile, means: &[StepMeans]) -> String {
    let model = &profile.package;
    let mut text = format!(
        "{}, {:.0} CPUs a package ({} meter)\n\n",
        profile.cpu, profile.cpus_per_package, profile.origin
    );
    let row = |text: &mut String, cells: [&str; 5]| {
        let [step, busy, watts, mhz, others] = cells;
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {step:<28} {busy:>7} {watts:>10} {mhz:>6} {others:>8}");
    };
    row(&mut text, ["load", "busy %", "package W", "MHz", "others %"]);
    for mean in means.iter().filter(|m| m.is_package) {
        let percent = |part: f64| format!("{:.1}", part * 100.0);
        let mhz = mean.mhz.map_or("-".to_owned(), |mhz| format!("{mhz:.0}"));
        let step = format!("{} ({})", mean.step, mean.domain);
        row(
            &mut text,
            [&step, &percent(mean.busy), &format!("{:.2}", mean.watts), &mhz, &percent(mean.others)],
        );
    }
    let _ = writeln!(
        text,
        "\none package: {:.2} W idle, {:.2} W with all CPUs busy; the model is {:.2} W off on average ({REPETITIONS} repetitions)",
        model.idle_watts,
        model.full_watts(),
        model.residual_watts
    );
    let worst = means.iter().map(|m| m.others).fold(0.0, f64::max);
    if worst > BUSY {
        let _ = writeln!(
            text,
            "WARNING: other processes used up to {:.0} % of the CPUs during the steps ({:.1} % on average). Their work is \
             counted as load like ours, and draws more or less than it: calibrate again when the machine is quiet",
            worst * 100.0,
            profile.others_percent
        );
    }
    let path = fs::canonicalize(&options.output).unwrap_or_else(|_| options.output.clone());
    let idle: Vec<_> =
        profile.idle_watts.iter().map(|(domain, watts)| format!("{domain} = {watts}")).collect();
    let _ = write!(
        text,
        "\nwritten to {}. On machines with the same CPU and no meter:\n\n  [plugins.estimate]\n  profile = \"{}\"\n\n\
         On this machine:\n\n  [plugins.attribution]\n  idle_watts = {{ {} }}\n",
        path.display(),
        path.display(),
        idle.join(", ")
    );
    if model.smt_factor < 1.0 {
        let _ = writeln!(text, "  smt_factor = {}", model.smt_factor);
    }
    text
}
