//! A real machine's counters and RAPL readings, replayed through the power model: how well it predicts the
//! power of each window from the window's counters and from all windows before. What a linear model by
//! non-negative least squares reaches stands beside it. There is no truth per process in such a trace.

use std::fmt::Write;
use std::path::Path;

use wattrace_api::{Error, ResourceKind};
use wattrace_attribution::{CountedWindow, PowerPredictor};

use crate::Result;
use crate::least_squares::Sums;

/// The columns of a trace, by the names in its first line: seconds, counts per second, and watts.
const COLUMNS: [&str; 7] = [
    "unix_s",
    "cpu_time_us_per_s",
    "cycles_per_s",
    "instructions_per_s",
    "cache_misses_per_s",
    "package_w",
    "dram_w",
];
/// No clock is faster, in cycles per second of CPU time.
const MAX_CLOCK: f64 = 10e9;
/// Windows that the fit with a short memory remembers.
const SHORT_MEMORY: usize = 60;

/// A window of a trace: its counters and the mean power of packages and of memory, W.
struct Row {
    counted: CountedWindow,
    watts: [f64; 2],
}

/// The results of replaying the table in the file at `path`, as Markdown.
///
/// # Errors
/// Fatal if it cannot be read, or has not the columns of [`COLUMNS`].
pub(crate) fn results(path: &Path) -> Result<String> {
    let wrong = |message: String| Error::fatal(format!("{}: {message}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|e| wrong(e.to_string()))?;
    let rows = rows(&text).map_err(wrong)?;
    let methods: [(&str, Predictor); 6] = [
        ("ours, fitted", ours),
        ("the last window's power", last),
        ("least squares on the last 60 windows", |rows, part| fitted(rows, part, &ALL, SHORT_MEMORY)),
        ("least squares on all windows before", |rows, part| fitted(rows, part, &ALL, usize::MAX)),
        ("the same by cycles alone", |rows, part| fitted(rows, part, &[0, 2], usize::MAX)),
        ("the same by CPU time alone", |rows, part| fitted(rows, part, &[0, 1], usize::MAX)),
    ];
    let half = rows.len() / 2;
    let mut table =
        "| prediction | packages | first half | second half | memory | first half | second half |\n\
                     | --- | ---: | ---: | ---: | ---: | ---: | ---: |\n"
            .to_owned();
    for (name, predict) in methods {
        _ = write!(table, "| {name} |");
        for part in [0, 1] {
            let predicted = predict(&rows, part);
            for range in [0..rows.len(), 0..half, half..rows.len()] {
                let pairs = range.filter_map(|at| Some((predicted[at]?, rows[at].watts[part])));
                let errors: Vec<f64> = pairs.map(|(found, watts)| (found / watts - 1.0).abs()).collect();
                let mean = errors.iter().sum::<f64>() / errors.len().max(1) as f64;
                _ = write!(table, " {:.1} % |", 100.0 * mean);
            }
        }
        table.push('\n');
    }
    let seconds = rows.iter().map(|row| row.counted.ns).sum::<u64>() as f64 * 1e-9 / rows.len() as f64;
    Ok(format!("{} windows of {seconds:.0} s.\n\n{table}", rows.len()))
}

/// By window: what is predicted of a part's power, W; `None` before there is a prediction.
type Predictor = fn(&[Row], usize) -> Vec<Option<f64>>;

fn ours(rows: &[Row], part: usize) -> Vec<Option<f64>> {
    let kinds = [ResourceKind::Package, ResourceKind::Dram];
    let mut model = PowerPredictor::new(&kinds[part]);
    let predict = |row: &Row| {
        let predicted = model.predict(&row.counted);
        model.learn(&row.counted, (row.watts[part] * row.counted.ns as f64 * 1e-3) as u64);
        predicted
    };
    rows.iter().map(predict).collect()
}

fn last(rows: &[Row], part: usize) -> Vec<Option<f64>> {
    let before = rows.iter().map(|row| Some(row.watts[part]));
    std::iter::once(None).chain(before).take(rows.len()).collect()
}

/// The features of a row that least squares may use: a constant, CPU time, and the counters, per second.
fn features(row: &Row) -> [f64; 5] {
    let CountedWindow { ns, cpu_ns, cycles, instructions, cache_misses, .. } = row.counted;
    let per_second = |count: u64| count as f64 / ns as f64;
    [1.0, per_second(cpu_ns), per_second(cycles), per_second(instructions), 1e3 * per_second(cache_misses)]
}

/// A constant, cycles, instructions and misses.
const ALL: [usize; 4] = [0, 2, 3, 4];

/// Least squares by these features of the last `memory` windows.
fn fitted(rows: &[Row], part: usize, by: &[usize], memory: usize) -> Vec<Option<f64>> {
    let mut sums = Sums::new(by.len());
    let of = |row: &Row| -> Vec<f64> { by.iter().map(|&i| features(row)[i]).collect() };
    let mut predicted = Vec::new();
    for (at, row) in rows.iter().enumerate() {
        let now = of(row);
        let coefficients = (at > by.len()).then(|| sums.fit());
        predicted.push(coefficients.map(|found| found.iter().zip(&now).map(|(c, x)| c * x).sum()));
        sums.add(&now, row.watts[part], 1.0);
        if let Some(old) = (at + 1).checked_sub(memory).and_then(|at| rows.get(at)) {
            sums.add(&of(old), old.watts[part], -1.0);
        }
    }
    predicted
}

/// The windows of a table. Each is as long as the time to the next one.
fn rows(text: &str) -> std::result::Result<Vec<Row>, String> {
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next().unwrap_or_default().split(',').map(str::trim).collect();
    let column = |name: &str| {
        names.iter().position(|n| *n == name).ok_or_else(|| format!("the first line names no column {name}"))
    };
    let columns = COLUMNS.iter().map(|name| column(name)).collect::<std::result::Result<Vec<_>, _>>()?;
    let mut values = Vec::new();
    for (number, line) in lines.enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let cells: Vec<&str> = line.split(',').collect();
        let cell = |&at: &usize| cells.get(at).and_then(|cell| cell.trim().parse::<f64>().ok());
        let row: Vec<f64> = columns.iter().filter_map(cell).filter(|value| *value >= 0.0).collect();
        let row = <[f64; COLUMNS.len()]>::try_from(row);
        values.push(row.map_err(|_| format!("line {}: a cell is no number of 0 or more", number + 2))?);
    }
    if values.len() < 2 {
        return Err("it has fewer than two windows".to_owned());
    }
    let busiest = values.iter().max_by(|a, b| a[1].total_cmp(&b[1])).map_or([0.0; 7], |row| *row);
    // Some sources have milliseconds in their column of microseconds: the clock tells.
    let unit = if busiest[2] > busiest[1] * 1e-6 * MAX_CLOCK { 1e-3 } else { 1e-6 };
    // The trace does not tell how many CPUs there are: as many as were ever busy.
    let cpus = (busiest[1] * unit).ceil().max(1.0);
    let count = values.len();
    let length = |at: usize| {
        let at = at.min(count - 2);
        values[at + 1][0] - values[at][0]
    };
    let row = |at: usize| {
        let [_, time, cycles, instructions, misses, package, dram] = values[at];
        let (seconds, time) = (length(at), (time * unit).min(cpus));
        let whole = |per_second: f64| (per_second * seconds) as u64;
        let counted = CountedWindow {
            ns: whole(1e9),
            cpu_ns: whole(time * 1e9),
            idle_ns: whole((cpus - time) * 1e9),
            cycles: whole(cycles),
            instructions: whole(instructions),
            cache_misses: whole(misses),
        };
        Row { counted, watts: [package, dram] }
    };
    let rows: Vec<Row> = (0..count).map(row).collect();
    match rows.iter().find(|row| row.counted.ns == 0 || row.watts.contains(&0.0)) {
        Some(_) => Err("a window has no length or no power".to_owned()),
        None => Ok(rows),
    }
}
