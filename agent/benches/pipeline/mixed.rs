//! 200 sources with intervals from 1 ms to 1 s, and outputs that write, that sleep 5 s per batch, and that fail every other
//! time. Once without the latter two, to compare with.

use std::thread::sleep;
use std::time::Duration;

use tokio::time::Instant;
use wattrace::pipeline::Pipeline;
use wattrace::pipeline::pattern::Pattern;
use wattrace::pipeline::settings::Settings;
use wattrace_api::{
    Batch, Error, Output, Resource, ResultExt, SeriesId, SeriesSpec, Source, Tick, Timestamp, Trigger, Value,
    Window, metric,
};

use crate::machine;

const SPAN: Duration = Duration::from_secs(15);
const MILLISECONDS: [u64; 10] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000];

struct Ten([SeriesId; 10], u64);

impl Source for Ten {
    fn poll(&mut self, tick: &Tick, out: &mut Batch) -> Result<(), Error> {
        self.1 += 1;
        out.begin(Window::new(Timestamp(0), tick.scheduled));
        self.0.iter().for_each(|&id| out.push(id, Value::of_steps(self.1)));
        Ok(())
    }
}

struct Writes<F>(F);

impl<F: FnMut() -> Result<(), Error> + Send> Output for Writes<F> {
    fn write(&mut self, _: &Batch) -> Result<(), Error> {
        (self.0)()
    }
}

pub(crate) fn run(troubled: u64) {
    let runtime = machine::runtime();
    let mut setup = machine::setup(&runtime);
    for n in 0..200 {
        let (registry, interval) = (setup.registry(), Duration::from_millis(MILLISECONDS[n % 10]));
        setup.source(format!("{n}"), Trigger::every(interval), move || {
            let metric = registry.metric(&metric::HW_ENERGY).or_fatal()?;
            let open = |_| registry.open(SeriesSpec::new(metric, Resource::HOST, Timestamp(0)));
            Ok(Ten(std::array::from_fn(open), 0))
        });
    }
    setup.output("writes", || Ok(Writes(|| Ok(()))));
    if troubled == 1 {
        setup.output("sleeps", || {
            Ok(Writes(|| {
                sleep(Duration::from_secs(5));
                Ok(())
            }))
        });
        let mut calls = 0;
        setup.output("fails", move || {
            Ok(Writes(move || {
                calls += 1;
                if calls % 2 == 1 { Err(Error::retry("every other time")) } else { Ok(()) }
            }))
        });
    }
    let pipeline = Pipeline::start(setup, Settings::default());
    let control = pipeline.control();
    sleep(Duration::from_secs(1));
    let totals = || {
        let ticks = control.status(&Pattern::all()).into_iter().filter_map(|s| s.ticks);
        ticks.fold((0, 0, 0, 0), |(n, missed, late, most), t| {
            (n + t.ticks, missed + t.missed, late + t.lateness_mean_ns * t.ticks, most.max(t.lateness_max_ns))
        })
    };
    let (before, cpu) = (totals(), machine::clock(libc::CLOCK_PROCESS_CPUTIME_ID));
    sleep(SPAN);
    let (after, cpu) = (totals(), machine::clock(libc::CLOCK_PROCESS_CPUTIME_ID) - cpu);
    let (ticks, missed) = (after.0 - before.0, after.1 - before.1);
    println!(
        "200 sources of 1 ms to 1 s, {}: {ticks} ticks, {missed} missed ({:.4} %), late by {:.0} µs on average and {:.1} ms \
         at most, {:.1} % of a core, RSS {:.1} MB",
        if troubled == 1 { "an output that sleeps and one that fails" } else { "an output that works" },
        missed as f64 * 100.0 / (ticks + missed) as f64,
        (after.2 - before.2) as f64 / ticks as f64 / 1e3,
        after.3 as f64 / 1e6,
        cpu as f64 * 100.0 / SPAN.as_nanos() as f64,
        machine::memory("VmRSS:"),
    );
    runtime.block_on(pipeline.stop(Instant::now() + Duration::from_millis(4500)));
    for s in control.status(&"output/*".parse().expect("a pattern")) {
        let open = s.points_in - s.points_out - s.lost;
        println!(
            "    {}: {} points in, {} written, {} lost: {:?}",
            s.name, s.points_in, s.points_out, s.lost, s.losses
        );
        machine::target("points neither written nor counted as lost, 0", open as f64, open == 0);
    }
}
