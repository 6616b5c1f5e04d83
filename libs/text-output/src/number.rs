//! Numbers as text. A counter is printed from its integer, so that no digit is rounded away however long it
//! has run; [`crate::template`] keeps one [`Scale`] per series.

use std::io::Write;

use wattrace_api::{Kind, Metric, Value};

/// How a metric's values are written.
#[derive(Clone, Debug, PartialEq)]
pub enum Scale {
    /// Steps of 10⁻ⁿ units: digits, a point and n digits.
    Decimal {
        /// 10ⁿ.
        steps_per_unit: u64,
    },
    /// Steps of a whole number of units.
    Whole {
        /// Units per step.
        units_per_step: u64,
    },
    /// Gauges, and counters with any other step: the shortest text that reads back as the same float.
    Float(Metric),
}

impl Scale {
    /// The scale of `metric`'s values.
    pub fn of(metric: &Metric) -> Self {
        let step = metric.step;
        if metric.kind == Kind::Counter {
            if step >= 1.0 && step.fract() == 0.0 && step < u64::MAX as f64 {
                return Scale::Whole { units_per_step: step as u64 };
            }
            let is_inverse = |n: &u64| (step * *n as f64 - 1.0).abs() < 1e-9;
            if let Some(steps_per_unit) = (1..=18).map(|digits| 10_u64.pow(digits)).find(is_inverse) {
                return Scale::Decimal { steps_per_unit };
            }
        }
        Scale::Float(metric.clone())
    }

    /// Appends `value` in the metric's unit, or `no_number` for a gauge that is not a number.
    pub fn write(&self, value: Value, no_number: &str, out: &mut Vec<u8>) {
        match self {
            Scale::Decimal { steps_per_unit } => {
                let steps = value.steps();
                push_int(out, steps / steps_per_unit);
                // One more digit in front keeps the zeros after the point; it is then overwritten by the
                // point.
                let point = out.len();
                push_int(out, steps % steps_per_unit + steps_per_unit);
                out[point] = b'.';
            }
            Scale::Whole { units_per_step } => {
                push_int(out, u128::from(value.steps()) * u128::from(*units_per_step));
            }
            Scale::Float(metric) => match metric.in_units(value) {
                number if number.is_finite() => {
                    // Writing to a Vec cannot fail.
                    let _ = write!(out, "{number}");
                }
                _ => out.extend_from_slice(no_number.as_bytes()),
            },
        }
    }
}

/// Appends a whole number.
pub(crate) fn push_int(out: &mut Vec<u8>, number: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use wattrace_api::{Unit, metric};

    fn text(metric: &Metric, value: Value) -> String {
        let mut out = b"=".to_vec();
        Scale::of(metric).write(value, "null", &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn counters_are_exact_to_the_last_step() {
        let energy = |steps| text(&metric::HW_ENERGY, Value::of_steps(steps));
        assert_eq!(energy(0), "=0.000000");
        assert_eq!(energy(1), "=0.000001");
        assert_eq!(energy(12_345_678), "=12.345678");
        // A float would give 18446744073709.55.
        assert_eq!(energy(u64::MAX), "=18446744073709.551615");
        let time = |steps| text(&metric::CONSUMER_CPU_TIME, Value::of_steps(steps));
        assert_eq!(time(9_007_199_254_740_993), "=9007199.254740993");
    }

    #[test]
    fn steps_that_are_no_power_of_ten_are_exact_too() {
        let metric = |step| Metric::counter("c", Unit::Count("{x}"), step, "");
        assert_eq!(text(&metric(1.0), Value::of_steps(u64::MAX)), "=18446744073709551615");
        assert_eq!(text(&metric(1024.0), Value::of_steps(u64::MAX)), "=18889465931478580853760");
        assert_eq!(text(&metric(0.5), Value::of_steps(3)), "=1.5");
        assert_eq!(Scale::of(&metric(1e-3)), Scale::Decimal { steps_per_unit: 1000 });
    }

    #[test]
    fn gauges_read_back_as_the_same_float_and_nan_is_no_number() {
        let gauge = |v| text(&metric::DOMAIN_RESIDUAL, Value::of_gauge(v));
        assert_eq!(gauge(-0.1), "=-0.1");
        assert_eq!(gauge(f64::NAN), "=null");
        assert_eq!(gauge(f64::INFINITY), "=null");
        assert_eq!(gauge(1.0 / 3.0)[1..].parse(), Ok(1.0 / 3.0));
    }
}
