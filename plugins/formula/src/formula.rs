//! A formula as configured, and as compiled against the declared metrics.

use wattrace_api::{Error, Kind, Metric, ResultExt, Unit, metric};
use wattrace_select::Selector;

use crate::check::{self, LENGTH, Type};
use crate::config::{MetricConfig, ResultKind};
use crate::expression::{self, Expr};
use crate::program::Program;
use crate::unit::Scale;

/// The metrics whose units are known before any plugin has declared one.
const BUILT_IN: [Metric; 5] = [
    metric::HW_ENERGY,
    metric::HW_HOST_ENERGY,
    metric::CONSUMER_ENERGY,
    metric::CONSUMER_CPU_TIME,
    metric::DOMAIN_RESIDUAL,
];

/// A formula as configured: parsed, but not yet checked against the metrics.
#[derive(Clone, Debug)]
pub(crate) struct FormulaSpec {
    /// Its place in the configuration.
    key: String,
    config: MetricConfig,
    expression: Expr,
    /// Name, metric and selector of each input, the leading one first.
    inputs: Vec<(String, String, Selector)>,
}

/// A compiled formula.
#[derive(Clone, Debug)]
pub(crate) struct Formula {
    pub(crate) program: Program,
    /// The inputs, the leading one first.
    pub(crate) inputs: Vec<Input>,
    /// The result's metric.
    pub(crate) metric: Metric,
    /// Factor from a result in base units to steps (counter) or to the metric's unit (gauge).
    pub(crate) scale: f64,
}

/// One input.
#[derive(Clone, Debug)]
pub(crate) struct Input {
    pub(crate) name: String,
    pub(crate) selector: Selector,
    pub(crate) kind: Kind,
    /// Factor from a step (counter) or a value (gauge) to base units.
    pub(crate) scale: f64,
}

impl FormulaSpec {
    /// Parses the formula at `key`.
    ///
    /// # Errors
    /// Fatal, if it is invalid. The message names the key.
    pub(crate) fn parse(config: MetricConfig, key: String) -> Result<Self, Error> {
        let refuse = |part: &str, why: String| Err(Error::fatal(format!("{key}.{part}: {why}")));
        if config.name.is_empty() {
            return refuse("name", "is empty; the result needs a name".to_owned());
        }
        let expression = match expression::parse(&config.expression) {
            Ok(expression) => expression,
            Err(why) => return refuse("expression", why),
        };
        let mut names = check::names(&expression);
        if let Some(unused) = config.inputs.keys().find(|name| !names.contains(&name.as_str())) {
            let why = if unused == LENGTH { "is the window's length" } else { "is not in the expression" };
            return refuse(&format!("inputs.{unused}"), why.to_owned());
        }
        if !config.per.is_empty() {
            let Some(at) = names.iter().position(|name| *name == config.per) else {
                return refuse("per", format!("`{}` is not in the expression", config.per));
            };
            names[..=at].rotate_right(1);
        }
        if names.is_empty() {
            return refuse("expression", "uses no input".to_owned());
        }
        let mut inputs = Vec::new();
        for name in names {
            let Some(pattern) = config.inputs.get(name) else {
                let why = format!("`{name}` is not an input; add it to {key}.inputs");
                return refuse("expression", why);
            };
            let part = format!("inputs.{name}");
            if pattern.metric.is_empty() || pattern.metric.contains(['*', '?', '[', '{', '\\']) {
                return refuse(&format!("{part}.metric"), "must be the name of one metric".to_owned());
            }
            let selector = pattern.compile(&format!("{key}.{part}"))?;
            inputs.push((name.to_owned(), pattern.metric.clone(), selector));
        }
        Ok(Self { expression, inputs, key, config })
    }

    /// The result's name.
    pub(crate) fn name(&self) -> &str {
        &self.config.name
    }

    /// Checks units at start, if all inputs are built-in metrics.
    ///
    /// # Errors
    /// As for [`FormulaSpec::compile`].
    pub(crate) fn check_early(&self) -> Result<(), Error> {
        let known = |(_, metric, _): &(_, String, _)| BUILT_IN.iter().any(|m| m.name == *metric);
        if self.inputs.iter().all(known) { self.compile(|_| None).map(drop) } else { Ok(()) }
    }

    /// Compiles it against the metrics that `find` finds.
    ///
    /// # Errors
    /// Retry, if a metric is not declared yet. Fatal, if units do not match.
    pub(crate) fn compile(&self, find: impl Fn(&str) -> Option<Metric>) -> Result<Formula, Error> {
        let (mut inputs, mut kinds) = (Vec::new(), Vec::new());
        for (name, metric, selector) in &self.inputs {
            let key = format!("{}.inputs.{name}.metric", self.key);
            let built_in = || BUILT_IN.iter().find(|m| m.name == *metric).cloned();
            let found = find(metric).or_else(built_in);
            let found =
                found.ok_or_else(|| format!("{key}: no plugin has declared {metric} yet")).or_retry()?;
            let unit = Scale::parse(found.unit.ucum()).map_err(|why| format!("{key}: {why}")).or_fatal()?;
            let degree = i32::from(found.kind == Kind::Counter);
            let kind = Type { dimension: unit.dimension, degree };
            kinds.push(check::Input { name: name.clone(), kind });
            let (name, selector, scale) = (name.clone(), selector.clone(), found.step * unit.factor);
            inputs.push(Input { name, selector, kind: found.kind, scale });
        }
        let compiled = check::compile(&self.expression, &kinds);
        let (program, result) =
            compiled.map_err(|why| format!("{}.expression: {why}", self.key)).or_fatal()?;
        let (code, factor) = self.unit(result).or_fatal()?;
        let kind = self.kind(result).or_fatal()?;
        let step = match (kind, code.as_str()) {
            (Kind::Gauge, _) => 1.0,
            (Kind::Counter, "s") => metric::NANOSECOND,
            (Kind::Counter, _) => 1e-6,
        };
        let description = match self.config.description.as_str() {
            "" => &self.config.expression,
            given => given,
        };
        let metric = Metric {
            name: self.config.name.clone().into(),
            unit: named(code),
            kind,
            step,
            description: description.to_owned().into(),
        };
        Ok(Formula { program, inputs, scale: 1.0 / (factor * step), metric })
    }

    /// The result's unit and its factor: the configured one, if it has the dimension of `result`; otherwise
    /// the one that `result` has.
    fn unit(&self, result: Type) -> Result<(String, f64), String> {
        let (unit, factor) = result.dimension.common_unit();
        if self.config.unit.is_empty() {
            return Ok((unit, factor));
        }
        let key = format!("{}.unit", self.key);
        let declared = Scale::parse(&self.config.unit).map_err(|why| format!("{key}: {why}"))?;
        if declared.dimension != result.dimension {
            return Err(format!(
                "{key}: the expression is in {unit}, which is not {}; \
                 write the unit of a number after it, as in 0.4 [kg/(kW.h)]",
                self.config.unit
            ));
        }
        Ok((self.config.unit.clone(), declared.factor))
    }

    fn kind(&self, result: Type) -> Result<Kind, String> {
        let key = format!("{}.kind", self.key);
        match (self.config.kind, result.degree) {
            (ResultKind::Auto | ResultKind::Counter, 1) => Ok(Kind::Counter),
            (ResultKind::Gauge, 0 | 1) | (ResultKind::Auto, 0) => Ok(Kind::Gauge),
            (ResultKind::Counter, 0) => Err(format!(
                "{key}: the expression does not add up over windows, so it is not a counter; \
                 multiply it by dt"
            )),
            _ => Err(format!(
                "{key}: the expression neither adds up over windows nor is it a rate; \
                 divide or multiply it by dt"
            )),
        }
    }
}

fn named(code: String) -> Unit {
    match code.as_str() {
        "J" => Unit::Joule,
        "W" => Unit::Watt,
        "s" => Unit::Second,
        "By" => Unit::Byte,
        "1" => Unit::Count("1"),
        _ => Unit::Other(code.into()),
    }
}

#[cfg(test)]
mod tests {
    use wattrace_api::ErrorKind;

    use super::*;

    fn spec(text: &str) -> Result<FormulaSpec, Error> {
        FormulaSpec::parse(toml::from_str(text).unwrap(), "f".to_owned())
    }

    const ENERGY: &str = "inputs.energy.metric = \"hw.energy\"\nname = \"x\"\n";

    fn compiled(text: &str) -> Result<Formula, Error> {
        spec(&format!("{ENERGY}{text}"))?.compile(|_| None)
    }

    #[test]
    fn unit_kind_and_scale_are_derived_or_configured() {
        for (text, unit, kind, scale) in [
            ("expression = \"energy / dt\"", "W", Kind::Gauge, 1.0),
            ("expression = \"energy / dt\"\nunit = \"kW\"", "kW", Kind::Gauge, 1e-3),
            ("expression = \"energy * 2\"", "J", Kind::Counter, 1e6),
            ("expression = \"energy * 2\"\nkind = \"gauge\"", "J", Kind::Gauge, 1.0),
            ("expression = \"energy * 400 [g/(kW.h)]\"", "g", Kind::Counter, 1e9),
            ("expression = \"energy\"\nunit = \"kW.h\"", "kW.h", Kind::Counter, 1e6 / 3.6e6),
        ] {
            let formula = compiled(text).unwrap();
            assert_eq!((formula.metric.unit.ucum(), formula.metric.kind), (unit, kind), "{text}");
            assert!((formula.scale / scale - 1.0).abs() < 1e-12, "{text}: {}", formula.scale);
        }
    }

    #[test]
    fn an_error_names_the_key_of_the_invalid_value() {
        for (text, start) in [
            ("expression = \"energy +\"", "f.expression: ends too early"),
            ("expression = \"energy + 5\"", "f.expression: `+` joins J and 1"),
            ("expression = \"energy\"\nunit = \"W\"", "f.unit: the expression is in J, which is not W"),
            ("expression = \"energy\"\nunit = \"Joule\"", "f.unit: unit `Joule`: "),
            ("expression = \"energy / dt\"\nkind = \"counter\"", "f.kind: "),
            ("expression = \"energy * energy\"", "f.kind: "),
            ("expression = \"energy * time\"", "f.expression: `time` is not an input"),
            ("expression = \"dt\"", "f.inputs.energy: is not in the expression"),
            ("expression = \"energy\"\nper = \"time\"", "f.per: "),
            ("expression = \"energy - b\"\ninputs.b.metric = \"hw.*\"", "f.inputs.b.metric: "),
            (
                "expression = \"energy - b\"\ninputs.b = { metric = \"m\", consumer = \"x\" }",
                "f.inputs.b.consumer: ",
            ),
        ] {
            let error = compiled(text).unwrap_err();
            assert!(error.to_string().starts_with(start) && error.kind() == ErrorKind::Fatal, "{error}");
        }
        assert!(spec("expression = \"1\"").unwrap_err().to_string().starts_with("f.name: "));
        assert!(spec("name = \"x\"\nexpression = \"1 + dt\"").unwrap_err().to_string().contains("no input"));
    }

    #[test]
    fn a_metric_that_is_not_declared_yet_is_retried() {
        let text = "name = \"x\"\nexpression = \"t\"\ninputs.t.metric = \"hw.temperature\"";
        let spec = spec(text).unwrap();
        spec.check_early().unwrap();
        assert_eq!(spec.compile(|_| None).unwrap_err().kind(), ErrorKind::Retry);
        let temperature = Metric::gauge("hw.temperature", Unit::Other("Cel".into()), "");
        let formula = spec.compile(|_| Some(temperature.clone())).unwrap();
        assert_eq!(formula.metric.unit.ucum(), "Cel");
    }

    #[test]
    fn the_leading_input_comes_first() {
        let text = "expression = \"energy / b\"\nper = \"b\"\ninputs.b.metric = \"hw.host.energy\"";
        let names: Vec<_> = compiled(text).unwrap().inputs.into_iter().map(|input| input.name).collect();
        assert_eq!(names, ["b", "energy"]);
    }
}
