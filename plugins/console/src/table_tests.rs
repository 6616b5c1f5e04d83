//! Tests of state and table together: batches in, text out.

use std::sync::Arc;

use super::*;
use wattrace_api::testing::Rig;
use wattrace_api::{
    Attribute, Batch, Consumer, Domain, Follows, Identity, Metric, Resource, ResourceKind, SeriesId,
    SeriesSpec, Timestamp, Value, Window, metric,
};

const SECOND: u64 = 1_000_000_000;

struct Fixture {
    rig: Rig,
    state: State,
    batch: Batch,
}

fn fixture() -> Fixture {
    let rig = Rig::new();
    let state = State::new(rig.registry.clone(), Timestamp(0));
    Fixture { rig, state, batch: Batch::default() }
}

fn process(pid: u32, name: &str) -> Arc<Consumer> {
    let identity = Identity { kind: ConsumerKind::Process, id: pid.to_string().into(), start_unix_nano: 1 };
    Arc::new(Consumer::new(identity, None, vec![Attribute::new("process.executable.name", name)]))
}

fn closing(kind: ConsumerKind) -> Arc<Consumer> {
    Arc::new(Consumer::closing(kind))
}

fn domain(name: &str, origin: Origin, within: Option<&str>) -> Arc<Domain> {
    Arc::new(Domain {
        name: name.into(),
        origin,
        follows: Follows::Cpus,
        within: within.map(Into::into),
        idle_microwatts: None,
    })
}

fn piece(kind: ResourceKind) -> Resource {
    Resource { kind, id: "0".into() }
}

impl Fixture {
    fn open(
        &self,
        metric: &Metric,
        kind: ResourceKind,
        domain: Option<&Arc<Domain>>,
        consumer: Option<&Arc<Consumer>>,
    ) -> SeriesId {
        self.rig.registry.open(SeriesSpec {
            metric: self.rig.registry.metric(metric).unwrap(),
            resource: piece(kind),
            domain: domain.cloned(),
            consumer: consumer.cloned(),
            attributes: Vec::new(),
            start: Timestamp(0),
        })
    }
    fn cpu_time(&self, who: &Arc<Consumer>) -> SeriesId {
        self.open(&metric::CONSUMER_CPU_TIME, ResourceKind::Package, None, Some(who))
    }
    fn energy(&self, domain: &Arc<Domain>, who: &Arc<Consumer>) -> SeriesId {
        self.open(&metric::CONSUMER_ENERGY, ResourceKind::Package, Some(domain), Some(who))
    }
    fn meter(&self, domain: &Arc<Domain>) -> SeriesId {
        self.open(&metric::HW_ENERGY, ResourceKind::Package, Some(domain), None)
    }
    /// A batch whose one window is the second before `second`.
    fn at(&mut self, second: u64, points: &[(SeriesId, u64)]) -> &mut Self {
        self.batch.clear();
        self.batch.begin(Window::new(Timestamp((second - 1) * SECOND), Timestamp(second * SECOND)));
        for &(id, steps) in points {
            self.batch.push(id, Value::of_steps(steps));
        }
        self.state.take(&self.batch);
        self
    }
    fn end(&mut self, series: &[SeriesId]) {
        self.batch.clear();
        for &id in series {
            self.batch.end(id);
        }
        self.state.take(&self.batch);
    }
    fn shown(&mut self, view: View) -> Vec<String> {
        self.state.update_rates();
        render(&self.state, &view).into_iter().map(|line| line.text.trim_end().to_string()).collect()
    }
}

const NOW: View = View { scope: Scope::Now, top: 20, width: usize::MAX, height: usize::MAX };

/// One estimated package, a burner on two packages' CPUs, a short process, idle and unattributed.
fn busy() -> Fixture {
    let mut fixture = fixture();
    let package = domain("package-0", Origin::Estimated, None);
    let (burn, short) = (process(1234, "burn"), process(77, "sh"));
    let (idle, unattributed) = (closing(ConsumerKind::Idle), closing(ConsumerKind::Unattributed));
    let meter = fixture.meter(&package);
    let energies = [&burn, &short, &idle, &unattributed].map(|who| fixture.energy(&package, who));
    let times = [&burn, &burn, &short, &idle].map(|who| fixture.cpu_time(who));
    let [burn_j, short_j, idle_j, unattributed_j] = energies;
    fixture
        .at(1, &[(meter, 10_000_000), (burn_j, 6_000_000), (short_j, 500_000), (idle_j, 3_000_000)])
        .at(1, &[(unattributed_j, 500_000)])
        .at(1, &[(times[0], SECOND), (times[1], SECOND / 2), (times[2], SECOND / 4), (times[3], SECOND / 4)]);
    fixture.end(&[short_j, times[2]]);
    fixture.shown(NOW);
    fixture
        .at(2, &[(meter, 22_000_000), (burn_j, 14_000_000), (idle_j, 7_000_000)])
        .at(2, &[(times[0], 2 * SECOND), (times[3], SECOND * 5 / 4)]);
    fixture
}

#[test]
fn the_table_adds_up_and_says_where_its_joules_come_from() {
    assert_eq!(
        busy().shown(NOW),
        [
            "2.0 s | package-0 22.00 J 12.00 W (estimated)",
            " PID  NAME          CPU s  CPU %  J (estimated)      W",
            "1234  burn           2.50  100.0          14.00   8.00",
            "  77  sh             0.25      -           0.50      -",
            "      idle           1.25  100.0           7.00   4.00",
            "      unattributed   0.00    0.0           0.50   0.00",
            "      TOTAL          4.00  200.0          22.00  12.00",
        ]
    );
}

/// The half width of each consumer's interval, in joules, at the end of `second`.
fn intervals(fixture: &mut Fixture, second: u64, half_widths: &[(SeriesId, f64)]) {
    let bits: Vec<_> = half_widths.iter().map(|&(id, joules)| (id, joules.to_bits())).collect();
    fixture.at(second, &bits);
}

#[test]
fn intervals_have_a_column_and_those_of_one_process_add_up_in_squares() {
    let mut fixture = busy();
    let packages = ["package-0", "package-1"].map(|name| domain(name, Origin::Estimated, None));
    let (burn, idle) = (process(1234, "burn"), closing(ConsumerKind::Idle));
    let open = |domain, who| {
        fixture.open(&metric::CONSUMER_ENERGY_UNCERTAINTY, ResourceKind::Package, Some(domain), Some(who))
    };
    let (first, second, of_idle) =
        (open(&packages[0], &burn), open(&packages[1], &burn), open(&packages[0], &idle));
    intervals(&mut fixture, 1, &[(first, 7.0), (second, 0.4), (of_idle, 0.25)]);
    intervals(&mut fixture, 2, &[(first, 0.3)]);
    let shown = fixture.shown(NOW);
    let column = |line: &str| line.chars().skip(shown[1].find('±').unwrap() - 1).take(4).collect::<String>();
    let cells: Vec<String> = shown[2..].iter().map(|line| column(line).trim().to_string()).collect();
    assert_eq!(cells, ["0.50", "", "0.25", "", ""], "{shown:#?}");
    assert!(!busy().shown(NOW)[1].contains('±'), "without intervals there is no column");
}

#[test]
fn totals_have_mean_rates_and_processes_that_ended() {
    let totals = busy().shown(View { scope: Scope::Totals, ..NOW });
    assert_eq!(totals[0], "totals over 2.0 s | package-0 22.00 J 11.00 W (estimated)");
    assert_eq!(totals[2], "1234  burn           2.50  125.0          14.00   7.00");
    assert_eq!(totals[3], "  77  sh             0.25   12.5           0.50   0.25");
    assert_eq!(totals[6], "      TOTAL          4.00  200.0          22.00  11.00");
}

#[test]
fn processes_below_the_top_are_one_row_and_still_in_the_total() {
    let shown = busy().shown(View { top: 0, ..NOW });
    assert_eq!(shown[2], "     other 2 processes   2.75  100.0          14.50   8.00");
    assert_eq!(shown.last().unwrap(), "     TOTAL               4.00  200.0          22.00  12.00");
    let shown = busy().shown(View { height: 7, top: 1, ..NOW });
    assert_eq!(shown.len(), 7);
    assert!(shown[3].contains("other 1 process ") && shown[3].contains("0.50"), "{shown:?}");
    // Too low for more than the head: nothing overflows.
    for height in 0..7 {
        assert!(busy().shown(View { height, ..NOW }).len() <= height);
    }
}

#[test]
fn the_power_of_a_process_that_ended_since_the_last_table_is_with_the_others() {
    let mut fixture = fixture();
    let package = domain("package-0", Origin::Measured, None);
    let (meter, short) = (fixture.meter(&package), fixture.energy(&package, &process(5, "short")));
    fixture.at(1, &[(meter, 4_000_000), (short, 4_000_000)]).end(&[short]);
    assert_eq!(
        fixture.shown(NOW),
        [
            "1.0 s | package-0 4.00 J 4.00 W (measured)",
            "PID  NAME   CPU s  CPU %     J     W",
            "  5  short   0.00      -  4.00     -",
            "     other   0.00    0.0  0.00  4.00",
            "     TOTAL   0.00    0.0  4.00  4.00",
        ]
    );
    fixture.at(2, &[(meter, 4_000_000)]);
    assert_eq!(fixture.shown(NOW)[3], "     TOTAL   0.00    0.0  4.00  0.00");
}

#[test]
fn narrow_tables_have_fewer_columns_and_no_line_is_wider_than_the_screen() {
    let shown = |width| busy().shown(View { width, ..NOW });
    for (width, titles) in [
        (60, " PID  NAME          CPU s  CPU %  J (estimated)      W"),
        (50, " PID  NAME      CPU s  CPU %  J (estimated)      W"),
        (44, " PID  NAME       CPU %  J (estimated)      W"),
        (37, " PID  NAME       J (estimated)      W"),
        (30, " PID  NAME       J (estimated)"),
        (24, "NAME       J (estimated)"),
    ] {
        assert!(shown(width).iter().any(|line| line == titles), "{width}: {:#?}", shown(width));
    }
    for width in 0..70 {
        for line in busy().shown(View { width, ..NOW }) {
            assert!(cells(&line) <= width, "{width}: {line}");
        }
    }
}

#[test]
fn without_energy_the_table_says_so_and_ranks_by_cpu_time() {
    let mut fixture = fixture();
    let (a, b) = (fixture.cpu_time(&process(1, "a")), fixture.cpu_time(&process(2, "b")));
    fixture.at(1, &[(a, SECOND / 10), (b, SECOND)]);
    assert_eq!(
        fixture.shown(NOW),
        [
            "1.0 s",
            "origin none: no meter and no estimate, CPU time only",
            "PID  NAME   CPU s  CPU %",
            "  2  b       1.00  100.0",
            "  1  a       0.10   10.0",
            "     TOTAL   1.10  110.0",
        ]
    );
}

#[test]
fn a_joule_is_counted_once_however_many_domains_and_groups_it_is_in() {
    let mut fixture = fixture();
    let package = domain("package-0", Origin::Measured, None);
    let dram = domain("dram-0", Origin::Simulated, None);
    let core = domain("core-0", Origin::Measured, Some("package-0"));
    let psys = domain("psys", Origin::Measured, None);
    let it = process(1, "it");
    let group = Identity { kind: ConsumerKind::Cgroup, id: "/x".into(), start_unix_nano: 1 };
    let group = Arc::new(Consumer::new(group, None, Vec::new()));
    let whole_host = |metric, who| fixture.open(metric, ResourceKind::Psys, Some(&psys), who);
    let points = [
        (fixture.meter(&package), 3_000_000),
        (fixture.energy(&package, &it), 3_000_000),
        (fixture.energy(&dram, &it), 1_000_000),
        (fixture.energy(&core, &it), 2_000_000),
        (fixture.energy(&package, &group), 3_000_000),
        (whole_host(&metric::HW_HOST_ENERGY, None), 9_000_000),
        (whole_host(&metric::CONSUMER_ENERGY, Some(&it)), 9_000_000),
    ];
    let shown = fixture.at(1, &points).shown(NOW);
    assert_eq!(
        shown[0],
        "1.0 s | package-0 3.00 J 3.00 W (measured) | dram-0 1.00 J 1.00 W (simulated) | \
         psys 9.00 J 9.00 W (measured, not in TOTAL)"
    );
    assert_eq!(shown[1], "PID  NAME   CPU s  CPU %  J (measured+simulated)     W");
    assert_eq!(shown[2], "  1  it      0.00    0.0                    4.00  4.00");
    assert_eq!(shown.len(), 4);
}

#[test]
fn slow_meters_keep_their_rate_between_windows_and_a_residual_is_shown() {
    let mut fixture = fixture();
    let (fast, slow) = (domain("package-0", Origin::Measured, None), domain("gpu-x", Origin::Measured, None));
    let (fast_j, slow_j) = (fixture.meter(&fast), fixture.meter(&slow));
    let job = fixture.energy(&slow, &process(1, "job"));
    let residual = fixture.open(&metric::DOMAIN_RESIDUAL, ResourceKind::Gpu, Some(&slow), None);
    let mut batch = Batch::default();
    batch.begin(Window::new(Timestamp(0), Timestamp(10 * SECOND)));
    for (id, value) in [(slow_j, Value::of_steps(50_000_000)), (job, Value::of_steps(20_000_000))] {
        batch.push(id, value);
    }
    batch.push(residual, Value::of_gauge(-0.25));
    fixture.state.take(&batch);
    fixture.shown(NOW);
    let shown = fixture.at(11, &[(fast_j, 1_000_000)]).shown(NOW);
    assert_eq!(
        shown[0],
        "11.0 s | gpu-x 50.00 J 5.00 W (measured) residual -0.25 J | package-0 1.00 J 1.00 W (measured)"
    );
    let cells = |row: &str| row.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(cells(&shown[2]), ["1", "job", "0.00", "0.0", "20.00", "2.00"]);
}

#[test]
fn joules_from_before_the_console_was_opened_are_not_shown() {
    let mut fixture = fixture();
    fixture.state = State::new(fixture.rig.registry.clone(), Timestamp(100 * SECOND));
    let package = domain("package-0", Origin::Measured, None);
    let (meter, process) = (fixture.meter(&package), fixture.energy(&package, &process(1, "old")));
    fixture.at(101, &[(meter, 900_000_000), (process, 800_000_000)]);
    let shown = fixture.at(102, &[(meter, 903_000_000), (process, 802_000_000)]).shown(NOW);
    assert_eq!(shown[0], "2.0 s | package-0 3.00 J 1.50 W (measured)");
    assert!(shown[2].starts_with("  1  old") && shown[2].ends_with("2.00  1.00"), "{}", shown[2]);
}

#[test]
fn an_exec_changes_the_name_and_control_characters_are_replaced() {
    let mut fixture = fixture();
    let it = process(1, "sh");
    let time = fixture.cpu_time(&it);
    fixture.at(1, &[(time, SECOND)]);
    assert!(fixture.shown(NOW)[3].contains("  sh "));
    it.update(vec![Attribute::new("process.executable.name", "\u{1b}]0;owned\u{7}\n")]);
    assert!(fixture.shown(NOW)[3].contains("  ?]0;owned??  "));
}

#[test]
fn thousands_of_ended_processes_are_still_in_the_total() {
    let mut fixture = fixture();
    let package = domain("package-0", Origin::Measured, None);
    for pid in 1..=2_000 {
        let energy = fixture.energy(&package, &process(pid, "short"));
        fixture.at(1, &[(energy, u64::from(pid) * 10_000)]).end(&[energy]);
        fixture.rig.registry.release(&[energy]);
    }
    let shown = fixture.shown(View { top: 1, scope: Scope::Totals, ..NOW });
    let cells = |row: usize| shown[row].split_whitespace().collect::<Vec<_>>();
    assert_eq!(cells(2), ["2000", "short", "0.00", "0.0", "20.00", "20.00"]);
    assert_eq!(cells(3)[..4], ["other", "1999", "processes", "0.00"]);
    assert_eq!([cells(3)[5], cells(4)[3]], ["19990.00", "20010.00"]);
}

#[test]
fn header_and_total_are_one_sum_while_the_latest_window_is_not_attributed() {
    let mut fixture = fixture();
    let package = domain("package-0", Origin::Measured, None);
    let (meter, burn) = (fixture.meter(&package), fixture.energy(&package, &process(1, "burn")));
    // Usage comes a tick after the meter.
    fixture.at(1, &[(meter, 54_500_000)]).at(2, &[(meter, 109_000_000)]).at(1, &[(burn, 54_500_000)]);
    fixture.at(3, &[(meter, 163_500_000)]).at(2, &[(burn, 109_200_000)]);
    assert_eq!(
        fixture.shown(NOW),
        [
            "3.0 s | package-0 163.50 J 54.50 W (measured)",
            "PID  NAME                CPU s  CPU %       J      W",
            "  1  burn                 0.00    0.0  109.20  36.40",
            "     not yet attributed   0.00    0.0   54.30  18.10",
            "     TOTAL                0.00    0.0  163.50  54.50",
        ]
    );
    let shown = fixture.at(3, &[(burn, 163_500_000)]).shown(View { scope: Scope::Totals, ..NOW });
    assert_eq!(shown[0], "totals over 3.0 s | package-0 163.50 J 54.50 W (measured)");
    assert_eq!(shown.len(), 4, "all of it is attributed: {shown:#?}");
    assert_eq!(shown[3], "     TOTAL   0.00    0.0  163.50  54.50");
}

#[test]
fn what_was_attributed_in_windows_that_the_console_has_not_seen_metered_is_in_the_header_too() {
    let mut fixture = fixture();
    fixture.state = State::new(fixture.rig.registry.clone(), Timestamp(SECOND / 2));
    let package = domain("package-0", Origin::Measured, None);
    let meter = fixture.meter(&package);
    fixture.at(2, &[(meter, 900_000_000)]);
    fixture.rig.clock.set(Timestamp(SECOND));
    let born = fixture.rig.registry.open(SeriesSpec {
        metric: fixture.rig.registry.metric(&metric::CONSUMER_ENERGY).unwrap(),
        resource: piece(ResourceKind::Package),
        domain: Some(package),
        consumer: Some(process(1, "born")),
        attributes: Vec::new(),
        start: Timestamp(SECOND),
    });
    let shown = fixture.at(2, &[(born, 2_000_000)]).shown(NOW);
    assert!(shown[0].contains("package-0 2.00 J"), "{shown:#?}");
    assert!(shown.last().unwrap().contains("2.00"), "{shown:#?}");
}

#[test]
fn the_live_table_ranks_by_power_now_and_the_totals_by_energy() {
    let mut fixture = fixture();
    let package = domain("package-0", Origin::Measured, None);
    let names = ["dead", "slept", "awake", "idler"];
    let [dead, slept, awake, idler] =
        std::array::from_fn(|at| fixture.energy(&package, &process(at as u32 + 1, names[at])));
    fixture.at(1, &[(dead, 90_000_000), (slept, 50_000_000), (awake, 1_000_000), (idler, 500_000)]);
    fixture.end(&[dead]);
    fixture.shown(NOW);
    fixture.at(2, &[(slept, 51_000_000), (awake, 9_000_000)]);
    let order = |shown: Vec<String>| {
        let name = |row: &String| row.split_whitespace().nth(1).unwrap_or_default().to_string();
        shown.iter().map(name).filter(|name| names.contains(&&**name)).collect::<Vec<_>>()
    };
    assert_eq!(order(fixture.shown(NOW)), ["awake", "slept", "idler", "dead"]);
    // What has no rate since the last table keeps its own, but a process that has ended is never above.
    let totals = fixture.shown(View { scope: Scope::Totals, ..NOW });
    assert_eq!(order(totals), ["dead", "slept", "awake", "idler"]);
}

#[test]
fn long_names_of_processes_pids_and_domains_break_no_width() {
    for long in ["x".repeat(200), "日".repeat(200), "\u{202e}\u{1b}[31m".repeat(50)] {
        let mut fixture = fixture();
        let package = domain(&long, Origin::Measured, None);
        let identity = Identity { kind: ConsumerKind::Process, id: long.clone().into(), start_unix_nano: 1 };
        let attributes = vec![Attribute::new("process.executable.name", &*long)];
        let process = Arc::new(Consumer::new(identity, None, attributes));
        let points = [(fixture.meter(&package), 2_000_000), (fixture.energy(&package, &process), 1_000_000)];
        fixture.at(1, &points);
        let wide = fixture.shown(NOW);
        assert!(wide.iter().all(|line| cells(line) <= 2 * 40 + 50), "{wide:#?}");
        assert!(!wide.concat().contains(['\u{202e}', '\u{1b}']));
        for width in [20, 80, 120] {
            let shown = fixture.shown(View { width, ..NOW });
            assert!(shown.iter().all(|line| cells(line) <= width), "{width}: {shown:#?}");
            assert!(shown.iter().any(|line| line.contains("TOTAL")), "{width}: {shown:#?}");
        }
    }
}
