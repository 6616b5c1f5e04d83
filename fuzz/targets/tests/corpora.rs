//! What fuzzing found worth keeping (`fuzz/corpus`) is read without a panic, on every compiler and with every
//! change.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic: that is how tests fail")]

use std::collections::BTreeSet;
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use wattrace_fuzz_targets::TARGETS;

fn fuzz(part: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(part)
}

fn names(part: &str) -> BTreeSet<String> {
    let stem = |entry: fs::DirEntry| entry.path().file_stem().unwrap().to_str().unwrap().to_owned();
    fs::read_dir(fuzz(part)).unwrap().map(|entry| stem(entry.unwrap())).collect()
}

#[test]
fn every_target_is_fuzzed_and_has_a_corpus() {
    let targets: BTreeSet<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names("fuzz_targets"), targets);
    assert_eq!(names("corpus"), targets);
    let manifest = fs::read_to_string(fuzz("Cargo.toml")).unwrap();
    for name in targets {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "fuzz/Cargo.toml has no [[bin]] {name}");
    }
}

#[test]
fn whatever_was_kept_is_read_without_a_panic() {
    let mut failed = Vec::new();
    for (name, target) in TARGETS {
        let kept = fs::read_dir(fuzz("corpus").join(name)).unwrap();
        let mut kept: Vec<_> = kept.map(|entry| entry.unwrap().path()).collect();
        kept.sort();
        assert!(!kept.is_empty(), "fuzz/corpus/{name} is empty: put something real into it");
        for path in kept {
            let bytes = fs::read(&path).unwrap();
            if catch_unwind(|| target(&bytes)).is_err() {
                failed.push(path);
            }
        }
    }
    assert!(failed.is_empty(), "these made their target panic: {failed:#?}");
}

/// A few random changes of what was kept, or of two inputs put together.
fn changed(kept: &[Vec<u8>], random: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes = kept[random.usize(..kept.len())].clone();
    for _ in 0..random.usize(1..6) {
        let at = random.usize(..=bytes.len());
        match random.u8(..6) {
            0 => bytes.insert(at, random.u8(..)),
            1 => bytes.truncate(at),
            2 => bytes = bytes[..at].iter().chain(&kept[random.usize(..kept.len())]).copied().collect(),
            3 => bytes = bytes[at..].to_vec(),
            4 => bytes.iter_mut().skip(at).take(random.usize(..9)).for_each(|byte| *byte = random.u8(..)),
            _ => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << random.u8(..8)),
        }
    }
    bytes
}

/// What libFuzzer does for hours, for a moment and without its guidance, where it is not installed.
#[test]
fn random_changes_of_what_was_kept_are_read_without_a_panic() {
    let mut failed = Vec::new();
    for (name, target) in TARGETS {
        let kept = fs::read_dir(fuzz("corpus").join(name)).unwrap();
        let mut kept: Vec<_> = kept.map(|entry| entry.unwrap().path()).collect();
        kept.sort();
        let kept: Vec<_> = kept.iter().map(|path| fs::read(path).unwrap()).collect();
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..500 {
            let bytes = changed(&kept, &mut random);
            if catch_unwind(|| target(&bytes)).is_err() {
                failed.push(format!("{name}: {}", bytes.escape_ascii()));
                break;
            }
        }
    }
    assert!(failed.is_empty(), "these made their target panic: {failed:#?}");
}
