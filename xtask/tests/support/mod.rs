//! What the tests of packages share: the packages of the built agent, Podman, and what is missing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests may panic")]
#![allow(dead_code, reason = "each test binary uses its part of it")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whether all of `needs` are there. Otherwise the test is skipped with a message, and fails under CI=true.
pub(crate) fn can_run(needs: &[(&str, bool)]) -> bool {
    let missing: Vec<_> = needs.iter().filter(|(_, there)| !there).map(|(what, _)| *what).collect();
    if missing.is_empty() {
        return true;
    }
    let missing = missing.join(", ");
    assert!(std::env::var("CI").as_deref() != Ok("true"), "missing: {missing}; cargo xtask setup --test");
    eprintln!("skipped: missing: {missing} (cargo xtask setup --test)");
    false
}

/// Whether a program is installed.
pub(crate) fn has(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok()
}

/// Whether this is root.
pub(crate) fn is_root() -> bool {
    text(Command::new("id").arg("-u")) == "0"
}

/// The agent that cargo builds beside xtask.
pub(crate) fn agent() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_xtask")).with_file_name("wattrace")
}

/// A file that `cargo xtask setup --test` puts into target/vm.
pub(crate) fn of_setup(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/vm").join(name)
}

/// Makes a format of the built agent in `output`; returns the file.
pub(crate) fn dist(format: &str, revision: u32, output: &Path) -> PathBuf {
    let mut xtask = Command::new(env!("CARGO_BIN_EXE_xtask"));
    xtask.args(["dist", format, "--revision", &revision.to_string()]).arg("--binary").arg(agent());
    // A commit meanwhile changes nothing.
    xtask.env("SOURCE_DATE_EPOCH", "1767225600");
    let said = run(xtask.arg("--output").arg(output));
    // `dist: PATH (SIZE MB)`, in the last line.
    let said = String::from_utf8(said.stderr).unwrap();
    let path = said.lines().last().unwrap().strip_prefix("dist: ").unwrap().rsplit_once(" (").unwrap().0;
    path.into()
}

/// Runs a command that must succeed.
#[track_caller]
pub(crate) fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let [out, err] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    assert!(output.status.success(), "{command:?}: {}\n{out}{err}", output.status);
    output
}

/// What a command that must succeed prints, trimmed.
#[track_caller]
pub(crate) fn text(command: &mut Command) -> String {
    String::from_utf8(run(command).stdout).unwrap().trim().to_owned()
}

/// What `probe` gives as soon as it gives something.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < until, "{what}: not within {PATIENCE:?}");
        sleep(Duration::from_millis(100));
    }
}

/// Podman with a store below a directory of its own, and cgroup v2 at the usual place, in a mount namespace.
pub(crate) struct Podman {
    dir: PathBuf,
}

impl Podman {
    /// With all its files below `dir`.
    pub(crate) fn new(dir: &Path) -> Self {
        Self { dir: dir.join("podman") }
    }

    /// A command of podman.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let own = "mountpoint -q /sys/fs/cgroup && [ -e /sys/fs/cgroup/cgroup.controllers ] || {
                       umount -R /sys/fs/cgroup 2> /dev/null; mount -t cgroup2 none /sys/fs/cgroup; } || exit
                   exec podman --root \"$0/root\" --runroot \"$0/run\" --storage-driver vfs \
                       --cgroup-manager cgroupfs --events-backend file --runtime crun \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", own]).arg(&self.dir).args(arguments);
        command
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let _ = self.command(&["rm", "--force", "--all", "--time", "0"]).output();
    }
}
