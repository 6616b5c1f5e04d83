//! `wattrace doctor` on copies of other machines' files: the table, the object for programs, and the report
//! that names nobody.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may panic: that is how tests fail")]

mod support;

use std::fs;
use std::path::Path;
use std::process::Output;

use serde_json::Value;
use support::wattrace;
use tempfile::TempDir;

/// A server of AMD's with Debian, run by an ordinary user.
fn server() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    let put = |path: &str, text: &str| {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    put("etc/os-release", "ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n");
    put(
        "etc/passwd",
        "root:x:0:0:root:/root:/bin/sh\nlovelace:x:1000:1000:Ada Lovelace,,,:/home/lovelace:/bin/sh\n",
    );
    put("proc/sys/kernel/osrelease", "6.1.0-18-amd64\n");
    put("proc/sys/kernel/hostname", "engine7.example.org\n");
    put("proc/sys/kernel/perf_event_paranoid", "3\n");
    put("proc/self/status", "Uid:\t1000\t1000\t1000\t1000\nCapEff:\t0000000000000000\n");
    put("proc/self/mounts", "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n");
    let cpuinfo = "processor\t: 0\nvendor_id\t: AuthenticAMD\nmodel name\t: AMD EPYC 7702\nflags\t: fpu\n";
    put("proc/cpuinfo", cpuinfo);
    put("lib/modules/6.1.0-18-amd64/modules.dep", "kernel/arch/x86/events/rapl.ko:\n");
    put("sys/kernel/btf/vmlinux", "");
    put("sys/devices/system/cpu/online", "0\n");
    put("sys/devices/system/cpu/modalias", "cpu:type:x86,ven0002fam0017mod0031:feature:,0000\n");
    let zone = "sys/class/powercap/intel-rapl:0";
    put(&format!("{zone}/name"), "package-0\n");
    put(&format!("{zone}/energy_uj"), "1000\n");
    put(&format!("{zone}/max_energy_range_uj"), "65532610987\n");
    root
}

fn doctor(root: &Path, arguments: &[&str]) -> Output {
    wattrace().arg("doctor").arg("--root").arg(root).args(arguments).output().unwrap()
}

fn find<'a>(rows: &'a Value, what: &str) -> &'a Value {
    let found = rows.as_array().unwrap().iter().find(|row| row["what"].as_str().unwrap().contains(what));
    found.unwrap_or_else(|| panic!("no row about {what} in {rows:#}"))
}

#[test]
fn another_machine_is_described_with_what_each_missing_thing_costs() {
    let root = server();
    let output = doctor(root.path(), &["--format", "json"]);
    assert_eq!(output.status.code(), Some(1), "tracing is not permitted there");
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&found["schema"], &found["system"]["kernel"]),
        (&"wattrace.doctor/1".into(), &"6.1.0-18-amd64".into())
    );
    assert_eq!(found["system"]["distribution"]["id"], "debian");
    let machine = &found["machine"];
    assert_eq!(find(machine, "permission to load eBPF")["verdict"], "missing");
    assert_eq!(find(machine, "kernel type information")["verdict"], "ok");
    let rapl = find(machine, "RAPL's perf interface");
    assert!(rapl["remedy"].as_str().unwrap().contains("sudo modprobe rapl"), "{rapl}");
    assert!(rapl["cost"].as_str().unwrap().contains("no second interface"), "{rapl}");
    let plugins = found["plugins"].as_array().unwrap();
    let of = |name: &str| plugins.iter().find(|p| p["plugin"] == name).unwrap();
    let powercap = find(&of("rapl")["findings"], "powercap");
    assert!(powercap["found"].as_str().unwrap().starts_with("package-0"), "its own files: {powercap}");
    let model = find(&of("rapl")["findings"], "this processor");
    assert!(model["found"].as_str().unwrap().contains("Zen 2"), "{model}");
    assert_eq!(of("rapl")["cost"], Value::Null);
    assert!(of("bmc")["cost"].as_str().unwrap().contains("whole server"), "{}", of("bmc"));
    assert_eq!(of("sched")["findings"], serde_json::json!([]), "it cannot look at another machine");
}

#[test]
fn the_table_fits_80_columns_but_for_commands_and_says_each_thing_once() {
    let root = server();
    let table = String::from_utf8(doctor(root.path(), &[]).stdout).unwrap();
    assert!(table.contains("Debian GNU/Linux 12 (bookworm), kernel 6.1.0-18-amd64"), "{table}");
    assert!(table.contains("AMD EPYC 7702, 1 CPU"), "{table}");
    for line in table.lines().filter(|line| line.chars().count() > 80) {
        let command = line.trim().trim_start_matches("→ ");
        assert!(
            command.starts_with('`') && command.trim_end_matches([';', ',', '.']).ends_with('`'),
            "{line}"
        );
    }
    assert_eq!(table.matches("permission to load eBPF programs").count(), 1, "{table}");
    assert!(table.contains("costs: "), "{table}");
}

#[test]
fn the_report_for_an_issue_names_nobody() {
    let root = server();
    let file = root.path().join("report.json");
    let file = file.to_str().unwrap();
    let settings = [
        "--report",
        file,
        "--set",
        "plugins.bmc.endpoint=https://bmc.secret.example",
        "--set",
        "plugins.bmc.username=operator9",
        "--set",
        "plugins.bmc.password_file=/home/lovelace/pw",
        "--set",
        "plugins.rapl.dev_root=/srv/lovelace/home/lovelace/engine7/192.0.2.9",
    ];
    let output = doctor(root.path(), &settings);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("please read it before"), "{stderr}");
    let text = fs::read_to_string(file).unwrap();
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&report["schema"], &report["anonymous"]), (&"wattrace.doctor/1".into(), &true.into()));
    assert!(text.contains("6.1.0-18-amd64") && text.contains("sudo modprobe rapl"), "{text}");
    // The findings have them: it is the report that does not.
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(shown.contains("lovelace") && shown.contains("192.0.2.9"), "{shown}");
    for secret in
        ["engine7", "example.org", "secret.example", "lovelace", "Lovelace", "operator9", "192.0.2.9"]
    {
        assert!(!text.contains(secret), "{secret} is in {text}");
    }
}

#[test]
fn nothing_is_fixed_without_being_asked_for() {
    let output = wattrace().args(["doctor", "--yes"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "--yes belongs to --fix");
    let root = server();
    let output = doctor(root.path(), &["--fix", "--yes"]);
    assert_eq!(output.status.code(), Some(2), "another machine's commands are not run on this one");
}
