//! A simulated package whose power follows what this machine really does: so much at no load, and more for
//! each busy CPU, to the nanosecond. The time comes from kernel programs of its own, which are not the
//! agent's.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use wattrace_rapl_simulator::{Tree, Zone};
use wattrace_sched::kernel::{Flush, Kernel, Options};

/// Power at no load, W.
pub(crate) const IDLE: f64 = 10.0;
/// Further power of each busy CPU, W.
pub(crate) const PER_CPU: f64 = 20.0;

/// The step of the counter, µJ, and how often it is updated: those of Intel's servers.
const STEP: u64 = 61;
const UPDATE: Duration = Duration::from_millis(1);

/// The running meter. Dropping it stops it.
pub(crate) struct Meter {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Meter {
    /// Starts one in the tree below `sysfs_root`.
    pub(crate) fn start(sysfs_root: &Path) -> Self {
        let cpus = std::thread::available_parallelism().unwrap().get();
        let kernel = Kernel::load(&Options::of_cpus(cpus)).unwrap();
        let used = Arc::new(AtomicU64::new(0));
        let shown = used.clone();
        let zone =
            Zone::new("intel-rapl:0", "package-0", 0.0).along(move |_| shown.load(Relaxed) / STEP * STEP);
        let tree = Tree::create(sysfs_root, vec![zone]).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            run_before_others();
            let (mut kernel, mut busy_ns, began) = (kernel, 0, Instant::now());
            busy_since_last(&mut kernel, cpus);
            while !stopped.load(Relaxed) {
                std::thread::sleep(UPDATE);
                busy_ns += busy_since_last(&mut kernel, cpus);
                let (elapsed, busy) = (began.elapsed(), busy_ns as f64 * 1e-9);
                let joules = IDLE * elapsed.as_secs_f64() + PER_CPU * busy;
                used.store((joules * 1e6) as u64, Relaxed);
                tree.write(elapsed).unwrap();
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

/// CPU time of all threads since the last call, ns.
fn busy_since_last(kernel: &mut Kernel, cpus: usize) -> u64 {
    let mut busy = 0;
    for cpu in 0..cpus {
        if kernel.flush(cpu).unwrap() == Flush::Closed {
            let page = kernel.closed_page(cpu).page;
            busy += (page.end_ns - page.start_ns).saturating_sub(page.idle_ns);
        }
    }
    busy
}

/// A meter is not delayed by what runs.
fn run_before_others() {
    let parameter = libc::sched_param { sched_priority: 50 };
    // SAFETY: the parameter is valid for the call.
    assert_eq!(unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameter) }, 0);
}
