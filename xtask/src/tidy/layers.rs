//! A plugin depends on the contract (`plugins/api`) and on libraries (`libs/`), never on the agent or on
//! another plugin; a library never on either. Development dependencies are exempt: tests put plugins
//! together.

use std::path::Path;

use anyhow::{Context, Result};

use super::{File, Violation};

pub(super) fn check(files: &[File]) -> Result<Vec<Violation>> {
    let manifests: Vec<_> = files.iter().filter(|file| file.path.ends_with("Cargo.toml")).collect();
    let named = manifests.iter().map(|file| Ok((name(&file.text)?, file.path.as_path())));
    let named: Vec<(String, &Path)> = named.collect::<Result<_>>()?;
    let mut violations = Vec::new();
    for file in manifests {
        let manifest: toml::Table = file.text.parse().context("a manifest that cargo reads is TOML")?;
        let dependencies = manifest.get("dependencies").and_then(|value| value.as_table());
        for dependency in dependencies.into_iter().flat_map(|table| table.keys()) {
            let target = named.iter().find(|(name, _)| name == dependency).map(|(_, path)| *path);
            if let Some(rule) = target.and_then(|target| broken(&file.path, target)) {
                violations.push(file.violation(0, format!("it depends on {dependency}, but {rule}")));
            }
        }
    }
    Ok(violations)
}

fn name(manifest: &str) -> Result<String> {
    let manifest: toml::Table = manifest.parse().context("a manifest that cargo reads is TOML")?;
    let package = manifest.get("package").and_then(|package| package.get("name"));
    Ok(package.and_then(|name| name.as_str()).unwrap_or_default().to_owned())
}

/// The rule that a dependency of the crate at `from` on the one at `to` breaks.
fn broken(from: &Path, to: &Path) -> Option<&'static str> {
    let is_plugin = |path: &Path| path.starts_with("plugins") && !path.starts_with("plugins/api");
    // A stand-in for a device lies in its plugin's folder, and is used by its tests.
    let same_folder = from.components().nth(1) == to.components().nth(1);
    if is_plugin(from) && (is_plugin(to) && !same_folder || to.starts_with("agent")) {
        return Some("a plugin depends on plugins/api and libs/ only");
    }
    if from.starts_with("libs") && (is_plugin(to) || to.starts_with("agent")) {
        return Some("a library depends on plugins/api and other libraries only");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::file;
    use super::*;

    fn manifest(path: &str, name: &str, dependency: &str) -> File {
        let text = format!("[package]\nname = \"{name}\"\n[dependencies]\n{dependency}.workspace = true\n");
        file(path, &text)
    }

    #[test]
    fn a_plugin_that_depends_on_a_plugin_is_found() {
        let files = [
            manifest("plugins/api/Cargo.toml", "w-api", "serde"),
            manifest("libs/meter/Cargo.toml", "w-meter", "w-api"),
            manifest("plugins/a/Cargo.toml", "w-a", "w-meter"),
            manifest("plugins/b/Cargo.toml", "w-b", "w-a"),
            manifest("agent/Cargo.toml", "w", "w-b"),
            manifest("libs/bad/Cargo.toml", "w-bad", "w"),
        ];
        let found = check(&files).unwrap();
        let places: Vec<_> = found.iter().map(|v| v.file.to_str().unwrap()).collect();
        assert_eq!(places, ["plugins/b/Cargo.toml", "libs/bad/Cargo.toml"]);
    }
}
