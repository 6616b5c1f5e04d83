//! Writes every point as one JSON object a line. How a row looks is here; caching, exact numbers and the file
//! are in `wattrace-text-output`. A line, wrapped here to fit:
//!
//! ```json
//! {"metric":"wattrace.consumer.energy","unit":"J","kind":"counter",
//!  "start_unix_nano":1700000000000000000,"time_unix_nano":1700000001000000000,"value":1.500000,
//!  "resource":{"type":"package","id":"0"},
//!  "consumer":{"type":"process","id":"1234","start_unix_nano":1700000000000000000},
//!  "attributes":{"wattrace.domain":"package-0"}}
//! ```
//! Points about the hardware itself have no `consumer`. A gauge that is not a number has the value `null`.
//! Control characters and invisible ones in names are written as `\u001b`, so that a terminal can show lines.

use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use wattrace_api::text::escaped;
use wattrace_api::{Error, Plugin, Series, Setup};
use wattrace_text_output::{Compression, Format, Rotation, RowTemplate, Settings, Size, attributes_json};

/// The plugin.
pub struct Jsonl;

/// `[plugins.jsonl]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JsonlConfig {
    /// The file to write; "-" is standard output.
    pub path: PathBuf,
    /// Whether to append to what earlier runs wrote. Otherwise the file is emptied at the start.
    pub append: bool,
    /// How long lines may wait in memory, to be written together. With "0s" every batch is written at once.
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

impl Default for JsonlConfig {
    fn default() -> Self {
        Self {
            path: "wattrace.jsonl".into(),
            append: true,
            flush_interval: Duration::from_secs(1),
            rotate_size: Size(0),
            rotate_every: Duration::ZERO,
            rotate_keep: 0,
            compression: Compression::None,
        }
    }
}

impl Plugin for Jsonl {
    const NAME: &'static str = "jsonl";
    const DESCRIPTION: &'static str = "Writes every point as one JSON object a line";
    type Config = JsonlConfig;

    fn on_by_default() -> bool {
        false
    }

    fn start(config: JsonlConfig, setup: &mut Setup) -> Result<(), Error> {
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
        wattrace_text_output::add_output::<JsonLine>(setup, settings)
    }
}

struct JsonLine;

impl Format for JsonLine {
    const OPENING: &'static str = r#"{"metric":"#;
    const HEADER: &'static str = "";
    const BETWEEN: &'static str = r#","value":"#;
    const NO_NUMBER: &'static str = "null";

    fn row(series: &Series, start_unix_nano: u64) -> RowTemplate {
        let metric = &series.metric;
        let head = format!(
            r#"{{"metric":{},"unit":{},"kind":"{}","start_unix_nano":{start_unix_nano},"time_unix_nano":"#,
            quoted(&metric.name),
            quoted(metric.unit.ucum()),
            metric.kind.as_str(),
        );
        let resource = &series.resource;
        let mut tail = format!(
            r#","resource":{{"type":{},"id":{}}}"#,
            quoted(resource.kind.as_str()),
            quoted(&resource.id)
        );
        if let Some(consumer) = &series.consumer {
            let identity = consumer.identity();
            tail += &format!(
                r#","consumer":{{"type":"{}","id":{},"start_unix_nano":{}}}"#,
                identity.kind.as_str(),
                quoted(&identity.id),
                identity.start_unix_nano,
            );
        }
        tail += &format!(r#","attributes":{}}}"#, attributes_json(series));
        // Unsafe characters stand in strings only, so this is still the same JSON.
        let tail = format!("{}\n", escaped(&tail, push_code));
        RowTemplate { head: escaped(&head, push_code).into_owned(), tail }
    }
}

fn quoted(text: &str) -> Value {
    Value::from(text)
}

fn push_code(c: char, text: &mut String) {
    for unit in c.encode_utf16(&mut [0; 2]) {
        // Writing to a String cannot fail.
        let _ = write!(text, "\\u{unit:04x}");
    }
}
