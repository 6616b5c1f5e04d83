//! 200 sources with intervals from 1 ms to 1 s, and outputs that write, that sleep 5 s per batch, and that
//! fail every other time; and the same without the latter two. Rounds of both are interleaved, each in a
//! process of its own. A tick that is missed while the machine itself was late (`late.rs`) is the machine's;
//! the others are ours.

use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::Duration;

use tokio::time::Instant;
use wattrace::config::Settings;
use wattrace::pattern::Pattern;
use wattrace::pipeline::Pipeline;
use wattrace_api::{
    Batch, Clock, Error, Output, Resource, ResultExt, SeriesId, SeriesSpec, Setup, Source, Tick, Timestamp,
    Trigger, Value, Window, metric,
};

use crate::late::{Spans, Watch};
use crate::machine;

const ROUNDS: usize = 3;
const SPAN: Duration = Duration::from_secs(7);
const MILLISECONDS: [u64; 10] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000];

/// Ten series, and note of the time from the first tick that was missed to the one that came.
struct Ten {
    series: [SeriesId; 10],
    value: u64,
    interval: u64,
    clock: Clock,
    missed: Spans,
}

impl Source for Ten {
    fn poll(&mut self, tick: &Tick, out: &mut Batch) -> Result<(), Error> {
        if tick.missed > 0 {
            let mut missed = self.missed.lock().expect("nobody panics with it");
            let (last, now) = (tick.scheduled.0, self.clock.now().0);
            missed.extend((1..=tick.missed).map(|n| (last.saturating_sub(n * self.interval), now)));
        }
        self.value += 1;
        out.begin(Window::new(Timestamp(0), tick.scheduled));
        self.series.iter().for_each(|&id| out.push(id, Value::of_steps(self.value)));
        Ok(())
    }
}

struct Writes<F>(F);

impl<F: FnMut() -> Result<(), Error> + Send> Output for Writes<F> {
    fn write(&mut self, _: &Batch) -> Result<(), Error> {
        (self.0)()
    }
}

/// What came of the rounds of one kind.
#[derive(Default)]
struct Sum {
    ticks: u64,
    missed: u64,
    ours: u64,
    rss: f64,
    open: u64,
}

pub(crate) fn run(_: u64) {
    let me = std::env::current_exe().expect("this program has a path");
    let mut sums: [Sum; 2] = Default::default();
    for round in 0..2 * ROUNDS {
        let troubled = (round + round / 2) % 2;
        let output =
            Command::new(&me).args(["--case", "round", &troubled.to_string()]).output().expect("it runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (numbers, text) = text.split_once('\n').expect("a round prints its numbers and a text");
        let n: Vec<f64> = numbers.split(' ').filter_map(|n| n.parse().ok()).collect();
        let sum = &mut sums[troubled];
        sum.ticks += n[0] as u64;
        sum.missed += n[1] as u64;
        sum.ours += n[2] as u64;
        sum.open += n[3] as u64;
        sum.rss = sum.rss.max(n[4]);
        print!("{text}");
    }
    println!("{ROUNDS} rounds each of 200 sources of 1 ms to 1 s, interleaved:");
    let names = ["an output that works", "and one that sleeps, and one that fails"];
    let per_million = |sum: &Sum| sum.ours as f64 * 1e6 / (sum.ticks + sum.missed) as f64;
    for (sum, name) in sums.iter().zip(names) {
        println!(
            "    {name}: {} ticks, {} missed, {} of them while the machine was on time: \
             {:.0} in a million; RSS {:.1} MB",
            sum.ticks,
            sum.missed,
            sum.ours,
            per_million(sum),
            sum.rss
        );
    }
    let more = per_million(&sums[1]) - per_million(&sums[0]);
    machine::target("missed because of the outputs, in a million ticks, at most 100", more, more <= 100.0);
    machine::target("highest RSS in MB, below 64", sums[1].rss, sums[1].rss < 64.0);
    let open = sums[0].open + sums[1].open;
    machine::target("points neither written nor counted as lost, 0", open as f64, open == 0);
}

/// 200 sources of ten series, with intervals from the list.
fn add_sources(setup: &mut Setup, missed: &Spans) {
    for n in 0..200 {
        let (registry, interval) = (setup.registry(), Duration::from_millis(MILLISECONDS[n % 10]));
        let (missed, clock) = (missed.clone(), setup.clock());
        setup.source(format!("{n}"), Trigger::every(interval), move || {
            let metric = registry.metric(&metric::HW_ENERGY).or_fatal()?;
            let open = |_| registry.open(SeriesSpec::new(metric, Resource::HOST, Timestamp(0)));
            let (series, interval) = (std::array::from_fn(open), interval.as_nanos() as u64);
            Ok(Ten { series, value: 0, interval, clock: clock.clone(), missed: Arc::clone(&missed) })
        });
    }
}

/// An output that works; if `troubled`, beside one that sleeps and one that fails every other time.
fn add_outputs(setup: &mut Setup, troubled: bool) {
    setup.output("writes", || Ok(Writes(|| Ok(()))));
    if !troubled {
        return;
    }
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

/// One round: a line of numbers for [`run`], and one for people.
pub(crate) fn round(troubled: u64) {
    let runtime = machine::runtime();
    let missed = Spans::new(Mutex::default());
    let host = machine::host(&runtime, |setup| {
        add_sources(setup, &missed);
        add_outputs(setup, troubled == 1);
    });
    let pipeline = Pipeline::start(host, Settings { realtime: true, ..Settings::default() });
    let control = pipeline.control();
    let Some(watch) = Watch::start() else {
        println!("0 0 0 0 0\nwithout real-time priority nobody can tell the machine's misses from ours");
        return runtime.block_on(async { drop(pipeline.stop(Instant::now()).await) });
    };
    sleep(Duration::from_secs(1));
    let totals = || {
        let ticks = control.status(&Pattern::all()).into_iter().filter_map(|s| s.ticks);
        ticks.fold((0, 0), |(n, late), t| (n + t.ticks, late + t.lateness_mean_ns * t.ticks))
    };
    missed.lock().expect("nobody panics with it").clear();
    let (before, cpu) = (totals(), machine::clock(libc::CLOCK_PROCESS_CPUTIME_ID));
    sleep(SPAN);
    let (after, cpu) = (totals(), machine::clock(libc::CLOCK_PROCESS_CPUTIME_ID) - cpu);
    let missed = std::mem::take(&mut *missed.lock().expect("nobody panics with it"));
    let ours = missed.iter().filter(|&&span| !watch.was_late(span)).count();
    let (times, machine_late) = watch.lateness();
    drop(watch);
    let rss = machine::memory("VmRSS:");
    runtime.block_on(pipeline.stop(Instant::now() + Duration::from_millis(4500)));
    let outputs = control.status(&"output/*".parse().expect("a pattern"));
    let open: u64 = outputs.iter().map(|s| s.points_in - s.points_out - s.lost).sum();
    let ticks = after.0 - before.0;
    println!("{ticks} {} {ours} {open} {rss}", missed.len());
    println!(
        "  {}: {} missed, {ours} of them ours, late by {:.0} µs on average, \
         {:.1} % of a core; the machine was late {times} times, \
         {:.1} ms in all",
        if troubled == 1 { "with those that sleep and fail" } else { "without" },
        missed.len(),
        (after.1 - before.1) as f64 / ticks as f64 / 1e3,
        cpu as f64 * 100.0 / SPAN.as_nanos() as f64,
        machine_late.as_secs_f64() * 1e3,
    );
}
