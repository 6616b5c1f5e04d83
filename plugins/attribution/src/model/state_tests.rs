//! The state file between two agents, after a crash, and in a directory that others can write.

use std::os::unix::fs::{PermissionsExt as _, symlink};

use wattrace_api::Follows;

use super::*;
use crate::model::features::{FEATURES, Feature};
use crate::model::observation::Observation;

/// A learner of so many observations of 10 W.
fn learner(observations: u32) -> Learner {
    let mut learner = Learner::default();
    let mut rates = [0.0; FEATURES];
    rates[Feature::Always as usize] = 1.0;
    for _ in 0..observations {
        learner.learn(&Observation {
            rates,
            utilisation: 0.0,
            watts: 10.0,
            seconds: 0.1,
            awake_variance: 0.0,
        });
    }
    learner
}

fn domain(name: &str, origin: Origin) -> Domain {
    let (name, follows) = (name.to_owned(), Follows::Package(0));
    Domain { name, origin, follows, within: None, idle_microwatts: None }
}

fn package() -> Domain {
    domain("package-0", Origin::Measured)
}

/// Writes a learner of so many observations, as an agent that has read the file before another wrote it.
fn write(path: &Path, observations: u32) {
    let mut state = StateFile::open(Some(path.to_path_buf()));
    state.write([(&package(), &learner(observations))].into_iter());
}

/// Observations of what the next agent finds.
fn found(path: &Path) -> u64 {
    StateFile::open(Some(path.to_path_buf())).take(&package()).observations()
}

#[test]
fn of_two_agents_the_one_that_has_learnt_more_is_kept_whoever_writes_last() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("new/attribution.json");
    assert_eq!(found(&path), 0);
    for (observations, kept) in [(5, 5), (400, 400), (7, 400), (401, 401)] {
        write(&path, observations);
        assert_eq!(found(&path), kept);
    }
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o640, 0o750));
    let left: Vec<_> = fs::read_dir(path.parent().unwrap()).unwrap().collect();
    assert_eq!(left.len(), 1, "nothing is left beside it: {left:?}");
}

#[test]
fn many_agents_at_once_leave_a_whole_file_with_the_one_that_has_learnt_most() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("attribution.json");
    // Threads of one process share a name beside the file, so each writes in a turn of its own.
    let turn = std::sync::Mutex::new(());
    std::thread::scope(|scope| {
        for observations in 1..9 {
            let (path, turn) = (&path, &turn);
            scope.spawn(move || {
                let mut state = StateFile::open(Some(path.clone()));
                let _turn = turn.lock();
                state.write([(&package(), &learner(observations))].into_iter());
            });
        }
    });
    assert_eq!(found(&path), 8);
}

#[test]
fn other_domains_other_origins_and_other_machines_stay_and_are_not_taken() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("attribution.json");
    write(&path, 5);
    let open = || StateFile::open(Some(path.clone()));
    let mut elsewhere = StateFile { machine: "another".to_owned(), ..open() };
    assert_eq!(elsewhere.take(&package()).observations(), 5, "what was read before it was another");
    elsewhere.write([(&package(), &learner(3))].into_iter());
    let [simulated, estimated] =
        [Origin::Simulated, Origin::Estimated].map(|origin| domain("package-0", origin));
    let (dram, many) = (domain("dram-0", Origin::Measured), learner(9));
    open().write([&simulated, &estimated, &dram].into_iter().map(|domain| (domain, &many)));
    let mut state = open();
    assert_eq!(state.take(&package()).observations(), 5);
    assert_eq!((state.take(&simulated).observations(), state.take(&dram).observations()), (9, 9));
    assert_eq!(state.take(&estimated).observations(), 0, "an estimate knows its own power");
    assert_eq!(read(&path).unwrap().machines["another"].domains.len(), 1);
}

#[test]
fn a_file_keeps_the_machines_that_wrote_last() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("attribution.json");
    let mut contents = Contents::default();
    for written in 0..MAX_MACHINES as u64 {
        contents.machines.insert(format!("m{written}"), Machine { written, domains: BTreeMap::new() });
    }
    fs::write(&path, serde_json::to_vec(&contents).unwrap()).unwrap();
    write(&path, 5);
    let machines = read(&path).unwrap().machines;
    assert_eq!((machines.len(), machines.contains_key("m0"), found(&path)), (MAX_MACHINES, false, 5));
}

#[test]
fn a_file_that_makes_no_sense_is_replaced_and_impossible_numbers_are_left_out() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("attribution.json");
    write(&path, 5);
    let text = fs::read_to_string(&path).unwrap();
    for broken in [
        text[..text.len() / 2].to_owned(),
        text.replace("attribution/4", "attribution/3"),
        text.replace("\"utilisation\":0.0", "\"utilisation\":7.5"),
        text.replace("\"weight\":", "\"weight\":-"),
        "\0".repeat(100),
    ] {
        assert_ne!(broken, text);
        fs::write(&path, broken).unwrap();
        assert_eq!(found(&path), 0);
        write(&path, 2);
        assert_eq!(found(&path), 2);
    }
}

#[test]
fn a_link_in_a_directory_that_others_can_write_is_neither_read_nor_written() {
    let directory = tempfile::tempdir().unwrap();
    let (shared, target) = (directory.path().join("shared"), directory.path().join("target"));
    fs::create_dir(&shared).unwrap();
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o777)).unwrap();
    write(&target, 5);
    let link = shared.join("attribution.json");
    symlink(&target, &link).unwrap();
    assert_eq!(found(&link), 0);
    write(&link, 9);
    assert_eq!(found(&target), 5);
    // What lies where the new file is written is not followed either.
    fs::remove_file(&link).unwrap();
    symlink(&target, shared.join(format!(".attribution.json.{}", std::process::id()))).unwrap();
    write(&link, 9);
    assert_eq!((found(&link), found(&target)), (9, 5));
}

#[test]
fn a_file_of_another_schema_is_reported_as_that_whatever_it_holds() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("attribution.json");
    fs::write(&path, r#"{"schema":"wattrace.attribution/3","machines":{"m":{"domains":7}}}"#).unwrap();
    let message = read(&path).err().unwrap().to_string();
    assert_eq!(message, format!("it is of schema wattrace.attribution/3, not {SCHEMA}"));
}
