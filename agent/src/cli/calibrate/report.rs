//! The results of a calibration for people. `calibrate.rs` writes those for programs, the profile.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use wattrace_estimate::profile::Profile;

use super::plan::REPETITIONS;
use super::recorder::StepMeans;

/// Part of the CPU time that other processes may use without a warning.
const MAX_OTHERS: f64 = 0.05;

/// The steps, the model, a warning if the machine was busy, and the keys to set.
pub(super) fn text(output: &Path, profile: &Profile, means: &[StepMeans]) -> String {
    let mut text = format!(
        "{}, {:.0} CPUs a package ({} meter)\n\n",
        profile.cpu, profile.cpus_per_package, profile.origin
    );
    text += &steps(means);
    let model = &profile.package;
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "\none package: {:.2} W idle, {:.2} W with all CPUs busy; the model is {:.2} W off on average \
         ({REPETITIONS} repetitions)",
        model.idle_watts,
        model.full_watts(),
        model.residual_watts
    );
    let worst = means.iter().map(|m| m.others).fold(0.0, f64::max);
    if worst > MAX_OTHERS {
        let _ = writeln!(
            text,
            "WARNING: other processes used up to {:.0} % of the CPUs during the steps ({:.1} % on average). \
             Their work counts as load, and may draw more or less: calibrate again when the machine is idle",
            worst * 100.0,
            profile.others_percent
        );
    }
    text + &keys(output, profile)
}

fn steps(means: &[StepMeans]) -> String {
    let mut text = String::new();
    let mut row = |cells: [&str; 5]| {
        let [step, busy, watts, mhz, others] = cells;
        let _ = writeln!(text, "  {step:<28} {busy:>7} {watts:>10} {mhz:>6} {others:>8}");
    };
    row(["load", "busy %", "package W", "MHz", "others %"]);
    for mean in means.iter().filter(|m| m.is_package) {
        let percent = |part: f64| format!("{:.1}", part * 100.0);
        let mhz = mean.mhz.map_or("-".to_owned(), |mhz| format!("{mhz:.0}"));
        let step = format!("{} ({})", mean.step, mean.domain);
        row([&step, &percent(mean.busy), &format!("{:.2}", mean.watts), &mhz, &percent(mean.others)]);
    }
    text
}

/// The keys to set here, and on machines that have the same CPU and no meter.
fn keys(output: &Path, profile: &Profile) -> String {
    let path = fs::canonicalize(output).unwrap_or_else(|_| output.to_owned());
    let path = path.display();
    let idle: Vec<_> =
        profile.idle_watts.iter().map(|(domain, watts)| format!("{domain} = {watts}")).collect();
    let mut text = format!(
        "\nwritten to {path}. On machines with the same CPU and no meter:\n\n  [plugins.estimate]\n  \
         profile = \"{path}\"\n\nOn this machine:\n\n  [plugins.attribution]\n  idle_watts = {{ {} }}\n",
        idle.join(", ")
    );
    if profile.package.smt_factor < 1.0 {
        let _ = writeln!(text, "  smt_factor = {}", profile.package.smt_factor);
    }
    text
}
