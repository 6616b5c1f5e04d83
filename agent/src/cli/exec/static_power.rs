//! How well a report knows what a domain draws at no load: the error of that is most of the error of a
//! command's energy. Attribution says it; `baseline.rs` improves it. Reports on one run, on several and on
//! comparisons have it.

use serde::{Deserialize, Serialize};

/// A standard error of at most this part of static power counts as known.
const MAX_ERROR: f64 = 0.1;

/// Standard errors in half of a 95 % interval.
const CI95: f64 = 1.96;

/// Static power of a domain, as attribution publishes it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct StaticPower {
    pub(super) watts: Option<f64>,
    /// Its standard error, W.
    pub(super) error: Option<f64>,
}

/// How it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Known {
    /// By the configuration or by an estimate.
    Given,
    /// From the meter.
    Learnt,
    /// From what such hardware usually draws, as far as the meter did not show it.
    Assumed,
    /// Not at all: nothing was measured long enough.
    Unknown,
}

/// The same in the report.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::cli) struct StaticPowerJson {
    known: Known,
    #[serde(skip_serializing_if = "Option::is_none")]
    watts: Option<f64>,
    /// Half the width of the 95 % interval.
    #[serde(skip_serializing_if = "Option::is_none")]
    ci95_w: Option<f64>,
}

impl StaticPower {
    fn known(&self) -> Known {
        match (self.watts, self.error) {
            (None, _) | (_, None) => Known::Unknown,
            (_, Some(0.0)) => Known::Given,
            (Some(watts), Some(error)) if error <= MAX_ERROR * watts => Known::Learnt,
            _ => Known::Assumed,
        }
    }

    /// Whether measuring longer would tell little.
    pub(super) fn is_known(&self) -> bool {
        matches!(self.known(), Known::Given | Known::Learnt)
    }
}

impl From<StaticPower> for StaticPowerJson {
    fn from(power: StaticPower) -> Self {
        let ci95_w = power.error.map(|error| CI95 * error);
        Self { known: power.known(), watts: power.watts, ci95_w }
    }
}

impl StaticPowerJson {
    /// `10.2 ± 0.4 W (learnt)`.
    fn for_people(&self) -> String {
        let interval = self.ci95_w.filter(|half_width| *half_width > 0.0);
        let interval = interval.map(|half_width| format!(" ± {half_width:.2}")).unwrap_or_default();
        let known = match self.known {
            Known::Given => "given",
            Known::Learnt => "learnt",
            Known::Assumed => "assumed",
            Known::Unknown => return "unknown".to_owned(),
        };
        format!("{:.2}{interval} W ({known})", self.watts.unwrap_or_default())
    }
}

/// Maximum number of domains in a line.
const MAX_SHOWN: usize = 4;

/// `at no load: package-0 10.20 ± 0.40 W (learnt), dram-0 1.00 W (given)`; of no domain an empty text.
pub(in crate::cli) fn at_no_load<'a>(
    domains: impl Iterator<Item = (&'a str, &'a StaticPowerJson)>,
) -> String {
    let mut known: Vec<String> =
        domains.map(|(domain, power)| format!("{domain} {}", power.for_people())).collect();
    if known.is_empty() {
        return String::new();
    }
    let rest = known.len().saturating_sub(MAX_SHOWN);
    known.truncate(MAX_SHOWN);
    if rest > 0 {
        known.push(format!("and {rest} more"));
    }
    format!("at no load: {}", known.join(", "))
}

/// A look at the machine before the command.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Baseline {
    pub(super) duration_s: f64,
    /// CPU time of processes over all CPU time.
    pub(super) busy: f64,
    /// It was ended early because the machine was busy.
    pub(super) skipped: bool,
}

impl Baseline {
    /// What the report says about it.
    pub(super) fn for_people(&self) -> String {
        let busy = self.busy * 100.0;
        if self.skipped {
            return format!("no baseline: the machine was {busy:.0} % busy");
        }
        format!("baseline of {:.1} s, {busy:.0} % busy", self.duration_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_follows_from_the_error() {
        let of = |watts, error| {
            let power = StaticPower { watts, error };
            (power.is_known(), StaticPowerJson::from(power).for_people())
        };
        assert_eq!(of(None, None), (false, "unknown".to_owned()));
        assert_eq!(of(Some(2.0), Some(0.0)), (true, "2.00 W (given)".to_owned()));
        assert_eq!(of(Some(10.0), Some(0.5)), (true, "10.00 ± 0.98 W (learnt)".to_owned()));
        assert_eq!(of(Some(10.0), Some(4.0)), (false, "10.00 ± 7.84 W (assumed)".to_owned()));
        let json = serde_json::to_value(StaticPowerJson::from(StaticPower::default())).unwrap();
        assert_eq!(json, serde_json::json!({ "known": "unknown" }));
    }

    #[test]
    fn a_line_names_a_few_domains_and_counts_the_rest() {
        let known = StaticPowerJson::from(StaticPower { watts: Some(2.0), error: Some(0.0) });
        let line = |domains: &[&'static str]| at_no_load(domains.iter().map(|domain| (*domain, &known)));
        assert_eq!(line(&[]), "");
        assert_eq!(line(&["a", "b"]), "at no load: a 2.00 W (given), b 2.00 W (given)");
        assert!(line(&["a", "b", "c", "d", "e", "f"]).ends_with("d 2.00 W (given), and 2 more"));
    }
}
