//! The Debian package on a Debian that systemd has booted, in a container: installed, run, upgraded, removed,
//! purged. `cargo xtask setup --test` makes that Debian.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may panic: that is how tests fail")]

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use support::{Podman, can_run, dist, eventually, has, is_root, of_setup, run, text};

/// CAP_DAC_READ_SEARCH, CAP_SYS_PTRACE, CAP_PERFMON and CAP_BPF.
const CAPABILITIES: u64 = 1 << 2 | 1 << 19 | 1 << 38 | 1 << 39;
const DATABASE: &str = "/var/lib/wattrace/energy.db";

/// A Debian whose first process is systemd.
struct Debian {
    podman: Podman,
    name: String,
}

impl Debian {
    /// Boots it, with `packages` as /packages.
    fn boot(dir: &Path, packages: &Path) -> Self {
        let podman = Podman::new(dir);
        let name = format!("wattrace-debian-{}", std::process::id());
        run(podman.command(&["import", "--quiet"]).arg(of_setup("debian.tar")).arg("debian:systemd"));
        let volume = format!("{}:/packages:ro", packages.display());
        run(&mut podman.command(&[
            "run",
            "--detach",
            "--name",
            &name,
            "--privileged",
            "--systemd=always",
            "--network=none",
            "--ulimit=nofile=1024:1024",
            "--ulimit=nproc=1024:1024",
            "--pids-limit=0",
            "--volume",
            &volume,
            "debian:systemd",
            "/lib/systemd/systemd",
        ]));
        let debian = Self { podman, name };
        eventually("systemd has booted", || {
            let state = debian.command("systemctl is-system-running").output().unwrap().stdout;
            (state.starts_with(b"running") || state.starts_with(b"degraded")).then_some(())
        });
        debian
    }

    /// A command of its shell.
    fn command(&self, script: &str) -> Command {
        self.podman.command(&["exec", &self.name, "sh", "-c", script])
    }

    /// What a command of its shell prints.
    #[track_caller]
    fn says(&self, script: &str) -> String {
        text(&mut self.command(script))
    }

    /// A property of the unit.
    #[track_caller]
    fn unit(&self, property: &str) -> String {
        self.says(&format!("systemctl show --value --property {property} wattrace"))
    }

    fn does(&self, script: &str) -> bool {
        self.command(script).output().unwrap().status.success()
    }

    /// Every file of the system's own but those that any package or service leaves.
    fn files(&self) -> BTreeSet<String> {
        let others = "-path /var/lib/dpkg -o -path /var/log -o -path /var/cache -o -path /run -o -path /tmp";
        let list = self.says(&format!("find / -xdev \\( {others} \\) -prune -o -print"));
        list.lines().map(String::from).collect()
    }

    /// The answer about what the service has recorded.
    fn query(&self) -> Option<Value> {
        let asked = self.command(&format!("wattrace query --db {DATABASE} --format json")).output().unwrap();
        serde_json::from_slice(&asked.stdout).ok()
    }

    /// Waits until the program `burner`, which is started now, has joules; returns the answer.
    fn burn(&self) -> Value {
        self.says(
            "cp --remove-destination /bin/sh /tmp/burner && \
             (timeout 60 /tmp/burner -c 'while :; do :; done' &) > /dev/null 2>&1",
        );
        eventually("joules of a process", || {
            let answer = self.query()?;
            let burner = answer["rows"].as_array()?.iter().find(|row| row["name"] == "burner")?;
            (burner["energy_uj"].as_u64()? > 0).then_some(answer)
        })
    }
}

/// Whether we run in a chroot, in which the kernel makes no user namespaces.
fn is_chroot() -> bool {
    !Command::new("unshare").args(["--user", "true"]).status().is_ok_and(|status| status.success())
}

#[test]
fn a_debian_package_is_installed_run_upgraded_removed_and_purged() {
    let needs = [
        ("root", is_root()),
        ("podman", has("podman") && has("crun") && has("conmon")),
        ("the built agent", support::agent().exists()),
        ("target/vm/debian.tar", of_setup("debian.tar").exists()),
    ];
    if !can_run(&needs) {
        return;
    }
    if is_chroot() {
        eprintln!("skipped: systemd does not boot in a container that runs in a chroot");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let packages = dir.path().join("packages");
    let [old, new] = [1, 2].map(|revision| dist("deb", revision, &packages));
    let inside = |deb: &Path| format!("/packages/{}", deb.file_name().unwrap().to_str().unwrap());

    let debian = Debian::boot(dir.path(), &packages);
    let before = debian.files();
    // What it depends on is there, without a network.
    debian.says(&format!("dpkg --install {}", inside(&old)));
    runs_with_few_rights(&debian);
    serves_its_users(&debian);
    let recorded = debian.burn();
    the_books_are_closed(&recorded);
    a_stopped_agent_is_restarted(&debian);

    debian.says("echo '# mine' >> /etc/wattrace/wattrace.toml; systemctl reload wattrace");
    let main = debian.unit("MainPID");
    debian.says(&format!("DEBIAN_FRONTEND=noninteractive dpkg --install {}", inside(&new)));
    assert!(debian.says("dpkg-query --show wattrace").ends_with("-2"));
    assert_eq!(debian.unit("ActiveState"), "active");
    assert_ne!(debian.unit("MainPID"), main, "the upgrade restarts it");
    assert!(debian.says("cat /etc/wattrace/wattrace.toml").ends_with("# mine"), "the configuration is kept");
    let later = debian.burn();
    assert_eq!(later["span"]["from"], recorded["span"]["from"], "what was recorded before is still there");
    the_books_are_closed(&later);

    debian.says("dpkg --remove wattrace");
    assert!(!debian.does("systemctl is-active wattrace") && !debian.does("test -e /usr/bin/wattrace"));
    assert!(debian.does(&format!("test -s {DATABASE} && test -s /etc/wattrace/wattrace.toml")));
    debian.says("dpkg --purge wattrace");
    let after = debian.files();
    let left: Vec<_> = after.difference(&before).collect();
    assert_eq!(left, [""; 0], "left behind");
}

/// The service has a user of its own, and the rights that it needs.
fn runs_with_few_rights(debian: &Debian) {
    assert_eq!(debian.unit("ActiveState"), "active", "{}", debian.says("journalctl --unit wattrace"));
    assert_eq!((debian.unit("Type"), debian.unit("NotifyAccess")), ("notify".into(), "main".into()));
    assert!(debian.unit("StatusText").starts_with("sources: "), "{}", debian.unit("StatusText"));
    assert_eq!(debian.unit("WatchdogUSec"), "30s");
    let main = debian.unit("MainPID");
    let field = |name: &str| debian.says(&format!("sed -n 's/^{name}:[ \\t]*//p' /proc/{main}/status"));
    assert!(!field("Uid").starts_with("0\t"), "{}", field("Uid"));
    assert_eq!(u64::from_str_radix(&field("CapEff"), 16).unwrap(), CAPABILITIES);
    assert_eq!(u64::from_str_radix(&field("CapBnd"), 16).unwrap(), CAPABILITIES);
    assert_eq!((field("NoNewPrivs").as_str(), field("Seccomp").as_str()), ("1", "2"));
    // `→ Overall exposure level for wattrace.service: 2.0 OK`
    let exposure = debian.says("systemd-analyze security --no-pager wattrace | tail -n 1");
    let (_, level) = exposure.rsplit_once("wattrace.service: ").unwrap();
    assert!(level.split(' ').next().unwrap().parse::<f64>().unwrap() <= 2.0, "{exposure}");
    let journal = debian.says("journalctl --unit wattrace --output cat");
    assert!(journal.contains("source/sched/cpu: running"), "{journal}");
    assert!(!journal.contains("not permitted") && !journal.contains("ermission denied"), "{journal}");
}

/// The pages, completions and commands of an installation.
fn serves_its_users(debian: &Debian) {
    assert!(debian.says("wattrace control status").contains("source/sched/cpu"));
    assert_eq!(debian.says("wattrace config check > /dev/null && systemctl is-enabled wattrace"), "enabled");
    assert!(debian.says("zcat /usr/share/man/man1/wattrace.1.gz").contains(".TH wattrace 1"));
    assert!(debian.says("zcat /usr/share/man/man1/wattrace-exec.1.gz").contains(".SH OPTIONS"));
    assert!(debian.says("cat /usr/share/bash-completion/completions/wattrace").contains("complete -F"));
    assert_eq!(debian.says("dpkg --verify wattrace"), "", "all files are those of the package");
}

/// The rows sum to what the meters have counted.
fn the_books_are_closed(answer: &Value) {
    let rows = answer["rows"].as_array().unwrap();
    let sum: u64 = rows.iter().map(|row| row["energy_uj"].as_u64().unwrap()).sum();
    assert_eq!(sum, answer["total"]["measured_uj"].as_u64().unwrap(), "{answer:#}");
}

/// systemd restarts an agent that gives no signs of life.
fn a_stopped_agent_is_restarted(debian: &Debian) {
    debian.says(
        "mkdir -p /run/systemd/system/wattrace.service.d && \
         printf '[Service]\\nWatchdogSec=2\\nRestartSec=0\\n' \
         > /run/systemd/system/wattrace.service.d/fast.conf && systemctl daemon-reload && \
         systemctl restart wattrace",
    );
    let main = debian.unit("MainPID");
    debian.says(&format!("kill -STOP {main}"));
    eventually("the watchdog restarts the agent", || {
        (debian.unit("ActiveState") == "active" && debian.unit("NRestarts") == "1").then_some(())
    });
    assert_ne!(debian.unit("MainPID"), main);
    debian.says("rm -r /run/systemd/system/wattrace.service.d && systemctl daemon-reload");
}
