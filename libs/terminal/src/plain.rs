//! One table for scripts: as aligned text, or as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};
use wattrace_viewer::{Kind, Model, Query, Row, Table};

use crate::rows::closing;
use crate::text::{clock, energy, joules, left, percent, right, watts};

/// The schema of the JSON object.
const SCHEMA: &str = "wattrace.top/1";

/// The least width of names, and the greatest.
const NAMES: [usize; 2] = [20, 60];

/// One table as text.
pub fn text(model: &Model, query: &Query, utc_offset: i64) -> String {
    let table = model.table(query);
    let is_process = query.kind == Kind::Process;
    let rows: Vec<_> = table.rows.iter().chain(&closing(&table, &(0..table.rows.len()))).cloned().collect();
    let longest = rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0);
    let names = longest.clamp(NAMES[0], NAMES[1]);
    let origins = match &model.origins()[..] {
        [] => "no meter".to_owned(),
        origins => origins.join(" and "),
    };
    let now = clock(model.now_unix_nano(), utc_offset);
    let total = energy(model.microjoules() as f64 / 1e6);
    let mut text = format!("{now}  {} W  {total}  {origins}\n", watts(model.watts()));
    for domain in model.domains() {
        let note = if domain.is_counted() { "" } else { "  not in the total" };
        let joules = energy(domain.microjoules() as f64 / 1e6);
        let name = left(domain.name(), names.min(20));
        // Writing to a string cannot fail.
        _ = writeln!(
            text,
            "  {name}  {:>8} W  {joules:>9}  {}{note}",
            watts(domain.watts()),
            domain.origin()
        );
    }
    let id = |id: &str| if is_process { format!("{}  ", right(id, 7)) } else { String::new() };
    let kind = query.kind.as_str().to_uppercase();
    // Most machines have no GPU, and intervals come with the second reading.
    let with_errors = rows.iter().any(|row| row.half_width.is_some());
    let with_gpus = rows.iter().any(|row| row.gpus > 0.0);
    let mut line = |id: String, name: &str, cells: [&str; 5]| {
        let [watts, joules, error, cpu, gpu] = cells;
        let mut line = format!("{id}{}  {watts:>8}  {joules:>8}", left(name, names));
        if with_errors {
            _ = write!(line, "  {error:>6}");
        }
        _ = write!(line, "  {cpu:>6}");
        if with_gpus {
            _ = write!(line, "  {gpu:>6}");
        }
        _ = writeln!(text, "{}", line.trim_end());
    };
    line(String::new(), "", [""; 5]);
    line(id("PID"), &kind, ["WATTS", "JOULES", "±", "CPU%", "GPU%"]);
    for (number, row) in rows.iter().enumerate() {
        let is_row = number < table.rows.len();
        let cells = [
            watts(row.watts),
            if row.is_seen { joules(row.joules()) } else { "-".to_owned() },
            row.half_width.map_or(String::new(), joules),
            if is_row || row.cpus > 0.0 { percent(row.cpus) } else { String::new() },
            if row.gpus > 0.0 { percent(row.gpus) } else { String::new() },
        ];
        line(id(&row.id), &row.name, cells.each_ref().map(String::as_str));
    }
    text
}

/// One table as a JSON object on a line of its own.
pub fn json(model: &Model, query: &Query) -> String {
    let table = model.table(query);
    let domains: Vec<_> = (model.domains().iter())
        .map(|domain| {
            json!({
                "domain": domain.name(), "origin": domain.origin(), "in_total": domain.is_counted(),
                "watts": rounded(domain.watts()), "joules": domain.microjoules() as f64 / 1e6,
            })
        })
        .collect();
    let object = json!({
        "schema": SCHEMA,
        "time_unix_nano": model.now_unix_nano(),
        "by": query.kind.as_str(),
        "origins": model.origins(),
        "total": row(model, &table.total),
        "domains": domains,
        "rows": table.rows.iter().map(|r| row(model, r)).collect::<Vec<_>>(),
        "others": others(model, &table),
        "closing": table.closing.iter().map(|r| row(model, r)).collect::<Vec<_>>(),
    });
    format!("{object}\n")
}

fn others(model: &Model, table: &Table) -> Value {
    let mut others = row(model, &table.hidden);
    others["count"] = table.hidden_count.into();
    others
}

fn row(model: &Model, row: &Row) -> Value {
    let mut object = json!({
        "name": row.name, "watts": rounded(row.watts), "joules": row.joules(), "cpus": rounded(row.cpus),
    });
    if !row.is_seen {
        object["seen"] = false.into();
    }
    if let Some(half_width) = row.half_width {
        object["joules_ci95_j"] = rounded(half_width).into();
    }
    if row.gpus > 0.0 {
        object["gpus"] = rounded(row.gpus).into();
    }
    if let Some(consumer) = row.key.and_then(|key| model.consumer(key)) {
        object["id"] = consumer.id().into();
        object["start_unix_nano"] = consumer.start_unix_nano().into();
        if consumer.kind() == Kind::Process {
            object["pid"] = row.id.parse::<u32>().ok().into();
            object["user"] = consumer.attributes().get("process.owner").cloned().into();
        }
    }
    object
}

/// To the microwatt: what is beyond is noise of floating-point numbers.
fn rounded(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use wattrace_viewer::testing::Machine;

    use super::*;

    fn model() -> Model {
        let mut machine = Machine::office();
        machine.run(4);
        machine.model().clone()
    }

    #[test]
    fn the_columns_of_the_text_are_aligned_and_the_sum_is_there() {
        let model = model();
        let text = text(&model, &Query { limit: 4, ..Query::of(Kind::Process) }, 0);
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].starts_with("14:00:04  "), "{text}");
        let heading = lines.iter().position(|line| line.contains("PROCESS")).unwrap();
        let end = lines[heading].find("WATTS").unwrap() + 5;
        for line in &lines[heading + 1..] {
            let watts: f64 = line[end - 8..end].trim().parse().unwrap();
            assert!(watts >= 0.0 && line.as_bytes().get(end) == Some(&b' '), "{line}");
        }
        assert_eq!(lines.len(), heading + 1 + 4 + 5, "{text}");
        assert!(lines[heading].ends_with("  JOULES       ±    CPU%    GPU%"), "{text}");
        for name in ["8 more", "idle", "unattributed", "ended or asleep", "= meters"] {
            assert!(text.contains(name), "{text}");
        }
    }

    #[test]
    fn columns_that_no_row_has_are_left_out() {
        let text = text(&Model::new(Duration::from_secs(1)), &Query::of(Kind::Process), 0);
        let heading = text.lines().find(|line| line.contains("PROCESS")).unwrap();
        assert!(heading.ends_with("     WATTS    JOULES    CPU%"), "{text}");
    }

    #[test]
    fn the_object_has_rows_that_sum_to_the_meters() {
        let model = model();
        for kind in [Kind::Process, Kind::User, Kind::Pod] {
            let text = json(&model, &Query { limit: 3, ..Query::of(kind) });
            let object: Value = serde_json::from_str(&text).unwrap();
            let joules = |rows: &Value| -> f64 {
                rows.as_array().unwrap().iter().map(|row| row["joules"].as_f64().unwrap()).sum()
            };
            let others = object["others"]["joules"].as_f64().unwrap();
            let sum = joules(&object["rows"]) + joules(&object["closing"]) + others;
            assert!((sum - object["total"]["joules"].as_f64().unwrap()).abs() < 1e-9, "{text}");
            assert_eq!((&object["schema"], &object["by"]), (&json!(SCHEMA), &json!(kind.as_str())));
        }
        let object: Value = serde_json::from_str(&json(&model, &Query::of(Kind::Process))).unwrap();
        let first = &object["rows"][0];
        assert_eq!((&first["name"], &first["pid"]), (&json!("python3 train.py"), &json!(4211)));
        assert_eq!(object["rows"].as_array().unwrap().len(), 12);
        assert!(first["joules_ci95_j"].as_f64().unwrap() > 0.0 && first["gpus"].as_f64().unwrap() > 0.0);
    }
}
