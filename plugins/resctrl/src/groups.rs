//! Finds monitoring groups and their counters, and reads a counter. Source: the kernel's
//! Documentation/filesystems/resctrl.rst (7.0). A control group's counter is the sum over its own tasks and
//! its monitoring groups; the default group is the control group at the root, and its sum does not include
//! other control groups. A counter is joules as a decimal number.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use wattrace_meter::sysfs::{Fault, names, parse_millionths, read_text};

use crate::tally::GroupId;

/// Directories at the root that are no control groups.
const NO_GROUPS: [&str; 3] = ["info", "mon_data", "mon_groups"];

/// A group of tasks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    /// Its path below the root: empty for the default group, `web` for a control group, `web/batch` for a
    /// monitoring group in it, `/batch` for one in the default group.
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    /// Tells a group from a later one of its name.
    pub(crate) inode: u64,
    /// The index of the control group that it is a monitoring group of.
    pub(crate) parent: Option<usize>,
    /// The packages with their counters, ascending.
    pub(crate) packages: Vec<(u32, PathBuf)>,
}

impl Group {
    /// What tells it from all others.
    pub(crate) fn id(&self) -> GroupId {
        (self.name.clone(), self.inode)
    }
}

/// All groups below `root` that have counters, each control group before its monitoring groups, the default
/// group first. Empty without counters of the default group.
pub(crate) fn find(root: &Path) -> Vec<Group> {
    let mut found = Vec::new();
    let mut add = |name: String, path: &Path, parent: Option<usize>| {
        let packages = packages(&path.join("mon_data"));
        let inode = std::fs::metadata(path).map_or(0, |m| m.ino());
        if packages.is_empty() {
            return None;
        }
        found.push(Group { name, path: path.to_owned(), inode, parent, packages });
        Some(found.len() - 1)
    };
    let mut controls = vec![(String::new(), root.to_owned())];
    for name in names(root).unwrap_or_default() {
        if !NO_GROUPS.contains(&&*name) {
            controls.push((name.clone(), root.join(name)));
        }
    }
    for (name, path) in controls {
        let Some(control) = add(name.clone(), &path, None) else {
            if name.is_empty() {
                break;
            }
            continue;
        };
        let below = path.join("mon_groups");
        for group in names(&below).unwrap_or_default() {
            add(format!("{name}/{group}"), &below.join(&group), Some(control));
        }
    }
    found
}

/// `0` of `mon_PERF_PKG_00`, with the counter.
fn packages(mon_data: &Path) -> Vec<(u32, PathBuf)> {
    let package = |name: &String| {
        let number = name.strip_prefix("mon_PERF_PKG_")?.parse().ok()?;
        let counter = mon_data.join(name).join("core_energy");
        counter.exists().then_some((number, counter))
    };
    let mut packages: Vec<_> = names(mon_data).unwrap_or_default().iter().filter_map(package).collect();
    packages.sort_unstable();
    packages
}

/// The microjoules in a counter. Its text is `Unavailable` where the hardware has no number now.
pub(crate) fn read(counter: &Path) -> Result<u64, Fault> {
    let shown = counter.display();
    let text = read_text(counter).map_err(|e| {
        let what = format!("{shown}: {e}");
        if counter.exists() { Fault::bad(what) } else { Fault::gone(what) }
    })?;
    let microjoules = parse_millionths(text.as_bytes()).and_then(|value| u64::try_from(value).ok());
    microjoules.ok_or_else(|| Fault::bad(format!("{shown}: is not an energy in joules: \"{}\"", text.trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_groups_come_before_their_monitoring_groups() {
        let root = tempfile::tempdir().unwrap();
        let add = |group: &str, packages: &[&str]| {
            for package in packages {
                let directory = root.path().join(group).join("mon_data").join(package);
                std::fs::create_dir_all(&directory).unwrap();
                std::fs::write(directory.join("core_energy"), "1.5\n").unwrap();
            }
        };
        add("web", &["mon_PERF_PKG_00"]);
        assert!(find(root.path()).is_empty(), "the default group has no counter");
        add("", &["mon_PERF_PKG_10", "mon_PERF_PKG_02", "mon_PERF_PKG_x"]);
        add("mon_groups/a", &["mon_PERF_PKG_02"]);
        add("web/mon_groups/b", &["mon_PERF_PKG_02"]);
        std::fs::create_dir_all(root.path().join("info/PERF_PKG_MON")).unwrap();
        std::fs::create_dir_all(root.path().join("mon_data/mon_L3_00")).unwrap();
        let found = find(root.path());
        let names: Vec<_> = found.iter().map(|group| (&*group.name, group.parent)).collect();
        assert_eq!(names, [("", None), ("/a", Some(0)), ("web", None), ("web/b", Some(2))]);
        let packages: Vec<_> = found[0].packages.iter().map(|(package, _)| *package).collect();
        assert_eq!(packages, [2, 10]);
        let counter = &found[0].packages[0].1;
        assert_eq!(read(counter).unwrap(), 1_500_000);
        std::fs::write(counter, "Unavailable\n").unwrap();
        let fault = read(counter).unwrap_err();
        assert!(!fault.gone && fault.what.starts_with(counter.to_str().unwrap()), "{}", fault.what);
        std::fs::remove_file(counter).unwrap();
        assert!(read(counter).unwrap_err().gone);
    }
}
