//! The load of a calibration: threads that keep CPUs busy, each pinned to one CPU and with a duty of its own.

use std::hint::black_box;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// A thread with a duty works for that part of every period of this length.
const PERIOD: Duration = Duration::from_millis(10);
/// The duty of a thread that always works.
const FULL_DUTY: u32 = 1000;

/// The CPUs that this process may run on, ascending.
pub(super) fn allowed() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect())
}

/// The load. Dropping it ends the threads.
pub(super) struct Load {
    workers: Vec<Worker>,
    stop: Arc<AtomicBool>,
}

struct Worker {
    cpu: usize,
    /// In thousandths of the time.
    duty: Arc<AtomicU32>,
    thread: Option<JoinHandle<()>>,
}

impl Load {
    /// Starts a thread on each CPU that this process may use. None of them works yet.
    pub(super) fn start() -> io::Result<Self> {
        let mut load = Self { workers: Vec::new(), stop: Arc::default() };
        for cpu in allowed()? {
            let (duty, stop) = (Arc::new(AtomicU32::new(0)), load.stop.clone());
            let thread_duty = duty.clone();
            let spawned = thread::Builder::new().name(format!("load-{cpu}")).spawn(move || {
                pin(cpu);
                work(&thread_duty, &stop);
            });
            load.workers.push(Worker { cpu, duty, thread: Some(spawned?) });
        }
        Ok(load)
    }

    /// Sets the duty of each CPU, 0 to 1, by CPU number.
    pub(super) fn set(&self, duties: &[f64]) {
        for worker in &self.workers {
            let duty = duties.get(worker.cpu).copied().unwrap_or(0.0);
            worker.duty.store((duty * f64::from(FULL_DUTY)).round() as u32, Relaxed);
            worker.wake();
        }
    }
}

impl Worker {
    fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        for worker in &mut self.workers {
            worker.wake();
            // An error means that the thread panicked, which has ended it too.
            let _ = worker.thread.take().map(JoinHandle::join);
        }
    }
}

/// Pins the calling thread to a CPU. If that fails (the CPU went offline), it runs on any: the calibration
/// measures what ran, not what was planned.
fn pin(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu);
    let _ = sched_setaffinity(None, &set);
}

fn work(duty: &AtomicU32, stop: &AtomicBool) {
    let mut burner = Burner::default();
    while !stop.load(Relaxed) {
        let now = duty.load(Relaxed);
        let began = Instant::now();
        match now {
            0 => thread::park(),
            part => {
                while began.elapsed() < PERIOD * part.min(FULL_DUTY) / FULL_DUTY {
                    burner.burn();
                }
                if part < FULL_DUTY {
                    thread::sleep(PERIOD.saturating_sub(began.elapsed()));
                }
            }
        }
    }
}

/// A mix of work, as programs do it: floating-point and integer arithmetic, branches, loads and stores within
/// and beyond the first-level cache.
struct Burner {
    data: Vec<f64>,
    state: u64,
}

impl Default for Burner {
    fn default() -> Self {
        // 256 KiB: more than the first-level cache, less than the second-level cache of most servers.
        Self { data: (0..32768).map(f64::from).collect(), state: 1 }
    }
}

impl Burner {
    /// Works for some tens of microseconds.
    fn burn(&mut self) {
        for _ in 0..8192 {
            self.state ^= self.state << 13;
            self.state ^= self.state >> 7;
            self.state ^= self.state << 17;
            let (from, to) =
                (self.state as usize % self.data.len(), (self.state >> 32) as usize % self.data.len());
            let value = self.data[from].mul_add(0.5, self.data[to] * 0.25);
            self.data[to] = if value > 1e6 { 1.0 } else { value + 1.0 };
        }
        black_box(&self.data);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// The contents of `file` in /proc for the thread that loads `cpu`; `None` if there is no such thread.
    fn thread_file(cpu: usize, file: &str) -> Option<String> {
        let mut tasks = fs::read_dir("/proc/self/task").unwrap().flatten();
        let name = format!("load-{cpu}\n");
        let task =
            tasks.find(|t| fs::read_to_string(t.path().join("comm")).is_ok_and(|comm| comm == name))?;
        fs::read_to_string(task.path().join(file)).ok()
    }

    fn wait_until(what: &str, condition: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !condition() {
            assert!(Instant::now() < deadline, "{what}");
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn a_cpu_works_and_rests_as_set_and_dropping_the_load_ends_its_thread() {
        let first = allowed().unwrap()[0];
        let load = Load::start().unwrap();
        let mut duties = vec![0.0; first + 1];
        duties[first] = 1.0;
        load.set(&duties);
        let nanos = || thread_file(first, "schedstat")?.split(' ').next()?.parse::<u64>().ok();
        wait_until("the CPU does not work", || nanos().is_some_and(|nanos| nanos > 50_000_000));
        load.set(&[]);
        let sleeps = || thread_file(first, "stat").is_some_and(|stat| stat.contains(") S "));
        wait_until("the CPU does not rest", sleeps);
        drop(load);
        assert_eq!(thread_file(first, "comm"), None);
    }
}
