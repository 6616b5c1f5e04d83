//! Simulated machines whose truth is known, window by window.

use std::collections::BTreeMap;

use wattrace_page::{ConsumerInfo, History, Window};

pub(crate) const SECOND: u64 = 1_000_000_000;
/// 2026-11-26T12:00:00Z.
pub(crate) const BEGIN: u64 = 1_795_694_400 * SECOND;

/// A machine with one package, read every second.
pub(crate) struct Machine {
    pub(crate) history: History,
    domain: usize,
    infos: Vec<ConsumerInfo>,
    /// Consumer, end of the window, microjoules.
    used: Vec<(usize, u64, u64)>,
}

impl Machine {
    fn new() -> Self {
        let mut history = History::default();
        let domain = history.domain("package-0", "simulated", true);
        Self { history, domain, infos: Vec::new(), used: Vec::new() }
    }

    fn add(&mut self, info: ConsumerInfo) -> usize {
        self.infos.push(info.clone());
        self.history.consumer(info)
    }

    fn process(&mut self, pid: u64, name: &str, parent: u64) -> usize {
        self.process_of(pid, name, parent, BEGIN + pid, None)
    }

    fn process_of(&mut self, pid: u64, name: &str, parent: u64, begin: u64, end: Option<u64>) -> usize {
        self.add(ConsumerInfo {
            kind: "process".into(),
            id: pid.to_string(),
            name: name.into(),
            start_unix_nano: begin,
            end_unix_nano: end,
            parent: Some(parent.to_string()),
        })
    }

    fn entry(&mut self, kind: &str, id: &str) -> usize {
        self.add(ConsumerInfo { kind: kind.into(), id: id.into(), ..ConsumerInfo::default() })
    }

    /// Each of `amounts` in the window that ends at a second; the meter counts those that are no group's.
    fn second(&mut self, second: u64, amounts: &[(usize, u64)]) {
        let window = Window { begin: BEGIN + (second - 1) * SECOND, end: BEGIN + second * SECOND };
        let mut measured = 0;
        for &(consumer, microjoules) in amounts {
            self.history.used(consumer, self.domain, window, microjoules);
            self.used.push((consumer, window.end, microjoules));
            measured += if self.infos[consumer].kind == "unit" { 0 } else { microjoules };
        }
        self.history.measured(self.domain, window, measured);
    }

    /// A shell with a build below it, and a server; the build is in a unit.
    pub(crate) fn of_programs(seconds: u64) -> Self {
        let mut it = Self::new();
        let bash = it.process(10, "bash", 1);
        let make = it.process(11, "make", 10);
        let compilers = [12, 13, 14, 15].map(|pid| it.process(pid, "rustc", 11));
        let server = it.process(20, "python3", 1);
        let unit = it.entry("unit", "build.service");
        let [idle, unattributed] = ["idle", "unattributed"].map(|kind| it.entry(kind, ""));
        for second in 1..=seconds {
            let mut amounts =
                vec![(bash, 1_001), (make, 20_003), (server, 400_007 + second), (idle, 2_000_009)];
            let built: u64 = 20_003 + (0..4).map(|n| 1_000_000 + n * 313 + second * 7).sum::<u64>();
            amounts.extend(compilers.iter().zip(0..).map(|(&c, n)| (c, 1_000_000 + n * 313 + second * 7)));
            amounts.extend([(unit, built), (unattributed, 300_011 + second % 3)]);
            it.second(second, &amounts);
        }
        it
    }

    /// A minute in which `make` starts a shell that starts a compiler and a linker, and a server runs; each
    /// uses the same in every second of its life.
    pub(crate) fn of_lifetimes() -> Self {
        let mut it = Self::new();
        let lives = [
            ("make", 10, 1, 0..60, 20_000),
            ("sh", 11, 10, 5..50, 1_000),
            ("rustc", 12, 11, 10..20, 4_000_000),
            ("ld", 13, 11, 30..31, 2_000_000),
            ("python3", 20, 1, 1..60, 250_000),
        ];
        let processes = lives.each_ref().map(|(name, pid, parent, life, _)| {
            let [begin, end] = [life.start, life.end].map(|second| BEGIN + second * SECOND);
            it.process_of(*pid, name, *parent, begin, (life.end < 60).then_some(end))
        });
        let idle = it.entry("idle", "");
        for second in 1..=60 {
            let living =
                lives.iter().zip(processes).filter(|((.., life, _), _)| life.contains(&(second - 1)));
            let mut amounts: Vec<_> = living.map(|((.., used), process)| (process, *used)).collect();
            amounts.push((idle, 1_000_000));
            it.second(second, &amounts);
        }
        it
    }

    /// A process of each name, which all use the same.
    pub(crate) fn of(names: &[&str], seconds: u64) -> Self {
        let mut it = Self::new();
        let all: Vec<usize> = names.iter().zip(10..).map(|(name, pid)| it.process(pid, name, 1)).collect();
        let idle = it.entry("idle", "");
        for second in 1..=seconds {
            let mut amounts: Vec<_> = all.iter().map(|&consumer| (consumer, 500_000)).collect();
            amounts.push((idle, 1_000_000));
            it.second(second, &amounts);
        }
        it
    }

    /// A build with many short processes of some dozens of programs.
    pub(crate) fn of_processes(count: u64, seconds: u64) -> Self {
        let mut it = Self::new();
        let make = it.process(10, "make", 1);
        let shells: Vec<usize> = (0..count / 100).map(|n| it.process(11 + n, "sh", 10)).collect();
        let programs = ["cc1plus", "cc1", "as", "ld.lld", "rustc", "python3", "cmake", "sed", "cp", "perl"];
        let mut random = fastrand::Rng::with_seed(1);
        let mut all: Vec<(u64, usize, u64)> = Vec::new();
        for number in 0..count - 1 - shells.len() as u64 {
            let which = (random.f64().powi(2) * 30.0) as usize;
            let name = format!("{}{}", programs[which % 10], ["", "-13", ".real"][which / 10]);
            let parent = 11 + random.u64(0..shells.len() as u64);
            let second = 1 + random.u64(0..seconds);
            let begin = BEGIN + (second - 1) * SECOND + 10_000 + number;
            let end = Some(BEGIN + second * SECOND - 200_000_000);
            let process = it.process_of(100_000 + number, &name, parent, begin, end);
            all.push((second, process, random.u64(10_000..1_500_000)));
        }
        let [idle, unattributed] = ["idle", "unattributed"].map(|kind| it.entry(kind, ""));
        all.sort_unstable();
        let mut next = all.into_iter().peekable();
        for second in 1..=seconds {
            let mut amounts = vec![(make, 5_000), (idle, 6_000_000 + random.u64(0..1_000_000))];
            amounts.extend(shells.iter().map(|&shell| (shell, 700)));
            amounts.push((unattributed, random.u64(0..200_000)));
            while let Some((_, process, used)) = next.next_if(|(begin, ..)| *begin == second) {
                amounts.push((process, used));
            }
            it.second(second, &amounts);
        }
        it
    }

    /// What the meter counted in the windows that end after `from`, up to `to`.
    pub(crate) fn measured(&self, from: u64, to: u64) -> u64 {
        self.within(from, to)
            .filter(|(consumer, _)| self.infos[*consumer].kind != "unit")
            .map(|(_, uj)| uj)
            .sum()
    }

    fn within(&self, from: u64, to: u64) -> impl Iterator<Item = (usize, u64)> {
        let used = self.used.iter().filter(move |(_, end, _)| *end > from && *end <= to);
        used.map(|&(consumer, _, microjoules)| (consumer, microjoules))
    }

    /// What the table must show of a span: each row's microjoules, the closing entries' and the total.
    pub(crate) fn truth(&self, level: &str, from: u64, to: u64) -> BTreeMap<String, u64> {
        let mut rows = BTreeMap::new();
        let (mut workers, mut grouped) = (0, 0);
        for (consumer, microjoules) in self.within(from, to) {
            let info = &self.infos[consumer];
            let name = match (info.kind.as_str(), level) {
                ("process", "program") => info.name.clone(),
                ("process", "process") => format!("{} [{}]", info.name, info.id),
                ("process", _) => {
                    workers += microjoules;
                    continue;
                }
                ("unit", level) if level != "unit" => continue,
                ("unit", _) => {
                    grouped += microjoules;
                    info.id.clone()
                }
                (entry, _) => entry.to_owned(),
            };
            *rows.entry(name).or_default() += microjoules;
        }
        if workers > 0 {
            rows.insert(format!("(no {level})"), workers - grouped);
        }
        rows.insert("total".to_owned(), self.measured(from, to));
        rows
    }
}
