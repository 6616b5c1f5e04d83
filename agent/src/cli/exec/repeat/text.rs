//! Repeated runs for people, in 80 columns, and as a table in Markdown.

use wattrace_api::text::printable;
use wattrace_statistics::Summary;

use super::super::usage::{RunUsage, static_power_after};
use super::report::{CPU_TIME, ENERGY, MACHINE, Program, RepeatReport, WALL};
use crate::cli::table::{aligned, shortened};

/// Maximum number of programs that are listed.
const MAX_PROGRAMS: usize = 10;
/// Longer names are cut, in characters.
const MAX_NAME: usize = 22;
/// Longer command lines are cut, in characters.
const MAX_COMMAND: usize = 34;
/// The most runs that one line of the chart shows.
const MAX_CHART: usize = 60;
/// The width of a bar that stands for the whole command.
const BAR: usize = 10;

/// A unit of a table's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Joule,
    Second,
}

impl Unit {
    fn symbol(self) -> &'static str {
        match self {
            Unit::Joule => "J",
            Unit::Second => "s",
        }
    }
}

/// The rows of the tables: a key of the summary, its name, and its unit.
const ROWS: [(&str, &str, Unit); 4] = [
    (ENERGY, "command", Unit::Joule),
    (MACHINE, "whole machine", Unit::Joule),
    (CPU_TIME, "CPU time", Unit::Second),
    (WALL, "wall time", Unit::Second),
];

impl RepeatReport {
    /// Tables of the summary and the programs, and a chart of the runs.
    pub(in crate::cli::exec) fn for_people(&self) -> String {
        let command = shortened(&printable(&self.command.join(" ")), MAX_COMMAND);
        let (runs, warmup) = (self.runs.len(), self.warmup);
        let warmup = if warmup > 0 { format!(" after {warmup} for warm-up") } else { String::new() };
        let mut text = format!("\nwattrace: `{command}`: {}{warmup}\n", plural(runs, "run"));
        text += &format!("  {}\n\n", self.origin_in_words());
        let header = ["", "mean", "± σ", "median", "min", "max", "95 % of the mean"];
        let mut rows = vec![header.map(String::from)];
        for (name, unit, s) in self.rows() {
            let interval =
                s.ci95.map_or("-".into(), |i| format!("{} to {}", number(i.low.max(0.0)), number(i.high)));
            rows.push([
                format!("{name}, {}", unit.symbol()),
                number(s.mean),
                s.stddev.map_or("-".into(), number),
                number(s.median),
                number(s.min),
                number(s.max),
                interval,
            ]);
        }
        text += &aligned(&rows, &[0], "  ");
        let known = static_power_after(self.runs.iter());
        if !known.is_empty() {
            text += &format!("  {known}\n");
        }
        text += &self.chart();
        text += &self.programs_for_people();
        text
    }

    fn origin_in_words(&self) -> String {
        match self.origin.as_str() {
            "none" => "no meter and no estimate (`wattrace doctor`)".to_owned(),
            origin => format!("{origin} joules"),
        }
    }

    /// The measures that there are: without meter and estimate there are no joules.
    fn rows(&self) -> impl Iterator<Item = (&'static str, Unit, &Summary)> {
        let has_joules = self.origin != "none";
        let shown = move |unit| has_joules || unit != Unit::Joule;
        let rows = ROWS.into_iter().filter(move |&(_, _, unit)| shown(unit));
        rows.filter_map(|(key, name, unit)| Some((name, unit, self.summary.get(key)?)))
    }

    /// The runs in their order, and which of them are far from the others.
    fn chart(&self) -> String {
        let Some((name, unit, summary)) = self.rows().next().filter(|_| self.runs.len() > 1) else {
            return String::new();
        };
        let value = |run: &RunUsage| match unit {
            Unit::Joule => run.energy_j,
            Unit::Second => run.cpu_time_s,
        };
        let values: Vec<f64> = self.runs.iter().map(value).collect();
        let mut text = format!("\n  {name} by run, {} to {}", number(summary.min), number(summary.max));
        text += &format!(" {}\n", unit.symbol());
        for line in values.chunks(MAX_CHART) {
            text += &format!("  {}\n", sparkline(line, summary.min, summary.max));
        }
        for &at in &summary.outliers {
            let more = (values[at] / summary.median - 1.0) * 100.0;
            text += &format!("  outlier: run {}, {} {}", at + 1, number(values[at]), unit.symbol());
            text += &format!(", {more:+.1} % from the median\n");
        }
        text
    }

    fn programs_for_people(&self) -> String {
        let has_joules = self.origin != "none";
        let total = self.programs.iter().map(|p| size(p, has_joules)).sum::<f64>();
        let unit = if has_joules { "J" } else { "CPU s" };
        let header = ["program", "processes", unit, "± σ", "share", ""];
        let mut rows = vec![header.map(String::from)];
        for p in self.programs.iter().take(MAX_PROGRAMS) {
            let summary = if has_joules { &p.energy_j } else { &p.cpu_time_s };
            let share = if total > 0.0 { size(p, has_joules) / total } else { 0.0 };
            rows.push([
                shortened(&printable(&p.program), MAX_NAME),
                format!("{:.1}", p.processes),
                number(summary.mean),
                summary.stddev.map_or("-".into(), number),
                format!("{:.1} %", share * 100.0),
                "█".repeat((share * BAR as f64).round() as usize),
            ]);
        }
        let mut text = format!("\n{}", aligned(&rows, &[0, 5], "  "));
        let rest = self.programs.len().saturating_sub(MAX_PROGRAMS);
        if rest > 0 {
            text += &format!("  and {rest} more programs; --export FILE has all of them\n");
        }
        text
    }

    /// Tables for a README or a pull request.
    pub(in crate::cli::exec) fn markdown(&self) -> String {
        let command = markdown_code(&self.command.join(" "));
        let mut text =
            format!("{command}: {}, {}.\n\n", plural(self.runs.len(), "run"), self.origin_in_words());
        text += "| | mean | ± σ | median | min | max |\n| --- | ---: | ---: | ---: | ---: | ---: |\n";
        for (name, unit, s) in self.rows() {
            let stddev = s.stddev.map_or("-".into(), number);
            let (mean, median, min, max) = (number(s.mean), number(s.median), number(s.min), number(s.max));
            let unit = unit.symbol();
            text += &format!("| {name}, {unit} | {mean} | {stddev} | {median} | {min} | {max} |\n");
        }
        let known = static_power_after(self.runs.iter());
        if !known.is_empty() {
            text += &format!("\nPower {known}.\n");
        }
        text += "\n| program | processes | J | ± σ | CPU s |\n| --- | ---: | ---: | ---: | ---: |\n";
        for p in self.programs.iter().take(MAX_PROGRAMS) {
            let stddev = p.energy_j.stddev.map_or("-".into(), number);
            let (name, joules) = (markdown_code(&p.program), number(p.energy_j.mean));
            let (processes, seconds) = (p.processes, number(p.cpu_time_s.mean));
            text += &format!("| {name} | {processes:.1} | {joules} | {stddev} | {seconds} |\n");
        }
        text
    }
}

/// By what programs are ranked and drawn.
fn size(p: &Program, has_joules: bool) -> f64 {
    if has_joules { p.energy_j.mean } else { p.cpu_time_s.mean }
}

/// Four digits, at most three of them after the point.
pub(in crate::cli) fn number(value: f64) -> String {
    let digits = match value.abs() {
        v if v >= 1000.0 => 0,
        v if v >= 100.0 => 1,
        v if v >= 10.0 => 2,
        _ => 3,
    };
    format!("{value:.digits$}")
}

fn plural(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// Text that comes from outside, as code in a cell of a table.
pub(in crate::cli) fn markdown_code(text: &str) -> String {
    format!("`{}`", printable(text).replace('`', "'").replace('|', "\\|"))
}

/// Eight heights of a block for values from `min` to `max`.
pub(in crate::cli) fn sparkline(values: &[f64], min: f64, max: f64) -> String {
    const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let height = |value: &f64| {
        let part = if max > min { (value - min) / (max - min) } else { 0.0 };
        BLOCKS[((part * BLOCKS.len() as f64) as usize).min(BLOCKS.len() - 1)]
    };
    values.iter().map(height).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::cli::exec::static_power::StaticPowerJson;
    use crate::cli::exec::usage::ProgramUsage;

    fn report(joules: &[f64]) -> RepeatReport {
        let name = "a-program-with-a-very-long-name-indeed".to_owned();
        let known = serde_json::json!({ "known": "learnt", "watts": 10.2, "ci95_w": 0.4 });
        let known: StaticPowerJson = serde_json::from_value(known).unwrap();
        let run = |&energy_j: &f64| RunUsage {
            static_power: BTreeMap::from([("package-0".into(), known)]),
            energy_j,
            machine_j: 10_000.0 + energy_j,
            cpu_time_s: energy_j / 2.0,
            wall_s: 1234.5,
            origin: "estimated".into(),
            programs: BTreeMap::from([
                (name.clone(), ProgramUsage { processes: 1_000, cpu_time_s: 1.0, energy_j }),
                ("ld".into(), ProgramUsage { processes: 1, cpu_time_s: 0.1, energy_j: energy_j / 9.0 }),
            ]),
            ..RunUsage::default()
        };
        let command = format!("make -j2 {}", "x".repeat(100));
        RepeatReport::new(&[command], 1, None, joules.iter().map(run).collect())
    }

    #[test]
    fn text_for_people_names_the_outlier_and_fits_80_columns() {
        let mut joules = vec![1234.0, 1240.0, 1236.0, 1238.0, 1235.0, 2000.0];
        joules.extend((0..70).map(|run| 1235.0 + f64::from(run % 5)));
        let text = report(&joules).for_people();
        assert!(text.contains("outlier: run 6, 2000 J, +61.7 % from the median"), "{text}");
        assert!(text.contains("\n  at no load: package-0 10.20 ± 0.40 W (learnt)\n"), "{text}");
        assert!(text.contains("a-program-with-a-very…") && text.contains("90.0 %  █████████"), "{text}");
        for line in text.lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
    }

    #[test]
    fn one_run_has_neither_spread_nor_chart() {
        let text = report(&[5.0]).for_people();
        assert!(text.contains("1 run after 1 for warm-up\n  estimated joules\n"), "{text}");
        assert!(!text.contains("by run") && !text.contains("NaN"), "{text}");
    }

    #[test]
    fn markdown_has_a_row_for_each_measure_and_program_and_escapes_names() {
        let mut report = report(&[5.0, 6.0]);
        report.command = vec!["a | b `c`".into()];
        let text = report.markdown();
        assert!(text.starts_with("`a \\| b 'c'`: 2 runs, estimated joules.\n"), "{text}");
        assert!(text.contains("| command, J | 5.500 | 0.707 | 5.500 | 5.000 | 6.000 |\n"), "{text}");
        assert!(text.contains("| `ld` | 1.0 | 0.611 | 0.079 | 0.100 |\n"), "{text}");
    }

    #[test]
    fn the_chart_spans_the_smallest_to_the_largest_value() {
        assert_eq!(sparkline(&[1.0, 2.0, 1.5], 1.0, 2.0), "▁█▅");
        assert_eq!(sparkline(&[3.0, 3.0], 3.0, 3.0), "▁▁");
    }
}
