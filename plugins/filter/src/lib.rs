//! The `filter` plugin: keeps or drops points by their series. Rules are tried in order, and the first that
//! matches decides. That happens once per series, so a point costs an array lookup.
//!
//! It comes after all transforms that compute: attribution needs all points to account for all energy. The
//! ends of series always pass, so that their ids are released.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use wattrace_api::{Batch, Error, Plugin, Registry, Series, Setup, Transform};
use wattrace_select::{Decisions, Pattern, Selector};

/// The plugin.
#[derive(Debug)]
pub struct Filter;

/// `[plugins.filter]`
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FilterConfig {
    /// What to do with a series that no rule matches: `keep` or `drop`.
    pub otherwise: Action,
    /// The rules, tried in order.
    pub rules: Vec<Rule>,
}

/// `[[plugins.filter.rules]]`
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rule {
    /// What to do with the series that it matches: `keep` or `drop`.
    pub action: Action,
    /// The series that it matches; empty: all.
    pub select: Pattern,
}

/// What to do with a series.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Its points pass.
    #[default]
    Keep,
    /// Its points are removed.
    Drop,
}

impl Plugin for Filter {
    const NAME: &'static str = "filter";
    const DESCRIPTION: &'static str = "keeps or drops points by metric, resource, consumer and attributes";
    type Config = FilterConfig;
    const SHAPES_OUTPUT: bool = true;

    fn on_by_default() -> bool {
        false
    }

    fn start(config: FilterConfig, setup: &mut Setup) -> Result<(), Error> {
        let rules = config.rules.iter().enumerate().map(|(i, rule)| {
            let selector = rule.select.compile(&format!("plugins.filter.rules[{i}].select"))?;
            Ok((selector, rule.action))
        });
        let rules: Arc<[(Selector, Action)]> = rules.collect::<Result<_, Error>>()?;
        if rules.is_empty() && config.otherwise == Action::Drop {
            return Err(Error::fatal(
                "plugins.filter.otherwise: \"drop\" without a rule drops everything; \
                 add a [[plugins.filter.rules]] that keeps something",
            ));
        }
        let registry = setup.registry();
        setup.transform("rules", move || {
            Ok(FilterTransform::new(rules.clone(), config.otherwise, registry.clone()))
        });
        Ok(())
    }
}

struct FilterTransform {
    rules: Arc<[(Selector, Action)]>,
    otherwise: Action,
    decisions: Decisions<Action>,
    /// Points dropped since the last `take_left_out`.
    left_out: u64,
}

impl FilterTransform {
    fn new(rules: Arc<[(Selector, Action)]>, otherwise: Action, registry: Arc<Registry>) -> Self {
        let may_change = rules.iter().any(|(selector, _)| selector.may_change());
        Self { rules, otherwise, decisions: Decisions::new(registry, may_change), left_out: 0 }
    }
}

impl Transform for FilterTransform {
    fn apply(&mut self, batch: &mut Batch) -> Result<(), Error> {
        let Self { rules, otherwise, decisions, left_out } = self;
        let decide = |series: &Arc<Series>, _| {
            let rule = rules.iter().find(|(selector, _)| selector.matches(series));
            rule.map_or(*otherwise, |(_, action)| *action)
        };
        let points = batch.len();
        // A series that the registry does not know passes; the outputs count its points.
        batch.retain(|id, _| decisions.of(id, decide).is_none_or(|action| *action == Action::Keep));
        *left_out += (points - batch.len()) as u64;
        for &id in batch.ended() {
            decisions.remove(id);
        }
        Ok(())
    }

    fn take_left_out(&mut self) -> u64 {
        std::mem::take(&mut self.left_out)
    }
}

#[cfg(test)]
mod tests {
    use wattrace_api::Attribute;
    use wattrace_api::testing::Rig;
    use wattrace_transform_testing::Fixture;

    use super::*;

    /// The example of docs/transforms.md.
    const EXAMPLE: &str = r#"[[plugins.filter.rules]]
action = "keep"
select = { consumer = "process", attributes = { "process.executable.name" = "postgres*" } }

[[plugins.filter.rules]]
action = "drop"
select = { consumer = "process" }

[[plugins.filter.rules]]
action = "drop"
select = { metric = "wattrace.consumer.cpu.time" }
"#;

    fn example() -> FilterConfig {
        let config: toml::Table = EXAMPLE.parse().unwrap();
        config["plugins"]["filter"].clone().try_into().unwrap()
    }

    #[test]
    fn the_first_matching_rule_decides_as_the_docs_show() {
        let mut s = Fixture::of::<Filter>(example());
        let (db, sh) = (s.process(7, "postgres"), s.process(8, "bash"));
        let points = [
            (s.energy(None), 9_000_000),
            (s.energy(Some(&db)), 6_000_000),
            (s.cpu_time(&db), 600_000_000),
            (s.energy(Some(&sh)), 3_000_000),
            (s.cpu_time(&sh), 300_000_000),
        ];
        let batch = s.pass(0, 1, &points);
        let lines = s.lines(&batch).join("\n");
        assert_eq!(
            lines,
            "0s..1s hw.energy on package/0 9 J\n\
             0s..1s wattrace.consumer.energy process/7 postgres on package/0 6 J\n\
             0s..1s wattrace.consumer.cpu.time process/7 postgres on package/0 0.6 s"
        );
        let left_out = [s.rig.transforms[0].1.take_left_out(), s.rig.transforms[0].1.take_left_out()];
        assert_eq!(left_out, [2, 0], "each point is counted once");
        let docs = include_str!("../../../docs/transforms.md");
        assert!(docs.contains(EXAMPLE) && docs.contains(&lines), "docs/transforms.md differs");
    }

    #[test]
    fn a_process_is_decided_again_after_an_exec() {
        let mut s = Fixture::of::<Filter>(example());
        let forked = s.process(7, "bash");
        let energy = s.energy(Some(&forked));
        assert_eq!(s.pass(0, 1, &[(energy, 1)]).len(), 0);
        forked.update(vec![Attribute::new("process.executable.name", "postgres")]);
        assert_eq!(s.pass(1, 2, &[(energy, 2)]).len(), 1);
    }

    #[test]
    fn ends_pass_and_a_reused_series_id_is_decided_again() {
        let mut s = Fixture::of::<Filter>(example());
        let (sh, db) = (s.process(8, "bash"), s.process(7, "postgres"));
        let energy = s.energy(Some(&sh));
        let batch = s.pass_ending(0, 1, &[(energy, 1)], &[energy]);
        assert_eq!((batch.len(), batch.ended()), (0, &[energy][..]));
        s.release(&batch);
        assert_eq!(s.energy(Some(&db)), energy, "the id is reused");
        assert_eq!(s.pass(1, 2, &[(energy, 2)]).len(), 1);
    }

    #[test]
    fn an_error_names_the_key_of_the_invalid_value() {
        let error_of = |text: &str| {
            let config = toml::from_str(text).unwrap();
            Rig::new().start::<Filter>(config).unwrap_err().to_string()
        };
        let message = error_of("rules = [{}, { action = \"drop\", select = { metric = \"[\" } }]");
        assert!(message.starts_with("plugins.filter.rules[1].select.metric: "), "{message}");
        assert!(error_of("otherwise = \"drop\"").starts_with("plugins.filter.otherwise: "));
    }
}
