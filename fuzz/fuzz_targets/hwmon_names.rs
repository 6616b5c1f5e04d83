//! The names that hwmon's drivers give, in two lines: the driver's and the channel's.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let (driver, label) = text.split_once('\n').unwrap_or((text, ""));
    let domain = wattrace_hwmon::fuzzing::domain_of(driver, label);
    assert!(!domain.is_empty(), "every domain has a name");
});
