//! Replaces `metric(NAME)`, `created(NAME)` and `shared(NAME; ARGUMENTS)` in an expression of
//! dashboards.toml, and refuses a counter of joules or seconds that is plotted as it is.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};

use super::catalogue::Catalogue;

/// How deep shared expressions may refer to each other.
const MAX_DEPTH: usize = 8;

/// What an expression may refer to.
pub(super) struct Expander<'a> {
    pub(super) catalogue: &'a Catalogue,
    pub(super) shared: &'a BTreeMap<String, String>,
}

impl Expander<'_> {
    /// `text` as PromQL.
    ///
    /// # Errors
    /// A name that is not declared; a counter that is not below a rate.
    pub(super) fn expand(&self, text: &str) -> Result<String> {
        let promql = self.replace(text, 0).with_context(|| format!("in `{text}`"))?;
        if let Some(counter) = plotted_counter(&promql) {
            bail!("{counter} is a counter: put it below rate() or increase(), in `{promql}`");
        }
        Ok(promql)
    }

    fn replace(&self, text: &str, depth: usize) -> Result<String> {
        if depth > MAX_DEPTH {
            bail!("shared expressions refer to each other in a circle");
        }
        let mut out = String::new();
        let mut rest = text;
        while let Some((start, word)) = first_call(rest) {
            let open = start + word.len();
            let close = closing(&rest[open..]).context("a parenthesis is not closed")?;
            let argument = &rest[open + 1..open + close];
            out.push_str(&rest[..start]);
            match word {
                "shared" => out.push_str(&self.replace(&self.instance(argument)?, depth + 1)?),
                _ => out.push_str(&self.name(word, argument)?),
            }
            rest = &rest[open + close + 1..];
        }
        out.push_str(rest);
        Ok(out)
    }

    fn name(&self, word: &str, name: &str) -> Result<String> {
        let Some(declared) = self.catalogue.find(name) else {
            bail!("docs/metrics.md has no metric {name}");
        };
        Ok(if word == "created" { format!("{}_created", declared.family) } else { declared.samples() })
    }

    /// The shared expression of `call`, `NAME; FIRST; SECOND`, with its arguments in place of `$1`, `$2`.
    fn instance(&self, call: &str) -> Result<String> {
        let mut parts = call.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let template = self.shared.get(name).with_context(|| format!("[shared] has no {name}"))?;
        let with = |text: String, (index, argument): (usize, &str)| {
            text.replace(&format!("${}", index + 1), argument)
        };
        Ok(parts.enumerate().fold(template.clone(), with))
    }
}

/// The first call of ours: where it starts, and its word.
fn first_call(text: &str) -> Option<(usize, &'static str)> {
    let words = ["metric", "created", "shared"];
    let found = words.iter().filter_map(|word| Some((text.find(&format!("{word}("))?, *word)));
    found.min_by_key(|(start, _)| *start)
}

/// Where the parenthesis closes that opens at the beginning of `text`.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.checked_sub(1)?,
            _ => {}
        }
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

/// A counter of joules or seconds without a range, except where only its existence counts.
fn plotted_counter(promql: &str) -> Option<&str> {
    for unit in ["_joules_total", "_seconds_total"] {
        for (at, _) in promql.match_indices(unit) {
            let start = promql[..at].rfind(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
            let name = &promql[start.map_or(0, |s| s + 1)..at + unit.len()];
            let before = &promql[..start.map_or(0, |s| s + 1)];
            let mut after = &promql[at + unit.len()..];
            if after.starts_with('{') {
                after = after.split_once('}').map_or("", |(_, rest)| rest);
            }
            let exists = ["count by (instance) (", "and on (instance) ", "label_values("];
            if !(after.starts_with('[') || exists.iter().any(|context| before.ends_with(context))) {
                return Some(name);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(text: &str) -> Result<String> {
        let catalogue = Catalogue::read("| `hw.energy` | counter, J | |\n| `a.b` | gauge, W | |").unwrap();
        let shared = [("power", "rate(metric(hw.energy){$1}[$2])"), ("twice", "2 * shared(power; $1; 5m)")];
        let shared = shared.map(|(name, text)| (name.to_owned(), text.to_owned())).into();
        Expander { catalogue: &catalogue, shared: &shared }.expand(text)
    }

    #[test]
    fn names_and_shared_expressions_are_replaced() {
        let twice = expand("sum(shared(twice; a=\"b\")) + metric(a.b)").unwrap();
        assert_eq!(twice, "sum(2 * rate(hw_energy_joules_total{a=\"b\"}[5m])) + a_b_watts");
        assert_eq!(expand("created(hw.energy)").unwrap(), "hw_energy_joules_created");
        assert!(format!("{:#}", expand("metric(hw.enrgy)").unwrap_err()).contains("no metric hw.enrgy"));
        assert!(format!("{:#}", expand("shared(nothing)").unwrap_err()).contains("has no nothing"));
    }

    #[test]
    fn a_counter_is_not_plotted() {
        for wrong in ["sum(metric(hw.energy))", "metric(hw.energy){a=\"b\"}"] {
            assert!(expand(wrong).unwrap_err().to_string().contains("is a counter"), "{wrong}");
        }
        for right in ["increase(metric(hw.energy)[1m])", "count(count by (instance) (metric(hw.energy)))"] {
            assert!(expand(right).is_ok(), "{right}");
        }
    }
}
