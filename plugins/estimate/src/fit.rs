//! Fits a package's power model to measured steps of load. `wattrace calibrate` runs the steps; `profile`
//! stores the result.

use crate::profile::{CurvePoint, DEFAULT_EXPONENT, PackageModel};

/// A measurement at a constant load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Number of the target load. Samples of one number repeat the same measurement.
    pub level: usize,
    /// Busy CPU time over all CPU time, 0 to 1.
    pub busy: f64,
    /// The part of all CPU time in which both CPUs of a core were busy; `None`: CPUs do not share cores.
    pub shared: Option<f64>,
    /// Mean power.
    pub watts: f64,
    /// Mean frequency of the busy CPUs; `None`: cycles are not counted.
    pub mhz: Option<f64>,
}

/// Least span of load that separates idle from dynamic power.
const MIN_LOAD_SPAN: f64 = 0.3;
/// Loads closer than this are merged to one point of the curve.
const MIN_DISTANCE: f64 = 0.02;
/// Least ratio of frequencies at one load from which the exponent is fitted.
const MIN_FREQUENCY_RATIO: f64 = 1.1;

/// Busy CPU time as a fraction of a fully busy package's. Time on a shared core is weighted by `smt_factor`;
/// if sharing is unknown, all CPUs have the same weight.
pub(crate) fn effective_load(busy: f64, shared: Option<f64>, smt_factor: f64) -> f64 {
    match shared {
        Some(shared) => (busy - (1.0 - smt_factor) * shared.min(busy)) / smt_factor,
        None => busy,
    }
}

/// Fits a model to samples of one package, or of several of a kind.
///
/// # Errors
/// If the load did not vary, or the power did not increase with it.
pub fn fit(samples: &[Sample]) -> Result<PackageModel, String> {
    let samples: Vec<Sample> =
        samples.iter().copied().filter(|s| s.busy.is_finite() && s.watts.is_finite()).collect();
    let smt_factor = smt_factor(&samples);
    let load_of = |s: &Sample| effective_load(s.busy, s.shared, smt_factor).clamp(0.0, 1.0);
    let mut curve = levels(&samples, load_of);
    let (Some(first), Some(last)) = (curve.first().copied(), curve.last().copied()) else {
        return Err("nothing was measured".to_owned());
    };
    if last.load - first.load < MIN_LOAD_SPAN {
        return Err(format!(
            "the load ranged from {:.0} to {:.0} % only: \
             other processes kept the machine busy, or limited our CPU time",
            first.load * 100.0,
            last.load * 100.0
        ));
    }
    if last.watts <= first.watts {
        return Err(format!(
            "the meter shows {:.2} W at {:.0} % load and {:.2} W at {:.0} %: it does not follow the CPUs",
            first.watts,
            first.load * 100.0,
            last.watts,
            last.load * 100.0
        ));
    }
    let slope = |a: CurvePoint, b: CurvePoint| (b.watts - a.watts) / (b.load - a.load);
    // Even the lowest step has some load, ours included. Idle power is extrapolated to zero load.
    let idle = (first.watts - slope(first, curve[1]).max(0.0) * first.load).clamp(0.0, first.watts);
    let full = (last.watts + slope(curve[curve.len() - 2], last).max(0.0) * (1.0 - last.load)).max(idle);
    // `idle` comes from the lowest step; as a point of the curve it would only add noise.
    curve.remove(0);
    curve.retain(|point| point.load < 1.0 - MIN_DISTANCE);
    curve.push(CurvePoint { load: 1.0, watts: full, mhz: last.mhz });
    for point in &mut curve {
        *point = CurvePoint {
            watts: round(point.watts.max(idle)),
            load: round(point.load),
            mhz: point.mhz.round(),
        };
    }
    let mut model = PackageModel {
        idle_watts: round(idle),
        residual_watts: 0.0,
        smt_factor: round(smt_factor),
        frequency_exponent: round(exponent(&samples, idle).unwrap_or(DEFAULT_EXPONENT)),
        curve,
    };
    let squares = samples.iter().map(|s| (s.watts - model.watts(load_of(s))).powi(2));
    model.residual_watts = round((squares.sum::<f64>() / samples.len() as f64).sqrt());
    Ok(model)
}

impl PackageModel {
    /// Watts at a load between 0 and 1, at the frequencies of the calibration.
    pub fn watts(&self, load: f64) -> f64 {
        self.at(load).watts
    }

    /// The point of the curve at a load.
    pub(crate) fn at(&self, load: f64) -> CurvePoint {
        let first_mhz = self.curve.first().map_or(0.0, |p| p.mhz);
        let mut before = CurvePoint { load: 0.0, watts: self.idle_watts, mhz: first_mhz };
        for &after in &self.curve {
            if load <= after.load {
                let part = ((load - before.load) / (after.load - before.load)).max(0.0);
                let between = |a: f64, b: f64| a + (b - a) * part;
                let mhz =
                    if before.mhz > 0.0 && after.mhz > 0.0 { between(before.mhz, after.mhz) } else { 0.0 };
                return CurvePoint { load, watts: between(before.watts, after.watts), mhz };
            }
            before = after;
        }
        before
    }
}

/// The medians of each level, sorted by load.
fn levels(samples: &[Sample], load_of: impl Fn(&Sample) -> f64) -> Vec<CurvePoint> {
    let count = samples.iter().map(|s| s.level + 1).max().unwrap_or(0);
    let mut points: Vec<CurvePoint> = (0..count)
        .filter_map(|level| {
            let these = || samples.iter().filter(move |s| s.level == level);
            Some(CurvePoint {
                load: median(these().map(&load_of))?,
                watts: median(these().map(|s| s.watts))?,
                mhz: median(these().filter_map(|s| s.mhz)).unwrap_or(0.0),
            })
        })
        .collect();
    points.sort_by(|a, b| a.load.total_cmp(&b.load));
    // Levels of nearly the same load (two CPUs of one core, or of two cores) are merged to one point.
    let mut merged: Vec<(CurvePoint, f64)> = Vec::new();
    for point in points {
        match merged.last_mut() {
            Some((last, weight)) if point.load - last.load < MIN_DISTANCE => {
                let mean = |a: f64, b: f64| (a * *weight + b) / (*weight + 1.0);
                *last = CurvePoint {
                    load: mean(last.load, point.load),
                    watts: mean(last.watts, point.watts),
                    mhz: mean(last.mhz, point.mhz),
                };
                *weight += 1.0;
            }
            _ => merged.push((point, 1.0)),
        }
    }
    merged.into_iter().map(|(point, _)| point).collect()
}

/// The ratio of the coefficients of shared and unshared time in a least-squares fit of power, limited to the
/// range that is possible for two threads of one core.
fn smt_factor(samples: &[Sample]) -> f64 {
    let shared: Vec<(f64, f64, f64)> =
        samples.iter().filter_map(|s| Some((s.busy - s.shared?, s.shared?, s.watts))).collect();
    let n = shared.len() as f64;
    let mean = |of: &dyn Fn(&(f64, f64, f64)) -> f64| shared.iter().map(of).sum::<f64>() / n;
    let (mx, my, mz) = (mean(&|s| s.0), mean(&|s| s.1), mean(&|s| s.2));
    let moment = |of: &dyn Fn(f64, f64, f64) -> f64| mean(&|s| of(s.0 - mx, s.1 - my, s.2 - mz));
    let (xx, yy, xy) = (moment(&|x, _, _| x * x), moment(&|_, y, _| y * y), moment(&|x, y, _| x * y));
    let (xz, yz) = (moment(&|x, _, z| x * z), moment(&|_, y, z| y * z));
    let determinant = xx * yy - xy * xy;
    let (alone, together) = (xz * yy - yz * xy, yz * xx - xz * xy);
    // Without both kinds of time there is no ratio.
    if !(determinant > 1e-9 && alone > 0.0) {
        return 1.0;
    }
    (together / alone).clamp(0.5, 1.0)
}

/// The exponent of frequency in power above idle: the slope of their logarithms within the levels, if
/// frequency varied there.
fn exponent(samples: &[Sample], idle: f64) -> Option<f64> {
    let busy: Vec<(usize, f64, f64)> = samples
        .iter()
        .filter(|s| s.busy > 0.2 && s.watts > idle)
        .filter_map(|s| {
            Some((s.level, s.mhz.filter(|mhz| *mhz > 0.0)?.ln(), ((s.watts - idle) / s.busy).ln()))
        })
        .collect();
    let (mut xx, mut xy, mut span) = (0.0, 0.0, 0.0_f64);
    for level in 0..=busy.iter().map(|b| b.0).max()? {
        let these: Vec<_> = busy.iter().filter(|b| b.0 == level).collect();
        let n = these.len() as f64;
        let (mx, my) =
            (these.iter().map(|b| b.1).sum::<f64>() / n, these.iter().map(|b| b.2).sum::<f64>() / n);
        for &&(_, x, y) in &these {
            xx += (x - mx) * (x - mx);
            xy += (x - mx) * (y - my);
            span = span.max((x - mx).abs() * 2.0);
        }
    }
    (span >= MIN_FREQUENCY_RATIO.ln()).then(|| (xy / xx).clamp(0.0, 4.0))
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut all: Vec<f64> = values.collect();
    all.sort_by(f64::total_cmp);
    let middle = all.len() / 2;
    if all.len() % 2 == 1 {
        Some(all[middle])
    } else {
        Some((all.get(middle.checked_sub(1)?)? + all[middle]) / 2.0)
    }
}

/// Rounds to four decimals: the rest is noise.
fn round(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

#[cfg(test)]
mod tests;
