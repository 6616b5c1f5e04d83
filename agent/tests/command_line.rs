//! Small things of the command line: the optional `--`, long names, pages in a new directory, an interrupted
//! calibration, a wall clock that is set, absent devices.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may panic: that is how tests fail")]

mod support;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use support::{interrupt, is_root, read_jsonl, wattrace};
use wattrace_rapl_simulator::{Tree, Zone};

#[test]
fn exec_needs_no_separator_and_options_after_the_command_are_its_own() {
    if !is_root() {
        return;
    }
    let run = |arguments: &[&str]| {
        let output = wattrace().args(["exec", "--plugins", "sched"]).args(arguments).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    assert_eq!(run(&["echo", "--format", "-v", "--", "x"]), (Some(0), "--format -v -- x\n".into()));
    assert_eq!(run(&["--", "echo", "-n", "--help"]), (Some(0), "--help".into()));
    assert_eq!(run(&["--fromat", "json", "true"]).0, Some(2), "a mistyped option is no command");
}

#[test]
fn a_long_name_does_not_widen_the_report_and_control_characters_do_not_reach_the_terminal() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let name = dir.path().join(format!("\u{202e}{}", "n".repeat(200)));
    symlink("/bin/true", &name).unwrap();
    let output = wattrace().args(["exec", "--plugins", "sched"]).arg(&name).output().unwrap();
    let report = String::from_utf8(output.stderr).unwrap();
    assert!(report.contains("1 process"), "{report}");
    assert!(report.lines().all(|line| line.chars().count() <= 110), "{report}");
    assert!(!report.contains('\u{202e}'), "{report:?}");
}

#[test]
fn a_process_that_outlives_the_command_is_mentioned_and_threads_are_listed_when_asked_for() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    // The background process has run before the command ends: the command waits for what it writes.
    let script = format!(
        "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; rm -f {0}; mkfifo {0}; \
         (echo up > {0}; exec sleep 20) > /dev/null 2>&1 & read up < {0}",
        fifo.display()
    );
    let report = |format: &str| {
        let options = ["exec", "--plugins", "sched,estimate,attribution", "--format", format];
        let set = ["--set", "plugins.sched.threads=true", "--", "sh", "-c", &script];
        let output = wattrace().args(options).args(set).output().unwrap();
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).join("")
    };
    let text = report("human");
    assert!(text.contains("1 process outlives the command"), "{text}");
    let json: Value = serde_json::from_str(&report("json")).unwrap();
    let shell = &json["processes"][0];
    assert_eq!(shell["threads"][0]["tid"], shell["pid"], "{json:#}");
    let seconds = |v: &Value| v["cpu_time_s"].as_f64().unwrap();
    assert!((seconds(&shell["threads"][0]) - seconds(shell)).abs() < 1e-6, "its only thread: {json:#}");
    let joules = |v: &Value| v["energy_j"]["package-0"].as_f64().unwrap();
    assert!(joules(&shell["threads"][0]) > 0.0 && joules(shell) > 0.0, "{json:#}");
    for d in json["domains"].as_array().unwrap() {
        let micro = |key: &str| (d[key].as_f64().unwrap() * 1e6).round() as i64;
        let parts: i64 = ["command_j", "other_j", "idle_j", "unattributed_j"].iter().map(|k| micro(k)).sum();
        assert_eq!(micro("measured_j"), parts, "threads are not counted beside their processes: {d}");
    }
}

#[test]
fn pages_are_written_into_a_directory_that_does_not_exist_yet() {
    let dir = tempfile::tempdir().unwrap();
    let pages = dir.path().join("share/man/man1");
    assert!(wattrace().arg("man").arg(&pages).status().unwrap().success());
    assert!(pages.join("wattrace.1").exists() && pages.join("wattrace-exec.1").exists());
}

#[test]
fn an_interrupted_calibration_leaves_no_file() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let zones = vec![Zone::new("intel-rapl:0", "package-0", 10.0)];
    let _time = Tree::create(&dir.path().join("sys"), zones).unwrap().run(Duration::from_millis(1));
    let out = dir.path().join("out");
    fs::create_dir(&out).unwrap();
    let mut calibrate = wattrace()
        .args(["calibrate", "--duration", "5min", "--output"])
        .arg(out.join("profile.toml"))
        .args(["--set", &format!("plugins.rapl.sysfs_root={}", dir.path().join("sys").display())])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(calibrate.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("step 1 of")), "it did not begin");
    interrupt(&calibrate);
    assert_eq!(calibrate.wait().unwrap().code(), Some(1));
    assert!(lines.any(|line| line.contains("interrupted; nothing was written")));
    assert_eq!(fs::read_dir(&out).unwrap().count(), 0, "a file was left behind");
}

/// A library that adds the seconds in a file to the wall clock of the program that loads it.
const SHIFTED_CLOCK: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t id, struct timespec *ts) {
    long result = syscall(SYS_clock_gettime, id, ts);
    if (result == 0 && id == CLOCK_REALTIME) {
        char text[32] = "";
        int fd = open(getenv("SHIFT_FILE"), O_RDONLY);
        if (fd >= 0) {
            read(fd, text, sizeof(text) - 1);
            close(fd);
        }
        ts->tv_sec += atol(text);
    }
    return result;
}
"#;

#[test]
fn timestamps_follow_a_wall_clock_that_is_set_and_no_series_goes_back() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name);
    fs::write(file("shift.c"), SHIFTED_CLOCK).unwrap();
    let compile = ["-shared", "-fPIC", "-w", "-o"];
    let compiled = Command::new("cc").args(compile).arg(file("shift.so")).arg(file("shift.c")).status();
    if !compiled.is_ok_and(|status| status.success()) {
        return eprintln!("skipped: there is no C compiler");
    }
    let zones = vec![Zone::new("intel-rapl:0", "package-0", 10.0)];
    let _time = Tree::create(&file("sys"), zones).unwrap().run(Duration::from_millis(1));
    fs::write(file("shift"), "0").unwrap();
    let set = |key: &str, value: String| ["--set".to_owned(), format!("{key}={value}")];
    let mut agent = wattrace()
        .args(["run", "--plugins", "rapl,jsonl"])
        .args(set("plugins.rapl.sysfs_root", file("sys").display().to_string()))
        .args(set("plugins.rapl.interval", "20ms".into()))
        .args(set("plugins.jsonl.path", file("out").display().to_string()))
        .args(set("plugins.jsonl.flush_interval", "0s".into()))
        .args(set("agent.control_socket", String::new()))
        .env("LD_PRELOAD", file("shift.so"))
        .env("SHIFT_FILE", file("shift"))
        .env_remove("WATTRACE_LOG")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = || fs::read_to_string(file("out")).unwrap_or_default().lines().count();
    let wait_for_more = || {
        let (before, start) = (lines(), std::time::Instant::now());
        while lines() < before + 6 {
            assert!(start.elapsed() < Duration::from_secs(20), "no more points");
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    // An hour forward, and five minutes back; written aside, so that no reading sees half of the number.
    for shift in ["3600", "3300"] {
        wait_for_more();
        fs::write(file("new"), shift).unwrap();
        fs::rename(file("new"), file("shift")).unwrap();
    }
    wait_for_more();
    interrupt(&agent);
    assert!(agent.wait().unwrap().success());
    let text = std::io::read_to_string(agent.stderr.take().unwrap()).unwrap();
    for step in ["set forward by 3600s", "set back by 300s"] {
        assert_eq!(text.matches(step).count(), 1, "{text}");
    }
    let points = read_jsonl(&file("out"));
    let energy: Vec<_> = points.iter().filter(|p| p["metric"] == "hw.energy").collect();
    let nanos = |p: &Value, key: &str| p[key].as_u64().unwrap();
    let times: Vec<_> = energy.iter().map(|p| nanos(p, "time_unix_nano")).collect();
    assert!(times.is_sorted_by(|a, b| a < b), "{times:?}");
    let start = nanos(energy[0], "start_unix_nano");
    assert!(energy.iter().all(|p| nanos(p, "start_unix_nano") == start), "the start of a series stays put");
    let hour = 3_600_000_000_000;
    let (first, last) = (times[0], times[times.len() - 1]);
    assert!((hour..hour + 60_000_000_000).contains(&(last - first)), "{first} {last}");
}

#[test]
fn what_is_missing_is_said_once_in_few_lines_and_in_full_where_the_user_asked_for_it() {
    if !is_root() {
        return;
    }
    let messages = |arguments: &[&str]| {
        let output = wattrace().args(arguments).stdout(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    // As wide as a terminal.
    let height = |text: &str| text.lines().map(|line| line.chars().count().div_ceil(80)).sum::<usize>();
    let run = ["run", "--duration", "100ms", "--set", "agent.control_socket="];
    let exec = ["exec", "--output", "/dev/null", "--baseline", "none", "true"];
    let said = [messages(&run), messages(&exec)];
    for text in &said {
        assert!(height(text) <= 5 && !text.contains("cray"), "nobody misses that: {text}");
        assert!(text.matches("Absent: ").count() <= 1, "{text}");
    }
    assert_eq!(said[0], said[1], "the same words");
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap();
    if cpuinfo.contains(" hypervisor ") && !fs::exists("/sys/class/powercap/intel-rapl:0").unwrap() {
        let sentence = "wattrace: CPU energy is estimated: no RAPL meter in this virtual machine.\n";
        assert!(said[0].starts_with(sentence) && height(&said[0]) <= 2, "{}", said[0]);
    }
    let asked_for = messages(&[&run[..], &["--set", "plugins.cray.interval=1s"]].concat());
    let line = "wattrace: source/cray/energy is not available: no counter in /sys/cray";
    assert!(asked_for.contains(line), "{asked_for}");
}

#[test]
fn log_levels_are_set_by_crate_and_a_mistake_in_them_is_reported() {
    let said = |levels: &str, verbose: &[&str]| {
        let arguments =
            ["run", "--duration", "1ms", "--plugins", "simulator", "--set", "agent.control_socket="];
        let mut agent = wattrace();
        agent.args(arguments).args(verbose).env("WATTRACE_LOG", levels).stdin(Stdio::null());
        String::from_utf8(agent.output().unwrap().stderr).unwrap()
    };
    let running = "source/agent/self: running";
    assert!(said("wattrace=info", &[]).contains(running) && !said("warn", &["-v"]).contains(running));
    assert!(said("", &["-v"]).contains(running) && !said("info,wattrace=warn", &[]).contains(running));
    let mistake = said("wattrace=loud", &["-v"]);
    assert!(mistake.contains("WATTRACE_LOG is ignored") && mistake.contains(running), "{mistake}");
}
