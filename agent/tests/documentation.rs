//! Compares docs/metrics.md with the code: every declared metric is documented with its kind and unit, and no
//! other.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may panic: that is how tests fail")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Name → "kind, unit".
type Metrics = BTreeMap<String, String>;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn sources(under: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(under).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("tests.rs") {
            found.push(path);
        }
    }
}

/// Reads `Metric::counter("name", Unit::…` and `Metric::gauge(…` from all code but tests.
fn declared() -> Metrics {
    let mut files = Vec::new();
    sources(&workspace().join("agent/src"), &mut files);
    for folder in ["plugins", "libs"] {
        for package in fs::read_dir(workspace().join(folder)).unwrap() {
            sources(&package.unwrap().path().join("src"), &mut files);
        }
    }
    let mut metrics = Metrics::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for kind in ["counter", "gauge"] {
            for declaration in code.split(&format!("Metric::{kind}(")).skip(1) {
                let mut arguments = declaration.splitn(3, ',').map(str::trim);
                let (name, unit) = (arguments.next().unwrap(), arguments.next().unwrap());
                let unit = match unit.split_once('"') {
                    Some((_, quoted)) => quoted.split('"').next().unwrap(),
                    None => match unit {
                        "Unit::Joule" => "J",
                        "Unit::Watt" => "W",
                        "Unit::Second" => "s",
                        "Unit::Byte" => "By",
                        other => panic!("{}: {name} has the unit {other}", file.display()),
                    },
                };
                metrics.insert(name.trim_matches('"').to_owned(), format!("{kind}, {unit}"));
            }
        }
    }
    metrics
}

/// Reads the rows of the tables: `| `name` | kind, unit | …`.
fn documented() -> Metrics {
    let text = fs::read_to_string(workspace().join("docs/metrics.md")).unwrap();
    let rows = text.lines().filter_map(|line| {
        let mut cells = line.trim_matches('|').split('|').map(str::trim);
        Some((cells.next()?.strip_prefix('`')?.strip_suffix('`')?.to_owned(), cells.next()?.to_owned()))
    });
    rows.filter(|(_, kind)| kind.starts_with("counter, ") || kind.starts_with("gauge, ")).collect()
}

#[test]
fn every_metric_is_documented_with_its_kind_and_unit_and_no_other() {
    let declared = declared();
    assert!(declared.len() >= 14 && declared["hw.energy"] == "counter, J", "found only {declared:#?}");
    assert_eq!(documented(), declared, "left: docs/metrics.md, right: the code");
}
