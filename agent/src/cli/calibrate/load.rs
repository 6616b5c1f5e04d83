//! Threads that keep CPUs busy, each pinned to one, for as much of its time as it is told.

use std::hint::black_box;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// A CPU that works a part of its time does so in every period of this length.
const PERIOD: Duration = Duration::from_millis(10);
/// A duty of all the time.
const WHOLE: u32 = 1000;

/// The CPUs that this process may run on, ascending.
pub(super) fn allowed() -> io::Result<Vec<usize>> {
    // SAFETY: a set of CPUs is plain data, for which zero is valid; the call fills it.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        if libc::sched_getaffinity(0, size_of_val(&set), &mut set) != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok((0..libc::CPU_SETSIZE as usize).filter(|&cpu| libc::CPU_ISSET(cpu, &set)).collect())
    }
}

/// The load; gone when dropped.
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
    /// A thread on each of the CPUs that we may use, none of which works yet.
    pub(super) fn start() -> io::Result<Self> {
        let mut load = Self { workers: Vec::new(), stop: Arc::default() };
        for cpu in allowed()? {
            let (duty, stop) = (Arc::new(AtomicU32::new(0)), load.stop.clone());
            let of_thread = duty.clone();
            let spawned = thread::Builder::new().name(format!("load-{cpu}")).spawn(move || {
                pin(cpu);
                work(&of_thread, &stop);
            });
            load.workers.push(Worker { cpu, duty, thread: Some(spawned?) });
        }
        Ok(load)
    }

    /// How much of its time each CPU works from now on, 0 to 1, by CPU number.
    pub(super) fn set(&self, duties: &[f64]) {
        for worker in &self.workers {
            let duty = duties.get(worker.cpu).copied().unwrap_or(0.0);
            worker.duty.store((duty * f64::from(WHOLE)).round() as u32, Relaxed);
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
            // It fails only if the thread panicked, which took its load away as well.
            let _ = worker.thread.take().map(JoinHandle::join);
        }
    }
}

/// Runs the calling thread on one CPU. Should that fail (the CPU has gone), it runs anywhere: what is
/// measured is what ran.
fn pin(cpu: usize) {
    // SAFETY: the set is plain data, initialised by the macros; 0 is the calling thread.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &set);
    }
}

fn work(duty: &AtomicU32, stop: &AtomicBool) {
    let mut burner = Burner::default();
    while !stop.load(Relaxed) {
        let now = duty.load(Relaxed);
        let began = Instant::now();
        match now {
            0 => thread::park(),
            part => {
                while began.elapsed() < PERIOD * part.min(WHOLE) / WHOLE {
                    burner.burn();
                }
                if part < WHOLE {
                    thread::sleep(PERIOD.saturating_sub(began.elapsed()));
                }
            }
        }
    }
}

/// Work of many kinds at once, as programs do it: floating-point and integer arithmetic, branches, loads and
/// stores in and beyond the first cache.
struct Burner {
    data: Vec<f64>,
    state: u64,
}

impl Default for Burner {
    fn default() -> Self {
        // 256 KiB: more than a first-level cache, less than a second-level one of most servers.
        Self { data: (0..32768).map(f64::from).collect(), state: 1 }
    }
}

impl Burner {
    /// Some tens of microseconds of work.
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

    /// What the kernel says in `file` of the thread that loads `cpu`; `None`: there is no such thread.
    fn of_thread(cpu: usize, file: &str) -> Option<String> {
        let mut tasks = fs::read_dir("/proc/self/task").unwrap().flatten();
        let name = format!("load-{cpu}\n");
        let task =
            tasks.find(|t| fs::read_to_string(t.path().join("comm")).is_ok_and(|comm| comm == name))?;
        fs::read_to_string(task.path().join(file)).ok()
    }

    fn until(what: &str, is_so: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !is_so() {
            assert!(Instant::now() < deadline, "{what}");
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn cpus_work_when_told_and_rest_when_told() {
        let first = allowed().unwrap()[0];
        let load = Load::start().unwrap();
        let mut duties = vec![0.0; first + 1];
        duties[first] = 1.0;
        load.set(&duties);
        let nanos = || of_thread(first, "schedstat")?.split(' ').next()?.parse::<u64>().ok();
        until("nothing works", || nanos().is_some_and(|nanos| nanos > 50_000_000));
        load.set(&[]);
        let sleeps = || of_thread(first, "stat").is_some_and(|stat| stat.contains(") S "));
        until("it does not rest", sleeps);
        drop(load);
        assert_eq!(of_thread(first, "comm"), None);
    }
}
