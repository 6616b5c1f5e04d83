use std::fs::{self, File};
use std::path::PathBuf;

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::RowAccessor;
use wattrace_api::testing::Rig;
use wattrace_api::{ErrorKind, Resource, SeriesId, Window, metric};

use super::*;
use crate::config::ParquetConfig;

struct Fixture {
    rig: Rig,
    id: SeriesId,
    output: ParquetOutput,
    written: u64,
}

/// An output with a row group every 10 s and a file every 60 s.
fn fixture(directory: &Path) -> Fixture {
    let mut rig = Rig::new();
    let id = rig.series(&metric::HW_ENERGY, Resource::package(0));
    let config = ParquetConfig {
        directory: directory.to_owned(),
        row_group: Duration::from_secs(10),
        file_interval: Duration::from_secs(60),
        host: "node/1".to_owned(),
        ..ParquetConfig::default()
    };
    let settings = Settings::resolve(config).unwrap();
    let rows = Rows::new(rig.registry.clone(), rig.clock.clone(), &settings.host);
    let output = ParquetOutput::open(settings, rows, rig.clock.clone()).unwrap();
    Fixture { rig, id, output, written: 0 }
}

impl Fixture {
    /// Writes a point a second, until `seconds`; its steps are its number.
    fn run_until(&mut self, seconds: u64) {
        while self.written < seconds {
            self.written += 1;
            let end = Timestamp(self.written * 1_000_000_000);
            self.rig.clock.set(end);
            let window = Window::new(Timestamp(end.0 - 1), end);
            self.output.write(&self.rig.batch(window, &[(self.id, self.written)])).unwrap();
        }
    }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Steps of all rows of a file, in order.
fn steps(path: PathBuf) -> Vec<i64> {
    let reader = SerializedFileReader::new(File::open(path).unwrap()).unwrap();
    let rows = reader.get_row_iter(None).unwrap().map(|row| row.unwrap());
    rows.map(|row| row.get_long(5).unwrap()).collect()
}

const FIRST: &str = "wattrace-node_1-19700101T000010Z.parquet";

#[test]
fn files_are_complete_or_absent_and_begin_by_time() {
    let dir = tempfile::tempdir().unwrap();
    let mut f = fixture(dir.path());
    f.run_until(9);
    assert_eq!(names(dir.path()), [""; 0]);
    f.run_until(60);
    assert_eq!(names(dir.path()), [format!(".{FIRST}.partial")]);
    f.run_until(75);
    assert_eq!(steps(dir.path().join(FIRST)), (1..=70).collect::<Vec<_>>());
    assert_eq!((names(dir.path()), f.output.undelivered()), (vec![FIRST.to_owned()], 5));
    f.output.flush().unwrap();
    let second = "wattrace-node_1-19700101T000115Z.parquet";
    assert_eq!(names(dir.path()), [FIRST, second]);
    assert_eq!(steps(dir.path().join(second)), (71..=75).collect::<Vec<_>>());
    assert_eq!(f.output.undelivered(), 0);
}

#[test]
fn a_file_of_the_same_second_gets_a_number() {
    let dir = tempfile::tempdir().unwrap();
    let mut f = fixture(dir.path());
    f.run_until(10);
    f.output.flush().unwrap();
    let batch = f.rig.batch(Window::new(Timestamp(0), Timestamp(1)), &[(f.id, 11)]);
    f.output.write(&batch).unwrap();
    f.output.flush().unwrap();
    let second = FIRST.replace(".parquet", "-2.parquet");
    assert_eq!(names(dir.path()), [second.clone(), FIRST.to_owned()]);
    assert_eq!(steps(dir.path().join(second)), [11]);
}

#[test]
fn wherever_a_file_breaks_off_the_row_groups_before_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let mut f = fixture(dir.path());
    f.run_until(39);
    let partial = dir.path().join(format!(".{FIRST}.partial"));
    let whole = fs::read(&partial).unwrap();
    drop(f);
    let (mut least, mut broken) = (0, 0);
    for length in (0..=whole.len()).step_by(61).chain([whole.len()]) {
        fs::write(&partial, &whole[..length]).unwrap();
        recovery::recover_all(dir.path()).unwrap();
        let found = names(dir.path());
        if found == [FIRST] {
            let rows = steps(dir.path().join(FIRST));
            assert!(
                rows.len() >= least && rows.len().is_multiple_of(10),
                "{} rows of {length} bytes",
                rows.len()
            );
            assert_eq!(rows, (1..=rows.len() as i64).collect::<Vec<_>>());
            least = rows.len();
        } else {
            assert!(found.is_empty() || found == [format!("{FIRST}.broken")], "{found:?}");
            assert_eq!(least, 0);
            broken += 1;
        }
        found.iter().for_each(|name| fs::remove_file(dir.path().join(name)).unwrap());
    }
    assert!(least == 30 && broken > 2, "{least} rows, {broken} broken");
}

#[test]
fn a_file_that_another_agent_writes_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let mut f = fixture(dir.path());
    f.run_until(10);
    let before = names(dir.path());
    let _other = fixture(dir.path());
    assert_eq!(names(dir.path()), before);
    f.run_until(20);
    f.output.flush().unwrap();
    assert_eq!(steps(dir.path().join(FIRST)).len(), 20);
}

#[test]
fn rows_that_cannot_be_written_wait_and_are_written_once() {
    let dir = tempfile::tempdir().unwrap();
    let files = dir.path().join("files");
    let mut f = fixture(&files);
    f.run_until(15);
    fs::remove_dir_all(&files).unwrap();
    f.run_until(20);
    assert!(f.output.trouble().is_some_and(|why| why.contains("points wait in memory")));
    f.run_until(29);
    assert_eq!(f.output.flush().unwrap_err().kind(), ErrorKind::Retry);
    assert_eq!(f.output.undelivered(), 19);
    fs::create_dir(&files).unwrap();
    f.output.flush().unwrap();
    assert_eq!((f.output.trouble(), f.output.undelivered()), (None, 0));
    let [name] = &names(&files)[..] else { panic!() };
    assert_eq!(steps(files.join(name)), (11..=29).collect::<Vec<_>>());
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let config = ParquetConfig { directory: "/no/such/place".into(), ..ParquetConfig::default() };
    let settings = Settings::resolve(config).unwrap();
    let rig = Rig::new();
    let rows = Rows::new(rig.registry.clone(), rig.clock.clone(), "h");
    let error = ParquetOutput::open(settings, rows, rig.clock.clone()).err().unwrap().to_string();
    assert!(error.starts_with("plugins.parquet.directory: /no/such/place: "), "{error}");
}
