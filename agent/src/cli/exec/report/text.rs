//! The report as a summary for people: the energy of each domain, and the processes by name.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};

use wattrace_api::text::printable;

use super::super::static_power::at_no_load;
use super::{ProcessJson, Report, Total};
use crate::cli::table::{aligned, shortened};

impl Report {
    /// A summary: the energy of each domain, and the command's processes by name.
    pub(in crate::cli) fn for_people(&self) -> String {
        let wall = (self.window.end_unix_nano - self.window.start_unix_nano) as f64 * 1e-9;
        let mut text = format!("\nwattrace: {}\n\n", self.headline(wall));
        let total = &self.total;
        let plural = if total.processes == 1 { "process" } else { "processes" };
        text += &format!("  {} {plural}, {:.3} s of CPU time", total.processes, total.cpu_time_s);
        match self.origin {
            "none" => text += ", origin none: no meter and no estimate here, `wattrace doctor` says why\n",
            origin => {
                text += &format!(
                    ", {} ({origin}), {:.2} W on average\n\n",
                    with_interval(total.energy_j, total.energy_ci95_j, " J"),
                    total.energy_j / wall
                );
                let selected = if self.watched.is_some() { "= watched" } else { "= command" };
                let header =
                    ["domain", "measured J", selected, "+ other", "+ idle", "+ unattributed", "origin"];
                let mut rows = vec![header.map(String::from)];
                for d in &self.domains {
                    let j = |v: f64| format!("{v:.3}");
                    rows.push([
                        d.domain.clone(),
                        j(d.measured_j),
                        with_interval(d.command_j, d.command_ci95_j, ""),
                        j(d.other_j),
                        j(d.idle_j),
                        j(d.unattributed_j),
                        d.origin.into(),
                    ]);
                }
                text += &aligned(&rows, &[0, 6], "  ");
                text += &self.static_power();
            }
        }
        if let Some(budget) = &self.budget {
            text += &format!("\n{}", budget.for_people(self.window.start_unix_nano));
        }
        text += &self.total.figures.map_or(String::new(), |figures| format!("\n{}", figures.for_people()));
        text += &self.total.network_bytes.map_or(String::new(), |network| network.for_people());
        text += "\n";
        text += &self.by_name();
        text += &self.living();
        text
    }

    /// What the report is about, and how it ended after `wall` seconds.
    fn headline(&self, wall: f64) -> String {
        match &self.watched {
            Some(watched) => watched.for_people(wall),
            None => format!(
                "`{}` exited with {} after {wall:.3} s",
                shortened(&printable(&self.command.join(" ")), MAX_COMMAND),
                self.exit_code
            ),
        }
    }

    /// The processes that go on: one line, or none.
    fn living(&self) -> String {
        let living = self.processes.iter().filter(|p| p.end_unix_nano.is_none()).count();
        match (living, &self.watched) {
            (0, _) => String::new(),
            (1, None) => "\n  1 process outlives the command, counted until its end\n".to_owned(),
            (_, None) => format!("\n  {living} processes outlive the command, counted until its end\n"),
            (1, Some(_)) => "\n  1 process goes on\n".to_owned(),
            (_, Some(_)) => format!("\n  {living} processes go on\n"),
        }
    }

    /// How well it is known what the domains draw at no load: one line.
    fn static_power(&self) -> String {
        let counted = self.domains.iter().filter(|d| d.counts_in_totals);
        let known = at_no_load(counted.map(|d| (d.domain.as_str(), &d.static_power)));
        let baseline = self.baseline.map(|b| format!("; {}", b.for_people())).unwrap_or_default();
        let line = format!("{known}{baseline}");
        if line.is_empty() { line } else { format!("  {}\n", line.trim_start_matches("; ")) }
    }

    /// The sums over a program's processes.
    fn program(&self, processes: Vec<&ProcessJson>) -> Total {
        let mut total = Total {
            processes: processes.len(),
            cpu_time_s: processes.iter().map(|p| p.cpu_time_s).sum(),
            energy_j: 0.0,
            energy_ci95_j: None,
            figures: None,
            network_bytes: None,
        };
        for d in self.domains.iter().filter(|d| d.counts_in_totals) {
            let of = |joules: &BTreeMap<String, f64>| joules.get(&d.domain).copied().unwrap_or(0.0);
            let parts = || processes.iter().map(|p| ((), of(&p.energy_j), of(&p.energy_ci95_j)));
            total.energy_j += parts().map(|(_, joules, _)| joules).sum::<f64>();
            if d.idle_ci95_j.is_some() {
                let interval = d.parts.of_sum(parts());
                total.energy_ci95_j = Some(total.energy_ci95_j.unwrap_or(0.0).hypot(interval));
            }
        }
        total
    }

    fn by_name(&self) -> String {
        let mut groups: HashMap<&str, Vec<&ProcessJson>> = HashMap::new();
        for p in &self.processes {
            let name = p.exe.rsplit('/').next().filter(|n| !n.is_empty()).unwrap_or(&p.comm);
            groups.entry(name).or_default().push(p);
        }
        let of_program = |(name, processes)| (name, self.program(processes));
        let mut groups: Vec<(&str, Total)> = groups.into_iter().map(of_program).collect();
        let order = |total: &Total| (total.energy_j, total.cpu_time_s);
        groups.sort_by(|(_, a), (_, b)| order(b).partial_cmp(&order(a)).unwrap_or(Ordering::Equal));
        let rest = groups.len().saturating_sub(MAX_PROGRAMS);
        let joules =
            if self.origin == "none" { "J (origin none)".into() } else { format!("J ({})", self.origin) };
        let mut rows = vec![["program".into(), "processes".into(), "CPU s".into(), joules]];
        for (name, total) in groups.iter().take(MAX_PROGRAMS) {
            let name = shortened(&printable(name), MAX_NAME);
            let energy = match self.origin {
                "none" => "-".into(),
                _ => with_interval(total.energy_j, total.energy_ci95_j, ""),
            };
            rows.push([name, total.processes.to_string(), format!("{:.3}", total.cpu_time_s), energy]);
        }
        let mut text = aligned(&rows, &[0], "  ");
        if rest > 0 {
            text += &format!("  and {rest} more programs; --format json lists every process\n");
        }
        text
    }
}

/// `12.345 ± 0.040`; without an interval `12.345`.
fn with_interval(joules: f64, half_width: Option<f64>, unit: &str) -> String {
    let half_width = half_width.map(|half_width| format!(" ± {half_width:.3}")).unwrap_or_default();
    format!("{joules:.3}{unit}{half_width}")
}

/// Maximum number of programs in the summary.
const MAX_PROGRAMS: usize = 20;

/// Longer names and command lines are cut, in characters.
const MAX_NAME: usize = 40;
const MAX_COMMAND: usize = 60;
