//! SmartWatts: for each package and each of its frequencies (in steps of 100 MHz) a linear model of power by
//! hardware counters; its constant term is static power. A process's power is the model's for its counters.
//! Each process is a target, counted from the first sample that has it to the last.
//!
//! There are two variants. With its own settings it learns from the last 60 samples as soon as there are 10,
//! with a constant term once there are 60, and again whenever the median error exceeds 2 W. Tuned for
//! machines as small as these and for short windows, it learns at every sample from those of the last minute,
//! always with a constant term. Coefficients are 0 or more. The program's penalty on them is too small to
//! matter beside counters of billions.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::method::{Attributed, Method, TUNED};
use crate::observe::{Sample, used};

/// Samples before there is a model.
const MIN_SAMPLES: usize = 10;
/// Samples of whose errors the median is taken.
const ERROR_SAMPLES: usize = 60;
const FEATURES: usize = 4;

type Features = [f64; FEATURES];

pub(crate) struct SmartWatts {
    name: &'static str,
    settings: Settings,
    attributed: Attributed,
    last: Option<Sample>,
    /// By part, package and frequency layer.
    layers: BTreeMap<(usize, usize, u64), Layer>,
}

#[derive(Clone, Copy)]
struct Settings {
    /// Samples to learn from.
    history: usize,
    /// Samples before there is a constant term.
    constant: usize,
    /// Median error above which it learns again, W.
    threshold: f64,
}

/// The model of one frequency, and the samples that it is fitted to.
#[derive(Default)]
struct Layer {
    history: VecDeque<(Features, f64)>,
    sums: Sums,
    errors: VecDeque<f64>,
    model: Option<(Features, f64)>,
}

/// Sums over a history: of features x and power y.
#[derive(Default)]
struct Sums {
    x: Features,
    y: f64,
    xx: [Features; FEATURES],
    xy: Features,
}

impl SmartWatts {
    pub(crate) fn with_own_settings() -> Self {
        Self::new("SmartWatts", Settings { history: 60, constant: 60, threshold: 2.0 })
    }

    /// For samples `window` apart.
    pub(crate) fn tuned(window: Duration) -> Self {
        let history = (60.0 / window.as_secs_f64()) as usize;
        Self::new(TUNED, Settings { history, constant: MIN_SAMPLES, threshold: 0.0 })
    }

    fn new(name: &'static str, settings: Settings) -> Self {
        Self { name, settings, attributed: Attributed::default(), last: None, layers: BTreeMap::new() }
    }
}

impl Method for SmartWatts {
    fn name(&self) -> &'static str {
        self.name
    }

    fn take(&mut self, sample: Sample) {
        if let Some(last) = &self.last {
            let seconds = sample.at - last.at;
            for package in 0..sample.joules.len() {
                let mut targets = Vec::new();
                let (mut sum, mut frequency) = ([0.0; FEATURES], 0);
                for (number, view) in &sample.processes {
                    let Some(earlier) = last.processes.get(number) else { continue };
                    let used = used(&earlier.counted[package], &view.counted[package]);
                    // In billions per second: reference cycles, cycles, instructions, misses.
                    let counts = [used.time, used.cycles, used.instructions, used.misses];
                    let features = counts.map(|count| count as f64 * 1e-9 / seconds);
                    sum = [0, 1, 2, 3].map(|i| sum[i] + features[i]);
                    targets.push((*number, features));
                }
                if sum[0] > 0.0 {
                    frequency = (sum[1] / sum[0] * 10.0) as u64;
                }
                for part in [0, 1] {
                    let watts = (sample.joules[package][part] - last.joules[package][part]) / seconds;
                    let layer = self.layers.entry((part, package, frequency)).or_default();
                    if let Some((coefficients, intercept)) = layer.model {
                        for (number, features) in &targets {
                            self.attributed.charge(*number, dot(&coefficients, features) * seconds);
                        }
                        self.attributed.add_idle(intercept * seconds);
                    }
                    layer.learn(sum, watts, &self.settings);
                }
            }
        }
        self.last = Some(sample);
    }

    fn attributed(&self) -> &Attributed {
        &self.attributed
    }
}

impl Layer {
    fn learn(&mut self, features: Features, watts: f64, settings: &Settings) {
        self.history.push_back((features, watts));
        self.sums.add(&features, watts, 1.0);
        if self.history.len() > settings.history
            && let Some((features, watts)) = self.history.pop_front()
        {
            self.sums.add(&features, watts, -1.0);
        }
        let is_outdated = match self.model {
            None => true,
            Some((coefficients, constant)) => {
                self.errors.push_back((watts - dot(&coefficients, &features) - constant).abs());
                if self.errors.len() > ERROR_SAMPLES {
                    self.errors.pop_front();
                }
                let mut errors: Vec<f64> = self.errors.iter().copied().collect();
                errors.sort_by(f64::total_cmp);
                errors[errors.len() / 2] >= settings.threshold
            }
        };
        if is_outdated && self.history.len() >= MIN_SAMPLES {
            let with_constant = self.history.len() >= settings.constant;
            self.model = Some(self.sums.fit(self.history.len() as f64, with_constant));
        }
    }
}

impl Sums {
    fn add(&mut self, features: &Features, watts: f64, times: f64) {
        self.y += times * watts;
        for i in 0..FEATURES {
            self.x[i] += times * features[i];
            self.xy[i] += times * features[i] * watts;
            (0..FEATURES).for_each(|j| self.xx[i][j] += times * features[i] * features[j]);
        }
    }

    /// Least squares with coefficients of 0 or more, by coordinate descent.
    fn fit(&self, count: f64, with_constant: bool) -> (Features, f64) {
        let weight = if with_constant { 1.0 / count } else { 0.0 };
        let mut coefficients = [0.0; FEATURES];
        for _ in 0..300 {
            for i in 0..FEATURES {
                let centred = |j: usize| self.xx[i][j] - self.x[i] * self.x[j] * weight;
                let others: f64 =
                    (0..FEATURES).filter(|&j| j != i).map(|j| coefficients[j] * centred(j)).sum();
                let slope = self.xy[i] - self.x[i] * self.y * weight - others;
                coefficients[i] = if centred(i) > 1e-12 { (slope / centred(i)).max(0.0) } else { 0.0 };
            }
        }
        let constant = (self.y - dot(&coefficients, &self.x)) * weight;
        (coefficients, constant.max(0.0))
    }
}

fn dot(a: &Features, b: &Features) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
