//! A calibrated profile: what `wattrace calibrate` found on a machine with a meter, in a file that machines
//! without one estimate by. `fit` makes it, `power` uses it.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use serde::{Deserialize, Serialize};
use wattrace_api::Error;

use crate::config::MOST_WATTS;

/// The format's name and version; keys may be added to it, and are skipped by whoever does not know them.
pub const SCHEMA: &str = "wattrace.profile/1";

/// A profile: the file is this in TOML.
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
    /// The meter's: `measured` or `simulated`.
    pub origin: String,
    /// The part of CPU time in the steps, in percent of all CPUs, that was neither ours nor idle.
    #[serde(default)]
    pub others_percent: f64,
    /// One package.
    pub package: PackageModel,
    /// Watts at no load, by domain: for `plugins.attribution.idle_watts` on the machine that was calibrated.
    #[serde(default)]
    pub idle_watts: BTreeMap<String, f64>,
}

/// How a package's power follows its load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PackageModel {
    /// Watts at no load.
    pub idle_watts: f64,
    /// Root of the mean square of measured minus modelled watts, over the steps.
    #[serde(default)]
    pub residual_watts: f64,
    /// What a busy CPU counts while the CPU that shares its core is busy too, as a part of what it counts
    /// alone; 1 where CPUs share no cores.
    #[serde(default = "one")]
    pub smt_factor: f64,
    /// Power above idle goes with the frequency to the power of this.
    #[serde(default = "default_exponent")]
    pub frequency_exponent: f64,
    /// From small loads to 1. Between points the power lies on straight lines, below the first on that from
    /// `idle_watts`.
    pub curve: Vec<CurvePoint>,
}

/// The power at a load.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// CPU time in use, over that of a package with all CPUs busy; above 0, at most 1.
    pub load: f64,
    /// Watts of the package, idle power included.
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
    /// Reads a profile.
    ///
    /// # Errors
    /// Gone if there is no such file; fatal if it cannot be read or makes no sense. The message names the
    /// file and the key.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let place = path.display();
        let text = fs::read_to_string(path).map_err(|e| {
            let message = format!(
                "plugins.estimate.profile: {place}: {e}; make one with `wattrace calibrate --output {place}` on a machine \
                 that has a meter"
            );
            if e.kind() == ErrorKind::NotFound { Error::gone(message) } else { Error::fatal(message) }
        })?;
        Self::parse(&text).map_err(|e| Error::fatal(format!("plugins.estimate.profile: {place}: {e}")))
    }

    /// Reads a profile's text.
    ///
    /// # Errors
    /// What makes no sense, by its key.
    pub fn parse(text: &str) -> Result<Self, String> {
        let profile: Self = toml::from_str(text).map_err(|e| e.to_string())?;
        if profile.schema != SCHEMA {
            return Err(format!("schema: it is `{}`, and {SCHEMA} is what is understood", profile.schema));
        }
        if !(1.0..=65536.0).contains(&profile.cpus_per_package) {
            return Err(format!("cpus_per_package: {} is not between 1 and 65536", profile.cpus_per_package));
        }
        profile.package.check().map_err(|e| format!("package.{e}"))?;
        Ok(profile)
    }

    /// The file's text.
    ///
    /// # Errors
    /// Only if a number is out of what TOML can hold.
    pub fn to_toml(&self) -> Result<String, String> {
        let head = "# What this machine's CPU packages draw, found by `wattrace calibrate`. Where there is no meter:\n\
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
        if !(0.0..=MOST_WATTS).contains(&self.idle_watts) {
            return Err(format!("idle_watts: {} is not between 0 and {MOST_WATTS}", self.idle_watts));
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
                return Err(format!("curve: the load {load} does not lie between the one before it and 1"));
            }
            if !(self.idle_watts..=MOST_WATTS).contains(&watts) {
                return Err(format!("curve: {watts} W is not between idle_watts and {MOST_WATTS}"));
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
mod tests {
    use super::*;
    use wattrace_api::{ErrorKind, Origin};

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
    fn what_is_written_is_read_again() {
        let mut profile = Profile::parse(TEXT).unwrap();
        assert_eq!((profile.package.smt_factor, profile.package.full_watts()), (1.0, 50.5));
        profile.idle_watts.insert("dram-0".to_owned(), 1.25);
        profile.origin = Origin::Simulated.as_str().to_owned();
        assert_eq!(Profile::parse(&profile.to_toml().unwrap()), Ok(profile));
    }

    #[test]
    fn nonsense_is_refused_by_its_key() {
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
            let refused = Profile::parse(&TEXT.replace(from, to)).unwrap_err();
            assert!(refused.starts_with(key), "{to}: {refused}");
        }
        let empty = TEXT.lines().filter(|line| !line.contains("curve")).collect::<Vec<_>>().join("\n");
        assert!(Profile::parse(&format!("{empty}\ncurve = []")).unwrap_err().contains("does not end"));
    }

    #[test]
    fn a_file_that_is_not_there_is_a_state_with_a_remedy() {
        let error = Profile::read(Path::new("/nonexistent/profile.toml")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Gone);
        assert!(error.to_string().contains("wattrace calibrate --output /nonexistent"), "{error}");
        let directory = Profile::read(Path::new("/")).unwrap_err();
        assert_eq!(directory.kind(), ErrorKind::Fatal);
    }
}
