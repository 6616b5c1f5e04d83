//! The distribution by `/etc/os-release`, and the commands of its package manager.

use std::path::Path;

use serde::Serialize;

use super::text;

/// A distribution.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(in crate::cli) struct Distribution {
    /// `debian`, `ubuntu`, `fedora`, …; empty if unknown.
    pub(in crate::cli) id: String,
    /// As it calls itself.
    pub(in crate::cli) name: String,
    #[serde(skip)]
    manager: Option<Manager>,
}

/// A package manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manager {
    Apt,
    Dnf,
    Pacman,
    Zypper,
    Apk,
}

/// Something that a package has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Package {
    /// A kernel that is newer than the one that runs.
    #[cfg_attr(not(feature = "sched"), expect(dead_code, reason = "only tracing asks for one"))]
    Kernel,
    /// The modules that distributions leave out of small kernels.
    KernelModules,
    /// The program `setcap`.
    Setcap,
    /// NVIDIA's driver with its management library.
    NvidiaDriver,
}

impl Distribution {
    /// The one below `root`.
    pub(super) fn read(root: &Path) -> Self {
        let release = match text(root, "etc/os-release") {
            missing if missing.is_empty() => text(root, "usr/lib/os-release"),
            release => release,
        };
        let value = |key: &str| {
            let value = release.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            value.unwrap_or_default().trim_matches(['"', '\'']).to_owned()
        };
        let (id, like) = (value("ID"), value("ID_LIKE"));
        let manager = std::iter::once(&*id).chain(like.split(' ')).find_map(Manager::of);
        Self { id, name: value("PRETTY_NAME"), manager }
    }

    /// The command that installs `package`, beside the kernel `release`; `None` if it is not known.
    pub(in crate::cli) fn install(&self, package: Package, release: &str) -> Option<String> {
        let is_ubuntu = self.id == "ubuntu";
        let names = match (self.manager?, package) {
            (Manager::Apt, Package::Kernel) if is_ubuntu => "linux-generic".to_owned(),
            (Manager::Apt, Package::Kernel) => format!("linux-image-{}", debian_architecture()),
            (Manager::Apt, Package::KernelModules) if is_ubuntu => format!("linux-modules-extra-{release}"),
            // Debian's kernels for clouds have few modules, the others have all.
            (Manager::Apt, Package::KernelModules) => format!("linux-image-{}", debian_architecture()),
            (Manager::Apt, Package::Setcap) => "libcap2-bin".to_owned(),
            (Manager::Apt, Package::NvidiaDriver) if is_ubuntu => {
                return Some("sudo ubuntu-drivers install".to_owned());
            }
            (Manager::Apt, Package::NvidiaDriver) => "nvidia-driver".to_owned(),
            (Manager::Dnf, Package::Kernel) => return Some("sudo dnf upgrade kernel".to_owned()),
            (Manager::Dnf, Package::KernelModules) => format!("kernel-modules-{release}"),
            (Manager::Dnf, Package::Setcap) => "libcap".to_owned(),
            (Manager::Dnf, Package::NvidiaDriver) => "akmod-nvidia xorg-x11-drv-nvidia-cuda".to_owned(),
            (Manager::Pacman, Package::Kernel | Package::KernelModules) => "linux".to_owned(),
            (Manager::Pacman, Package::Setcap) => "libcap".to_owned(),
            (Manager::Pacman, Package::NvidiaDriver) => "nvidia-utils".to_owned(),
            (Manager::Zypper, Package::Kernel | Package::KernelModules) => "kernel-default".to_owned(),
            (Manager::Zypper, Package::Setcap) => "libcap-progs".to_owned(),
            (Manager::Zypper, Package::NvidiaDriver) => "nvidia-compute-utils-G06".to_owned(),
            (Manager::Apk, Package::Kernel | Package::KernelModules) => "linux-lts".to_owned(),
            (Manager::Apk, Package::Setcap) => "libcap-setcap".to_owned(),
            (Manager::Apk, Package::NvidiaDriver) => return None,
        };
        Some(format!("sudo {} {names}", self.manager?.verb()))
    }
}

impl Manager {
    /// That of a distribution, by its `ID` or one of `ID_LIKE`.
    fn of(id: &str) -> Option<Self> {
        Some(match id {
            "debian" | "ubuntu" => Manager::Apt,
            "fedora" | "rhel" | "centos" | "amzn" => Manager::Dnf,
            "arch" | "archlinux" => Manager::Pacman,
            "suse" | "opensuse" | "sles" => Manager::Zypper,
            "alpine" => Manager::Apk,
            _ => return None,
        })
    }

    /// The command that takes the names of packages.
    fn verb(self) -> &'static str {
        match self {
            Manager::Apt => "apt install",
            Manager::Dnf => "dnf install",
            Manager::Pacman => "pacman -S",
            Manager::Zypper => "zypper install",
            Manager::Apk => "apk add",
        }
    }
}

/// As Debian calls the architecture for which this was built.
fn debian_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::super::files;
    use super::*;

    fn distribution(release: &str) -> Distribution {
        Distribution::read(files(&[("etc/os-release", release)]).path())
    }

    #[test]
    fn the_command_is_that_of_the_distribution() {
        let of = |release: &str| {
            let distribution = distribution(release);
            let command = |package| distribution.install(package, "6.8.0-41-generic").unwrap_or_default();
            (command(Package::Setcap), command(Package::KernelModules))
        };
        let both = |setcap: &str, modules: &str| (setcap.to_owned(), modules.to_owned());
        let ubuntu = "PRETTY_NAME=\"Ubuntu 24.04\"\nID=ubuntu\nID_LIKE=debian\n";
        assert_eq!(
            of(ubuntu),
            both("sudo apt install libcap2-bin", "sudo apt install linux-modules-extra-6.8.0-41-generic")
        );
        let mint = of("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n");
        assert_eq!(mint.0, "sudo apt install libcap2-bin", "by what it is like");
        let rocky = of("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n");
        assert_eq!(
            rocky,
            both("sudo dnf install libcap", "sudo dnf install kernel-modules-6.8.0-41-generic")
        );
        assert_eq!(of("ID=arch\n"), both("sudo pacman -S libcap", "sudo pacman -S linux"));
        assert_eq!(
            of("ID=\"opensuse-leap\"\nID_LIKE=\"suse opensuse\"\n"),
            both("sudo zypper install libcap-progs", "sudo zypper install kernel-default")
        );
    }

    #[test]
    fn an_unknown_distribution_has_a_name_and_no_commands() {
        let nix = distribution("ID=nixos\nPRETTY_NAME='NixOS 25.11'\n");
        assert_eq!((&*nix.name, nix.install(Package::Setcap, "6.1")), ("NixOS 25.11", None));
        assert_eq!(Distribution::read(Path::new("/nonexistent")), Distribution::default());
    }
}
