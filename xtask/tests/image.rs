//! The container image, run by Podman as a user without rights beyond those that it is given, and without
//! those.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may panic: that is how tests fail")]

mod support;

use std::process::Command;

use serde_json::Value;
use support::{Podman, can_run, dist, has, is_root, run, text};

/// The profile of older Podmans lets nobody call bpf(2) without CAP_SYS_ADMIN.
const RIGHTS: [&str; 5] = [
    "--cap-add=BPF",
    "--cap-add=PERFMON",
    "--cap-add=SYS_PTRACE",
    "--cap-add=DAC_READ_SEARCH",
    "--security-opt=seccomp=unconfined",
];
/// Nothing that it is not given, and no cgroup of its own: some machines let nobody install the filter of
/// devices that belongs to one.
const BARE: [&str; 7] = [
    "run",
    "--rm",
    "--cgroups=disabled",
    "--network=none",
    "--read-only",
    "--cap-drop=all",
    "--tmpfs=/var/lib/wattrace:mode=1777",
];

/// Podman, with the image in its store.
struct Image {
    podman: Podman,
    name: String,
    _dir: tempfile::TempDir,
}

impl Image {
    fn load() -> Option<Self> {
        let needs = [
            ("root", is_root()),
            ("podman", has("podman") && has("crun") && has("conmon")),
            ("setcap", has("setcap")),
            ("the built agent", support::agent().exists()),
        ];
        if !can_run(&needs) {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let archive = dist("image", 1, &dir.path().join("output"));
        let podman = Podman::new(dir.path());
        run(podman.command(&["load", "--quiet", "--input"]).arg(archive));
        Some(Self { podman, name: format!("localhost/wattrace:{}", env!("CARGO_PKG_VERSION")), _dir: dir })
    }

    /// A container of it with these options, which runs the agent with these arguments.
    fn run(&self, options: &[&str], arguments: &[&str]) -> Command {
        let mut command = self.podman.command(&BARE);
        // Some machines allow no higher limits.
        command.args(["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"]);
        command.args(options).arg(&self.name).args(arguments);
        command
    }
}

#[test]
fn the_image_traces_as_a_user_of_its_own_with_four_capabilities() {
    let Some(image) = Image::load() else { return };
    let inspect =
        |field: &str| text(&mut image.podman.command(&["image", "inspect", "--format", field, &image.name]));
    assert_eq!(inspect("{{.User}}"), "65532:65532");
    assert_eq!(inspect("{{index .Labels \"org.opencontainers.image.version\"}}"), env!("CARGO_PKG_VERSION"));

    // The only program in it is the agent, so it traces itself.
    let command =
        ["exec", "--format", "json", "--baseline", "none", "--", "/usr/bin/wattrace", "plugins", "list"];
    let output = run(&mut image.run(&RIGHTS, &command));
    let out = String::from_utf8(output.stdout).unwrap();
    let report: Value = serde_json::from_str(&out[out.find("{\n").or(out.find("{\"")).unwrap()..]).unwrap();
    assert_eq!((&report["exit_code"], &report["total"]["processes"]), (&0.into(), &1.into()), "{report:#}");
    assert!(report["total"]["cpu_time_s"].as_f64().unwrap() > 0.0, "{report:#}");
    assert!(report["total"]["energy_j"].as_f64().unwrap() > 0.0, "{report:#}");
}

#[test]
fn without_capabilities_the_image_starts_and_says_what_is_missing() {
    let Some(image) = Image::load() else { return };
    let output = image.run(&[], &["doctor", "--format", "json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report.to_string().contains("CAP_BPF"), "{report:#}");
}
