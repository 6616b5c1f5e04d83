//! `build-ebpf`: builds `ebpf/` with its own compiler for its own target.
//!
//! The object is part of the repository, as `ebpf/wattrace-ebpf.o`, so that building the agent takes no
//! compiler of eBPF. Beside it are the checksums of the sources that it was built from. Where they changed,
//! every command builds it again; `test` builds it in any case, and compares.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::compiler::Compiler;
use crate::environment::forget_host_toolchain;
use crate::process::{read, run, run_quietly, say};
use crate::{toolchain, workspace};

/// Beside the folders `src`, what the programs are built from; relative to the root.
const SOURCES: [&str; 4] =
    ["common/Cargo.toml", "ebpf/.cargo/config.toml", "ebpf/Cargo.lock", "ebpf/Cargo.toml"];
const FOLDERS: [&str; 2] = ["common/src", "ebpf/src"];

/// Builds the kernel programs unless the object is that of their sources.
pub(crate) fn build() -> Result<()> {
    if is_current()? {
        return Ok(());
    }
    say("build-ebpf", "the sources of the kernel programs changed");
    rebuild()
}

/// Whether the object is that of the sources, by their checksums.
fn is_current() -> Result<bool> {
    let checksums = fs::read_to_string(workspace::ebpf_checksums()).unwrap_or_default();
    Ok(workspace::ebpf_object().exists() && without_comments(&checksums) == checksums_now()?)
}

/// Builds the kernel programs, and those of the benchmarks.
pub(crate) fn rebuild() -> Result<()> {
    let compiler = compile()?;
    install(&compiler, "wattrace-ebpf", &workspace::ebpf_object())?;
    let checksums = workspace::ebpf_checksums();
    let text = format!("{}{}", comments(&compiler), checksums_now()?);
    fs::write(&checksums, text).with_context(|| format!("cannot write {}", checksums.display()))
}

/// Builds the programs of the benchmarks.
pub(crate) fn build_for_benches() -> Result<()> {
    build()?;
    install(&compile()?, "wattrace-ebpf-bench", &workspace::ebpf_bench_object())
}

/// Builds the kernel programs beside the object, and compares, if it was this compiler that built it. Under
/// CI=true an object of other sources is an error: what is built there is in no repository.
pub(crate) fn verify() -> Result<()> {
    let ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
    if ci && !is_current()? {
        let object = workspace::ebpf_object();
        bail!("{} is not of these sources: cargo xtask build-ebpf, and commit it", object.display());
    }
    build()?;
    let compiler = compile()?;
    let checksums = fs::read_to_string(workspace::ebpf_checksums()).unwrap_or_default();
    if !checksums.starts_with(&comments(&compiler)) {
        say("build-ebpf", "another compiler built the object: not compared");
        return Ok(());
    }
    let (object, again) = (workspace::ebpf_object(), workspace::ebpf_target().join("again.o"));
    install(&compiler, "wattrace-ebpf", &again)?;
    if fs::read(&object)? != fs::read(&again)? {
        bail!("{} is not what its sources give: cargo xtask build-ebpf", object.display());
    }
    Ok(())
}

/// The comments above the checksums, which `sha256sum --check` skips.
fn comments(compiler: &Compiler) -> String {
    format!(
        "# What wattrace-ebpf.o was built from. Written by `cargo xtask build-ebpf`.\n# Compiler: {}\n",
        compiler.version()
    )
}

fn without_comments(checksums: &str) -> String {
    checksums.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect()
}

/// The checksums of the sources and of the object, as `sha256sum` prints them.
fn checksums_now() -> Result<String> {
    let root = workspace::root();
    let mut files: Vec<_> = SOURCES.map(PathBuf::from).into();
    for folder in FOLDERS {
        let listed = fs::read_dir(root.join(folder)).with_context(|| format!("cannot read {folder}"))?;
        for file in listed {
            files.push(Path::new(folder).join(file?.file_name()));
        }
    }
    files.sort();
    files.push("ebpf/wattrace-ebpf.o".into());
    read(Command::new("sha256sum").current_dir(root).args(files))
}

/// Has cargo build all programs.
fn compile() -> Result<Compiler> {
    let (compiler, linker) = toolchain::ensure()?;
    say("build-ebpf", format_args!("with {compiler}"));
    let mut cargo = Command::new(&compiler.cargo);
    // cargo finds the folder's own .cargo/config.toml, which names the target, only from there.
    cargo
        .current_dir(workspace::root().join("ebpf"))
        .args(["--config", &without_paths(), "build", "--release", "--target-dir"])
        .arg(workspace::ebpf_target());
    forget_host_toolchain(&mut cargo);
    cargo.env("RUSTC", &compiler.rustc).env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", &linker.path);
    // Building core is an unstable feature, which a released compiler allows if this is set.
    cargo.env("RUSTC_BOOTSTRAP", "1");
    run(&mut cargo)?;
    Ok(compiler)
}

/// A setting of cargo: the object's line numbers are those of files of the repository and of the registry,
/// wherever these are.
fn without_paths() -> String {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(std::env::home_dir()?.join(".cargo"))).unwrap_or_default();
    let prefixes = [workspace::root().to_owned(), home.join("registry/src")];
    let flags = prefixes.map(|prefix| format!("\"--remap-path-prefix={}/=\"", prefix.display()));
    format!("target.bpfel-unknown-none.rustflags=[{}]", flags.join(","))
}

/// Copies the object that was built to where it is expected. It is written only if it changes, so that cargo
/// rebuilds nothing without need.
fn install(compiler: &Compiler, name: &str, object: &Path) -> Result<()> {
    let built = workspace::ebpf_target().join("bpfel-unknown-none/release").join(name);
    let new = workspace::ebpf_target().join("new.o");
    strip(compiler.llvm, &built, &new)?;
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
    fn the_object_of_the_repository_is_that_of_its_sources() {
        let checksums = fs::read_to_string(workspace::ebpf_checksums()).unwrap();
        assert_eq!(without_comments(&checksums), checksums_now().unwrap(), "cargo xtask build-ebpf");
        assert!(checksums.starts_with("# What ") && checksums.contains("# Compiler: "), "{checksums}");
        let object = fs::read(workspace::ebpf_object()).unwrap();
        let root = workspace::root().display().to_string();
        for place in [root.as_str(), "/.cargo/", "/home/"] {
            assert!(!object.windows(place.len()).any(|part| part == place.as_bytes()), "it names {place}");
        }
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
