//! `wattrace query`: who used how much in a span of a database of the plugin `sqlite`.
//!
//! | module | holds |
//! | --- | --- |
//! | `moment` | times as people write them: `yesterday`, `-2h`, `2026-11-27 14:00` |
//! | `answer` | the report with what every format shows of it |
//! | `table`, `csv`, `json` | the formats |
//!
//! The sums come from the plugin, which knows its database.

mod answer;
mod csv;
mod json;
mod moment;
mod table;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use jiff::Zoned;
use jiff::tz::TimeZone;
use wattrace_sqlite::{By, ReadError, Reader, Span, SqliteConfig};

use self::answer::Answer;
use self::moment::Moment;
use super::failure::{Failure, print};

/// Options of `wattrace query`.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// The database [default: wattrace.db, where the plugin sqlite writes by default]
    #[arg(long, value_name = "FILE")]
    db: Option<PathBuf>,
    /// Whose energy to show
    #[arg(long, value_enum, default_value = "program")]
    by: Level,
    /// Begin of the span: 2026-11-27, "2026-11-27 14:00", RFC 3339, today, yesterday, -2h, "1h ago"
    /// [default: the first point]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    from: Option<Moment>,
    /// End of the span, in the same forms [default: the last point]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    to: Option<Moment>,
    /// Only the energy of this domain, such as package-0 or psys
    #[arg(long, value_name = "NAME")]
    domain: Option<String>,
    /// Most rows; what they leave out is `other` [default: 20 in a table, else all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// How to write the answer
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

/// Whose energy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Level {
    Process,
    Program,
    Unit,
    Container,
    Pod,
    Job,
    User,
}

impl Level {
    fn as_str(self) -> &'static str {
        match self {
            Level::Process => "process",
            Level::Program => "program",
            Level::Unit => "unit",
            Level::Container => "container",
            Level::Pod => "pod",
            Level::Job => "job",
            Level::User => "user",
        }
    }

    fn by(self) -> By {
        match self {
            Level::Process => By::Process,
            Level::Program => By::Program,
            group => By::Group(group.as_str()),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Table,
    /// For spreadsheets
    Csv,
    /// For programs
    Json,
}

/// Most rows of a table, unless the user says otherwise.
const ROWS: u32 = 20;

/// Runs the command.
pub(super) fn main(options: &Options) -> Result<ExitCode, Failure> {
    let zone = TimeZone::system();
    let default = SqliteConfig::default().path;
    let path = options.db.as_deref().unwrap_or(&default);
    let reader = Reader::open(path).map_err(|e| refused(&e))?;
    let extent = reader.extent().map_err(Failure::new)?;
    let extent = extent.ok_or_else(|| Failure::new(format!("{}: has no points yet", path.display())))?;
    let span = span(options, extent, &Zoned::now().with_time_zone(zone.clone()))?;
    let covered = covered(span, extent).ok_or_else(|| no_data(path, span, extent, &zone))?;
    let domain = options.domain.as_deref();
    let report = reader.energy(covered, options.by.by(), domain).map_err(Failure::new)?;
    if let Some(name) = domain.filter(|name| report.domains.iter().all(|domain| domain.name != *name)) {
        let known: Vec<_> = report.domains.iter().map(|domain| &*domain.name).collect();
        let known = if known.is_empty() { "none".into() } else { known.join(", ") };
        return Err(Failure::usage(format!("--domain: no meter {name} in this span; there is: {known}")));
    }
    if report.span.from >= report.span.to {
        let sums = "of this time only sums are left: choose a span of whole minutes or hours";
        return Err(Failure::new(format!("{}: {sums}", path.display())));
    }
    let is_table = options.format == Format::Table;
    let limit = options.limit.or(is_table.then_some(ROWS));
    let answer = Answer::new(report, options.by.as_str(), zone, limit);
    print(&match options.format {
        Format::Table => table::text(&answer),
        Format::Csv => csv::text(&answer)?,
        Format::Json => json::text(&answer)?,
    })?;
    Ok(ExitCode::SUCCESS)
}

fn refused(error: &ReadError) -> Failure {
    match error {
        ReadError::Missing(_) => Failure::new(format!(
            "{error}: --db names a database; `wattrace run --set plugins.sqlite.path=FILE` writes one"
        )),
        error => Failure::new(error),
    }
}

/// The span that the options name.
fn span(options: &Options, extent: Span, now: &Zoned) -> Result<Span, Failure> {
    let nanos = |moment: &Option<Moment>, option: &str, default: u64| match moment {
        None => Ok(default),
        Some(moment) => moment.unix_nanos(now).map_err(|e| Failure::usage(format!("{option}: {e}"))),
    };
    let span = Span {
        from: nanos(&options.from, "--from", extent.from)?,
        to: nanos(&options.to, "--to", extent.to)?,
    };
    if options.from.is_some() && options.to.is_some() && span.from >= span.to {
        return Err(Failure::usage("--from: is not before --to"));
    }
    Ok(span)
}

/// The part of `span` of which there are points.
fn covered(span: Span, extent: Span) -> Option<Span> {
    let covered = Span { from: span.from.max(extent.from), to: span.to.min(extent.to) };
    (covered.from < covered.to).then_some(covered)
}

fn no_data(path: &Path, span: Span, extent: Span, zone: &TimeZone) -> Failure {
    let [from, to, first, last] =
        [span.from, span.to, extent.from, extent.to].map(|nanos| moment::shown(nanos, zone));
    // Only one of them need be given.
    let asked = if span.from < span.to { format!("from {from} to {to}") } else { format!("at {from}") };
    Failure::new(format!(
        "{}: no points {asked}; it has those from {first} to {last} ({})",
        path.display(),
        moment::zone_name(zone)
    ))
}

#[cfg(test)]
mod tests;
