//! Domains that count the energy of a group of processes: among its members only, on their package, as they
//! are in each window.

use wattrace_api::{Members, ProcessKey, ResourceKind};

use super::*;

/// What a process's start is, in nanoseconds since the Unix epoch, if it began at a time of the rig's clock.
fn unix(s: &Scene, at: u64) -> u64 {
    s.rig.clock.unix_nanos(Timestamp(at))
}

fn group(s: &Scene, members: &Members) -> SeriesId {
    let (name, origin) = ("web-core-0".to_owned(), Origin::Simulated);
    let (follows, within) = (Follows::Members(0, members.clone()), Some("core-0".to_owned()));
    let domain = Domain { name, origin, follows, within, idle_microwatts: Some(0) };
    let resource = Resource { kind: ResourceKind::Other("resctrl-group".into()), id: "web/0".into() };
    s.open(&metric::HW_ENERGY, resource, Some(domain), None)
}

/// The CPU time of a process that began `at`, forked by `parent`.
fn forked(s: &Scene, pid: u32, at: u64, package: u32, parent: Option<ProcessKey>) -> SeriesId {
    let identity = |pid: u32, start_unix_nano| {
        let id = pid.to_string().into();
        Identity { kind: ConsumerKind::Process, id, start_unix_nano }
    };
    let parent = parent.map(|(pid, start)| identity(pid, start));
    let consumer = Consumer::new(identity(pid, unix(s, at)), parent, Vec::new());
    s.open(&metric::CONSUMER_CPU_TIME, Resource::package(package), None, Some(consumer))
}

/// Microjoules by consumer of the group, of all `batches`.
fn of_group(s: &Scene, batches: &[Batch]) -> HashMap<String, u64> {
    let (books, residual) = s.books(batches);
    assert_eq!(residual, 0.0);
    let of =
        books.into_iter().filter(|((domain, _), microjoules)| domain == "web-core-0" && *microjoules > 0);
    of.map(|((_, consumer), microjoules)| (consumer, microjoules)).collect()
}

fn expected(parts: &[(&str, u64)]) -> HashMap<String, u64> {
    parts.iter().map(|&(consumer, microjoules)| (consumer.to_owned(), microjoules)).collect()
}

#[test]
fn a_groups_energy_is_its_members_alone_and_so_is_that_of_their_children() {
    let mut s = Scene::new(AttributionConfig::default());
    let members = Members::default();
    let meter = group(&s, &members);
    let (idle, package) = (s.closing(ConsumerKind::Idle, 0), s.meter("package-0", Some(0)));
    let (one, other) = (forked(&s, 1, 0, 0, None), forked(&s, 2, 0, 0, None));
    let elsewhere = forked(&s, 3, 0, 1, None);
    members.list(Timestamp(0), unix(&s, 0), [(1, 1.0), (3, 1.0)]);
    let used = [(idle, SECOND), (one, SECOND / 2), (other, SECOND / 2), (elsewhere, SECOND)];
    let first = s.pass(0, SECOND, &[&used[..], &[(meter, 8_000_000), (package, 20_000_000)]].concat());
    assert_eq!(of_group(&s, std::slice::from_ref(&first)), expected(&[("process1", 8_000_000)]));

    // It forks a child that runs a second and a grandchild. The usage of the grandchild comes first.
    s.rig.clock.set(Timestamp(SECOND));
    let child = forked(&s, 4, SECOND + 1, 0, Some((1, unix(&s, 0))));
    let grandchild = forked(&s, 5, SECOND + 2, 0, Some((4, unix(&s, SECOND + 1))));
    let stranger = forked(&s, 6, SECOND + 3, 0, Some((2, unix(&s, 0))));
    let quarter = SECOND / 4;
    let used = [(grandchild, quarter), (child, quarter), (one, SECOND), (stranger, quarter)];
    let mut batch = s.rig.batch(Window::new(Timestamp(SECOND), Timestamp(2 * SECOND)), &used);
    batch.end(grandchild);
    let second = s.rig.pass(batch).unwrap();
    // It has exited when the group is listed, before its energy is known.
    members.list(Timestamp(2 * SECOND), unix(&s, 2 * SECOND), [(1, 1.0), (4, 1.0)]);
    let third = s.pass(SECOND, 2 * SECOND, &[(meter, 16_000_000), (package, 40_000_000)]);
    let parts = [("process1", 12_000_000), ("process4", 2_000_000), ("process5", 2_000_000)];
    let batches = [first, second, third];
    assert_eq!(of_group(&s, &batches), expected(&parts));
    let (books, _) = s.books(&batches);
    let of_package: u64 =
        books.iter().filter(|((domain, _), _)| domain == "package-0").map(|(_, uj)| uj).sum();
    assert_eq!(of_package, 40_000_000, "it divides its energy among all, as without groups");
}

#[test]
fn a_process_that_leaves_counts_in_the_window_in_which_it_left() {
    let mut s = Scene::new(AttributionConfig::default());
    let members = Members::default();
    let meter = group(&s, &members);
    let (one, other) = (forked(&s, 1, 0, 0, None), forked(&s, 2, 0, 0, None));
    members.list(Timestamp(0), unix(&s, 0), [(1, 1.0), (2, 0.5)]);
    members.list(Timestamp(SECOND), unix(&s, SECOND), [(1, 1.0)]);
    let first = s.pass(0, SECOND, &[(one, SECOND), (other, SECOND), (meter, 9_000_000)]);
    let parts = [("process1", 6_000_000), ("process2", 3_000_000)];
    assert_eq!(
        of_group(&s, std::slice::from_ref(&first)),
        expected(&parts),
        "half of its threads were in it"
    );
    let second = s.pass(SECOND, 2 * SECOND, &[(one, 2 * SECOND), (other, 2 * SECOND), (meter, 18_000_000)]);
    let parts = [("process1", 15_000_000), ("process2", 3_000_000)];
    assert_eq!(of_group(&s, &[first, second]), expected(&parts));
}

#[test]
fn energy_of_a_group_of_which_nobody_ran_is_unattributed() {
    let mut s = Scene::new(AttributionConfig::default());
    let members = Members::default();
    let meter = group(&s, &members);
    let (idle, other) = (s.closing(ConsumerKind::Idle, 0), forked(&s, 2, 0, 0, None));
    members.list(Timestamp(0), unix(&s, 0), [(1, 1.0)]);
    let batch = s.pass(0, SECOND, &[(idle, SECOND), (other, SECOND), (meter, 5)]);
    assert_eq!(of_group(&s, &[batch]), expected(&[("unattributed", 5)]));
}
