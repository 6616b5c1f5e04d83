//! What can be watched, and which processes belong to it: those of a pid and its descendants, those with a
//! name, in a unit, in a container or below a cgroup.

use std::collections::{HashMap, HashSet};
use std::str::FromStr;

use wattrace_api::{Attribute, AttributeValue};

use super::running::Running;

/// What is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// The process of this pid and its descendants.
    Process(u32),
    /// All processes of this name, now and later: their program's file, or what the kernel calls them.
    Name(String),
    /// Those of a systemd unit.
    Unit(String),
    /// Those of a container, by its id or the beginning of it.
    Container(String),
    /// Those in the cgroup of this path, and below.
    Cgroup(String),
}

/// How names of units end.
const UNITS: [&str; 5] = [".service", ".scope", ".mount", ".swap", ".socket"];

/// The kernel cuts names to this many bytes.
const COMM: usize = 15;

/// So many pids are listed.
const LISTED: usize = 12;

/// Less alike names are not suggested.
const SIMILAR: f64 = 0.8;

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let target = match text.split_once(':') {
            Some(("unit", name)) => Target::Unit(match UNITS.iter().any(|end| name.ends_with(end)) {
                false if !name.is_empty() => format!("{name}.service"),
                _ => name.to_owned(),
            }),
            Some(("container", name)) => Target::Container(name.to_owned()),
            Some(("cgroup", path)) => {
                let path = path.strip_prefix("/sys/fs/cgroup").unwrap_or(path).trim_matches('/');
                Target::Cgroup(format!("/{path}"))
            }
            _ => text.parse().map_or_else(|_| Target::Name(text.to_owned()), Target::Process),
        };
        let is_empty = target.id().is_empty();
        if is_empty {
            Err("a pid, a name, unit:NAME, container:NAME or cgroup:PATH".to_owned())
        } else {
            Ok(target)
        }
    }
}

impl Target {
    /// Its kind in a report.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Target::Process(_) => "process",
            Target::Name(_) => "name",
            Target::Unit(_) => "unit",
            Target::Container(_) => "container",
            Target::Cgroup(_) => "cgroup",
        }
    }

    /// Which one of its kind.
    pub(super) fn id(&self) -> String {
        match self {
            Target::Process(pid) => pid.to_string(),
            Target::Name(id) | Target::Unit(id) | Target::Container(id) | Target::Cgroup(id) => id.clone(),
        }
    }

    /// Whether what its processes start belongs to it, wherever it goes.
    pub(super) fn has_descendants(&self) -> bool {
        matches!(self, Target::Process(_))
    }

    /// Whether a process of which this is known belongs to it. That of a pid is known by its identity.
    pub(super) fn matches(&self, attributes: &[Attribute]) -> bool {
        let text = |key: &str| {
            attributes.iter().find(|attribute| attribute.key == key).and_then(|attribute| {
                match &attribute.value {
                    AttributeValue::Str(text) => Some(&**text),
                    _ => None,
                }
            })
        };
        match self {
            Target::Process(_) => false,
            Target::Name(name) => match text("process.executable.path").and_then(|p| p.rsplit('/').next()) {
                Some(file) if file == name => true,
                path => {
                    let whole = name.len() <= COMM || path.is_none();
                    whole && text("wattrace.process.comm").is_some_and(|comm| *comm == *cut(name))
                }
            },
            Target::Unit(unit) => text("systemd.unit").is_some_and(|own| own == unit),
            Target::Container(id) => text("container.id").is_some_and(|own| own.starts_with(id.as_str())),
            Target::Cgroup(path) => text("process.linux.cgroup").is_some_and(|own| {
                let below = own.strip_prefix(path.trim_end_matches('/'));
                below.is_some_and(|below| below.is_empty() || below.starts_with('/'))
            }),
        }
    }

    /// Those of `running` that belong to it: at least one.
    ///
    /// # Errors
    /// None does; what to look at.
    pub(super) fn find(&self, running: &[Running]) -> Result<Vec<Running>, String> {
        let found: Vec<Running> = match self {
            Target::Process(pid) => tree(*pid, running),
            _ => running.iter().filter(|process| self.matches(&process.attributes)).cloned().collect(),
        };
        if found.is_empty() { Err(self.not_found(running)) } else { Ok(found) }
    }

    fn not_found(&self, running: &[Running]) -> String {
        match self {
            Target::Process(pid) => format!("there is no process {pid}"),
            Target::Name(name) => {
                let similar = running.iter().flat_map(Running::names);
                let similar = similar.map(|other| (strsim::jaro_winkler(name, &other), other));
                let best =
                    similar.max_by(|(a, _), (b, _)| a.total_cmp(b)).filter(|(like, _)| *like >= SIMILAR);
                let hint = best.map(|(_, other)| format!("; did you mean `{other}`?")).unwrap_or_default();
                format!("no process is called `{name}`{hint}")
            }
            Target::Unit(unit) => {
                format!("no process is in the unit `{unit}`: see `systemctl status {unit}`")
            }
            Target::Container(id) => {
                format!("no process is in a container `{id}`: see `docker ps`, `podman ps` or `crictl ps`")
            }
            Target::Cgroup(path) => {
                format!("no process is in the cgroup {path} (v2) or below it: see `systemd-cgls`")
            }
        }
    }

    /// What was found, for people: `process 4711 (make) and 2 descendants: 4712, 4713`.
    pub(super) fn describe(&self, found: &[Running]) -> String {
        let pids = |found: &[Running]| {
            let mut listed: Vec<_> = found.iter().take(LISTED).map(|p| p.pid.to_string()).collect();
            if found.len() > LISTED {
                listed.push(format!("and {} more", found.len() - LISTED));
            }
            listed.join(", ")
        };
        match (self, found) {
            (Target::Process(pid), [root]) => format!("process {pid} ({})", root.name()),
            (Target::Process(pid), [root, descendants @ ..]) => {
                let (count, name) = (descendants.len(), root.name());
                let plural = if count == 1 { "" } else { "s" };
                format!("process {pid} ({name}) and {count} descendant{plural}: {}", pids(descendants))
            }
            (_, found) => {
                let plural = if found.len() == 1 { "process" } else { "processes" };
                format!("{} `{}`: {} {plural}: {}", self.kind(), self.id(), found.len(), pids(found))
            }
        }
    }
}

/// What the kernel makes of a name.
fn cut(name: &str) -> String {
    String::from_utf8_lossy(&name.as_bytes()[..name.len().min(COMM)]).into_owned()
}

/// The process `pid` and its descendants, that one first; nothing without it.
fn tree(pid: u32, running: &[Running]) -> Vec<Running> {
    let mut children: HashMap<u32, Vec<&Running>> = HashMap::new();
    for process in running {
        children.entry(process.parent).or_default().push(process);
    }
    let mut found: Vec<&Running> = running.iter().filter(|process| process.pid == pid).collect();
    let mut seen = HashSet::from([pid]);
    let mut next = 0;
    while let Some(process) = found.get(next) {
        next += 1;
        let below = children.get(&process.pid).into_iter().flatten();
        found.extend(below.filter(|child| seen.insert(child.pid)));
    }
    found.into_iter().cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32, parent: u32, attributes: &[(&'static str, &str)]) -> Running {
        let attributes = attributes.iter().map(|&(key, value)| Attribute::new(key, value)).collect();
        Running { pid, parent, start_ticks: 0, attributes }
    }

    fn found(target: &str, running: &[Running]) -> Result<Vec<u32>, String> {
        let target: Target = target.parse().unwrap();
        target.find(running).map(|found| found.iter().map(|process| process.pid).collect())
    }

    #[test]
    fn targets_are_parsed_by_their_kind() {
        let parsed = |text: &str| text.parse::<Target>();
        assert_eq!(parsed("4711"), Ok(Target::Process(4711)));
        assert_eq!(parsed("postgres"), Ok(Target::Name("postgres".into())));
        assert_eq!(parsed("unit:nginx"), Ok(Target::Unit("nginx.service".into())));
        assert_eq!(parsed("unit:user.slice.scope"), Ok(Target::Unit("user.slice.scope".into())));
        assert_eq!(parsed("container:3f2a"), Ok(Target::Container("3f2a".into())));
        for path in ["cgroup:/a/b", "cgroup:a/b/", "cgroup:/sys/fs/cgroup/a/b"] {
            assert_eq!(parsed(path), Ok(Target::Cgroup("/a/b".into())), "{path}");
        }
        for wrong in ["", "unit:", "container:"] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_pid_has_its_descendants_and_nobody_else() {
        let running = [
            process(1, 0, &[]),
            process(7, 1, &[]),
            process(8, 7, &[]),
            process(9, 8, &[]),
            process(10, 1, &[]),
        ];
        assert_eq!(found("7", &running), Ok(vec![7, 8, 9]));
        assert_eq!(found("77", &running), Err("there is no process 77".into()));
    }

    #[test]
    fn a_name_is_that_of_the_program_s_file_or_the_kernel_s() {
        let (path, comm) = ("process.executable.path", "wattrace.process.comm");
        let running = [
            process(1, 0, &[(path, "/usr/bin/python3.11"), (comm, "train")]),
            process(2, 0, &[(comm, "kworker/0:1")]),
            process(3, 0, &[(comm, "a-name-of-more-"), (path, "/opt/a-name-of-more-than-15")]),
            process(4, 0, &[(comm, "a-name-of-more-"), (path, "/opt/a-name-of-more-than-that")]),
        ];
        assert_eq!(found("python3.11", &running), Ok(vec![1]));
        assert_eq!(found("train", &running), Ok(vec![1]));
        assert_eq!(found("a-name-of-more-than-15", &running), Ok(vec![3]));
        let hint = "no process is called `trian`; did you mean `train`?";
        assert_eq!(found("trian", &running), Err(hint.into()));
        assert_eq!(found("xyz", &running), Err("no process is called `xyz`".into()));
    }

    #[test]
    fn a_cgroup_has_those_below_it_and_not_those_beside_it() {
        let key = "process.linux.cgroup";
        let running = [
            process(1, 0, &[(key, "/a")]),
            process(2, 0, &[(key, "/a/b")]),
            process(3, 0, &[(key, "/ab")]),
            process(4, 0, &[("systemd.unit", "a.service"), ("container.id", "3f2a77")]),
        ];
        assert_eq!(found("cgroup:/a", &running), Ok(vec![1, 2]));
        assert_eq!(found("cgroup:/", &running), Ok(vec![1, 2, 3]));
        assert_eq!(found("unit:a", &running), Ok(vec![4]));
        assert_eq!(found("container:3f2a", &running), Ok(vec![4]));
        assert!(found("unit:b", &running).unwrap_err().contains("systemctl status b.service"));
    }

    #[test]
    fn several_matches_are_listed() {
        let named = |pid, parent| process(pid, parent, &[("wattrace.process.comm", "sh")]);
        let running = [named(5, 1), named(6, 5), named(7, 1)];
        let describe = |text: &str| {
            let target: Target = text.parse().unwrap();
            target.describe(&target.find(&running).unwrap())
        };
        assert_eq!(describe("5"), "process 5 (sh) and 1 descendant: 6");
        assert_eq!(describe("7"), "process 7 (sh)");
        assert_eq!(describe("sh"), "name `sh`: 3 processes: 5, 6, 7");
    }
}
