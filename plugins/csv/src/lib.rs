//! Writes every point as a row of a CSV file (RFC 4180, one line a row). How a row looks is here; caching,
//! exact numbers and the file are in `wattrace-text-output`.
//!
//! ```csv
//! hw.energy,J,counter,1700000000000000000,1700000001000000000,1.500000,package,0,,,,hw.type=cpu
//! ```
//! The first line holds the names of the columns:
//! ```csv
//! metric,unit,kind,start_unix_nano,time_unix_nano,value,
//! resource_type,resource_id,consumer_type,consumer_id,consumer_start_unix_nano,attributes
//! ```
//! The consumer's fields are empty for what is about the hardware itself, and so is the value of a gauge that
//! is not a number. In `attributes`, a `;`, `=` or `\` inside a key or a value has a `\` before it, and a
//! line feed is `\n`.
//!
//! Names come from outside, and a spreadsheet computes a cell that begins with `=`, `+`, `-` or `@`. So such
//! a cell of text begins with `'`, such a key in `attributes` with `\`; numbers stay numbers. Control
//! characters and invisible ones are written as `\u{1b}`.

use std::borrow::Cow;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use wattrace_api::text::is_unsafe;
use wattrace_api::{Error, Plugin, Series, Setup};
use wattrace_text_output::cell::{FORMULA, cell, push_code};
use wattrace_text_output::{Compression, Format, Rotation, RowTemplate, Settings, Size};

/// The plugin.
pub struct Csv;

/// `[plugins.csv]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CsvConfig {
    /// The file to write; "-" is standard output.
    pub path: PathBuf,
    /// Whether to append to what earlier runs wrote. Otherwise the file is emptied at the start.
    pub append: bool,
    /// How long rows may wait in memory, to be written together. With "0s" every batch is written at once.
    #[serde(with = "humantime_serde")]
    pub flush_interval: Duration,
    /// A file that is larger is left for a new one. "0": never.
    pub rotate_size: Size,
    /// The file is left at each whole multiple of this, in UTC: with "24h" at midnight. "0s": never.
    #[serde(with = "humantime_serde")]
    pub rotate_every: Duration,
    /// How many rotated files are kept. 0: all.
    pub rotate_keep: usize,
    /// Whether rotated files are compressed: "none" or "zstd".
    pub compression: Compression,
}

impl Default for CsvConfig {
    fn default() -> Self {
        Self {
            path: "wattrace.csv".into(),
            append: true,
            flush_interval: Duration::from_secs(1),
            rotate_size: Size(0),
            rotate_every: Duration::ZERO,
            rotate_keep: 0,
            compression: Compression::None,
        }
    }
}

impl Plugin for Csv {
    const NAME: &'static str = "csv";
    const DESCRIPTION: &'static str = "Writes every point as a row of a CSV file";
    type Config = CsvConfig;

    fn on_by_default() -> bool {
        false
    }

    fn start(config: CsvConfig, setup: &mut Setup) -> Result<(), Error> {
        let rotation = Rotation {
            size: config.rotate_size,
            every: config.rotate_every,
            keep: config.rotate_keep,
            compression: config.compression,
        };
        let settings = Settings {
            plugin: Self::NAME,
            path: config.path,
            append: config.append,
            flush_interval: config.flush_interval,
            rotation,
        };
        wattrace_text_output::add_output::<CsvRow>(setup, settings)
    }
}

struct CsvRow;

impl Format for CsvRow {
    const OPENING: &'static str = Self::HEADER;
    const HEADER: &'static str = "metric,unit,kind,start_unix_nano,time_unix_nano,value,\
        resource_type,resource_id,consumer_type,consumer_id,consumer_start_unix_nano,attributes\n";
    const BETWEEN: &'static str = ",";
    const NO_NUMBER: &'static str = "";

    fn row(series: &Series, start_unix_nano: u64) -> RowTemplate {
        let (metric, resource) = (&series.metric, &series.resource);
        let start = start_unix_nano.to_string();
        let (name, unit) = (cell(&metric.name), cell(metric.unit.ucum()));
        let head = fields(&[&name, &unit, metric.kind.as_str(), &start]);
        let (kind, id, start) = match &series.consumer {
            Some(consumer) => {
                let identity = consumer.identity();
                (identity.kind.as_str(), cell(&identity.id), identity.start_unix_nano.to_string())
            }
            None => ("", Cow::Borrowed(""), String::new()),
        };
        let (resource, resource_id) = (cell(resource.kind.as_str()), cell(&resource.id));
        let tail = fields(&[&resource, &resource_id, kind, &id, &start, &attributes(series)]);
        RowTemplate { head: format!("{head},"), tail: format!(",{tail}\n") }
    }
}

/// Fields with commas between them, quoted where necessary.
fn fields(fields: &[&str]) -> String {
    let mut writer =
        csv::WriterBuilder::new().terminator(csv::Terminator::Any(b'\n')).from_writer(Vec::new());
    // Writing to a Vec cannot fail, and what is quoted stays UTF-8.
    let _ = writer.write_record(fields);
    let mut row = writer.into_inner().ok().and_then(|row| String::from_utf8(row).ok()).unwrap_or_default();
    row.truncate(row.trim_end_matches('\n').len());
    row
}

fn attributes(series: &Series) -> String {
    let mut text = String::new();
    for attribute in series.all_attributes() {
        if !text.is_empty() {
            text.push(';');
        }
        // A cell begins here for a reader that takes `;` for a comma. An escaped `=` has its `\` anyway.
        if attribute.key.starts_with(FORMULA) && !attribute.key.starts_with('=') {
            text.push('\\');
        }
        push_escaped(&mut text, &attribute.key);
        text.push('=');
        push_escaped(&mut text, &attribute.value.to_string());
    }
    text
}

fn push_escaped(text: &mut String, raw: &str) {
    for c in raw.chars() {
        match c {
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            ';' | '=' | '\\' => text.extend(['\\', c]),
            _ if is_unsafe(c) => push_code(c, text),
            _ => text.push(c),
        }
    }
}
