//! `build-ebpf`: builds `ebpf/` with its own compiler for its own target, and puts the objects where the
//! build script and the benchmarks of `plugins/sched` expect them.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::environment::forget_host_toolchain;
use crate::process::{run, run_quietly, say};
use crate::{toolchain, workspace};

/// Builds the kernel programs, and those of the benchmarks. An object is written only if it changes, so that
/// cargo rebuilds nothing without need.
pub(crate) fn build() -> Result<()> {
    let (compiler, linker) = toolchain::ensure()?;
    say("build-ebpf", format_args!("with {compiler}"));
    let target = workspace::ebpf_target();
    let mut cargo = Command::new(&compiler.cargo);
    // cargo finds the folder's own .cargo/config.toml, which names the target, only from there.
    cargo
        .current_dir(workspace::root().join("ebpf"))
        .args(["build", "--release", "--target-dir"])
        .arg(&target);
    forget_host_toolchain(&mut cargo);
    cargo.env("RUSTC", &compiler.rustc).env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", &linker.path);
    // Building core is an unstable feature, which a released compiler allows if this is set.
    cargo.env("RUSTC_BOOTSTRAP", "1");
    run(&mut cargo)?;

    let built = target.join("bpfel-unknown-none/release");
    install(compiler.llvm, &built.join("wattrace-ebpf"), &workspace::ebpf_object())?;
    install(compiler.llvm, &built.join("wattrace-ebpf-bench"), &workspace::ebpf_bench_object())
}

/// Copies the object that was built to where it is expected.
fn install(llvm: u32, built: &Path, object: &Path) -> Result<()> {
    let new = object.with_extension("o.new");
    strip(llvm, built, &new)?;
    let changed = replace_if_changed(&new, object)?;
    let size = fs::metadata(object).map_or(0, |object| object.len());
    let state = if changed { "new" } else { "unchanged" };
    say("build-ebpf", format_args!("{} ({} KiB, {state})", object.display(), size.div_ceil(1024)));
    Ok(())
}

/// Copies without DWARF, which is five sixths of the object and which the kernel does not use: it reads BTF.
/// If there is no tool to remove it, the copy keeps it.
fn strip(llvm: u32, from: &Path, to: &Path) -> Result<()> {
    let names = [
        format!("/usr/lib/llvm-{llvm}/bin/llvm-objcopy"),
        format!("llvm-objcopy-{llvm}"),
        "llvm-objcopy".into(),
    ];
    for name in names.map(PathBuf::from) {
        let mut objcopy = Command::new(&name);
        objcopy.arg("--strip-debug").args([from, to]);
        match run_quietly(&mut objcopy) {
            Ok(()) => return Ok(()),
            Err(error) if is_missing(&error) => {}
            Err(error) => return Err(error),
        }
    }
    fs::copy(from, to)
        .map(drop)
        .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))
}

fn is_missing(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == ErrorKind::NotFound)
}

/// Moves `new` over `object` unless they are equal. Returns whether they differed.
fn replace_if_changed(new: &Path, object: &Path) -> Result<bool> {
    let content = fs::read(new).with_context(|| format!("cannot read {}", new.display()))?;
    if fs::read(object).is_ok_and(|old| old == content) {
        fs::remove_file(new).with_context(|| format!("cannot remove {}", new.display()))?;
        return Ok(false);
    }
    fs::rename(new, object).with_context(|| format!("cannot write {}", object.display()))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_tool_is_distinguished_from_one_that_fails() {
        let error = |program: &str| run_quietly(&mut Command::new(program)).unwrap_err();
        assert!(is_missing(&error("wattrace-no-such-program")));
        assert!(!is_missing(&error("false")));
    }

    #[test]
    fn an_equal_object_is_left_alone() {
        let dir = std::env::temp_dir().join(format!("wattrace-xtask-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let (new, object) = (dir.join("new"), dir.join("object"));
        let mut outcomes = Vec::new();
        for content in ["one", "one", "two"] {
            fs::write(&new, content).unwrap();
            outcomes.push(replace_if_changed(&new, &object).unwrap());
            assert_eq!(fs::read_to_string(&object).unwrap(), content);
            assert!(!new.exists());
        }
        assert_eq!(outcomes, [true, false, true]);
        fs::remove_dir_all(&dir).unwrap();
    }
}
