//! What is said of machines that lack something.

use super::*;

fn facts() -> Facts {
    Facts {
        release: "6.1.0-18-amd64".into(),
        runs_on_a_cpu: None,
        btf: true,
        kernel_memory: None,
        lockdown: String::new(),
        realtime: false,
        capabilities: u64::MAX,
        namespaces: Namespaces::default(),
        mounts: vec![],
        most_threads: 32768,
        kernel_command: None,
    }
}

fn missing(facts: &Facts) -> Vec<String> {
    check(facts).into_iter().filter(|f| f.verdict == Verdict::Missing).map(|f| f.what).collect()
}

#[test]
fn each_missing_piece_is_named_with_a_remedy() {
    assert!(missing(&facts()).is_empty());
    for (old, new) in [("5.9.16", "5.10.0"), ("4.19.0", "5.10.0-rc1"), ("nonsense", "6.1")] {
        assert_eq!(missing(&Facts { release: old.into(), ..facts() }), ["kernel 5.10 or later"]);
        assert!(missing(&Facts { release: new.into(), ..facts() }).is_empty());
    }
    let without_btf = Facts { btf: false, release: "5.10.16.3-microsoft-standard-WSL2".into(), ..facts() };
    let btf = check(&without_btf).into_iter().find(|f| f.what.contains("BTF")).unwrap();
    assert!(btf.verdict == Verdict::Optional && btf.remedy.contains("CONFIG_DEBUG_INFO_BTF=y"), "{btf:?}");
    assert!(missing(&without_btf).is_empty());
    let safe = |realtime, release: &str| {
        Facts { release: release.into(), realtime, ..facts() }.ring_buffer_is_safe()
    };
    assert_eq!((safe(true, "6.11.9"), safe(true, "6.12.0"), safe(false, "5.10.0")), (false, true, true));
    assert!(missing(&Facts { btf: false, ..facts() }).is_empty(), "it is optional");
    let only = |bits: &[u32]| bits.iter().map(|b| 1u64 << b).sum();
    let caps = |bits: &[u32]| Facts { capabilities: only(bits), ..facts() };
    assert!(missing(&caps(&[CAP_SYS_ADMIN])).is_empty());
    assert!(missing(&caps(&[CAP_BPF, CAP_PERFMON])).is_empty());
    assert_eq!(missing(&caps(&[CAP_BPF])), ["permission to load eBPF programs"]);
    for r in check(&caps(&[])) {
        assert_eq!(r.verdict == Verdict::Ok, r.remedy.is_empty(), "{r:?}");
    }
}

#[test]
fn a_kernel_with_backports_is_judged_by_a_try() {
    let rhel = |runs_on_a_cpu| {
        let release = "4.18.0-553.16.1.el8_10.x86_64".into();
        let facts = Facts { release, runs_on_a_cpu, ..facts() };
        check(&facts).swap_remove(0)
    };
    assert_eq!(rhel(None).verdict, Verdict::Ok, "the permission is missing, not the kernel");
    let tried = rhel(Some(true));
    assert!(tried.verdict == Verdict::Ok && tried.found.contains("the BPF of a later one"), "{tried:?}");
    let old = rhel(Some(false));
    assert!(old.verdict == Verdict::Missing && old.found.contains("RHEL 8"), "{old:?}");
    let other = Facts { release: "5.4.0".into(), runs_on_a_cpu: Some(true), ..facts() };
    assert!(missing(&other).is_empty());
    let broken = Facts { runs_on_a_cpu: Some(false), ..facts() };
    assert_eq!(missing(&broken), ["kernel 5.10 or later"]);
}

#[test]
fn in_a_container_the_remedy_is_that_of_a_container() {
    let in_namespaces = |capabilities, namespaces| {
        let facts = Facts { capabilities, namespaces, ..facts() };
        let all = check(&facts);
        let find = |what: &str| all.iter().find(|f| f.what.contains(what)).cloned().unwrap();
        (find("load eBPF"), find("process ids"))
    };
    let usual = Namespaces::default();
    let (user, pids) = in_namespaces(0, usual);
    assert!(user.remedy.contains("sudo setcap") && pids.verdict == Verdict::Ok, "{user:?} {pids:?}");
    let (root, _) = in_namespaces(0, Namespaces { is_root: true, ..usual });
    assert!(root.remedy.contains("--cap-add BPF") && !root.remedy.contains("sudo"), "{root:?}");
    let (users, _) = in_namespaces(u64::MAX, Namespaces { is_root: true, private_users: true, ..usual });
    assert_eq!(users.verdict, Verdict::Missing, "all capabilities, and none that counts");
    assert!(users.found.contains("user namespace"), "{users:?}");
    let (allowed, pids) = in_namespaces(u64::MAX, Namespaces { private_pids: true, ..usual });
    assert_eq!((allowed.verdict, pids.verdict), (Verdict::Ok, Verdict::Optional));
    assert!(pids.remedy.contains("--pid=host"), "{pids:?}");
}

#[test]
fn a_lockdown_that_hides_kernel_memory_is_named_with_the_mode_that_does_not() {
    let of = |facts: &Facts| check(facts).into_iter().find(|f| f.what.contains("kernel memory")).unwrap();
    let under = |lockdown: &str| Facts { lockdown: lockdown.into(), ..facts() };
    for modes in ["", "[none] integrity confidentiality", "none [integrity] confidentiality"] {
        assert_eq!(of(&under(modes)).verdict, Verdict::Ok, "{modes}");
    }
    let strict = under("none integrity [confidentiality]");
    let found = of(&strict);
    assert_eq!(found.verdict, Verdict::Optional, "what accounting needs is read by its type");
    assert!(found.remedy.contains("lockdown=integrity"), "{found:?}");
    assert!(found.found.contains("[confidentiality]: paths are looked up"), "{found:?}");
    let without_types = of(&Facts { btf: false, ..strict.clone() });
    assert_eq!(without_types.verdict, Verdict::Missing);
    // What was tried counts, not what a file says, which may be missing.
    let tried = |memory, facts: &Facts| of(&Facts { kernel_memory: Some(memory), ..facts.clone() });
    assert_eq!(tried(KernelMemory::Nothing, &strict).verdict, Verdict::Missing, "Linux before 5.11");
    let unmounted = tried(KernelMemory::Typed, &facts());
    assert_eq!(unmounted.verdict, Verdict::Optional);
    assert!(unmounted.found.starts_with("forbidden"), "{unmounted:?}");
    assert_eq!(tried(KernelMemory::All, &facts()).found, "no lockdown");
}

#[test]
fn an_unmounted_file_system_is_reported_but_not_required() {
    let find = |f: &Facts, what| check(f).into_iter().find(|r| r.what == what).unwrap();
    let absent = find(&facts(), "tracefs");
    assert!(absent.verdict == Verdict::Optional && absent.remedy.contains("mount -t tracefs"));
    let mounts = vec![("tracefs".into(), "/sys/kernel/tracing".into()), ("bpf".into(), "/sys/fs/bpf".into())];
    let there = Facts { mounts, ..facts() };
    assert!(
        find(&there, "tracefs").found.contains("/sys/kernel/tracing")
            && find(&there, "bpffs").verdict == Verdict::Ok
    );
}

#[test]
fn another_machine_is_read_from_a_directory() {
    let root = tempfile::tempdir().unwrap();
    let put = |path: &str, text: &str| {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    put("proc/sys/kernel/osrelease", "5.4.0-42-generic\n");
    put("proc/self/status", "Name:\tx\nUid:\t0\t0\t0\t0\nCapEff:\t0000000000000000\n");
    put("sys/kernel/security/lockdown", "none integrity [confidentiality]\n");
    let facts = Facts::below(root.path());
    let expected =
        ["kernel 5.10 or later", "kernel memory that programs may read", "permission to load eBPF programs"];
    assert_eq!(missing(&facts), expected);
    assert!(facts.namespaces.is_root && !facts.btf, "{facts:?}");
    let facts = Facts { kernel_command: Some("sudo apt install linux-generic".into()), ..facts };
    let kernel = check(&facts).swap_remove(0);
    assert!(kernel.remedy.ends_with("`sudo apt install linux-generic`, then reboot"), "{kernel:?}");
}
