//! The format of a scenario. Times are seconds of the scenario's clock. `machine.rs` evaluates it.
//!
//! ```
//! let scenario: wattrace_nvml_stand_in::Scenario = toml::from_str(r#"
//!     [[devices]]
//!     uuid = "GPU-0"
//!     power = [[0.0, 50.0], [2.0, 250.0]]    # 50 W, and from second 2 on 250 W
//!     [[devices.processes]]
//!     pid = 1234
//!     memory = 1073741824
//!     busy = [{ from = 2.0, to = 6.0, sm = 60.0 }]
//! "#).unwrap();
//! assert_eq!(scenario.devices[0].processes[0].busy[0].sm, 60.0);
//! ```

use serde::{Deserialize, Serialize};

/// A machine's GPUs.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Scenario {
    /// The driver's version. The agent labels a version with `stand-in` in it as simulated.
    pub driver: String,
    /// `monotonic`: the system's clock, zero when the library is first initialised. Otherwise a file with
    /// nanoseconds, which count as the time since boot and since the epoch: a test's clock.
    pub clock: String,
    /// A tree like /sys. Empty: none. In it, a device that is asked anything wakes up.
    pub sysfs: String,
    /// The GPUs.
    pub devices: Vec<Device>,
}

/// A GPU.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Device {
    /// Its UUID.
    pub uuid: String,
    /// Its name.
    pub name: String,
    /// Times and watts, in order of time. The power holds until the next entry.
    pub power: Vec<(f64, f64)>,
    /// Whether it has an energy counter (since Volta).
    pub counter: bool,
    /// Milliseconds between two refreshes of its energy counter.
    pub refresh_ms: u64,
    /// Milliseconds between two samples of power and utilisation.
    pub sample_ms: u64,
    /// Whether it keeps samples of its power.
    pub power_samples: bool,
    /// Whether it gives utilisation by process. A device with MIG instances never does.
    pub per_process: bool,
    /// From when to when it is off the bus. It returns with its counter at zero once the library is
    /// initialised again.
    pub lost: Vec<(f64, f64)>,
    /// From when to when reading its energy fails with an unknown error.
    pub troubled: Vec<(f64, f64)>,
    /// When its energy counter starts at zero again, as when the driver is reloaded.
    pub resets: Vec<f64>,
    /// The processes that use it.
    pub processes: Vec<Process>,
    /// Its MIG instances. MIG is enabled if there are any.
    pub mig: Vec<Mig>,
    /// Whether it answers whether MIG is enabled: data-centre GPUs say no where others do not support it.
    pub mig_mode: bool,
    /// Whether it reports the use of its MIG instances (since Hopper).
    pub gpm: bool,
    /// Degrees; 0: it has no sensor.
    pub temperature: u32,
    /// The clocks of multiprocessors and memory, in megahertz.
    pub clocks: (u32, u32),
    /// Its address on the PCI bus, such as `0000:01:00.0`; empty: it is not on one.
    pub pci: String,
    /// Whether it supports anything but its name. A Jetson's does not.
    pub measures: bool,
}

/// An instance of a GPU.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mig {
    /// Its UUID.
    pub uuid: String,
    /// How many of the GPU's seven parts it has.
    pub slices: u32,
    /// The processes that use it.
    pub processes: Vec<Process>,
}

/// A process that uses a GPU.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Process {
    /// Its pid.
    pub pid: u32,
    /// Bytes of the GPU's memory that it holds while it runs.
    pub memory: u64,
    /// When it begins and ends.
    pub from: f64,
    /// See `from`.
    pub to: f64,
    /// Whether it is a graphics process rather than a compute process.
    pub graphics: bool,
    /// Its utilisation over time.
    pub busy: Vec<Busy>,
}

/// Use of a GPU's engines, in percent.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Busy {
    /// From when.
    pub from: f64,
    /// To when.
    pub to: f64,
    /// Of the streaming multiprocessors.
    pub sm: f64,
    /// Of the encoder.
    pub enc: f64,
    /// Of the decoder.
    pub dec: f64,
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            driver: "0.0-stand-in".to_owned(),
            clock: "monotonic".to_owned(),
            sysfs: String::new(),
            devices: Vec::new(),
        }
    }
}

impl Default for Device {
    fn default() -> Self {
        Self {
            uuid: "GPU-stand-in".to_owned(),
            name: "Stand-in GPU".to_owned(),
            power: vec![(0.0, 100.0)],
            counter: true,
            refresh_ms: 20,
            sample_ms: 100,
            power_samples: true,
            per_process: true,
            lost: Vec::new(),
            troubled: Vec::new(),
            resets: Vec::new(),
            processes: Vec::new(),
            mig: Vec::new(),
            mig_mode: true,
            gpm: false,
            temperature: 0,
            clocks: (1_410, 1_593),
            pci: String::new(),
            measures: true,
        }
    }
}

impl Default for Process {
    fn default() -> Self {
        Self { pid: 0, memory: 0, from: 0.0, to: f64::INFINITY, graphics: false, busy: Vec::new() }
    }
}
