//! The model against a simulated machine whose truth is known.

use std::time::Duration;

use crate::message::{Message, Quantity, SeriesDescription};
use crate::testing::{BEGIN, Machine, Process};
use crate::{Kind, Model, Query, Row};

const SECOND: u64 = 1_000_000_000;

fn row(model: &Model, kind: Kind, name: &str) -> Row {
    let table = model.table(&Query::of(kind));
    let all: Vec<_> = table.rows.iter().chain(&table.closing).collect();
    let named: Vec<_> = all.iter().filter(|row| row.name == name).collect();
    let names = || all.iter().map(|row| &row.name).collect::<Vec<_>>();
    assert_eq!(named.len(), 1, "rows named {name} among {:?}", names());
    Row::clone(named[0])
}

fn process(name: &str, pid: u32, load: u64, lives: std::ops::Range<u64>) -> Process {
    Process { name: name.to_owned(), pid, user: "ada", unit: "a.service", container: "", load, gpu: 0, lives }
}

#[test]
fn power_energy_and_use_are_those_of_the_machine() {
    // A pid that is a multiple of 8 begins with the average load; half a CPU takes 4 W, and 0.35 W of memory.
    let mut machine = Machine::new(vec![process("half", 8, 500, 0..u64::MAX)]);
    machine.run(1);
    let half = row(machine.model(), Kind::Process, "half");
    assert_eq!((half.microjoules, half.cpus), (4_350_000, 0.5));
    assert!((half.watts - 4.35).abs() < 1e-6, "{}", half.watts);
    // Another second at 120 %.
    machine.run(1);
    let half = row(machine.model(), Kind::Process, "half");
    assert_eq!(half.microjoules, 4_350_000 + 5_220_000);
    assert!((half.watts - 5.22).abs() < 1e-6 && (half.cpus - 0.6).abs() < 1e-6);
    let model = machine.model();
    let idle = row(model, Kind::Process, "idle");
    assert_eq!(idle.microjoules, 2 * (12_000 + 1_500 + 9_000) * 1000);
    assert_eq!(model.microjoules(), idle.microjoules + half.microjoules + 2 * 400_000);
    assert!((model.watts() - (22.9 + 5.22)).abs() < 1e-6, "{}", model.watts());
    assert_eq!((model.frame(), model.now_unix_nano()), (2, BEGIN + 2 * SECOND));
    assert_eq!(model.history().last(2, 9).len(), 2);
    // 3 % of what the package alone counted.
    let half_width = half.half_width.unwrap();
    assert!((half_width - 0.03 * 8.8).abs() < 1e-6, "{half_width}");
    assert_eq!(model.origins(), ["simulated"]);
}

#[test]
fn processes_of_one_name_are_one_program_and_stay_in_it_when_they_end() {
    let mut machine = Machine::new(vec![
        process("cc1", 8, 1000, 0..1),
        process("cc1", 16, 1000, 0..3),
        process("make", 24, 100, 0..u64::MAX),
    ]);
    machine.run(1);
    let cc1 = row(machine.model(), Kind::Program, "cc1");
    assert_eq!((cc1.microjoules, cc1.cpus), (2 * 8_700_000, 2.0));
    let ended: Vec<_> = machine.model().table(&Query::of(Kind::Process)).rows;
    assert_eq!(ended.iter().filter(|row| row.has_ended).count(), 1, "shown in the frame in which it ended");
    machine.run(1);
    let table = machine.model().table(&Query::of(Kind::Process));
    let pids: Vec<_> = table.rows.iter().map(|row| &*row.id).collect();
    assert_eq!(pids, ["16", "24"]);
    let rest = table.closing.last().unwrap();
    assert_eq!((&*rest.name, rest.microjoules, rest.watts), ("ended or asleep", 8_700_000, 0.0));
    machine.run(3);
    let cc1 = row(machine.model(), Kind::Program, "cc1");
    assert_eq!((cc1.microjoules, cc1.watts), ((8_700 * (100 + 100 + 120 + 150) / 100) * 1000, 0.0));
    let (_, program) = machine.model().consumers().find(|(_, c)| c.name() == "cc1").unwrap();
    assert_eq!((program.kind(), program.processes()), (Kind::Program, 0));
}

#[test]
fn a_viewer_that_joins_late_knows_the_joules_so_far_and_closes_the_sum_of_power() {
    let mut machine = Machine::office();
    machine.run(10);
    let (mut late, mut frames) = (Model::new(Duration::from_secs(1)), Vec::new());
    // As an agent describes everything to a viewer that joins.
    let described = Machine::office().second();
    for _ in 0..3 {
        let [mut meters, mut usage] = machine.second();
        if frames.is_empty() {
            meters.domains.clone_from(&described[0].domains);
            meters.series.clone_from(&described[0].series);
            usage.consumers.clone_from(&described[1].consumers);
            usage.series.splice(0..0, described[1].series.iter().filter(is_counter).cloned());
        }
        late.apply(&meters);
        frames.push(late.apply(&usage));
    }
    assert_eq!(frames, [false, true, true], "the first windows are the reference");
    let mut same = Machine::office();
    same.run(13);
    for kind in [Kind::Process, Kind::Program, Kind::Tree, Kind::Unit] {
        let (late, whole) = (late.table(&Query::of(kind)), same.model().table(&Query::of(kind)));
        assert_eq!(late.rows.len(), whole.rows.len());
        for (late, whole) in late.rows.iter().zip(&whole.rows) {
            assert_eq!((&late.name, late.microjoules), (&whole.name, whole.microjoules));
            assert!((late.watts - whole.watts).abs() < 1e-3, "{late:?} {whole:?}");
        }
        assert_eq!(late.total.microjoules, whole.total.microjoules);
    }
}

/// As an agent describes to a viewer that joins who has no points.
#[test]
fn who_sleeps_has_a_name_and_its_joules_are_known_when_it_wakes() {
    let mut machine = Machine::new(vec![process("busy", 8, 500, 0..u64::MAX)]);
    machine.run(2);
    let mut sleepers = Machine::new(vec![process("sleeper", 16, 500, 0..u64::MAX)]).second()[1].clone();
    sleepers.windows.clear();
    sleepers.consumers.retain(|consumer| consumer.name == "sleeper");
    sleepers.consumers[0].number = 900;
    let number = sleepers.series[0].consumer;
    sleepers.series.retain(|series| series.consumer == number && is_counter(&series));
    for (id, series) in (900..).zip(&mut sleepers.series) {
        (series.id, series.consumer) = (id, Some(900));
    }
    let mut model = machine.model().clone();
    model.apply(&sleepers);
    machine.second().iter().for_each(|message| _ = model.apply(message));
    let asleep = row(&model, Kind::Process, "sleeper");
    assert_eq!((asleep.is_seen, asleep.microjoules, asleep.watts), (false, 0, 0.0));
    assert!(row(&model, Kind::Process, "busy").is_seen);
    let [_, mut woken] = machine.second();
    let cpu_time = sleepers.series.iter().find(|series| series.quantity == Quantity::CpuTime).unwrap();
    woken.windows[0].count(cpu_time.id, SECOND);
    model.apply(&woken);
    let awake = model.consumers().find(|(_, consumer)| consumer.name() == "sleeper").unwrap().1;
    assert_eq!((awake.is_seen(), awake.cpu_nanos()), (true, SECOND));
    // Its series end without a point of the others.
    let ended = sleepers.series.iter().map(|series| series.id).collect();
    model.apply(&Message { ended, ..Message::default() });
    machine.run(1);
    for _ in 0..2 {
        machine.second().iter().for_each(|message| _ = model.apply(message));
    }
    assert!(
        model.consumers().all(|(_, consumer)| consumer.kind() != Kind::Process || consumer.name() == "busy")
    );
}

fn is_counter(series: &&SeriesDescription) -> bool {
    series.quantity != Quantity::Uncertainty
}

#[test]
fn a_process_that_first_runs_late_counts_in_full_and_is_unknown_for_one_frame_only() {
    let mut machine = Machine::new(vec![process("a", 8, 500, 0..u64::MAX)]);
    machine.run(2);
    // It began before everything, and nobody knows what it used when.
    let usage = machine.second();
    machine.add(process("sleeper", 16, 500, 3..u64::MAX));
    let mut model = machine.model().clone();
    usage.iter().for_each(|message| _ = model.apply(message));
    let [meters, mut woken] = machine.second();
    for description in &mut woken.series {
        description.start_unix_nano = BEGIN - SECOND;
    }
    model.apply(&meters);
    assert!(model.apply(&woken));
    let table = model.table(&Query::of(Kind::Process));
    let sleeper = table.rows.iter().find(|row| row.name == "sleeper").unwrap();
    assert_eq!((sleeper.watts, sleeper.microjoules > 0), (0.0, true));
    let rest = table.closing.last().unwrap();
    assert!(rest.watts > 1.0, "its power is in the rest: {rest:?}");
    machine.second().iter().for_each(|message| _ = model.apply(message));
    let table = model.table(&Query::of(Kind::Process));
    assert!(table.closing.last().unwrap().watts < 1e-3);
}

#[test]
fn after_lost_points_the_totals_are_right_and_consumers_keep_their_rows() {
    let mut machine = Machine::office();
    machine.run(3);
    let key = |model: &Model| {
        let row = row(model, Kind::Process, "firefox");
        (row.key, row.microjoules)
    };
    let mut model = machine.model().clone();
    let before = key(&model);
    // Two seconds are lost; then everything is described again, under other numbers.
    machine.run(2);
    let fresh = Machine::office().second();
    let renumber = |message: &mut Message| {
        message.consumers.iter_mut().for_each(|c| c.number += 1000);
        message.series.iter_mut().for_each(|s| s.consumer = s.consumer.map(|number| number + 1000));
    };
    let [mut meters, mut usage] = machine.second();
    (meters.reset, meters.lost) = (true, 77);
    meters.domains.clone_from(&fresh[0].domains);
    meters.series.clone_from(&fresh[0].series);
    usage.consumers.clone_from(&fresh[1].consumers);
    usage.series = fresh[1].series.iter().filter(is_counter).cloned().collect();
    renumber(&mut usage);
    usage.ended.clear();
    model.apply(&meters);
    assert!(model.apply(&usage));
    let after = key(&model);
    assert_eq!((after.0, model.lost()), (before.0, 77));
    let mut same = Machine::office();
    same.run(6);
    assert_eq!(after.1, key(same.model()).1);
    let (total, table) = (model.total(), model.table(&Query::of(Kind::Process)));
    assert_eq!(total.microjoules, same.model().microjoules());
    assert_eq!(table.rows.len(), 12, "nobody is there twice");
    assert_eq!(table.closing.last().unwrap().microjoules, 0);
}

#[test]
fn another_program_in_the_same_process_goes_on_under_its_name() {
    let mut machine = Machine::new(vec![process("bash", 8, 500, 0..u64::MAX)]);
    machine.run(1);
    let mut model = machine.model().clone();
    let mut description = machine_description(&model);
    description.name = "python3 train.py".to_owned();
    model.apply(&Message { consumers: vec![description], ..Message::default() });
    machine.second().iter().for_each(|message| _ = model.apply(message));
    assert_eq!(row(&model, Kind::Program, "bash").microjoules, 4_350_000);
    assert_eq!(row(&model, Kind::Program, "python3 train.py").microjoules, 5_220_000);
    assert_eq!(row(&model, Kind::Process, "python3 train.py").microjoules, 9_570_000);
}

/// The description of the machine's one process.
fn machine_description(model: &Model) -> crate::ConsumerDescription {
    let (_, process) = model.consumers().find(|(_, c)| c.kind() == Kind::Process).unwrap();
    crate::ConsumerDescription {
        number: process.number,
        kind: Kind::Process,
        id: process.id.clone(),
        start_unix_nano: process.start_unix_nano,
        name: process.name.clone(),
        root: None,
        attributes: process.attributes.clone(),
    }
}
