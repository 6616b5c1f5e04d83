//! Whether what the library says comes from hardware: it does if it is the driver's own library. That is the
//! one that everyone finds under the driver's name, or one under another name whose version is that of the
//! driver in the kernel.

use std::fs;

use wattrace_api::Origin;

use crate::session::is_standard;

/// Stand-ins that are honest have this in their version, whatever name they go by.
const STAND_IN: &str = "stand-in";

/// The origin of numbers from `library`, which says that it is of `version`, on a kernel that says so much of
/// its driver.
pub(crate) fn of(library: &str, version: &str, kernel: &str) -> Origin {
    let own = is_standard(library) || (!version.is_empty() && mentions(kernel, version));
    if own && !version.contains(STAND_IN) { Origin::Measured } else { Origin::Simulated }
}

/// What the kernel says of NVIDIA's driver; empty without one.
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
    fn only_the_driver_s_own_library_measures() {
        let kernel = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu Feb 22\n";
        let default = "libnvidia-ml.so.1";
        assert_eq!(of(default, "550.54.14", ""), Origin::Measured, "WSL and some sandboxes hide the module");
        assert_eq!(of("/opt/driver/libnvidia-ml.so.1", "550.54.14", kernel), Origin::Measured);
        assert_eq!(of("/opt/driver/libnvidia-ml.so.1", "550.54.14", "550.54.14\n"), Origin::Measured);
        assert_eq!(of("/tmp/fake.so", "550.54", kernel), Origin::Simulated);
        assert_eq!(of("/tmp/fake.so", "", kernel), Origin::Simulated);
        assert_eq!(of("/tmp/fake.so", "1.0", ""), Origin::Simulated);
        assert_eq!(of(default, "0.0-stand-in", ""), Origin::Simulated, "put in the library's place");
    }
}
