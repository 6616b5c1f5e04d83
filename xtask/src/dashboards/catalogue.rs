//! The declared metrics, from docs/metrics.md (a test of the agent compares that page with the code), under
//! the names that Prometheus has for them. `expand` looks them up.

use std::collections::BTreeMap;

use anyhow::{Result, bail};

/// Units in Prometheus' words: the rules of `plugins/prometheus/src/names.rs`, for the units in use.
const UNITS: [(&str, &str); 6] = [
    ("J", "_joules"),
    ("W", "_watts"),
    ("s", "_seconds"),
    ("By", "_bytes"),
    ("Hz", "_hertz"),
    ("Cel", "_celsius"),
];

/// Every declared metric, by its own name.
#[derive(Debug)]
pub(super) struct Catalogue(BTreeMap<String, Declared>);

/// A declared metric.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Declared {
    /// Its name in Prometheus, without `_total`.
    pub(super) family: String,
    pub(super) is_counter: bool,
}

impl Declared {
    /// The name of its samples.
    pub(super) fn samples(&self) -> String {
        format!("{}{}", self.family, if self.is_counter { "_total" } else { "" })
    }
}

impl Catalogue {
    /// Reads the rows of the page's tables: `` | `NAME` | KIND, UNIT | … ``.
    ///
    /// # Errors
    /// A row whose unit Prometheus has no word for here.
    pub(super) fn read(page: &str) -> Result<Self> {
        let mut metrics = BTreeMap::new();
        for line in page.lines() {
            let mut cells = line.trim_matches('|').split('|').map(str::trim);
            let name = cells.next().and_then(|cell| cell.strip_prefix('`')?.strip_suffix('`'));
            let kind = cells.next().and_then(|cell| cell.split_once(", "));
            if let (Some(name), Some((kind @ ("counter" | "gauge"), unit))) = (name, kind) {
                let is_counter = kind == "counter";
                let Some(unit) = word(unit, is_counter) else {
                    bail!("docs/metrics.md: {name} has the unit {unit}, which has no word in {}", file!());
                };
                let family = format!("{}{unit}", name.replace('.', "_"));
                metrics.insert(name.to_owned(), Declared { family, is_counter });
            }
        }
        Ok(Self(metrics))
    }

    /// The metric of this name.
    pub(super) fn find(&self, name: &str) -> Option<&Declared> {
        self.0.get(name)
    }
}

fn word(unit: &str, is_counter: bool) -> Option<&'static str> {
    match unit {
        "1" if is_counter => Some(""),
        "1" => Some("_ratio"),
        _ if unit.starts_with('{') => Some(""),
        _ => UNITS.iter().find(|(ucum, _)| *ucum == unit).map(|(_, word)| *word),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_the_names_that_prometheus_has() {
        let page = "| metric | kind, unit | attributes |\n| --- | --- | --- |\n\
                    | `hw.energy` | counter, J | `hw.id` |\n| `a.error` | gauge, 1 | |\n\
                    | `a.points` | counter, {point} | |\n| `hw.id` | hardware | a name |\n";
        let catalogue = Catalogue::read(page).unwrap();
        let samples = |name| catalogue.find(name).map(Declared::samples);
        assert_eq!(samples("hw.energy").as_deref(), Some("hw_energy_joules_total"));
        assert_eq!(samples("a.error").as_deref(), Some("a_error_ratio"));
        assert_eq!(samples("a.points").as_deref(), Some("a_points_total"));
        assert_eq!(samples("hw.id"), None);
        assert!(Catalogue::read("| `a` | gauge, furlong | |").is_err());
    }
}
