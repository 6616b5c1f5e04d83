//! The file as a CSV reader sees it: fixed columns, one line per row, values that are read back unchanged.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic: that is how tests fail")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use wattrace_api::testing::Rig;
use wattrace_api::{
    Attribute, Consumer, ConsumerKind, Identity, Metric, Plugin, Resource, ResourceKind, SeriesSpec,
    Timestamp, Unit, Window, metric,
};
use wattrace_csv::{Csv, CsvConfig};

const HEADER: &str = "metric,unit,kind,start_unix_nano,time_unix_nano,value,resource_type,resource_id,\
                      consumer_type,consumer_id,consumer_start_unix_nano,attributes";

fn started(path: &Path) -> Rig {
    let mut rig = Rig::new();
    let config = CsvConfig { path: path.into(), flush_interval: Duration::ZERO, ..CsvConfig::default() };
    rig.start::<Csv>(config).unwrap();
    rig
}

#[test]
fn a_process_row_is_read_back_whatever_characters_its_name_has() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.csv");
    let mut rig = started(&path);
    let identity = Identity { kind: ConsumerKind::Process, id: "1234".into(), start_unix_nano: 77 };
    let attributes = vec![
        Attribute::new("process.pid", 1234_i64),
        Attribute::new("process.executable.name", "a;b=c\\d\ne,\"f\""),
    ];
    let cpu_time = rig.registry.metric(&metric::CONSUMER_CPU_TIME).unwrap();
    let series = rig.registry.open(SeriesSpec {
        metric: cpu_time,
        resource: Resource::package(0),
        domain: None,
        consumer: Some(Arc::new(Consumer::new(identity, None, attributes))),
        attributes: Vec::new(),
        start: Timestamp(40),
    });
    let batch = rig.batch(Window::new(Timestamp(50), Timestamp(60)), &[(series, 2_500_000_001)]);
    rig.pass(batch).unwrap();

    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().count(), 2, "one line a row: {text}");
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    assert_eq!(reader.headers().unwrap().iter().collect::<Vec<_>>().join(","), HEADER);
    let row = reader.records().next().unwrap().unwrap();
    assert_eq!(
        row.iter().collect::<Vec<_>>(),
        [
            "wattrace.consumer.cpu.time",
            "s",
            "counter",
            "40",
            "60",
            "2.500000001",
            "package",
            "0",
            "process",
            "1234",
            "77",
            "wattrace.consumer.type=process;cpu.package=0;process.pid=1234;\
             process.executable.name=a\\;b\\=c\\\\d\\ne,\"f\"",
        ]
    );
}

#[test]
fn no_cell_is_a_formula_and_none_holds_control_characters() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.csv");
    let mut rig = started(&path);
    let values = rig.registry.metric(&Metric::gauge("=1+1", Unit::Other("@u".into()), "")).unwrap();
    for start in ["=", "+", "-", "@", "\t=", "\r=", "＝"] {
        let evil = format!("{start}cmd|' /C calc'!A0\u{1b}[2J\u{202e}");
        let identity = Identity { kind: ConsumerKind::Process, id: evil.clone().into(), start_unix_nano: 7 };
        let attributes = vec![Attribute::new(evil.clone(), &*evil), Attribute::new("b", 1_i64)];
        let series = rig.registry.open(SeriesSpec {
            metric: values,
            resource: Resource { kind: ResourceKind::Other(evil.clone().into()), id: evil.into() },
            domain: None,
            consumer: Some(Arc::new(Consumer::new(identity, None, attributes))),
            attributes: Vec::new(),
            start: Timestamp(0),
        });
        let batch = rig.batch(Window::new(Timestamp(0), Timestamp(5)), &[(series, (-2.5_f64).to_bits())]);
        rig.pass(batch).unwrap();
    }
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().count(), 8, "one line a row: {text}");
    let rows: Vec<_> = csv::Reader::from_reader(text.as_bytes()).into_records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 7);
    for row in &rows {
        assert_eq!(&row[5], "-2.5", "a number stays one");
        for (column, cell) in row.iter().enumerate().filter(|(column, _)| *column != 5) {
            for part in cell.split(';') {
                assert!(!part.starts_with(['=', '+', '-', '@', '＝']), "column {column}: {cell}");
            }
            assert!(!cell.contains(['\u{1b}', '\u{202e}', '\t', '\r']), "column {column}: {cell:?}");
        }
    }
    assert_eq!((&rows[0][0], &rows[0][1]), ("'=1+1", "'@u"));
    assert_eq!(&rows[0][9], r"'=cmd|' /C calc'!A0\u{1b}[2J\u{202e}");
    assert_eq!(&rows[4][9], r"\u{9}=cmd|' /C calc'!A0\u{1b}[2J\u{202e}");
    let attribute = r"+cmd|' /C calc'!A0\u{1b}[2J\u{202e}";
    assert!(rows[1][11].contains(&format!(r";\{attribute}={attribute};b=1")), "{}", &rows[1][11]);
}

#[test]
fn rows_of_hardware_have_empty_consumer_fields_and_a_second_run_adds_no_header() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.csv");
    for _ in 0..2 {
        let mut rig = started(&path);
        let residual = rig.series(&metric::DOMAIN_RESIDUAL, Resource::package(1));
        let points = [(residual, f64::NAN.to_bits()), (residual, 0.5_f64.to_bits())];
        let batch = rig.batch(Window::new(Timestamp(0), Timestamp(5)), &points);
        rig.pass(batch).unwrap();
    }
    let run = "wattrace.domain.residual,J,gauge,0,5,,package,1,,,,cpu.package=1\n\
               wattrace.domain.residual,J,gauge,0,5,0.5,package,1,,,,cpu.package=1\n";
    assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{HEADER}\n{run}{run}"));
}

#[test]
fn a_file_with_other_columns_is_not_appended_to() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.csv");
    std::fs::write(&path, "a,b\n1,2\n").unwrap();
    let config = CsvConfig { path: path.clone(), ..CsvConfig::default() };
    let error = Rig::new().start::<Csv>(config).unwrap_err().to_string();
    assert!(error.contains("plugins.csv.append = false"), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "a,b\n1,2\n");
}

#[test]
fn every_key_has_a_default() {
    let config: CsvConfig = toml::from_str("").unwrap();
    assert_eq!(
        toml::to_string(&config).unwrap(),
        "path = \"wattrace.csv\"\nappend = true\nflush_interval = \"1s\"\nrotate_size = \"0\"\n\
         rotate_every = \"0s\"\nrotate_keep = 0\ncompression = \"none\"\n"
    );
    assert!(!Csv::on_by_default());
}
