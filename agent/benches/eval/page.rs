//! Writes docs/evaluation.md from its template, `page.md`. The section on a real machine's trace is written
//! apart from the rest, since the trace is not in the repository: the rest keeps the section as it is.

use std::path::PathBuf;

use wattrace_api::Error;

use crate::Result;

const TEMPLATE: &str = include_str!("page.md");
/// The lines around the trace's section.
const BEGIN: &str = "<!-- trace: written by `cargo xtask eval --trace FILE --write-docs` -->\n";
const END: &str = "<!-- end of trace -->\n";

/// Writes the page with these results on the simulator.
pub(crate) fn write_results(results: &str) -> Result<()> {
    let old = read()?;
    let trace = old.split_once(BEGIN).and_then(|(_, rest)| rest.split_once(END)).map_or("", |(text, _)| text);
    let page = with_trace(&TEMPLATE.replace("{results}", results.trim_end()), trace)?;
    write(&page)
}

/// Writes the results on a real machine's trace into the page.
pub(crate) fn write_trace(results: &str) -> Result<()> {
    write(&with_trace(&read()?, &format!("\n{results}\n"))?)
}

fn with_trace(page: &str, trace: &str) -> Result<String> {
    let parts = page.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
    let (before, after) = parts.ok_or_else(|| Error::fatal("the page has no place for the trace"))?;
    Ok(format!("{before}{BEGIN}{trace}{END}{after}"))
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/evaluation.md")
}

fn read() -> Result<String> {
    std::fs::read_to_string(path()).map_err(|e| Error::fatal(format!("{}: {e}", path().display())))
}

fn write(page: &str) -> Result<()> {
    std::fs::write(path(), page).map_err(|e| Error::fatal(format!("{}: {e}", path().display())))?;
    eprintln!("eval: wrote docs/evaluation.md");
    Ok(())
}
