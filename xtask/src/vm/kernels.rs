//! Which kernels, and getting them: the newest of a series that the package lists name, kept in `target/vm`
//! as long as it is the newest. Only the bootable image is taken out of the package: what the tests need is
//! built in.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

use anyhow::{Context, Result, bail};

use super::architecture::Architecture;
use crate::debian::Lists;
use crate::process::{run_quietly, say};
use crate::workspace;

/// A kernel as it is asked for: `6.12`, `6.12-rt` for the one with real-time preemption, `6.12-arm64` for
/// another architecture than this machine's, `6.12-lockdown` for one that is booted with
/// `lockdown=confidentiality`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Series {
    version: String,
    rt: bool,
    pub(crate) architecture: Architecture,
    pub(crate) lockdown: bool,
}

/// The kernels that `cargo xtask test` covers: the oldest one that Wattrace supports, from Debian 11, and
/// Debian 12's own and its newer one, each with real-time preemption too.
pub(crate) fn matrix() -> Vec<Series> {
    [("5.10", false), ("6.1", false), ("6.1", true), ("6.12", false), ("6.12", true)]
        .map(|(version, rt)| Series {
            version: version.to_owned(),
            rt,
            architecture: Architecture::HERE,
            lockdown: false,
        })
        .into()
}

/// Those, and the same without real-time preemption on arm64: what `docs/kernels.md` lists.
pub(crate) fn documented() -> Vec<Series> {
    let here = matrix();
    let others = here.clone().into_iter().filter(|series| !series.rt && Architecture::HERE != ARM64);
    here.into_iter().chain(others.map(|series| Series { architecture: ARM64, ..series })).collect()
}

const ARM64: Architecture = Architecture::Arm64;

impl FromStr for Series {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let without = |text, suffix| match str::strip_suffix(text, suffix) {
            Some(rest) => (rest, true),
            None => (text, false),
        };
        let (version, lockdown) = without(text, "-lockdown");
        let (version, arm64) = without(version, "-arm64");
        let architecture = if arm64 { ARM64 } else { Architecture::HERE };
        let (version, rt) = without(version, "-rt");
        let is_number = |part: &str| part.parse::<u32>().is_ok();
        match version.split_once('.') {
            Some((major, minor)) if is_number(major) && is_number(minor) => {
                Ok(Self { version: version.to_owned(), rt, architecture, lockdown })
            }
            _ => bail!("not a kernel series like 6.12, 6.12-rt, 6.12-arm64 or 6.12-lockdown"),
        }
    }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rt = if self.rt { "-rt" } else { "" };
        let lockdown = if self.lockdown { "-lockdown" } else { "" };
        write!(f, "{}{rt}", self.version)?;
        if self.architecture != Architecture::HERE {
            write!(f, "-{}", self.architecture.name())?;
        }
        f.write_str(lockdown)
    }
}

/// The Debian release whose kernels are of a series that this machine's own release may no longer have.
const OLDER: [(&str, &[&str]); 1] = [("5.10", &["bullseye"])];
/// That of the others, and of what runs on them, for another architecture.
const CURRENT: &[&str] = &["bookworm", "bookworm-security"];

/// The lists that have what runs in machines of another architecture than this one's.
pub(crate) fn lists_of_userland(architecture: Architecture) -> Result<Lists> {
    lists_of(CURRENT, architecture)
}

/// The lists of Debian's `suites` for an architecture.
fn lists_of(suites: &[&str], architecture: Architecture) -> Result<Lists> {
    let name = architecture.name();
    let dir = workspace::vm().join(format!("apt-{}-{name}", suites[0]));
    Ok(Lists::of_suites(suites, &dir)?.for_architecture(name))
}

impl Series {
    /// The lists that hold the series' kernels.
    fn lists(&self) -> Result<Lists> {
        match OLDER.iter().find(|(version, _)| *version == self.version) {
            Some((_, suites)) => lists_of(suites, self.architecture),
            None if self.architecture == Architecture::HERE => Ok(Lists::system()),
            None => lists_of(CURRENT, self.architecture),
        }
    }

    /// The best of the packages `names`: of the newest kernel, and signed where both are there.
    fn newest<'a>(&self, names: &'a [String]) -> Option<&'a str> {
        let candidates = names.iter().filter_map(|name| Some((self.rank(name)?, name.as_str())));
        candidates.max().map(|(_, name)| name)
    }

    /// The place of a package among those of this series: its version's numbers, and whether it is signed.
    fn rank(&self, package: &str) -> Option<(Vec<u64>, bool)> {
        let release = release_of(package);
        let flavour = release.strip_suffix(self.architecture.name())?;
        let kernel = flavour.strip_suffix(if self.rt { "-rt-" } else { "-" })?;
        let patch = kernel.strip_prefix(&self.version)?.strip_prefix('.')?;
        // Other flavours have a name there: `6.12.117+deb12-cloud`.
        if patch.split('-').any(|part| !part.starts_with(|c: char| c.is_ascii_digit())) {
            return None;
        }
        let numbers = patch.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok());
        Some((numbers.collect(), !package.ends_with(UNSIGNED)))
    }
}

const PREFIX: &str = "linux-image-";
const UNSIGNED: &str = "-unsigned";

/// What `uname -r` says in a package's kernel.
fn release_of(package: &str) -> &str {
    let release = package.strip_prefix(PREFIX).unwrap_or(package);
    release.strip_suffix(UNSIGNED).unwrap_or(release)
}

/// A kernel that is here, ready to boot.
pub(crate) struct Image {
    /// The series it is of.
    pub(crate) series: Series,
    /// What `uname -r` says in it.
    pub(crate) release: String,
    /// Where it is.
    pub(crate) path: PathBuf,
}

impl Image {
    /// The newest of a series, downloaded now if need be.
    pub(crate) fn ensure(series: &Series) -> Result<Self> {
        let lists = series.lists()?;
        let names = lists.names(&format!("{PREFIX}{}.", series.version));
        let Some(package) = series.newest(&names) else {
            bail!("the package lists hold no kernel {series}: it takes apt, and Debian's lists");
        };
        let version = lists
            .candidate(package, |_| true)
            .with_context(|| format!("{package} cannot be downloaded from any package source"))?;
        let release = release_of(package).to_owned();
        let path = workspace::vm().join(format!("vmlinuz-{release}_{version}"));
        if !path.exists() {
            say("vm", format_args!("{series}: downloading {package} {version}"));
            extract(&lists, package, &release, &path)
                .with_context(|| format!("cannot get kernel {series}"))?;
        }
        Ok(Self { series: series.clone(), release, path })
    }
}

/// Downloads `package` and takes its image out to `path`.
fn extract(lists: &Lists, package: &str, release: &str, path: &Path) -> Result<()> {
    let dir = workspace::vm().join("download");
    if dir.exists() {
        fs::remove_dir_all(&dir).with_context(|| format!("cannot empty {}", dir.display()))?;
    }
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    lists.download(package, &dir)?;
    let mut files = fs::read_dir(&dir).with_context(|| format!("cannot read {}", dir.display()))?;
    let archive = files.next().context("apt-get downloaded nothing")??.path();

    // The image is at the beginning of the archive; the rest, some hundred megabytes of modules, is not
    // unpacked. tar closes the pipe then, and the error of dpkg-deb about that is not shown.
    let take = "dpkg-deb --fsys-tarfile \"$0\" 2>/dev/null \
                | tar --extract --occurrence=1 --strip-components=2 \"$1\"";
    let mut shell = Command::new("sh");
    shell.current_dir(&dir).args(["-c", take]).arg(archive).arg(format!("./boot/vmlinuz-{release}"));
    run_quietly(&mut shell)?;
    let image = dir.join(format!("vmlinuz-{release}"));
    fs::rename(&image, path).with_context(|| format!("cannot write {}", path.display()))?;
    fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn newest(series: &str, names: &[&str]) -> Option<String> {
        let names: Vec<_> = names.iter().map(|name| name.to_string()).collect();
        series.parse::<Series>().unwrap().newest(&names).map(String::from)
    }

    #[test]
    fn the_newest_of_the_series_and_flavour_is_taken_by_number() {
        let names = [
            "linux-image-6.12.9+deb12-amd64",
            "linux-image-6.12.117+deb12-amd64",
            "linux-image-6.12.118+deb12-cloud-amd64",
            "linux-image-6.12.119+deb12-amd64-dbg",
            "linux-image-6.12.116+deb12-rt-amd64",
            "linux-image-6.12-amd64",
            "linux-image-6.1.0-9-amd64",
            "linux-image-6.1.0-56-amd64",
        ];
        assert_eq!(newest("6.12", &names).as_deref(), Some("linux-image-6.12.117+deb12-amd64"));
        assert_eq!(newest("6.12-rt", &names).as_deref(), Some("linux-image-6.12.116+deb12-rt-amd64"));
        assert_eq!(newest("6.1", &names).as_deref(), Some("linux-image-6.1.0-56-amd64"));
        assert_eq!(newest("6.1-rt", &names), None);
        assert_eq!(newest("6.1-arm64", &names), None);
        let names =
            ["linux-image-6.1.0-56-amd64", "linux-image-6.1.0-55-arm64", "linux-image-6.1.0-57-rt-arm64"];
        assert_eq!(newest("6.1-arm64", &names).as_deref(), Some("linux-image-6.1.0-55-arm64"));
    }

    #[test]
    fn a_signed_image_comes_before_an_unsigned_one_but_not_before_a_newer_one() {
        let (signed, unsigned) = ("linux-image-6.1.0-56-amd64", "linux-image-6.1.0-56-amd64-unsigned");
        assert_eq!(newest("6.1", &[unsigned, signed]).as_deref(), Some(signed));
        let newer = "linux-image-6.1.0-57-amd64-unsigned";
        assert_eq!(newest("6.1", &[unsigned, newer, signed]).as_deref(), Some(newer));
        assert_eq!(release_of(newer), "6.1.0-57-amd64");
    }

    #[test]
    fn a_series_reads_as_it_prints_and_nothing_else_does() {
        for series in matrix() {
            assert_eq!(series.to_string().parse::<Series>().unwrap(), series);
            let locked = Series { lockdown: true, ..series };
            assert_eq!(locked.to_string().parse::<Series>().unwrap(), locked);
            let arm = Series { architecture: ARM64, ..locked };
            assert!(arm.to_string().ends_with("-arm64-lockdown"), "{arm}");
            assert_eq!(arm.to_string().parse::<Series>().unwrap(), arm);
        }
        for text in ["", "6", "6.", "6.12-cloud", "6.12.1", "rt", "linux-6.1"] {
            assert!(text.parse::<Series>().is_err(), "{text}");
        }
    }
}
