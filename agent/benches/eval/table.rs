//! The results as Markdown.

use std::fmt::Write;

use crate::coverage;
use crate::drive::Run;
use crate::methods::{LIMIT, TUNED};
use crate::score::Score;

/// The error that our best mode must stay below in every scenario.
const GOAL: f64 = 0.04;
/// The longest line of text outside of tables.
const COLUMNS: usize = 110;

/// All tables.
pub(crate) fn results(runs: &[Run], hidden: &[(f64, Run)]) -> String {
    let mut text = String::new();
    let Some(first) = runs.first() else { return text };
    let methods: Vec<&str> = scores(first).map(|score| score.method.as_str()).collect();

    goals(&mut text, runs);
    heading(
        &mut text,
        "Error per process",
        "Mean over the processes and the seeds; in brackets the largest error of a process with any seed.",
    );
    per_scenario(&mut text, runs, &methods, |v| format!("{} ({})", percent(v.mean), percent(v.worst)));
    heading(
        &mut text,
        "Error weighted by energy",
        "Sum of the errors of all processes over the sum of the energy that they caused.",
    );
    per_scenario(&mut text, runs, &methods, |v| percent(v.weighted));
    heading(
        &mut text,
        "Error of the proportions alone",
        "Mean over the processes, after the energy that a method attributed was scaled to the energy that \
         they caused: a method may divide static power among processes, or attribute too little to all of \
         them alike.",
    );
    per_scenario(&mut text, runs, &methods, |v| percent(v.proportions));
    heading(
        &mut text,
        "Idle energy",
        "Difference between the energy that a method gives to no process and the true static energy.",
    );
    per_scenario(&mut text, runs, &methods, |v| v.idle.map_or("not reported".to_owned(), percent));
    heading(
        &mut text,
        "Conservation",
        "Difference between processes, idle and unattributed together and the measured energy. Ours: in \
         microjoules, over all windows and domains.",
    );
    per_scenario(&mut text, runs, &methods, |v| match v.conservation {
        Some(microjoules) if v.method.starts_with("ours") => format!("{microjoules:.0} µJ"),
        Some(part) => percent(part),
        None => "not reported".to_owned(),
    });
    text.push_str(&coverage::results(runs));
    if !hidden.is_empty() {
        heading(
            &mut text,
            "What no counter shows",
            "Mean error per process in the scenario of mixed instruction intensity, 1 s windows, with \
             kinds of code whose instructions and misses differ in energy by a multiple of what they do \
             above (0: not at all).",
        );
        head(&mut text, "differences", &methods);
        for (factor, run) in hidden {
            row(&mut text, &format!("× {factor}"), run, &methods, |v| percent(v.mean));
        }
    }
    heading(&mut text, "Scenarios", "");
    for run in runs.iter().step_by(2) {
        paragraph(&mut text, &format!("- **{}**: {}.", run.scenario, run.about), "  ");
    }
    text
}

/// Differences of fewer percentage points are a rounding.
const LEAST_POINTS: f64 = 0.005;

/// The table of goals, and whether each is met.
fn goals(text: &mut String, runs: &[Run]) {
    let over_all = |mode: usize| runs.iter().map(|run| run.ours[mode].mean).sum::<f64>() / runs.len() as f64;
    let modes = runs.first().map_or(0, |run| run.ours.len());
    let Some(best) = (0..modes).min_by(|&a, &b| over_all(a).total_cmp(&over_all(b))) else { return };
    let name = runs.first().map_or("", |run| run.ours[best].method.as_str());
    let highest = |score: &Score| score.means.iter().copied().fold(0.0, f64::max);
    let worst = runs.iter().map(|run| highest(&run.ours[best])).fold(0.0, f64::max);

    let above = runs.iter().filter(|run| highest(&run.ours[best]) > GOAL).map(|run| {
        let limit = run.others.iter().find(|other| other.method == LIMIT).map_or(0.0, highest);
        let (mean, limit) = (percent(highest(&run.ours[best])), percent(limit));
        format!("{}, {:?}: {mean}, and the limit is {limit}", run.scenario, run.window)
    });
    let above: Vec<String> = above.collect();
    // The scenarios in which the best of the others is better than ours, and by how much, with the standard
    // error of the seeds' differences.
    let behind = |is_one: fn(&str) -> bool, error: fn(&Score) -> f64, each: fn(&Score) -> &[f64]| {
        let lost = runs.iter().filter_map(|run| {
            let others = run.others.iter().filter(|other| is_one(&other.method));
            let (ours, other) = (&run.ours[best], others.min_by(|a, b| error(a).total_cmp(&error(b)))?);
            let points = 100.0 * (error(ours) - error(other));
            let differences: Vec<f64> =
                each(ours).iter().zip(each(other)).map(|(a, b)| 100.0 * (a - b)).collect();
            let spread = standard_error(&differences).map_or(String::new(), |e| format!(" ± {e:.2}"));
            (points >= LEAST_POINTS).then(|| {
                format!("{}, {:?}: by {points:.2}{spread} points, {}", run.scenario, run.window, other.method)
            })
        });
        let lost: Vec<String> = lost.collect();
        if lost.is_empty() { "nowhere".to_owned() } else { lost.join("; ") }
    };
    let is_published = |method: &str| method != LIMIT && method != TUNED;
    let published = behind(is_published, |v| v.mean, |v| &v.means);
    let is_other = |method: &str| method != LIMIT;
    let error = behind(is_other, |v| v.mean, |v| &v.means);
    let weighted = behind(is_other, |v| v.weighted, |_| &[]);
    let proportions = behind(is_other, |v| v.proportions, |_| &[]);
    let residual = runs.iter().flat_map(|run| &run.ours).filter_map(|v| v.conservation).fold(0.0, f64::max);
    let met = |met: bool| if met { "met" } else { "missed" };
    let mut goals = vec![
        (
            format!(
                "the mean error per process of our best mode ({name}) is at most {} with every seed",
                percent(GOAL)
            ),
            format!(
                "at most {}; {} over all scenarios; above the goal: {}",
                percent(worst),
                percent(over_all(best)),
                if above.is_empty() { "nowhere".to_owned() } else { above.join("; ") }
            ),
            above.is_empty(),
        ),
        (
            "it is not behind a published formula in any scenario, as a mean over the seeds".to_owned(),
            published.clone(),
            published == "nowhere",
        ),
        (format!("nor behind {TUNED}, whose settings are ours"), error.clone(), error == "nowhere"),
        (
            "nor behind any of them weighted by energy, or in proportions alone".to_owned(),
            format!("weighted: {weighted}. Proportions: {proportions}"),
            weighted == "nowhere" && proportions == "nowhere",
        ),
        (
            "books close exactly, in every mode".to_owned(),
            format!("residual: {residual:.0} µJ"),
            residual == 0.0,
        ),
    ];
    goals.extend(coverage::goals(runs));
    _ = writeln!(text, "| goal | result | |\n| --- | --- | --- |");
    for (goal, result, is_met) in goals {
        _ = writeln!(text, "| {goal} | {result} | {} |", met(is_met));
    }
}

/// Standard error of the mean of `values`; `None` for fewer than two.
fn standard_error(values: &[f64]) -> Option<f64> {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (values.len() > 1).then(|| (squares / (count - 1.0) / count).sqrt())
}

fn scores(run: &Run) -> impl Iterator<Item = &Score> {
    run.ours.iter().chain(&run.others)
}

fn heading(text: &mut String, title: &str, about: &str) {
    _ = write!(text, "\n### {title}\n\n");
    if !about.is_empty() {
        paragraph(text, about, "");
        text.push('\n');
    }
}

/// Adds `words` in lines of at most [`COLUMNS`], with `indent` before all but the first.
fn paragraph(text: &mut String, words: &str, indent: &str) {
    let mut column = 0;
    for word in words.split_whitespace() {
        let length = word.chars().count();
        if column > 0 && column + 1 + length > COLUMNS {
            _ = write!(text, "\n{indent}{word}");
            column = indent.len() + length;
        } else {
            let space = if column > 0 { " " } else { "" };
            _ = write!(text, "{space}{word}");
            column += space.len() + length;
        }
    }
    text.push('\n');
}

fn head(text: &mut String, first: &str, methods: &[&str]) {
    _ = writeln!(text, "| {first} | {} |", methods.join(" | "));
    _ = writeln!(text, "| --- |{}", " ---: |".repeat(methods.len()));
}

fn per_scenario(text: &mut String, runs: &[Run], methods: &[&str], cell: impl Fn(&Score) -> String) {
    head(text, "scenario, window", methods);
    for run in runs {
        row(text, &format!("{}, {:?}", run.scenario, run.window), run, methods, &cell);
    }
}

fn row(text: &mut String, name: &str, run: &Run, methods: &[&str], cell: impl Fn(&Score) -> String) {
    let cells = methods.iter().map(|method| {
        let score = scores(run).find(|score| score.method == *method);
        score.map_or("–".to_owned(), &cell)
    });
    _ = writeln!(text, "| {name} | {} |", cells.collect::<Vec<_>>().join(" | "));
}

fn percent(part: f64) -> String {
    let percent = part * 100.0;
    if percent < 9.95 { format!("{percent:.1} %") } else { format!("{percent:.0} %") }
}
