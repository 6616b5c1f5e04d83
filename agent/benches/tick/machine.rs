//! The agent under measurement, processes for it to see, and clocks.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use super::Result;

/// The running agent.
pub(crate) struct Agent(Child);

impl Agent {
    /// With one output, and `sets` of the configuration.
    pub(crate) fn start(output: &str, sets: &[&str]) -> Result<Self> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wattrace"));
        let plugins = format!("sched,estimate,attribution,{output}");
        command.args(["run", "--duration", "1min", "--plugins", &plugins]);
        for set in sets {
            command.args(["--set", set]);
        }
        command.env("WATTRACE_LOG", "error").stdin(Stdio::null()).stdout(Stdio::null());
        // SAFETY: the closure makes one async-signal-safe call.
        unsafe { command.pre_exec(die_with_parent) };
        Ok(Self(command.spawn()?))
    }

    /// Nanoseconds that all its threads, those that ended too, have spent on CPUs: exact, unlike /proc's
    /// ticks.
    pub(crate) fn cpu_time(&self) -> Result<u64> {
        let mut id = 0;
        // SAFETY: `id` is a valid place to write to.
        let failed = unsafe { libc::clock_getcpuclockid(self.0.id() as libc::pid_t, &mut id) };
        if failed != 0 {
            return Err(io::Error::from_raw_os_error(failed).into());
        }
        clock(id)
    }

    /// Its open descriptors.
    pub(crate) fn descriptors(&self) -> Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.0.id()))?.count())
    }

    /// A line of its `status`, in MB.
    pub(crate) fn memory(&self, key: &str) -> Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(key)).ok_or(key)?;
        let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kib * 1024.0 / 1e6)
    }

    pub(crate) fn stop(&mut self) -> Result<()> {
        // SAFETY: it has no preconditions; the child is not reaped yet, so its pid is its own.
        unsafe { libc::kill(self.0.id() as libc::pid_t, libc::SIGTERM) };
        let status = self.0.wait()?;
        if status.success() { Ok(()) } else { Err(format!("the agent ended with {status}").into()) }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Both fail when it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Processes that sleep. They end with this value, and with this process.
pub(crate) struct Sleepers(Vec<libc::pid_t>);

impl Sleepers {
    /// `count` of them; each uses a little CPU time every `period`, or never.
    pub(crate) fn spawn(count: usize, period: Option<Duration>) -> Result<Self> {
        let mut sleepers = Self(Vec::with_capacity(count));
        for _ in 0..count {
            // SAFETY: this process has one thread, so that its copy may do anything.
            match unsafe { libc::fork() } {
                -1 => {
                    let e = io::Error::last_os_error();
                    let had = sleepers.0.len();
                    return Err(format!("no more than {had} processes can be started here: {e}").into());
                }
                0 => sleep_forever(period),
                pid => sleepers.0.push(pid),
            }
        }
        Ok(sleepers)
    }
}

impl Drop for Sleepers {
    fn drop(&mut self) {
        for &pid in &self.0 {
            // SAFETY: it has no preconditions; none is reaped yet, so that each pid is still its own.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
        for &pid in &self.0 {
            // SAFETY: a null pointer says that the status is not wanted.
            unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
        }
    }
}

fn sleep_forever(period: Option<Duration>) -> ! {
    if die_with_parent().is_ok() {
        loop {
            match period {
                Some(period) => sleep(period),
                // SAFETY: it has no preconditions.
                None => drop(unsafe { libc::pause() }),
            }
        }
    }
    // SAFETY: it has no preconditions.
    unsafe { libc::_exit(1) }
}

/// In a child: asks to be killed when its parent ends. Fails if that has happened already.
fn die_with_parent() -> io::Result<()> {
    // SAFETY: plain numbers.
    unsafe {
        if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
            return Err(io::Error::last_os_error());
        }
        if libc::getppid() == 1 { Err(io::ErrorKind::NotFound.into()) } else { Ok(()) }
    }
}

/// Nanoseconds on a clock.
pub(crate) fn clock(id: libc::clockid_t) -> Result<u64> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place to write to.
    if unsafe { libc::clock_gettime(id, &mut time) } != 0 {
        return Err(io::Error::last_os_error().into());
    }
    Ok(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

pub(crate) fn sleep_until(monotonic_ns: u64) -> Result<()> {
    sleep(Duration::from_nanos(monotonic_ns.saturating_sub(clock(libc::CLOCK_MONOTONIC)?)));
    Ok(())
}
