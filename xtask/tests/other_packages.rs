//! The package for Fedora, which Debian's rpm reads and unpacks, and the tarball.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may panic: that is how tests fail")]

mod support;

use std::process::Command;

use support::{can_run, dist, has, run, text};

#[test]
fn a_package_for_fedora_has_the_same_files_and_its_own_scripts() {
    if !can_run(&[("rpm", has("rpm")), ("the built agent", support::agent().exists())]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let package = dist("rpm", 3, dir.path());
    let ask = |question: &[&str]| {
        text(Command::new("rpm").args(["--query", "--package"]).args(question).arg(&package))
    };
    assert_eq!(ask(&["--queryformat", "%{NAME} %{RELEASE} %{LICENSE}"]), "wattrace 3 MIT OR Apache-2.0");
    let files = ask(&["--list"]);
    for file in [
        "/usr/bin/wattrace",
        "/usr/lib/systemd/system/wattrace.service",
        "/usr/share/man/man1/wattrace-run.1.gz",
        "/usr/share/zsh/site-functions/_wattrace",
        "/usr/share/doc/wattrace/copyright",
    ] {
        assert!(files.lines().any(|line| line == file), "{file} is not in\n{files}");
    }
    assert_eq!(ask(&["--configfiles"]), "/etc/wattrace/wattrace.toml");
    assert!(ask(&["--requires"]).contains("glibc >= 2."));
    let scripts = ask(&["--scripts"]);
    for part in ["systemctl preset wattrace.service", "disable --now", "try-restart"] {
        assert!(scripts.contains(part), "{part} is not in\n{scripts}");
    }
    // Unpacked, it runs.
    let unpack = "rpm2cpio \"$0\" | cpio --quiet --extract --make-directories --directory \"$1\"";
    let root = dir.path().join("root");
    std::fs::create_dir(&root).unwrap();
    run(Command::new("sh").args(["-c", unpack]).arg(&package).arg(&root));
    let version = format!("wattrace {}", env!("CARGO_PKG_VERSION"));
    assert!(text(Command::new(root.join("usr/bin/wattrace")).arg("--version")).starts_with(&version));
}

#[test]
fn a_tarball_is_an_installation_and_the_same_every_time() {
    if !can_run(&[("the built agent", support::agent().exists())]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let [first, second] = ["first", "second"].map(|name| dist("tar", 1, &dir.path().join(name)));
    assert!(std::fs::read(&first).unwrap() == std::fs::read(&second).unwrap(), "they differ");
    let local = dir.path().join("local");
    std::fs::create_dir(&local).unwrap();
    run(Command::new("tar").arg("-xf").arg(&first).arg("-C").arg(&local).arg("--strip-components=1"));
    let version = format!("wattrace {}", env!("CARGO_PKG_VERSION"));
    assert!(text(Command::new(local.join("bin/wattrace")).arg("--version")).starts_with(&version));
    for file in ["lib/systemd/system/wattrace.service", "etc/wattrace.toml", "share/man/man1/wattrace.1.gz"] {
        assert!(local.join(file).exists(), "{file} is missing");
    }
}
