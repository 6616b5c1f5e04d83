//! Which modules of the kernel are loaded, and which could be.

use std::path::Path;

use super::row::Fix;
use crate::cli::system::{Package, System, text};

/// A module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Module {
    /// It runs, or is a part of the kernel.
    Loaded,
    /// It can be loaded.
    Available,
    /// The distribution has it in another package, or the kernel has none.
    Missing,
}

impl Module {
    /// The module `name` of the kernel that runs below `root`.
    pub(super) fn find(root: &Path, system: &System, name: &str) -> Self {
        if root.join("sys/module").join(name).exists() {
            return Module::Loaded;
        }
        let directory = format!("lib/modules/{}", system.kernel);
        let names = |list: &str| {
            let list = text(root, &format!("{directory}/{list}"));
            list.lines().any(|line| is_module(line.split(':').next().unwrap_or_default(), name))
        };
        if names("modules.builtin") {
            Module::Loaded
        } else if names("modules.dep") {
            Module::Available
        } else {
            Module::Missing
        }
    }

    /// How it is made to run; empty if it does.
    pub(super) fn remedy(self, system: &System, name: &str) -> String {
        match self {
            Module::Loaded => String::new(),
            Module::Available => {
                format!(
                    "`sudo modprobe {name}`; to keep it: `echo {name} | sudo tee \
                     /etc/modules-load.d/wattrace-{name}.conf`"
                )
            }
            Module::Missing => match system.distribution.install(Package::KernelModules, &system.kernel) {
                Some(install) => format!("`{install} && sudo modprobe {name}`"),
                None => format!("install the modules of this kernel, then `sudo modprobe {name}`"),
            },
        }
    }

    /// What `--fix` does.
    pub(super) fn fix(self, name: &str) -> Option<Fix> {
        let command = || ["modprobe", name].map(str::to_owned).to_vec();
        (self == Module::Available)
            .then(|| Fix { what: format!("load the driver {name}"), command: command() })
    }
}

/// Whether a path of the lists of modules, `kernel/…/intel_rapl_msr.ko.xz`, is that of `name`. Names in paths
/// have dashes or underscores.
fn is_module(path: &str, name: &str) -> bool {
    let file = path.rsplit('/').next().unwrap_or_default();
    let stem = file.split(".ko").next().unwrap_or_default();
    stem.replace('-', "_") == name
}
