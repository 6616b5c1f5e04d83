//! `dashboards`: writes dashboards/grafana/*.json from dashboards/dashboards.toml and the declared metrics.
//! `agent/tests/dashboards.rs` compares their queries with what a real agent serves.
//!
//! | module | does |
//! | --- | --- |
//! | `spec` | what dashboards.toml holds |
//! | `catalogue` | the declared metrics, under Prometheus' names |
//! | `expand` | names and shared expressions in queries |
//! | `grafana` | Grafana's JSON |

mod catalogue;
mod expand;
mod grafana;
mod spec;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::process::say;
use crate::workspace;

/// Writes the files; with `check` compares them only.
pub(crate) fn run(check: bool) -> Result<()> {
    let folder = workspace::root().join("dashboards/grafana");
    let wanted = generate(workspace::root())?;
    if check {
        return compare(&folder, &wanted);
    }
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    for (name, text) in &wanted {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| path.display().to_string())?;
    }
    say("dashboards", format_args!("wrote {} files to {}", wanted.len(), folder.display()));
    Ok(())
}

/// The text of each file, by its name.
fn generate(root: &Path) -> Result<BTreeMap<String, String>> {
    let read = |path: PathBuf| fs::read_to_string(&path).with_context(|| path.display().to_string());
    let catalogue = catalogue::Catalogue::read(&read(root.join("docs/metrics.md"))?)?;
    let text = read(root.join("dashboards/dashboards.toml"))?;
    let spec: spec::Spec = toml::from_str(&text).context("dashboards/dashboards.toml")?;
    let expander = expand::Expander { catalogue: &catalogue, shared: &spec.shared };
    let file = |dashboard: &spec::Dashboard| {
        let json = grafana::dashboard(dashboard, &expander)
            .with_context(|| format!("dashboards/dashboards.toml: dashboard {}", dashboard.name))?;
        Ok((format!("{}.json", dashboard.name), format!("{json:#}\n")))
    };
    spec.dashboards.iter().map(file).collect()
}

fn compare(folder: &Path, wanted: &BTreeMap<String, String>) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut found = BTreeMap::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        found.insert(name, fs::read_to_string(&path).with_context(|| path.display().to_string())?);
    }
    let names = wanted.keys().chain(found.keys());
    let stale: BTreeSet<_> = names.filter(|name| wanted.get(*name) != found.get(*name)).collect();
    if stale.is_empty() {
        return Ok(());
    }
    bail!("{} is out of date in {stale:?}: run `cargo xtask dashboards`", folder.display())
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn the_files_are_those_that_the_metrics_and_the_description_give() {
        run(true).unwrap();
    }

    #[test]
    fn panels_have_ids_of_their_own_and_do_not_overlap() {
        for (name, text) in generate(workspace::root()).unwrap() {
            let dashboard: Value = serde_json::from_str(&text).unwrap();
            let panels = dashboard["panels"].as_array().unwrap();
            let mut cells = std::collections::HashSet::new();
            for (index, panel) in panels.iter().enumerate() {
                assert_eq!(panel["id"], index + 1, "{name}");
                let at = |key: &str| panel["gridPos"][key].as_u64().unwrap();
                for (column, line) in (0..at("w")).flat_map(|c| (0..at("h")).map(move |l| (c, l))) {
                    let cell = (at("x") + column, at("y") + line);
                    assert!(cell.0 < 24 && cells.insert(cell), "{name}: {} overlaps", panel["title"]);
                }
            }
        }
    }
}
