//! The report of a comparison in words: for people in 80 columns, and in Markdown for a pull request.

use wattrace_api::text::printable;
use wattrace_statistics::{Interval, Plan};

use super::report::{Comparison, Gate, Report};
use super::verdict::{Change, MEASURES, ProgramChange, Verdict};
use crate::cli::exec::repeat::{markdown_code, number, sparkline};
use crate::cli::exec::usage::{RunUsage, static_power_after};
use crate::cli::table::{aligned, shortened};

/// Maximum number of programs that are listed.
const MAX_PROGRAMS: usize = 6;
/// Longer names are cut, in characters.
const MAX_NAME: usize = 18;
/// Longer command lines are cut, in characters.
const MAX_COMMAND: usize = 70;
/// The most runs of a side that are drawn.
const MAX_CHART: usize = 70;
/// Width of a line.
const WIDTH: usize = 78;

/// What the runs of the plan can find, after the first look.
pub(super) fn outlook(verdict: &Verdict, plan: &Plan) -> String {
    format!(
        "runs vary by {}: {} of each side find a difference of {} (95 times in 100)",
        percent(verdict.noise),
        plan.last().runs,
        percent(verdict.smallest)
    )
}

impl Report {
    /// The verdict, in one or two sentences.
    pub(super) fn in_words(&self) -> String {
        let Comparison { verdict, plan, .. } = &self.comparison;
        let Some(energy) = verdict.energy() else { return String::new() };
        let (a, b) = (number(energy.a.mean), number(energy.b.mean));
        let mut text = match self.verdict() {
            "more" | "less" => format!(
                "B uses {} {} energy than A: {b} J instead of {a} J (the change is {}).",
                percent(energy.change.abs()),
                self.verdict(),
                range(energy.interval)
            ),
            "same" => format!(
                "A and B use the same energy to within {}: {a} J and {b} J (the change is {}).",
                percent(self.asked.difference),
                range(energy.interval)
            ),
            _ => format!(
                "No difference was found: A uses {a} J, B {b} J (the change is {}). {} runs of each side \
                 find {} or more.",
                range(energy.interval),
                plan.last().runs,
                percent(verdict.smallest)
            ),
        };
        if let Some(limit) = self.asked.max_increase {
            let limit = percent(limit);
            text += &match self.increase_gate() {
                Gate::Held => format!(" The increase is within {limit}: the gate holds."),
                Gate::Exceeded => format!(" That is more than {limit}: the gate is exceeded."),
                _ => format!(" Whether the increase is within {limit} could not be decided."),
            };
        }
        if let Some(most) = self.max_joules {
            let most = number(most);
            text += &match self.joules_gate() {
                Gate::Exceeded => format!(" B uses more than {most} J: the gate is exceeded."),
                _ => format!(" B uses at most {most} J: the gate holds."),
            };
        }
        text
    }

    /// The verdict, tables, and what is worth knowing about the machine.
    pub(super) fn for_people(&self) -> String {
        let Comparison { names, plan, verdict, remarks, .. } = &self.comparison;
        let name = |at: usize| shortened(&printable(&names[at]), MAX_COMMAND);
        let [of_a, of_b] = self.counts();
        let mut text = format!("\n  A: {}\n  B: {}\n\n", name(0), name(1));
        text += &wrapped(&self.in_words(), "  ");
        text += &format!("\n{}\n", self.measures());
        text += &self.chart();
        text += &self.programs();
        let stopped = if verdict.is_hopeless && of_a < plan.last().runs {
            ", stopped because more would hardly decide it"
        } else {
            ""
        };
        let method = format!(
            "Means of {of_a} runs of A and {of_b} of B{stopped}; {} joules. A run varies by {}; {} runs of \
             each side find a difference of {} (95 times in 100). Of 100 comparisons of a command with \
             itself, at most 5 report a difference.",
            self.origin(),
            percent(verdict.noise),
            plan.last().runs,
            percent(verdict.smallest)
        );
        text += &format!("\n{}", wrapped(&method, "  "));
        let known = self.static_power();
        if !known.is_empty() {
            text += &wrapped(&known, "  ");
        }
        for remark in remarks {
            text += &wrapped(&format!("note: {remark}"), "  ");
        }
        text
    }

    /// How well static power was known in the end; an empty text if nothing is said of it.
    fn static_power(&self) -> String {
        static_power_after(self.comparison.runs.all())
    }

    fn measures(&self) -> String {
        let mut rows = vec![["", "A", "B", "change", "between"].map(String::from)];
        for (name, change) in self.changes() {
            let (a, b) = (number(change.a.mean), number(change.b.mean));
            rows.push([name.to_owned(), a, b, signed(change.change), range(change.interval)]);
        }
        aligned(&rows, &[0], "  ")
    }

    /// The measures that could be compared.
    fn changes(&self) -> impl Iterator<Item = (&'static str, &Change)> {
        let changes = MEASURES.iter().zip(&self.comparison.verdict.changes);
        changes.filter_map(|(measure, change)| Some((measure.name, change.as_ref()?)))
    }

    /// The runs of both sides in their order, on one scale.
    fn chart(&self) -> String {
        let Some(energy) = self.comparison.verdict.energy() else { return String::new() };
        let (min, max) = (energy.a.min.min(energy.b.min), energy.a.max.max(energy.b.max));
        let mut text = format!("  command by run, {} to {} J\n", number(min), number(max));
        let joules = |side: &[RunUsage]| side.iter().map(|run| run.energy_j).collect::<Vec<_>>();
        let Comparison { runs, .. } = &self.comparison;
        let sides = [("A", joules(&runs.a), &energy.a), ("B", joules(&runs.b), &energy.b)];
        for (name, values, _) in &sides {
            let shown = &values[..values.len().min(MAX_CHART)];
            text += &format!("  {name} {}\n", sparkline(shown, min, max));
        }
        for (name, values, summary) in &sides {
            for &at in &summary.outliers {
                let joules = number(values[at]);
                text += &format!("  outlier: run {} of {name}, {joules} J\n", at + 1);
            }
        }
        text
    }

    fn programs(&self) -> String {
        let programs = &self.comparison.programs;
        if programs.len() < 2 {
            return String::new();
        }
        let mut rows = vec![["program, J", "A", "B", "change", "between"].map(String::from)];
        for p in programs.iter().take(MAX_PROGRAMS) {
            let name = shortened(&printable(&p.program), MAX_NAME);
            let [a, b, change, between] = program(p);
            rows.push([name, a, b, change, between]);
        }
        let mut text = format!("\n{}", aligned(&rows, &[0], "  "));
        if programs.len() > MAX_PROGRAMS {
            let rest = programs.len() - MAX_PROGRAMS;
            text += &format!("  and {rest} programs that changed less; --format json has all\n");
        }
        text
    }

    /// Tables for a pull request.
    pub(super) fn markdown(&self) -> String {
        let Comparison { names, programs, remarks, .. } = &self.comparison;
        let [of_a, of_b] = self.counts();
        let sign = match self.gate() {
            Gate::Exceeded => "❌ ",
            Gate::Undecided => "❓ ",
            Gate::Held => "✅ ",
            Gate::None => "",
        };
        let mut text = format!("### {sign}Energy\n\n{}\n\n", self.in_words());
        let (a, b) = (markdown_code(&names[0]), markdown_code(&names[1]));
        text += &format!("A is {a} ({of_a} runs), B is {b} ({of_b} runs); {} joules.\n\n", self.origin());
        text += "| | A | B | change | between |\n| --- | ---: | ---: | ---: | ---: |\n";
        for (name, change) in self.changes() {
            let (a, b) = (number(change.a.mean), number(change.b.mean));
            let (by, between) = (signed(change.change), range(change.interval));
            text += &format!("| {name} | {a} | {b} | {by} | {between} |\n");
        }
        if programs.len() > 1 {
            text += "\n| program, J | A | B | change | between |\n| --- | ---: | ---: | ---: | ---: |\n";
            for p in programs.iter().take(MAX_PROGRAMS) {
                let [a, b, change, between] = program(p);
                text += &format!("| {} | {a} | {b} | {change} | {between} |\n", markdown_code(&p.program));
            }
        }
        let known = self.static_power();
        if !known.is_empty() {
            text += &format!("\nPower {known}.\n");
        }
        if !remarks.is_empty() {
            text += "\n";
        }
        for remark in remarks {
            text += &format!("- {remark}\n");
        }
        text
    }
}

/// A program's cells: A, B, the change and its interval.
fn program(p: &ProgramChange) -> [String; 4] {
    let joules = |value: f64| format!("{}{}", if value < 0.0 { "−" } else { "+" }, number(value.abs()));
    let between = match p.interval {
        Interval { low, high } if low.is_finite() && high.is_finite() => {
            format!("{} to {}", joules(low), joules(high))
        }
        _ => "unknown".to_owned(),
    };
    [number(p.a.mean), number(p.b.mean), joules(p.change), between]
}

/// A fraction as percent: one digit after the point, two below 1 %.
fn percent(fraction: f64) -> String {
    let percent = fraction * 100.0;
    if percent.abs() < 1.0 { format!("{percent:.2} %") } else { format!("{percent:.1} %") }
}

fn signed(fraction: f64) -> String {
    format!("{}{}", if fraction < 0.0 { "−" } else { "+" }, percent(fraction.abs()))
}

fn range(interval: Interval) -> String {
    if interval.low.is_finite() && interval.high.is_finite() {
        format!("{} to {}", signed(interval.low), signed(interval.high))
    } else {
        "unknown".to_owned()
    }
}

/// `text` in lines of at most [`WIDTH`] characters.
fn wrapped(text: &str, indent: &str) -> String {
    let (mut lines, mut line) = (String::new(), indent.to_owned());
    for word in text.split(' ') {
        if line.chars().count() + word.chars().count() > WIDTH && line.len() > indent.len() {
            lines += &format!("{}\n", line.trim_end());
            line = indent.to_owned();
        }
        line += word;
        line.push(' ');
    }
    lines + line.trim_end() + "\n"
}

#[cfg(test)]
mod tests;
