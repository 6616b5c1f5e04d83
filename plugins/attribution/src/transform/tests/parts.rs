//! Meters of parts of the machine: threads of a process, cores, GPUs.

use super::*;
use crate::GpuIdle;

#[test]
fn threads_divide_the_energy_of_their_process() {
    let mut s = Scene::new(with_idle_watts("package-0", 10.0));
    let (nobody, a, b) = (s.closing(ConsumerKind::Idle, 0), s.process(1, 0), s.process(2, 0));
    let thread = |tid: u32, pid: u32| {
        let identity = |kind, id: u32| Identity { kind, id: id.to_string().into(), start_unix_nano: 1 };
        let process = identity(ConsumerKind::Process, pid);
        let thread = Consumer::new(identity(ConsumerKind::Thread, tid), Some(process), Vec::new());
        s.open(&metric::CONSUMER_CPU_TIME, Resource::package(0), None, Some(thread))
    };
    let (one, two, three) = (thread(11, 1), thread(12, 1), thread(13, 2));
    let meter = s.meter("package-0", Some(0));
    let ms = SECOND / 1000;
    let used = [(nobody, 1100 * ms), (a, 600 * ms), (b, 300 * ms)];
    let of_which = [(one, 200 * ms), (two, 400 * ms), (three, 300 * ms), (meter, 28_000_000)];
    let batch = s.pass(0, SECOND, &[&used[..], &of_which[..]].concat());
    let (books, residual) = s.books(&[batch]);
    let of = |name: &str| books[&("package-0".to_string(), name.to_string())];
    assert_eq!(residual, 0.0);
    assert_eq!(of("process1") + of("process2") + of("idle"), 28_000_000);
    assert_eq!((of("thread11") + of("thread12"), of("thread13")), (of("process1"), of("process2")));
    assert!(of("thread12").abs_diff(8_000_000) <= 1, "{books:?}");
}

#[test]
fn a_cores_energy_is_divided_by_the_use_of_that_core() {
    let mut s = Scene::new(without_static_power());
    let of_core = |s: &Scene, cpu, pid: u32| {
        let identity =
            Identity { kind: ConsumerKind::Process, id: pid.to_string().into(), start_unix_nano: 1 };
        let consumer = Consumer::new(identity, None, Vec::new());
        s.open(&metric::CONSUMER_CORE_TIME, Resource::core(cpu), None, Some(consumer))
    };
    let (a, b) = (of_core(&s, 0, 1), of_core(&s, 2, 2));
    let domain = |name: &str, follows| {
        let (name, origin) = (name.to_owned(), Origin::Simulated);
        Some(Domain { name, origin, follows, within: None, idle_microwatts: None })
    };
    let zero = s.open(&metric::HW_ENERGY, Resource::core(0), domain("core-cpu-0", Follows::Core(0)), None);
    let two = s.open(&metric::HW_ENERGY, Resource::core(2), domain("core-cpu-2", Follows::Core(2)), None);
    let batch = s.pass(0, SECOND, &[(a, SECOND), (b, SECOND / 2), (zero, 7), (two, 9)]);
    let (books, _) = s.books(&[batch]);
    let of = |d: &str, c: &str| books.get(&(d.to_owned(), c.to_owned())).copied();
    assert_eq!((of("core-cpu-0", "process1"), of("core-cpu-0", "process2")), (Some(7), None));
    assert_eq!((of("core-cpu-2", "process1"), of("core-cpu-2", "process2")), (None, Some(9)));
}

/// Energy by domain and consumer for a GPU that one process uses for half of the first second only, while
/// another one holds memory of it.
fn gpu(config: AttributionConfig) -> HashMap<(String, String), u64> {
    let mut s = Scene::new(config);
    let gpu = || Resource::gpu("GPU-1".to_owned());
    let process = |pid: u32| {
        let identity =
            Identity { kind: ConsumerKind::Process, id: pid.to_string().into(), start_unix_nano: 1 };
        Consumer::new(identity, None, Vec::new())
    };
    let (name, origin, follows) = ("gpu-GPU-1".to_owned(), Origin::Simulated, Follows::Device(gpu()));
    let domain = Domain { name, origin, follows, within: None, idle_microwatts: None };
    let meter = s.open(&metric::HW_ENERGY, gpu(), Some(domain), None);
    let user = s.open(&metric::CONSUMER_GPU_TIME, gpu(), None, Some(process(1)));
    let holder = s.open(&metric::CONSUMER_GPU_MEMORY, gpu(), None, Some(process(2)));
    // CPU time of the same second does not count.
    let elsewhere = s.process(3, 0);
    let mut held = Batch::default();
    held.begin(Window::new(Timestamp(0), Timestamp(SECOND)));
    held.push(holder, wattrace_api::Value::of_gauge(1e9));
    let held = s.rig.pass(held).unwrap();
    let used = s.pass(0, SECOND, &[(elsewhere, SECOND), (user, SECOND / 2)]);
    let energy = s.pass(0, SECOND, &[(meter, 150_000_000)]);
    // A second without use, which is reported as such.
    let rest = s.pass(SECOND, 2 * SECOND, &[(user, SECOND / 2), (meter, 200_000_000)]);
    let (books, residual) = s.books(&[held, used, energy, rest]);
    assert_eq!(residual, 0.0);
    books
}

#[test]
fn a_gpus_energy_is_divided_by_engine_time_and_its_static_part_by_policy() {
    let config = with_idle_watts("gpu-GPU-1", 50.0);
    let of = |books: &HashMap<_, u64>, c: &str| books.get(&("gpu-GPU-1".to_owned(), c.to_owned())).copied();
    let books = gpu(config.clone());
    let parts = ["process1", "process2", "process3", "idle"].map(|c| of(&books, c));
    assert_eq!(parts, [Some(100_000_000), None, None, Some(100_000_000)]);
    let books = gpu(AttributionConfig { gpu_idle: GpuIdle::Holder, ..config });
    let parts = ["process1", "process2", "process3", "idle"].map(|c| of(&books, c));
    assert_eq!(parts, [Some(100_000_000), Some(100_000_000), None, Some(0)]);
}
