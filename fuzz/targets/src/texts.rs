//! Files and answers that are text: of bytes that are none, as much as is.

use std::hint::black_box;

use wattrace_ingest::number::{steps_of_f64, steps_of_text};
use wattrace_rapl::fuzzing::{cpu_list, energy_uj, event, modalias, zones};

fn text(bytes: &[u8]) -> &str {
    bytes.utf8_chunks().next().map(|chunk| chunk.valid()).unwrap_or_default()
}

/// The file of a price or of the grid's intensity.
pub fn rate(bytes: &[u8]) {
    wattrace_carbon::fuzzing::rate(text(bytes));
}

/// A process's cgroups, and its `stat`.
pub fn cgroup(bytes: &[u8]) {
    wattrace_groups::fuzzing::cgroup(text(bytes));
    wattrace_groups::fuzzing::stat(text(bytes));
}

/// `/proc/cpuinfo`, and the power that is looked up by it.
pub fn cpuinfo(bytes: &[u8]) {
    wattrace_estimate::fuzzing::cpuinfo(text(bytes));
}

/// A counter of a Cray node in joules, and one of resctrl with decimals: never negative.
pub fn counter(bytes: &[u8]) {
    if let Some((joules, _)) = wattrace_cray::fuzzing::reading(text(bytes)) {
        assert!(joules >= 0);
    }
    if let Some(millionths) = wattrace_meter::sysfs::parse_millionths(bytes) {
        assert!(millionths >= 0);
    }
}

/// What the kernel says of a GPU's clients.
pub fn fdinfo(bytes: &[u8]) {
    wattrace_drm::fuzzing::fdinfo(text(bytes));
}

/// A unit, and an expression.
pub fn formula(bytes: &[u8]) {
    wattrace_formula::fuzzing::formula(text(bytes));
}

/// The names that hwmon's drivers give, in two lines: the driver's and the channel's.
pub fn names(bytes: &[u8]) {
    let text = text(bytes);
    let (driver, label) = text.split_once('\n').unwrap_or((text, ""));
    let domain = wattrace_hwmon::fuzzing::domain_of(driver, label);
    assert!(!domain.is_empty(), "every domain has a name");
}

/// Numbers that others send, as text and as floating-point numbers.
pub fn numbers(bytes: &[u8]) {
    let text = text(bytes);
    for digits in [0, 6, 9] {
        if let Ok(steps) = steps_of_text(text, digits)
            && let Ok(value) = text.parse::<f64>()
        {
            // The text is exact, the number nearly so.
            let exact = steps as f64;
            let near = value * 10_f64.powi(digits as i32);
            assert!((exact - near).abs() <= 1.0 + near.abs() * 1e-12, "{text}: {exact} {near}");
        }
    }
    if let Some(bytes) = bytes.first_chunk::<8>() {
        _ = black_box(steps_of_f64(f64::from_le_bytes(*bytes), 6));
    }
}

/// A calibrated profile.
pub fn profile(bytes: &[u8]) {
    wattrace_estimate::fuzzing::profile(text(bytes));
}

/// What the kernel says of RAPL: the first byte decides which file.
pub fn rapl(bytes: &[u8]) {
    let Some((which, text)) = text(bytes).split_at_checked(1) else { return };
    match which {
        "e" => energy_uj(text.as_bytes()),
        "z" => zones(text),
        "p" => event(text),
        "c" => cpu_list(text),
        _ => modalias(text),
    }
}
