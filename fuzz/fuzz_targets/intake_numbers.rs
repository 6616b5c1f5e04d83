//! Numbers that others send, as text and as floating-point numbers.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wattrace_intake::number::{steps_of_f64, steps_of_text};

fuzz_target!(|text: &str| {
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
    if let Some(bytes) = text.as_bytes().first_chunk::<8>() {
        _ = steps_of_f64(f64::from_le_bytes(*bytes), 6);
    }
});
