//! Opens whole simulated trees.

use wattrace_api::Follows;

use super::*;
use crate::unprivileged::as_unprivileged_user;
use wattrace_rapl_simulator::{self as simulator, Tree, Zone as Simulated};

fn opened(root: &Path) -> Vec<(String, Follows, Origin)> {
    let opened = open(root).unwrap();
    opened.subjects().map(|s| (s.domain.name.clone(), s.domain.follows.clone(), s.domain.origin)).collect()
}

fn tree(root: &Path, zones: &[(&str, &str)]) -> Tree {
    Tree::create(root, zones.iter().map(|(dir, name)| Simulated::new(dir, name, 1.0)).collect()).unwrap()
}

#[test]
fn all_zones_of_a_server_of_two_packages_are_opened_and_labelled_simulated() {
    let root = tempfile::tempdir().unwrap();
    tree(
        root.path(),
        &[
            ("intel-rapl:0", "package-0"),
            ("intel-rapl:0:0", "core"),
            ("intel-rapl:0:1", "dram"),
            ("intel-rapl:1", "package-1"),
            ("intel-rapl:1:0", "dram"),
            ("intel-rapl:2", "psys"),
            ("intel-rapl-mmio:0", "package-0"),
        ],
    );
    // A real class has more directories: control types, and zones that do not meter energy.
    let class = root.path().join("class/powercap");
    fs::create_dir_all(class.join("intel-rapl")).unwrap();
    fs::create_dir_all(class.join("dtpm:0")).unwrap();
    let expected = [
        ("package-0", Follows::Package(0)),
        ("core-0", Follows::Package(0)),
        ("dram-0", Follows::Package(0)),
        ("package-1", Follows::Package(1)),
        ("dram-1", Follows::Package(1)),
        ("psys", Follows::Cpus),
    ];
    let expected = expected.map(|(name, package)| (name.to_owned(), package, Origin::Simulated));
    assert_eq!(opened(root.path()), expected);
}

#[test]
fn amd_has_each_package_and_one_of_its_cores() {
    let root = tempfile::tempdir().unwrap();
    tree(
        root.path(),
        &[
            ("intel-rapl:0", "package-0"),
            ("intel-rapl:0:0", "core"),
            ("intel-rapl:1", "package-1"),
            ("intel-rapl:1:0", "core"),
        ],
    );
    let cpus = [(0, 0, "0,4"), (1, 0, "1"), (2, 1, "2"), (3, 1, "3"), (4, 0, "0,4")];
    simulator::cpus(root.path(), "cpu:type:x86,ven0002fam0019mod0061:feature:", &cpus).unwrap();
    let expected = [
        ("package-0", Follows::Package(0)),
        ("core-cpu-0", Follows::Core(0)),
        ("package-1", Follows::Package(1)),
        ("core-cpu-2", Follows::Core(2)),
    ];
    let expected = expected.map(|(name, follows)| (name.to_owned(), follows, Origin::Simulated));
    assert_eq!(opened(root.path()), expected);
}

#[test]
fn zones_nested_in_their_parents_are_found_once() {
    let root = tempfile::tempdir().unwrap();
    tree(
        root.path(),
        &[
            ("intel-rapl/intel-rapl:0", "package-0"),
            ("intel-rapl/intel-rapl:0/intel-rapl:0:0", "core"),
            ("intel-rapl:0", "package-0"),
        ],
    );
    let names: Vec<_> = opened(root.path()).into_iter().map(|(name, ..)| name).collect();
    assert_eq!(names, ["package-0", "core-0"]);
}

#[test]
fn the_error_for_a_class_without_zones_names_the_driver_to_load() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("class/powercap/intel-rapl")).unwrap();
    let error = open(root.path()).err().unwrap();
    assert_eq!(error.looked_in, root.path().join("class/powercap"));
    assert!(error.remedy.contains("modprobe intel_rapl_msr"), "{error}");
}

#[test]
fn a_counter_that_only_root_may_read_is_left_out_with_a_remedy() {
    use std::os::unix::fs::PermissionsExt;
    let root = tempfile::tempdir().unwrap();
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    mode(root.path(), 0o755);
    tree(root.path(), &[("intel-rapl:0", "package-0"), ("intel-rapl:1", "package-1")]);
    let energy = |zone: &str| root.path().join("class/powercap").join(zone).join("energy_uj");
    mode(&energy("intel-rapl:0"), 0);
    as_unprivileged_user(|| {
        let opened = open(root.path()).unwrap();
        assert_eq!((opened.groups.len(), opened.warnings.len()), (1, 1));
        let warning = &opened.warnings[0];
        assert!(warning.contains("intel-rapl:0/energy_uj: Permission denied"), "{warning}");
    });
    mode(&energy("intel-rapl:1"), 0);
    as_unprivileged_user(|| {
        let error = open(root.path()).err().unwrap().to_string();
        assert!(error.contains("intel-rapl:0/energy_uj: Permission denied"), "{error}");
        assert!(error.contains("run as root") && error.contains("setcap cap_dac_read_search+ep"), "{error}");
    });
}
