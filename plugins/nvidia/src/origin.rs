//! Decides whether the numbers of a library are measured. They are if it is the driver's own library: the one
//! found under the driver's name, or one under another name that has the version of the loaded kernel driver.

use std::fs;

use wattrace_api::Origin;

use crate::config::LIBRARY;

/// Stand-ins have this in their version, so that they are recognised under the driver's name too.
const STAND_IN: &str = "stand-in";

/// The origin of the numbers of `library`, which reports `version`. `kernel` is from [`kernel_module`].
pub(crate) fn of(library: &str, version: &str, kernel: &str) -> Origin {
    let own = library == LIBRARY || (!version.is_empty() && mentions(kernel, version));
    if own && !version.contains(STAND_IN) { Origin::Measured } else { Origin::Simulated }
}

/// The kernel's text about NVIDIA's driver; empty if the driver is not loaded.
pub(crate) fn kernel_module() -> String {
    ["/sys/module/nvidia/version", "/proc/driver/nvidia/version"]
        .iter()
        .find_map(|path| fs::read_to_string(path).ok())
        .unwrap_or_default()
}

/// Whether `version` is one of the words of `text`.
fn mentions(text: &str, version: &str) -> bool {
    text.split_ascii_whitespace().any(|word| word == version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_drivers_own_library_measures() {
        let kernel = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu Feb 22\n";
        assert_eq!(of(LIBRARY, "550.54.14", ""), Origin::Measured, "WSL and some sandboxes hide the module");
        assert_eq!(of("/opt/driver/libnvidia-ml.so.1", "550.54.14", kernel), Origin::Measured);
        assert_eq!(of("/opt/driver/libnvidia-ml.so.1", "550.54.14", "550.54.14\n"), Origin::Measured);
        assert_eq!(of("/tmp/fake.so", "550.54", kernel), Origin::Simulated);
        assert_eq!(of("/tmp/fake.so", "", kernel), Origin::Simulated);
        assert_eq!(of("/tmp/fake.so", "1.0", ""), Origin::Simulated);
        assert_eq!(of(LIBRARY, "0.0-stand-in", ""), Origin::Simulated, "in the place of the driver's");
    }
}
