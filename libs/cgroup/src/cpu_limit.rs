//! A limit on the CPU time of a cgroup, `cpu.max`, which is restored in the end.

use std::io;

use crate::Cgroup;

/// The period of `cpu.max`, µs: the kernel's own.
const PERIOD_US: u64 = 100_000;

/// The smallest quota that the kernel accepts, µs.
const SHORTEST_US: u64 = 1_000;

/// The limit. Dropping it restores what was there before.
#[derive(Debug)]
pub struct CpuLimit {
    cgroup: Cgroup,
    /// The contents of `cpu.max` before.
    before: String,
    quota_us: Option<u64>,
}

impl CpuLimit {
    /// No limit of ours yet on `cgroup`.
    ///
    /// # Errors
    /// It has no `cpu.max`: the controller is not enabled in its parent.
    pub fn of(cgroup: Cgroup) -> io::Result<Self> {
        let before = cgroup.read("cpu.max")?.trim().to_owned();
        Ok(Self { cgroup, before, quota_us: None })
    }

    /// How many CPUs it may use at most before and after our limit; `None`: as many as there are.
    pub fn original(&self) -> Option<f64> {
        let (quota, period) = self.before.split_once(' ')?;
        Some(quota.parse::<f64>().ok()? / period.parse::<f64>().ok()?)
    }

    /// Limits it to `cpus` CPUs on average over a tenth of a second; not above [`CpuLimit::original`].
    ///
    /// # Errors
    /// `cpu.max` may not be written, or the cgroup is gone.
    pub fn set(&mut self, cpus: f64) -> io::Result<()> {
        let cpus = self.original().map_or(cpus, |original| cpus.min(original));
        let quota_us = ((cpus * PERIOD_US as f64) as u64).max(SHORTEST_US);
        if self.quota_us != Some(quota_us) {
            self.cgroup.write("cpu.max", &format!("{quota_us} {PERIOD_US}"))?;
            self.quota_us = Some(quota_us);
        }
        Ok(())
    }

    /// The limit that is set, in CPUs.
    pub fn limit(&self) -> Option<f64> {
        self.quota_us.map(|quota| quota as f64 / PERIOD_US as f64)
    }

    /// Takes the limit away.
    ///
    /// # Errors
    /// As for [`CpuLimit::set`].
    pub fn lift(&mut self) -> io::Result<()> {
        if self.quota_us.is_some() {
            self.cgroup.write("cpu.max", &self.before)?;
            self.quota_us = None;
        }
        Ok(())
    }
}

impl Drop for CpuLimit {
    fn drop(&mut self) {
        // An error means that the cgroup is gone.
        let _ = self.lift();
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::Hierarchy;

    #[test]
    fn a_limit_is_set_within_what_was_there_and_restored() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("a/cpu.max");
        fs::create_dir(root.path().join("a")).unwrap();
        fs::write(root.path().join("a/cgroup.procs"), "").unwrap();
        let cgroup = Hierarchy::at(root.path()).cgroup("/a").unwrap();
        assert!(CpuLimit::of(cgroup.clone()).is_err(), "the controller is not enabled");
        fs::write(&file, "150000 100000\n").unwrap();
        let mut limit = CpuLimit::of(cgroup).unwrap();
        let shown = || fs::read_to_string(&file).unwrap();
        for (cpus, expected) in
            [(0.25, "25000 100000"), (4.0, "150000 100000"), (0.0, "1000 100000"), (0.1, "10000 100000")]
        {
            limit.set(cpus).unwrap();
            assert_eq!(shown(), expected);
        }
        drop(limit);
        assert_eq!(shown(), "150000 100000");
    }

    #[test]
    fn a_limit_that_was_never_set_restores_nothing() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("cgroup.procs"), "").unwrap();
        let file = root.path().join("cpu.max");
        fs::write(&file, "max 100000\n").unwrap();
        let limit = CpuLimit::of(Hierarchy::at(root.path()).cgroup("/").unwrap()).unwrap();
        assert_eq!((limit.original(), limit.limit()), (None, None));
        fs::write(&file, "70000 100000\n").unwrap();
        drop(limit);
        assert_eq!(fs::read_to_string(&file).unwrap(), "70000 100000\n", "somebody else's");
    }
}
