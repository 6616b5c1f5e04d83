//! A simulated machine as a tree of files in the form of sysfs: its topology under `devices/system/cpu`, its
//! meters under `class/powercap`. Readers of sysfs can be given its root, as in `plugins.rapl.sysfs_root`.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::machine::Part;
use crate::simulation::Simulation;
use crate::truth::Location;

/// The tree. Its files remain when it is dropped.
#[derive(Debug)]
pub struct SysfsTree {
    /// By meter. `None` for a meter without a powercap zone (a single core).
    counters: Vec<Option<File>>,
}

impl SysfsTree {
    /// Creates the files below `root`, with the current values of the meters.
    ///
    /// # Errors
    /// If a file cannot be created.
    pub fn create(root: &Path, simulation: &Simulation) -> io::Result<Self> {
        topology(&root.join("devices/system/cpu"), simulation)?;
        let class = root.join("class/powercap");
        let mut parts = vec![0; simulation.machine().packages as usize];
        let mut counters = Vec::new();
        for meter in simulation.meters() {
            let zone = match (meter.part, meter.location) {
                (Part::Package, Location::Package(package)) => {
                    Some((format!("intel-rapl:{package}"), format!("package-{package}")))
                }
                (Part::Psys, _) => Some((format!("intel-rapl:{}", parts.len()), "psys".to_owned())),
                (part, Location::Package(package)) => {
                    let number = parts[package];
                    parts[package] += 1;
                    let name = match part {
                        Part::Dram => "dram",
                        Part::Uncore => "uncore",
                        _ => "core",
                    };
                    Some((format!("intel-rapl:{package}:{number}"), name.to_owned()))
                }
                _ => None,
            };
            let make = |(directory, name): (String, String)| {
                let directory = class.join(directory);
                fs::create_dir_all(&directory)?;
                fs::write(directory.join("name"), format!("{name}\n"))?;
                fs::write(directory.join("max_energy_range_uj"), format!("{}\n", meter.range()))?;
                File::create(directory.join("energy_uj"))
            };
            counters.push(zone.map(make).transpose()?);
        }
        let tree = Self { counters };
        tree.write(simulation)?;
        Ok(tree)
    }

    /// Writes every counter's value. Each number replaces one of the same width in one call, so that a reader
    /// never sees a part of one.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn write(&self, simulation: &Simulation) -> io::Result<()> {
        for (file, meter) in self.counters.iter().zip(simulation.meters()) {
            if let Some(file) = file {
                file.write_all_at(format!("{:020}\n", meter.microjoules(meter.shown())).as_bytes(), 0)?;
            }
        }
        Ok(())
    }
}

fn topology(cpus: &Path, simulation: &Simulation) -> io::Result<()> {
    let machine = simulation.machine();
    let count = machine.all_cpus();
    let list = format!("0-{}\n", count - 1);
    fs::create_dir_all(cpus)?;
    for file in ["possible", "present", "online"] {
        fs::write(cpus.join(file), &list)?;
    }
    for cpu in 0..count {
        let directory: PathBuf = cpus.join(format!("cpu{cpu}/topology"));
        fs::create_dir_all(&directory)?;
        let siblings = match machine.sibling_of(cpu) {
            Some(other) => format!("{},{}\n", cpu.min(other), cpu.max(other)),
            None => format!("{cpu}\n"),
        };
        let core = machine.core_of(cpu) % machine.cores as usize;
        fs::write(directory.join("physical_package_id"), format!("{}\n", machine.package_of(cpu)))?;
        fs::write(directory.join("core_id"), format!("{core}\n"))?;
        fs::write(directory.join("thread_siblings_list"), siblings)?;
    }
    Ok(())
}
