//! Opening whole trees.

use wattrace_api::Follows;

use super::*;
use crate::nobody::as_nobody;
use crate::simulate::{Tree, Zone as Simulated};

fn opened(root: &Path) -> Vec<(String, Follows, Origin)> {
    let groups = open(root).unwrap();
    let counters = groups.iter().flat_map(|group| &group.counters);
    counters.map(|(s, _)| (s.domain.name.clone(), s.domain.follows.clone(), s.domain.origin)).collect()
}

fn tree(root: &Path, zones: &[(&str, &str)]) -> Tree {
    Tree::create(root, zones.iter().map(|(dir, name)| Simulated::new(dir, name, 1.0)).collect()).unwrap()
}

#[test]
fn a_server_of_two_packages_is_read_whole_and_labelled_simulated() {
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
    // What else lies there in a real class: control types, and zones that meter no energy.
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
fn amd_has_package_and_core_only() {
    let root = tempfile::tempdir().unwrap();
    tree(root.path(), &[("intel-rapl:0", "package-0"), ("intel-rapl:0:0", "core")]);
    let names: Vec<_> = opened(root.path()).into_iter().map(|(name, ..)| name).collect();
    assert_eq!(names, ["package-0", "core-0"]);
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
fn a_class_without_a_zone_says_how_to_get_one() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("class/powercap/intel-rapl")).unwrap();
    let error = open(root.path()).err().unwrap();
    assert_eq!(error.looked_in, root.path().join("class/powercap"));
    assert!(error.remedy.contains("modprobe intel_rapl_msr"), "{error}");
}

#[test]
fn a_counter_that_only_root_may_read_is_named_with_the_remedy_and_the_others_go_on() {
    use std::os::unix::fs::PermissionsExt;
    let root = tempfile::tempdir().unwrap();
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    mode(root.path(), 0o755);
    tree(root.path(), &[("intel-rapl:0", "package-0"), ("intel-rapl:1", "package-1")]);
    let energy = |zone: &str| root.path().join("class/powercap").join(zone).join("energy_uj");
    mode(&energy("intel-rapl:0"), 0);
    as_nobody(|| assert_eq!(opened(root.path()).len(), 1));
    mode(&energy("intel-rapl:1"), 0);
    as_nobody(|| {
        let error = open(root.path()).err().unwrap().to_string();
        assert!(error.contains("intel-rapl:0/energy_uj: Permission denied"), "{error}");
        assert!(error.contains("run as root") && error.contains("setcap cap_dac_read_search+ep"), "{error}");
    });
}
