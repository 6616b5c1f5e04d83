//! `build-ebpf`: builds `ebpf/` with a compiler and for a target of its own, and leaves the object where the
//! build script of `plugins/sched` expects it.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::environment::forget_host_toolchain;
use crate::process::{run, run_quietly, say};
use crate::{setup, workspace};

/// Builds the kernel programs; the object is touched only if it changes, so that nothing is rebuilt for
/// nothing.
pub(crate) fn build() -> Result<()> {
    let (compiler, linker) = setup::ensure()?;
    say("build-ebpf", format_args!("with {compiler}"));
    let target = workspace::ebpf_target();
    let mut cargo = Command::new(&compiler.cargo);
    // Its own .cargo/config.toml, which names the target, is found from its own folder.
    cargo
        .current_dir(workspace::root().join("ebpf"))
        .args(["build", "--release", "--target-dir"])
        .arg(&target);
    forget_host_toolchain(&mut cargo);
    cargo.env("RUSTC", &compiler.rustc).env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", &linker.path);
    // Building core is unstable; a released compiler does it when told that we know.
    cargo.env("RUSTC_BOOTSTRAP", "1");
    run(&mut cargo)?;

    let built = target.join("bpfel-unknown-none/release/wattrace-ebpf");
    let fresh = target.join("wattrace-ebpf.o.new");
    strip(compiler.llvm, &built, &fresh)?;
    let object = workspace::ebpf_object();
    let changed = replace_if_changed(&fresh, &object)?;
    let size = fs::metadata(&object).map_or(0, |object| object.len());
    let state = if changed { "new" } else { "unchanged" };
    say("build-ebpf", format_args!("{} ({} KiB, {state})", object.display(), size.div_ceil(1024)));
    Ok(())
}

/// Copies without DWARF, five sixths of the object and of no use to the kernel, which reads BTF. Where there
/// is no tool for it, the copy keeps it.
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

/// Moves `fresh` over `object` unless they are equal. Says whether they differed.
fn replace_if_changed(fresh: &Path, object: &Path) -> Result<bool> {
    let new = fs::read(fresh).with_context(|| format!("cannot read {}", fresh.display()))?;
    if fs::read(object).is_ok_and(|old| old == new) {
        fs::remove_file(fresh).with_context(|| format!("cannot remove {}", fresh.display()))?;
        return Ok(false);
    }
    fs::rename(fresh, object).with_context(|| format!("cannot write {}", object.display()))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_tool_is_told_from_one_that_fails() {
        let error = |program: &str| run_quietly(&mut Command::new(program)).unwrap_err();
        assert!(is_missing(&error("wattrace-no-such-program")));
        assert!(!is_missing(&error("false")));
    }

    #[test]
    fn an_equal_object_is_left_alone() {
        let dir = std::env::temp_dir().join(format!("wattrace-xtask-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let (fresh, object) = (dir.join("fresh"), dir.join("object"));
        let mut outcomes = Vec::new();
        for content in ["one", "one", "two"] {
            fs::write(&fresh, content).unwrap();
            outcomes.push(replace_if_changed(&fresh, &object).unwrap());
            assert_eq!(fs::read_to_string(&object).unwrap(), content);
            assert!(!fresh.exists());
        }
        assert_eq!(outcomes, [true, false, true]);
        fs::remove_dir_all(&dir).unwrap();
    }
}
