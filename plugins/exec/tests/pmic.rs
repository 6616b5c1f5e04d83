//! Runs the example program that meters a Raspberry Pi 5, with the text of its power management chip.
#![allow(clippy::unwrap_used, clippy::panic, reason = "that is how tests fail")]

use std::fs;
use std::path::Path;
use std::process::Command;

use wattrace_api::testing::Rig;
use wattrace_api::{Batch, Follows, Origin, Tick, Timestamp};
use wattrace_exec::{Exec, ExecConfig, SourceConfig};

/// `vcgencmd pmic_read_adc`, shortened: two inputs without a current.
fn text(core_amperes: &str) -> String {
    format!(
        "   VDD_CORE_A current(7)={core_amperes}A\n   DDR_VDD2_A current(3)=0.11000000A\n   \
         DDR_VDDQ_A current(4)=0.03000000A\n     3V3_SYS_A current(1)=0.15000000A\n   \
         VDD_CORE_V volt(15)=0.88000000V\n   DDR_VDD2_V volt(11)=1.11000000V\n   \
         DDR_VDDQ_V volt(12)=0.60000000V\n     3V3_SYS_V volt(9)=3.32000000V\n      \
         EXT5V_V volt(24)=4.88000000V\n       BATT_V volt(25)=0.00500000V\n"
    )
}

/// `domain = joules` of each point at `seconds`.
fn poll(rig: &mut Rig, seconds: u64) -> Result<Vec<String>, wattrace_api::Error> {
    rig.clock.set(Timestamp(seconds * 1_000_000_000));
    let (mut batch, tick) = (Batch::default(), Tick::at(rig.clock.now()));
    rig.sources[0].1.poll(&tick, &mut batch)?;
    let show = |p: wattrace_api::testing::Point| {
        let domain = p.series.domain.as_ref().unwrap();
        assert_eq!(domain.origin, Origin::Simulated, "{}", domain.name);
        if domain.name == "package-0" {
            assert_eq!(domain.follows, Follows::Package(0));
        }
        format!("{} {} = {:.3}", p.metric, domain.name, p.value)
    };
    Ok(rig.points(&batch).into_iter().map(show).collect())
}

#[test]
fn the_rails_of_a_raspberry_pi_5_are_package_memory_and_board() {
    let has_python = Command::new("python3").arg("--version").output().is_ok_and(|o| o.status.success());
    assert!(has_python || std::env::var("CI").is_err(), "python3 is not installed");
    if !has_python {
        eprintln!("SKIPPED: the example in Python: python3 is not installed");
        return;
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), text("1.20000000")).unwrap();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/pi5_pmic.py");
    let command = format!("cat {}", file.path().display());
    let source = SourceConfig {
        name: "pmic".to_owned(),
        command: vec![example.to_str().unwrap().to_owned()],
        env: [("PMIC_COMMAND".to_owned(), command)].into(),
        ..SourceConfig::default()
    };
    let mut rig = Rig::new();
    rig.clock.set(Timestamp(1_000_000_000));
    rig.start::<Exec>(ExecConfig { sources: vec![source], ..ExecConfig::default() }).unwrap();
    poll(&mut rig, 2).unwrap();
    // 1.2 A x 0.88 V; 0.11 A x 1.11 V + 0.03 A x 0.6 V; these and 0.15 A x 3.32 V.
    let expected =
        ["hw.host.energy pmic-board = 16.941", "hw.energy package-0 = 10.560", "hw.energy dram-0 = 1.401"];
    assert_eq!(poll(&mut rig, 12).unwrap(), expected);
    // The processor's current rises linearly by 2 A.
    fs::write(file.path(), text("3.20000000")).unwrap();
    let expected =
        ["hw.host.energy pmic-board = 42.682", "hw.energy package-0 = 29.920", "hw.energy dram-0 = 2.802"];
    assert_eq!(poll(&mut rig, 22).unwrap(), expected);
    fs::write(file.path(), "error=1 error_msg=\"Command not registered\"\n").unwrap();
    let error = poll(&mut rig, 23).unwrap_err().to_string();
    assert!(error.contains("VDD_CORE") && error.contains("is this a Raspberry Pi 5?"), "{error}");
}
