//! The agent, as it is built, reading a simulated RAPL meter every millisecond into a file, beside the
//! simplest loop that would read it as often.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use wattrace_rapl_simulator::{Tree, Zone};

use crate::machine;

/// Rounds, in each of which all take their turn: the machine's own moods last for seconds.
const ROUNDS: usize = 7;
/// How long each is watched.
const SPAN: Duration = Duration::from_secs(4);

pub(crate) fn run(_: u64) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let zones = vec![Zone::new("intel-rapl:0", "package-0", 20.0), Zone::new("intel-rapl:0:0", "core", 10.0)];
    let tree = Tree::create(directory.path(), zones).expect("a simulated meter");
    let moving = tree.run(Duration::from_millis(100));
    let energy = |zone| directory.path().join("class/powercap").join(zone).join("energy_uj");
    let files = ["intel-rapl:0", "intel-rapl:0:0"].map(energy);
    let (mut bare, mut plain, mut realtime) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        bare.push(bare_loop(&files));
        plain.push(agent(directory.path(), false));
        realtime.push(agent(directory.path(), true));
    }
    drop(moving);
    println!(
        "a loop that waits for a timer and reads two files every millisecond, and nothing else: {}",
        spread(&mut bare)
    );
    for (name, rounds) in [("", plain), (", real-time", realtime)] {
        let (mut rates, mut shares): (Vec<f64>, Vec<f64>) = rounds.into_iter().unzip();
        println!("rapl every millisecond, simulated, into a file{name}: {}", spread(&mut shares));
        let (rate, share) = (median(&mut rates), median(&mut shares));
        machine::target("polls a second, at least 999", rate, rate >= 999.0);
        machine::target("% of a core, at most 2", share, share <= 2.0);
        println!("    times the loop: {:.2}", share / median(&mut bare));
    }
}

/// What the agent does with the meter: polls a second, and % of a core.
fn agent(root: &Path, realtime: bool) -> (f64, f64) {
    let file = root.join("points.csv");
    let mut agent = Command::new(env!("CARGO_BIN_EXE_wattrace"))
        .args(["run", "--plugins", "rapl,csv", "--duration", "1min", "--set", "plugins.rapl.interval=1ms"])
        .args(["--set", &format!("plugins.rapl.sysfs_root={}", root.display())])
        .args(["--set", &format!("plugins.csv.path={}", file.display())])
        .args(["--set", "plugins.csv.append=false", "--set", &format!("agent.realtime={realtime}")])
        .env("STATE_DIRECTORY", root)
        .stderr(Stdio::null())
        .spawn()
        .expect("the agent starts");
    sleep(Duration::from_secs(1));
    let mut cpu = 0;
    // SAFETY: `cpu` is a valid place to write to.
    assert_eq!(unsafe { libc::clock_getcpuclockid(agent.id() as libc::pid_t, &mut cpu) }, 0);
    let (began, used) = (machine::clock(libc::CLOCK_MONOTONIC), machine::clock(cpu));
    sleep(SPAN);
    let (used, wall) = (machine::clock(cpu) - used, machine::clock(libc::CLOCK_MONOTONIC) - began);
    // SAFETY: it has no preconditions; the child is not reaped yet, so its pid is its own.
    unsafe { libc::kill(agent.id() as libc::pid_t, libc::SIGTERM) };
    assert!(agent.wait().is_ok_and(|status| status.success()));
    (polls_a_second(&file), used as f64 / wall as f64 * 100.0)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn spread(shares: &mut [f64]) -> String {
    let median = median(shares);
    format!("{median:.2} % of a core ({:.2} to {:.2})", shares[0], shares[shares.len() - 1])
}

/// By the times that the readings themselves carry: what is buffered when the file is looked at plays no
/// part.
fn polls_a_second(file: &Path) -> f64 {
    let text = fs::read_to_string(file).expect("the agent wrote its points");
    let readings =
        text.lines().filter(|line| line.starts_with("hw.energy,") && line.contains("hw.id=package-0;"));
    let times: Vec<u64> = readings.filter_map(|line| line.split(',').nth(4)?.parse().ok()).collect();
    match (times.first(), times.last()) {
        (Some(first), Some(last)) => (times.len() - 1) as f64 / (last - first) as f64 * 1e9,
        _ => 0.0,
    }
}

/// What this machine takes for what anybody would write first: % of a core.
fn bare_loop(files: &[PathBuf]) -> f64 {
    let open = |file| fs::File::open(file).expect("the meter's file is there");
    let files: Vec<_> = files.iter().map(open).collect();
    let timing = libc::itimerspec {
        it_value: libc::timespec { tv_sec: 0, tv_nsec: 1_000_000 },
        it_interval: libc::timespec { tv_sec: 0, tv_nsec: 1_000_000 },
    };
    // SAFETY: the flags are valid, and `timing` is for the call; a null pointer says that the old value is
    // not wanted.
    let timer = unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, 0) };
    // SAFETY: as above.
    assert_eq!(unsafe { libc::timerfd_settime(timer, 0, &timing, std::ptr::null_mut()) }, 0);
    let (began, used) = [libc::CLOCK_MONOTONIC, libc::CLOCK_THREAD_CPUTIME_ID].map(machine::clock).into();
    let (mut ticks, mut text) = (0, [0; 64]);
    while ticks < SPAN.as_millis() as u64 {
        let mut fired = 0u64;
        // SAFETY: a timer gives eight bytes, and there is room for them.
        assert_eq!(unsafe { libc::read(timer, (&raw mut fired).cast(), 8) }, 8);
        ticks += fired;
        for file in &files {
            file.read_at(&mut text, 0).expect("the meter is read");
        }
    }
    // SAFETY: it is open, and nobody else's.
    unsafe { libc::close(timer) };
    let share = machine::clock(libc::CLOCK_THREAD_CPUTIME_ID) - used;
    share as f64 * 100.0 / (machine::clock(libc::CLOCK_MONOTONIC) - began) as f64
}
