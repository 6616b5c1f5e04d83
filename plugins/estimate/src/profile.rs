//! A calibrated profile: the power model that `wattrace calibrate` measured on a machine with a meter, in a
//! file for machines without one. `fit` makes it, `power` uses it.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use wattrace_api::Error;
use wattrace_api::files::read_text;

use crate::config::MAX_WATTS;

/// The format's name and version. Keys may be added within a version; readers ignore unknown keys.
pub const SCHEMA: &str = "wattrace.profile/1";

/// More than a profile has.
const MAX_LENGTH: u64 = 1 << 20;

/// A profile, stored as TOML.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// [`SCHEMA`].
    pub schema: String,
    /// The CPU's name, as `/proc/cpuinfo` gives it.
    pub cpu: String,
    /// Packages of the machine.
    pub packages: u32,
    /// Logical CPUs of one package.
    pub cpus_per_package: f64,
    /// The kernel's release.
    pub kernel: String,
    /// When it was made, RFC 3339.
    pub created: String,
    /// Origin of the meter's readings: `measured` or `simulated`.
    pub origin: String,
    /// CPU time of other processes during the steps, in percent of all CPUs.
    #[serde(default)]
    pub others_percent: f64,
    /// One package.
    pub package: PackageModel,
    /// Watts without load, by domain: for `plugins.attribution.idle_watts` on the calibrated machine.
    #[serde(default)]
    pub idle_watts: BTreeMap<String, f64>,
}

/// The power of a package as a function of its load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PackageModel {
    /// Watts without load.
    pub idle_watts: f64,
    /// Root mean square of measured minus modelled watts, over the steps.
    #[serde(default)]
    pub residual_watts: f64,
    /// Weight of a busy CPU while the other CPU of its core is busy too, relative to a CPU alone on its core;
    /// 1 if CPUs do not share cores.
    #[serde(default = "one")]
    pub smt_factor: f64,
    /// Exponent of the frequency in power above idle.
    #[serde(default = "default_exponent")]
    pub frequency_exponent: f64,
    /// Points from small loads to 1. Power is interpolated linearly between them, and from `idle_watts` to
    /// the first.
    pub curve: Vec<CurvePoint>,
}

/// The power at a load.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// Busy CPU time as a fraction of that of a package with all CPUs busy; above 0, at most 1.
    pub load: f64,
    /// Watts of the package, including idle power.
    pub watts: f64,
    /// The frequency of the busy CPUs, in MHz; 0: cycles were not counted.
    #[serde(default)]
    pub mhz: f64,
}

/// Power above idle is proportional to frequency times the square of the voltage, and voltage rises with
/// frequency. For the voltages that Intel gave for the Pentium M (0.956 V at 600 MHz to 1.484 V at 1600 MHz;
/// "Enhanced Intel SpeedStep Technology for the Intel Pentium M Processor", white paper, 2004) that comes to
/// the frequency to the power of 1.9.
pub const DEFAULT_EXPONENT: f64 = 1.9;

fn default_exponent() -> f64 {
    DEFAULT_EXPONENT
}

fn one() -> f64 {
    1.0
}

impl Profile {
    /// Reads a profile from a file.
    ///
    /// # Errors
    /// Fatal if it cannot be read or is invalid. The message names the file and the key.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let shown = path.display();
        let text = read_text(path, MAX_LENGTH).map_err(|e| {
            Error::fatal(format!(
                "plugins.estimate.profile: {shown}: {e}; \
                 create it with `wattrace calibrate --output {shown}` on a machine that has a meter"
            ))
        })?;
        Self::parse(&text).map_err(|e| Error::fatal(format!("plugins.estimate.profile: {shown}: {e}")))
    }

    /// Parses a profile.
    ///
    /// # Errors
    /// The key that is invalid, and why.
    pub fn parse(text: &str) -> Result<Self, String> {
        let profile: Self = toml::from_str(text).map_err(|e| e.to_string())?;
        if profile.schema != SCHEMA {
            return Err(format!("schema: `{}` is not supported, only {SCHEMA}", profile.schema));
        }
        if !(1.0..=65536.0).contains(&profile.cpus_per_package) {
            return Err(format!("cpus_per_package: {} is not between 1 and 65536", profile.cpus_per_package));
        }
        profile.package.check().map_err(|e| format!("package.{e}"))?;
        Ok(profile)
    }

    /// The profile as TOML.
    ///
    /// # Errors
    /// If a number cannot be represented in TOML.
    pub fn to_toml(&self) -> Result<String, String> {
        let head = "# Power model of this machine's CPU packages, measured by `wattrace calibrate`.\n\
                    # On machines without a meter:\n\
                    # [plugins.estimate]\n# profile = \"PATH OF THIS FILE\"\n\n";
        Ok(format!("{head}{}", toml::to_string(self).map_err(|e| e.to_string())?))
    }
}

impl PackageModel {
    /// Watts when all CPUs are busy.
    pub fn full_watts(&self) -> f64 {
        self.curve.last().map_or(self.idle_watts, |point| point.watts)
    }

    fn check(&self) -> Result<(), String> {
        if !(0.0..=MAX_WATTS).contains(&self.idle_watts) {
            return Err(format!("idle_watts: {} is not between 0 and {MAX_WATTS}", self.idle_watts));
        }
        if !(0.01..=1.0).contains(&self.smt_factor) {
            return Err(format!("smt_factor: {} is not between 0.01 and 1", self.smt_factor));
        }
        if !(0.0..=4.0).contains(&self.frequency_exponent) {
            return Err(format!("frequency_exponent: {} is not between 0 and 4", self.frequency_exponent));
        }
        let mut last = 0.0;
        for point in &self.curve {
            let CurvePoint { load, watts, mhz } = *point;
            if !(load > last && load <= 1.0) {
                return Err(format!("curve: the load {load} is not between the previous one and 1"));
            }
            if !(self.idle_watts..=MAX_WATTS).contains(&watts) {
                return Err(format!("curve: {watts} W is not between idle_watts and {MAX_WATTS}"));
            }
            if !(0.0..=1e6).contains(&mhz) {
                return Err(format!("curve: {mhz} MHz is not between 0 and 1000000"));
            }
            last = load;
        }
        if last != 1.0 { Err("curve: it does not end at the load 1".to_owned()) } else { Ok(()) }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use wattrace_api::{ErrorKind, Origin};

    /// A profile of "Some CPU", with the keys of `package`.
    pub(crate) fn profile(cpus_per_package: u32, package: &str) -> String {
        format!(
            "schema = '{SCHEMA}'\ncpu = 'Some CPU'\npackages = 1\ncpus_per_package = {cpus_per_package}\n\
             kernel = ''\ncreated = ''\norigin = 'measured'\n[package]\n{package}"
        )
    }

    const TEXT: &str = r#"
        schema = "wattrace.profile/1"
        cpu = "Some CPU"
        packages = 2
        cpus_per_package = 16
        kernel = "6.18.0"
        created = "2026-11-22T12:00:00Z"
        origin = "measured"
        a_key_of_tomorrow = 1
        [package]
        idle_watts = 10
        curve = [{ load = 0.5, watts = 40 }, { load = 1, watts = 50.5, mhz = 2800 }]
    "#;

    #[test]
    fn a_profile_survives_writing_and_parsing() {
        let mut profile = Profile::parse(TEXT).unwrap();
        assert_eq!((profile.package.smt_factor, profile.package.full_watts()), (1.0, 50.5));
        profile.idle_watts.insert("dram-0".to_owned(), 1.25);
        profile.origin = Origin::Simulated.as_str().to_owned();
        assert_eq!(Profile::parse(&profile.to_toml().unwrap()), Ok(profile));
    }

    #[test]
    fn an_error_names_the_invalid_key() {
        for (from, to, key) in [
            ("profile/1", "profile/2", "schema: "),
            ("cpus_per_package = 16", "cpus_per_package = nan", "cpus_per_package: "),
            ("idle_watts = 10", "idle_watts = -1", "package.idle_watts: "),
            ("idle_watts = 10", "idle_watts = 41", "package.curve: 40 W"),
            ("load = 1,", "load = 0.9,", "package.curve: it does not end"),
            ("load = 1,", "load = 0.5,", "package.curve: the load 0.5"),
            ("load = 0.5", "load = nan", "package.curve: the load NaN"),
            ("mhz = 2800", "mhz = -1", "package.curve: -1 MHz"),
            ("[package]", "[package]\nsmt_factor = 0", "package.smt_factor: "),
            ("[package]", "[package]\nfrequency_exponent = inf", "package.frequency_exponent: "),
            ("curve = [", "curve = [[", "TOML"),
        ] {
            let error = Profile::parse(&TEXT.replace(from, to)).unwrap_err();
            assert!(error.starts_with(key), "{to}: {error}");
        }
        let empty = TEXT.lines().filter(|line| !line.contains("curve")).collect::<Vec<_>>().join("\n");
        assert!(Profile::parse(&format!("{empty}\ncurve = []")).unwrap_err().contains("does not end"));
    }

    #[test]
    fn a_missing_file_is_an_error_and_the_message_says_how_to_create_it() {
        let error = Profile::read(Path::new("/nonexistent/profile.toml")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Fatal);
        assert!(error.to_string().contains("wattrace calibrate --output /nonexistent"), "{error}");
        assert!(error.to_string().starts_with("plugins.estimate.profile: /nonexistent"), "{error}");
        let directory = Profile::read(Path::new("/")).unwrap_err();
        assert_eq!(directory.kind(), ErrorKind::Fatal);
    }
}
