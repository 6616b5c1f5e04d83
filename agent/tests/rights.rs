//! An agent whose file has the capabilities that the user's guide gives it: another user who runs it sees
//! what processes use, and no file that the user could not read anyway.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may panic: that is how tests fail")]

mod support;

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use support::{is_root, metric, read_jsonl, wattrace};
use tempfile::TempDir;

/// As the user's guide has it.
const SETCAP: &str = "cap_bpf,cap_perfmon,cap_sys_ptrace,cap_dac_read_search+ep";
const NOBODY: u32 = 65534;
const SECRET: &str = "open-sesame-1234";

/// A copy of the agent with capabilities, a file that only root may read, and a directory of the user's.
struct Place {
    dir: TempDir,
}

impl Place {
    /// `None`, with a message: this is not root, or `setcap` is missing.
    fn new() -> Option<Self> {
        if !is_root() {
            return None;
        }
        let place = Self { dir: tempfile::tempdir().unwrap() };
        fs::set_permissions(place.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::copy(wattrace().get_program(), place.file("wattrace")).unwrap();
        let set = Command::new("setcap").arg(SETCAP).arg(place.file("wattrace")).status();
        if !set.is_ok_and(|status| status.success()) {
            eprintln!("skipped: setcap is missing (package libcap2-bin), or {SETCAP} cannot be set here");
            return None;
        }
        fs::create_dir(place.file("own")).unwrap();
        std::os::unix::fs::chown(place.file("own"), Some(NOBODY), Some(NOBODY)).unwrap();
        place.write("secret", &format!("{SECRET}\n"), 0o600);
        Some(place)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str, mode: u32) -> String {
        let path = self.file(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Runs the agent as a user without rights.
    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(self.file("wattrace"));
        command.args(arguments).uid(NOBODY).gid(NOBODY).current_dir(self.file("own"));
        command.env("XDG_STATE_HOME", self.file("own/state"));
        command.env_remove("WATTRACE_LOG").stdin(Stdio::null()).output().unwrap()
    }

    /// What the agent writes when it is run with `arguments` and ends with `code`.
    fn output(&self, arguments: &[&str], code: i32) -> String {
        let output = self.run(arguments);
        let text = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        let text = text.join("");
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
        assert!(!text.contains(SECRET), "{arguments:?} shows the file: {text}");
        text
    }
}

#[test]
fn a_file_that_only_root_may_read_stays_unread_whichever_option_names_it() {
    let Some(place) = Place::new() else { return };
    let secret = place.file("secret");
    let secret = secret.to_str().unwrap();
    for command in [&["config", "show"][..], &["config", "check"], &["run", "--duration", "1s"]] {
        let text = place.output(&[command, &["--config", secret]].concat(), 2);
        assert!(text.contains("Permission denied") && text.contains("--config FILE"), "{text}");
    }
    // A tree of the user's whose meter leads to the file.
    let zone = place.file("own/sys/class/powercap/intel-rapl:0");
    fs::create_dir_all(&zone).unwrap();
    fs::write(zone.join("name"), "package-0\n").unwrap();
    fs::write(zone.join("max_energy_range_uj"), "262143328850\n").unwrap();
    fs::write(place.file("secret"), "1234567\n").unwrap();
    symlink(secret, zone.join("energy_uj")).unwrap();
    let root = format!("plugins.rapl.sysfs_root={}", place.file("own/sys").display());
    let run = ["run", "--duration", "1s", "--plugins", "rapl,csv", "--set", "plugins.csv.path=-"];
    let text = place.output(&[&run[..], &["--set", &root]].concat(), 1);
    assert!(text.contains("Permission denied") && !text.contains("1234567"), "{text}");
    let socket = format!("agent.control_socket={}", place.file("of-root.sock").display());
    let trace = ["run", "--duration", "1s", "--plugins", "sched,csv", "--set", "plugins.csv.path=/dev/null"];
    let text = place.output(&[&trace[..], &["--set", &socket]].concat(), 0);
    assert!(text.contains("Permission denied") && !place.file("of-root.sock").exists(), "{text}");
    let state = format!("plugins.attribution.state={secret}");
    let trace = ["run", "--duration", "1s", "--plugins", "sched,attribution,csv", "--set", &state];
    let text = place.output(&[&trace[..], &["--set", "plugins.csv.path=/dev/null"]].concat(), 0);
    assert!(text.contains("plugins.attribution.state") && text.contains("Permission denied"), "{text}");
}

#[test]
fn without_rights_the_message_is_about_rights_alone() {
    let Some(place) = Place::new() else { return };
    assert!(Command::new("setcap").arg("-r").arg(place.file("wattrace")).status().unwrap().success());
    for (arguments, code) in [(&["run", "--duration", "1s"][..], 1), (&["exec", "--", "true"], 125)] {
        let text = place.output(arguments, code);
        let said: Vec<_> = text.lines().filter(|line| line.contains("permission to load eBPF")).collect();
        assert!(matches!(said[..], [line] if line.contains("run with sudo")), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
    }
}

#[test]
fn what_talks_to_other_machines_is_configured_by_root_alone() {
    let Some(place) = Place::new() else { return };
    let refused = |arguments: &[&str]| {
        let text = place.output(&[&["config", "check"], arguments].concat(), 2);
        assert!(text.contains("talks to other machines") && text.contains("sudo"), "{text}");
    };
    let bmc = "[plugins.bmc]\nendpoint = 'https://192.0.2.1'\n";
    refused(&["--set", "plugins.bmc.endpoint=https://192.0.2.1", "--set", "plugins.bmc.password_file=x"]);
    refused(&["--plugins", "sched,otlp-receiver"]);
    let own = place.write("own/w.toml", bmc, 0o644);
    std::os::unix::fs::chown(&own, Some(NOBODY), Some(NOBODY)).unwrap();
    refused(&["--config", &own]);
    refused(&["--config", &place.write("open.toml", bmc, 0o666)]);
    let of_root = place.write("root.toml", bmc, 0o644);
    place.output(&["config", "check", "--config", &of_root], 0);
    refused(&["--config", &of_root, "--set", "plugins.bmc.verify=false"]);
    // Names of containers and pods: the rest of the plugin is anybody's.
    let groups = |setting: &str| ["--set".to_owned(), format!("plugins.groups.{setting}")];
    for setting in [
        "engines=[\"/tmp/own.sock\"]",
        "kubernetes=api",
        "kubelet_url=https://192.0.2.1:10250",
        "kubelet_insecure=true",
        "api_url=https://192.0.2.1",
        "node=other",
        "token_file=/tmp/token",
        "ca_file=/tmp/ca",
    ] {
        let arguments = groups(setting);
        let text = place.output(&["config", "check", &arguments[0], &arguments[1]], 2);
        let key = setting.split('=').next().unwrap_or_default();
        assert!(text.contains(&format!("plugins.groups.{key} says to whom the agent talks")), "{text}");
    }
    let arguments = groups("levels=[\"user\"]");
    place.output(&["config", "check", &arguments[0], &arguments[1]], 0);
    let groups = "[plugins.groups]\ntoken_file = '/tmp/token'\nkubelet_url = 'https://192.0.2.1:10250'\n";
    place.output(&["config", "check", "--config", &place.write("groups.toml", groups, 0o644)], 0);
    // Root is not limited.
    let check = |file: &str| wattrace().args(["config", "check", "--config", file]).output().unwrap();
    assert!(check(&own).status.success());
}

/// A process that uses CPU time. Dropping it ends it.
struct Busy(Child);

impl Drop for Busy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn processes_of_other_users_are_known_by_their_executables_and_commands_are_traced() {
    let Some(place) = Place::new() else { return };
    let busy = Busy(Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap());
    let out = place.file("own/out.jsonl");
    let path = format!("plugins.jsonl.path={}", out.display());
    let run = ["run", "--duration", "2s", "--plugins", "sched,jsonl", "--set"];
    place.output(&[&run[..], &[&path, "--set", "agent.control_socket="]].concat(), 0);
    let points = read_jsonl(&out);
    let attribute = |p: &Value, key: &str| p["attributes"][key].clone();
    let of_busy = points.iter().find(|p| attribute(p, "process.pid") == busy.0.id()).unwrap();
    assert_eq!(metric(of_busy), "wattrace.consumer.cpu.time");
    let shell = fs::read_link(format!("/proc/{}/exe", busy.0.id())).unwrap();
    assert_eq!(attribute(of_busy, "process.executable.path"), shell.to_str().unwrap());
    if fs::read_to_string("/proc/mounts").unwrap().contains(" cgroup2 ") {
        let cgroup = attribute(of_busy, "process.linux.cgroup");
        assert!(cgroup.as_str().is_some_and(|path| path.starts_with('/')), "{of_busy}");
    }
    let text = place.output(&["exec", "sh", "-c", "echo traced"], 0);
    assert!(text.contains("traced") && text.contains("1 process"), "{text}");
    // The command has no more rights than the user.
    let text = place.output(&["exec", "cat", place.file("secret").to_str().unwrap()], 1);
    assert!(text.contains("Permission denied"), "{text}");
}
