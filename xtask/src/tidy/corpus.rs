//! The fuzzing corpora stay small: they are regression tests, and what a fuzzer needs beyond them it finds
//! again.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::Violation;

/// Inputs of one target, and bytes of all targets.
pub(crate) const MAX_INPUTS: usize = 40;
const MAX_BYTES: u64 = 2_000_000;

pub(super) fn check(root: &Path) -> Result<Vec<Violation>> {
    let corpus = Path::new("fuzz/corpus");
    let (mut violations, mut bytes) = (Vec::new(), 0);
    let violation = |file: &Path, message| Violation { file: file.to_owned(), line: 0, message };
    let targets = fs::read_dir(root.join(corpus)).context("fuzz/corpus")?;
    for target in targets {
        let target = target.context("fuzz/corpus")?;
        let mut inputs = 0;
        for input in fs::read_dir(target.path()).context("fuzz/corpus")? {
            inputs += 1;
            bytes += input.and_then(|input| input.metadata()).context("fuzz/corpus")?.len();
        }
        if inputs > MAX_INPUTS {
            let message =
                format!("{inputs} inputs: minimise them to {MAX_INPUTS} (`cargo xtask fuzz --minimise`)");
            violations.push(violation(&corpus.join(target.file_name()), message));
        }
    }
    if bytes > MAX_BYTES {
        violations.push(violation(corpus, format!("{bytes} bytes in all: keep {MAX_BYTES} at most")));
    }
    Ok(violations)
}
