//! Texts as drivers write them.

use super::*;

const AMDGPU: &str = "pos:\t0\nflags:\t02100002\nmnt_id:\t24\nino:\t1240\ndrm-driver:\tamdgpu\n\
    drm-client-id:\t51\ndrm-pdev:\t0000:03:00.0\npasid:\t32791\ndrm-total-cpu:\t0\n\
    drm-resident-vram:\t10240 KiB\ndrm-memory-vram:\t10240 KiB\ndrm-memory-gtt: \t2048 KiB\n\
    drm-engine-gfx:\t5000000 ns\ndrm-engine-compute:\t700 ns\ndrm-engine-capacity-enc:\t2\n";

const XE: &str = "drm-driver:\txe\ndrm-client-id:\t3\ndrm-pdev:\t0000:03:00.0\ndrm-total-gtt:\t192 KiB\n\
    drm-resident-gtt:\t192 KiB\ndrm-resident-vram0:\t3 MiB\ndrm-cycles-rcs:\t28257900\n\
    drm-total-cycles-rcs:\t7655183225\ndrm-cycles-vcs:\t5\ndrm-total-cycles-vcs:\t7655183225\n\
    drm-engine-capacity-vcs:\t2\n";

fn parsed(text: &str) -> Option<(Fdinfo<'_>, Vec<Cycles<'_>>)> {
    let mut cycles = Vec::new();
    parse(text, &mut cycles).map(|found| (found, cycles))
}

#[test]
fn amdgpu_counts_time_and_its_memory_counts_once() {
    let (found, cycles) = parsed(AMDGPU).unwrap();
    let nanos = Some(5_000_700);
    let (driver, address) = ("amdgpu", "0000:03:00.0");
    let memory = Memory { local: Some(10 << 20), shared: 0, is_resident: true };
    assert_eq!(found, Fdinfo { driver, address, client: 51, nanos, memory, share: None });
    assert!(cycles.is_empty());
}

#[test]
fn xe_counts_cycles() {
    let (found, cycles) = parsed(XE).unwrap();
    assert_eq!((found.client, found.nanos, found.memory.bytes(false)), (3, None, 3 << 20));
    let total = 7_655_183_225;
    assert_eq!(
        cycles,
        [Cycles { name: "rcs", busy: 28_257_900, total }, Cycles { name: "vcs", busy: 5, total },]
    );
}

#[test]
fn a_gpu_without_memory_of_its_own_uses_system_memory() {
    let text = "drm-driver: i915\ndrm-client-id: 7\ndrm-pdev: 0000:00:02.0\ndrm-resident-system0: 4096\n\
        drm-engine-render: 9288864723 ns\ndrm-engine-copy: 2035071108 ns\n";
    let (found, _) = parsed(text).unwrap();
    assert_eq!((found.memory.bytes(false), found.nanos), (4_096, Some(11_323_935_831)));
}

#[test]
fn other_files_are_no_client_and_malformed_lines_are_ignored() {
    assert!(parsed("pos:\t0\nflags:\t02\n").is_none());
    assert!(parsed("").is_none());
    assert!(parsed("drm-driver: amdgpu\ndrm-client-id: x\n").is_none());
    let text = "drm-client-id: 1\ndrm-engine-gfx: -5 ns\ndrm-engine-a: 5 parsecs\ndrm-engine-b:\n\
        drm-engine-c: 18446744073709551615 ns\ndrm-engine-d: 7 ns\ndrm-memory-vram: 99999999999999 GiB\n\
        drm-cycles-rcs: 7\ndrm-:\ndrm\n";
    let (found, cycles) = parsed(text).unwrap();
    assert_eq!((found.nanos, found.memory.bytes(false), cycles.len()), (Some(u64::MAX), 0, 0));
}

#[test]
fn memory_is_the_gpu_s_own_or_all_that_a_gpu_inside_a_processor_works_in() {
    let of = |regions: &str| {
        let text = format!("drm-driver: amdgpu\ndrm-client-id: 3\n{regions}");
        let memory = parse(&text, &mut Vec::new()).unwrap().memory;
        (memory.bytes(false), memory.bytes(true))
    };
    let (vram, gtt) = (5_348 << 10, 25_858_000 << 10);
    let amdgpu = "drm-memory-cpu: 7 KiB\ndrm-memory-gtt: 25858000 KiB\ndrm-memory-vram: 5348 KiB\n";
    assert_eq!(of(amdgpu), (vram, vram + gtt));
    assert_eq!(of("drm-resident-vram: 10485760\n"), (10 << 20, 10 << 20), "a bare number is bytes");
    assert_eq!(of("drm-resident-memory: 51200 KiB\n"), (50 << 20, 50 << 20), "panthor");
    assert_eq!(of("drm-resident-system0: 8\ndrm-resident-stolen-local0: 4\n"), (4, 12), "i915");
    assert_eq!(of("drm-memory-vram: 7\ndrm-resident-vram: 9\ndrm-memory-gtt: 1\n"), (9, 9));
}

#[test]
fn amdgpu_from_before_the_keys_were_agreed_on_gives_shares() {
    let text = "pos:\t0\nflags:\t02100002\nmnt_id:\t24\nino:\t614\npdev:\t0000:03:00.0\npasid:\t32776\n\
        vram mem:\t204800 kB\ngtt mem:\t8192 kB\ncpu mem:\t3 kB\ngfx0:\t73.25%\ndec0:\t 1.5%\n\
        enc_10:\t0.00%\n";
    let (found, cycles) = parsed(text).unwrap();
    assert_eq!((found.driver, found.address, found.client), ("amdgpu", "0000:03:00.0", 32_776));
    // The kernel writes 1.05 as 1.5.
    assert_eq!((found.share, found.nanos, cycles.len()), (Some(7_325 + 105), None, 0));
    assert_eq!(found.memory.bytes(false), 200 << 20);
    for other in ["pasid: 5\n", "pdev: 0000:03:00.0\n", "drm-driver: amdgpu\npdev: x\npasid: 5\n"] {
        assert!(parsed(other).is_none(), "{other}");
    }
    for nonsense in
        ["gfx0: -5.0%", "gfx0: 5%", "gfx0: 5.100%", "gfx0: x.y%", "gfx0: 999999999999999999999.0%"]
    {
        let text = format!("pdev: 0000:03:00.0\npasid: 5\n{nonsense}\n");
        assert_eq!(parsed(&text).unwrap().0.share, None, "{nonsense}");
    }
}
