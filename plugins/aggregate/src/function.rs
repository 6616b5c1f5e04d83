//! The functions over the points of a window, and the metrics of their results.

use wattrace_api::{Kind, Metric, Unit};

/// A function over the points of a window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Function {
    /// Of a counter: the sum of its increments, as a counter. Of a gauge: the sum of its values.
    Sum,
    /// Of a counter: its increase divided by the time. Of a gauge: the mean of its values.
    Mean,
    /// The smallest rate or value.
    Min,
    /// The largest rate or value.
    Max,
    /// The smallest rate or value that this percentage of all do not exceed.
    Percentile(f64),
}

impl Function {
    /// The function called `name`.
    ///
    /// # Errors
    /// That there is none, and which there are.
    pub(crate) fn parse(name: &str) -> Result<Self, String> {
        match name {
            "sum" => Ok(Self::Sum),
            "mean" => Ok(Self::Mean),
            "min" => Ok(Self::Min),
            "max" => Ok(Self::Max),
            _ => match name.strip_prefix('p').and_then(|percent| percent.parse().ok()) {
                Some(percent) if percent > 0.0 && percent <= 100.0 => Ok(Self::Percentile(percent)),
                _ => Err(format!(
                    "\"{name}\" is none of sum, mean, min, max, or a percentile above p0 up to p100"
                )),
            },
        }
    }

    /// Whether it needs all points of the window at once.
    pub(crate) fn needs_samples(self) -> bool {
        matches!(self, Self::Percentile(_))
    }

    /// The metric of its results, over points of `metric`.
    pub(crate) fn metric(self, metric: &Metric) -> Metric {
        let (name, what) = match self {
            Self::Sum => ("sum".to_owned(), "Sum".to_owned()),
            Self::Mean => ("mean".to_owned(), "Mean".to_owned()),
            Self::Min => ("min".to_owned(), "Minimum".to_owned()),
            Self::Max => ("max".to_owned(), "Maximum".to_owned()),
            Self::Percentile(percent) => {
                (format!("p{percent}").replace('.', "_"), format!("{percent}th percentile"))
            }
        };
        let of = &metric.name;
        match (metric.kind, self) {
            (Kind::Counter, Self::Sum) => Metric {
                name: format!("{of}.{name}").into(),
                description: format!("{what} of {of}, reported once per window").into(),
                ..metric.clone()
            },
            (Kind::Counter, _) => Metric {
                name: format!("{of}.rate.{name}").into(),
                unit: per_second(&metric.unit),
                kind: Kind::Gauge,
                step: 1.0,
                description: format!("{what} over a window of the rate of {of}").into(),
            },
            (Kind::Gauge, _) => Metric {
                name: format!("{of}.{name}").into(),
                description: format!("{what} over a window of {of}").into(),
                ..metric.clone()
            },
        }
    }
}

/// The unit of a rate.
fn per_second(unit: &Unit) -> Unit {
    match unit {
        Unit::Joule => Unit::Watt,
        Unit::Second => Unit::Count("1"),
        other => Unit::Other(format!("{}/s", other.ucum()).into()),
    }
}

#[cfg(test)]
mod tests {
    use wattrace_api::metric::{CONSUMER_CPU_TIME, DOMAIN_RESIDUAL, HW_ENERGY};

    use super::*;

    #[test]
    fn results_have_a_name_a_unit_and_a_kind() {
        for (function, metric, name, unit, kind) in [
            ("sum", &HW_ENERGY, "hw.energy.sum", "J", Kind::Counter),
            ("mean", &HW_ENERGY, "hw.energy.rate.mean", "W", Kind::Gauge),
            ("p99.9", &CONSUMER_CPU_TIME, "wattrace.consumer.cpu.time.rate.p99_9", "1", Kind::Gauge),
            ("max", &DOMAIN_RESIDUAL, "wattrace.domain.residual.max", "J", Kind::Gauge),
        ] {
            let result = Function::parse(function).unwrap().metric(metric);
            assert_eq!((&*result.name, result.unit.ucum(), result.kind), (name, unit, kind));
        }
        let sum = Function::Sum.metric(&HW_ENERGY);
        assert_eq!(sum.step, HW_ENERGY.step);
        for none in ["p0", "p100.1", "p", "px", "pnan", "pinf", "median", ""] {
            assert!(Function::parse(none).is_err(), "{none}");
        }
    }
}
