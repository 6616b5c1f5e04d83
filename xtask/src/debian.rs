//! Debian packages, on machines that have apt: what is installed, what could be installed, and installing it.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process::{as_root, probe, read, run_quietly, say};

/// Whether there is an apt here.
pub(crate) fn here() -> bool {
    probe(Command::new("apt-get").arg("--version")).is_some()
}

/// Lists of packages: the system's own, or those of another suite, kept apart from the system.
pub(crate) struct Lists {
    /// apt's options that choose them.
    options: Vec<String>,
}

impl Lists {
    /// The system's.
    pub(crate) fn system() -> Self {
        Self { options: Vec::new() }
    }

    /// Those of Debian's `suites`, kept in `dir`; the system's sources are not changed.
    pub(crate) fn of_suites(suites: &[&str], dir: &Path) -> Result<Self> {
        for part in ["lists/partial", "cache/archives/partial"] {
            let dir = dir.join(part);
            std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        }
        let list = dir.join("sources.list");
        let keyring = "/usr/share/keyrings/debian-archive-keyring.gpg";
        let sources = suites.iter().map(|suite| {
            let archive = if suite.ends_with("-security") { "debian-security" } else { "debian" };
            format!("deb [signed-by={keyring}] http://deb.debian.org/{archive} {suite} main\n")
        });
        std::fs::write(&list, sources.collect::<String>())
            .with_context(|| format!("cannot write {}", list.display()))?;
        let dir = dir.display();
        let options = [
            format!("Dir::Etc::SourceList={}", list.display()),
            "Dir::Etc::SourceParts=-".to_owned(),
            format!("Dir::State::Lists={dir}/lists"),
            format!("Dir::Cache={dir}/cache"),
            // The folder may not be readable for the user to whom apt drops its privileges.
            "APT::Sandbox::User=root".to_owned(),
        ];
        Ok(Self { options: options.into_iter().flat_map(|option| ["-o".to_owned(), option]).collect() })
    }

    /// The same lists for another architecture than this machine's. They must not be the system's.
    pub(crate) fn for_architecture(mut self, name: &str) -> Self {
        for option in [format!("APT::Architecture={name}"), format!("APT::Architectures::={name}")] {
            self.options.extend(["-o".to_owned(), option]);
        }
        self
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("LC_ALL", "C").args(&self.options);
        command
    }

    /// The version of `package` that would be installed and for which `is_wanted` holds. Fetches the lists if
    /// they have none.
    pub(crate) fn candidate(&self, package: &str, is_wanted: impl Fn(&str) -> bool) -> Option<String> {
        let known = || {
            let policy = probe(self.apt("apt-cache").args(["policy", package]))?;
            candidate_of(&policy).filter(|version| is_wanted(version))
        };
        known().or_else(|| {
            self.refresh_or_warn();
            known()
        })
    }

    /// The names of all packages that begin with `prefix`. Fetches the lists if they have none.
    pub(crate) fn names(&self, prefix: &str) -> Vec<String> {
        let known = || {
            let names = probe(self.apt("apt-cache").args(["pkgnames", prefix])).unwrap_or_default();
            names.lines().map(String::from).collect::<Vec<_>>()
        };
        let names = known();
        if !names.is_empty() || !here() {
            return names;
        }
        self.refresh_or_warn();
        known()
    }

    /// Downloads a package into `dir`, which is empty, without installing it. Takes no root.
    pub(crate) fn download(&self, package: &str, dir: &Path) -> Result<()> {
        let download = || run_quietly(self.apt("apt-get").current_dir(dir).args(["download", package]));
        download().or_else(|_| self.refresh().and_then(|()| download()))
    }

    fn refresh(&self) -> Result<()> {
        say("setup", "fetching Debian's package lists");
        if self.options.is_empty() {
            return run_quietly(&mut apt_get("update"));
        }
        // Lists of our own need no root.
        run_quietly(self.apt("apt-get").arg("update"))
    }

    fn refresh_or_warn(&self) {
        if let Err(error) = self.refresh() {
            say("setup", format_args!("{error:#}"));
        }
    }
}

fn candidate_of(policy: &str) -> Option<String> {
    let version = policy.lines().find_map(|line| line.trim().strip_prefix("Candidate: "))?;
    (version != "(none)").then(|| version.to_owned())
}

/// Unpacks `package`, and all that would be installed with it, into `root`, without installing anything.
/// Takes no root.
pub(crate) fn unpack(package: &str, root: &Path) -> Result<()> {
    let mut apt = Command::new("apt-get");
    let simulated =
        read(apt.env("LC_ALL", "C").args(["install", "--simulate", "--no-install-recommends", package]))?;
    let debs = root.join("packages");
    std::fs::create_dir_all(&debs).with_context(|| format!("cannot make {}", debs.display()))?;
    for package in would_install(&simulated) {
        Lists::system().download(package, &debs)?;
    }
    for deb in std::fs::read_dir(&debs).with_context(|| format!("cannot read {}", debs.display()))? {
        let deb = deb.with_context(|| format!("cannot read {}", debs.display()))?.path();
        run_quietly(Command::new("dpkg-deb").arg("--extract").arg(&deb).arg(root))?;
    }
    std::fs::remove_dir_all(&debs).with_context(|| format!("cannot remove {}", debs.display()))
}

/// The packages in what `apt-get --simulate` prints: `Inst libfdt1 (1.6.1-4 Debian:12.5/oldstable [amd64])`.
fn would_install(simulated: &str) -> Vec<&str> {
    simulated.lines().filter_map(|line| line.strip_prefix("Inst ")?.split_whitespace().next()).collect()
}

/// Installs those of `packages` that are missing, without removing another. `purpose` is for the message.
pub(crate) fn install(packages: &[String], purpose: &str) -> Result<()> {
    let missing: Vec<_> = packages.iter().filter(|package| !installed(package)).cloned().collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !here() {
        bail!("{purpose}: this machine has no apt; install what Debian calls {} by hand", missing.join(" "));
    }
    say("setup", format_args!("installing Debian packages {} ({purpose})", missing.join(" ")));
    let install = || {
        let mut apt = apt_get("install");
        run_quietly(apt.args(["--no-install-recommends", "--no-remove"]).args(&missing))
    };
    // The lists may be missing or name versions that have since been replaced.
    install().or_else(|_| Lists::system().refresh().and_then(|()| install())).with_context(|| {
        format!("{purpose}: installing failed; by hand: sudo apt-get install {}", missing.join(" "))
    })
}

/// Keeps systemd from ever starting `units`, whose packages are about to be installed: what a machine runs
/// is up to its owner, who unmasks them. Without systemd there is nothing to do.
pub(crate) fn mask(units: &[&str]) {
    let systemd = Path::new("/run/systemd/system").exists();
    if !systemd || units.is_empty() {
        return;
    }
    let masked = run_quietly(as_root("systemctl").args(["mask", "--quiet"]).args(units));
    let units = units.join(" ");
    match masked {
        Ok(()) => say("setup", format_args!("{units}: masked; to run it: systemctl unmask {units}")),
        Err(error) => say("setup", format_args!("{units}: cannot be masked, and may be started: {error:#}")),
    }
}

fn installed(package: &str) -> bool {
    let status =
        probe(Command::new("dpkg-query").args(["--show", "--showformat=${db:Status-Status}", package]));
    status.is_some_and(|status| status == "installed")
}

fn apt_get(verb: &str) -> Command {
    let mut command = as_root("env");
    command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "--yes", "--quiet", verb]);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_are_read_and_none_is_none() {
        let policy =
            "rustc-web:\n  Installed: (none)\n  Candidate: 1.96.0+dfsg1-1~deb12u2\n  Version table:\n";
        assert_eq!(candidate_of(policy).as_deref(), Some("1.96.0+dfsg1-1~deb12u2"));
        assert_eq!(candidate_of("x:\n  Installed: (none)\n  Candidate: (none)\n"), None);
        assert_eq!(candidate_of(""), None);
    }

    #[test]
    fn what_would_be_installed_is_read_and_what_would_be_removed_is_not() {
        let simulated = "NOTE: This is only a simulation!\nRemv qemu-utils [1:10.0]\n\
                         Inst libfdt1 (1.6.1-4 Debian [amd64])\nInst qemu-system-x86 (1:7.2 Debian [amd64])\n\
                         Conf libfdt1 (1.6.1-4 Debian [amd64])\n";
        assert_eq!(would_install(simulated), ["libfdt1", "qemu-system-x86"]);
    }
}
