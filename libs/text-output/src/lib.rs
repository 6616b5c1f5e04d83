//! What the outputs to files share, above all those that write one line per point: `jsonl` and `csv` say how
//! a row looks ([`Format`]); the rest is here.
//!
//! | module | holds |
//! | --- | --- |
//! | [`number`] | counters printed exactly, from their integer |
//! | [`row`] | a series' row, rendered once and cached; per point only time and value are formatted |
//! | [`pace`] | when a flush is due |
//! | `spool` | bytes on their way into the file: a write that stops half-way resumes at the very byte |
//! | `file` | opening: append, lock, cut off a line that a crash tore |
//! | `output` | the [`wattrace_api::Output`] made of these |
//!
//! [`attributes_json`] and [`Pace`] serve other outputs too.

mod file;
pub mod number;
mod output;
pub mod pace;
pub mod row;
mod spool;

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value};
use wattrace_api::{AttributeValue, Error, Series, Setup};

pub use pace::Pace;
pub use row::{Format, Row};

/// What the user said about the file.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The plugin's name, which is also its output's.
    pub plugin: &'static str,
    /// The file; `-` is standard output.
    pub path: PathBuf,
    /// Whether lines of earlier runs stay.
    pub append: bool,
    /// How long lines may wait in memory for others.
    pub flush_interval: Duration,
}

/// Adds an output that writes rows of `F`.
///
/// # Errors
/// An empty path.
pub fn add_output<F: Format>(setup: &mut Setup, settings: Settings) -> Result<(), Error> {
    let Settings { plugin, path, append, flush_interval } = settings;
    if path.as_os_str().is_empty() {
        return Err(Error::fatal(format!(
            "plugins.{plugin}.path: is empty: name a file, or - for standard output"
        )));
    }
    let (registry, clock) = (setup.registry(), setup.clock());
    let place = file::Place { plugin, path };
    // An output that is opened anew after a failure goes on with the file it began.
    let mut overwrite = !append;
    setup.output(plugin, move || {
        let opened = file::open(&place, F::OPENING, overwrite)?;
        overwrite = false;
        let rows = row::Rows::<F>::new(registry.clone(), clock.clone());
        Ok(output::LineOutput::new(opened, place.clone(), rows, clock.clone(), flush_interval))
    });
    Ok(())
}

/// All attributes of `series` as a JSON object. A number that JSON has no spelling for is `null`.
pub fn attributes_json(series: &Series) -> Value {
    let attributes = series.all_attributes().into_iter();
    let object: Map<String, Value> = attributes
        .map(|attribute| {
            let value = match attribute.value {
                AttributeValue::Str(text) => Value::from(&*text),
                AttributeValue::Int(number) => Value::from(number),
                AttributeValue::Float(number) => Value::from(number),
                AttributeValue::Bool(yes) => Value::from(yes),
            };
            (attribute.key.into_owned(), value)
        })
        .collect();
    Value::Object(object)
}
