//! What outputs to files have in common. `jsonl` and `csv`, which write one line per point, only define how a
//! row looks ([`Format`]); the rest is here.
//!
//! | module | holds |
//! | --- | --- |
//! | [`number`] | counters printed exactly, from their integer |
//! | [`template`] | a series' row, rendered once and cached; per point only time and value are formatted |
//! | [`interval`] | when a flush is due |
//! | [`place`] | where a path leads, without links that others may have put there |
//! | [`cell`] | text that a spreadsheet does not compute |
//! | `buffer` | bytes not yet written: a write that stops halfway resumes at that byte |
//! | `file` | the file: append, lock, cut off an unfinished line, follow a rename or truncation |
//! | `rotation`, `rotator`, `archive` | when the file is left for a new one; what happens to those that were left |
//! | `output_path` | the configured path: messages, and which file it names |
//! | `output` | the [`wattrace_api::Output`] made of these |
//! | `size` | sizes of files in a configuration |
//!
//! [`attributes_json`], [`IntervalTimer`] and [`Size`] are for other outputs too.

mod archive;
mod buffer;
pub mod cell;
mod file;
pub mod interval;
pub mod number;
mod output;
mod output_path;
pub mod place;
mod rotation;
mod rotator;
mod size;
pub mod template;

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value};
use wattrace_api::{Attribute, AttributeValue, Error, Series, Setup};

pub use interval::IntervalTimer;
pub use output_path::{FileIdentity, OutputPath};
pub use place::Place;
pub use rotation::{Compression, Rotation};
pub use size::Size;
pub use template::{Format, RowTemplate};

/// What the user configured.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The plugin's name, which is also its output's.
    pub plugin: &'static str,
    /// The file; `-` is standard output.
    pub path: PathBuf,
    /// Whether lines of earlier runs stay.
    pub append: bool,
    /// How long lines may wait in memory, to be written together.
    pub flush_interval: Duration,
    /// When the file is left for a new one.
    pub rotation: Rotation,
}

/// Adds an output that writes rows of `F`.
///
/// # Errors
/// An empty path.
pub fn add_output<F: Format>(setup: &mut Setup, settings: Settings) -> Result<(), Error> {
    let Settings { plugin, path, append, flush_interval, rotation } = settings;
    if path.as_os_str().is_empty() {
        return Err(Error::fatal(format!(
            "plugins.{plugin}.path: is empty: name a file, or - for standard output"
        )));
    }
    let (registry, clock) = (setup.registry(), setup.clock());
    let path = OutputPath { plugin, path };
    rotation.check(&path)?;
    // An output that is opened again after a failure goes on with the file it began.
    let mut overwrite = !append;
    setup.output(plugin, move || {
        let opened = file::open(&path, F::OPENING, overwrite)?;
        overwrite = false;
        let templates = template::TemplateCache::<F>::new(registry.clone(), clock.clone());
        let is_new = opened.is_new();
        let buffer = buffer::LineBuffer::new(opened, path.clone(), F::HEADER, is_new);
        let rotator = rotation.is_on().then(|| rotator::Rotator::new(rotation, path.clone()));
        Ok(output::LineOutput::new(buffer, templates, clock.clone(), flush_interval, rotator))
    });
    Ok(())
}

/// All attributes of `series` as a JSON object. A number that JSON cannot express is `null`.
pub fn attributes_json(series: &Series) -> Value {
    json_object(series.all_attributes())
}

/// Attributes as a JSON object. A number that JSON cannot express is `null`.
pub fn json_object(attributes: impl IntoIterator<Item = Attribute>) -> Value {
    let object: Map<String, Value> = attributes
        .into_iter()
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
