//! A job of Slurm, on a cluster of only this machine that exists for the test.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::*;

/// The daemons.
struct Cluster {
    dir: PathBuf,
}

/// The cgroups that slurmd makes and leaves behind.
fn leftovers() -> Vec<Leftover> {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    let points = mounts.lines().filter(|line| line.contains(" cgroup"));
    let points: Vec<_> = points.filter_map(|line| line.split(' ').nth(1)).collect();
    let names = [format!("slurm_{}", host.trim()), "system.slice/slurmstepd.scope".to_owned()];
    points
        .iter()
        .flat_map(|point| names.iter().map(|name| Leftover::of(Path::new(point).join(name))))
        .collect()
}

/// A port that was free a moment ago.
fn port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Cluster {
    fn start(dir: &Path) -> Self {
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim().to_owned();
        ["state", "spool"].iter().for_each(|folder| fs::create_dir(dir.join(folder)).unwrap());
        fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
        let (at, cpus) = (dir.display(), std::thread::available_parallelism().unwrap());
        let configuration = format!(
            "ClusterName=test\nSlurmctldHost={host}(127.0.0.1)\nSlurmUser=root\nAuthType=auth/munge\n\
             AuthInfo=socket={at}/munge.socket\nStateSaveLocation={at}/state\nSlurmdSpoolDir={at}/spool\n\
             SlurmctldPidFile={at}/slurmctld.pid\nSlurmdPidFile={at}/slurmd.pid\n\
             SlurmctldLogFile={at}/slurmctld.log\nSlurmdLogFile={at}/slurmd.log\n\
             SlurmctldPort={}\nSlurmdPort={}\nProctrackType=proctrack/cgroup\nTaskPlugin=task/none\n\
             JobAcctGatherType=jobacct_gather/none\nMpiDefault=none\nReturnToService=2\n\
             SelectType=select/linear\n\
             NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN\n\
             PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP\n",
            port(),
            port(),
        );
        fs::write(dir.join("slurm.conf"), configuration).unwrap();
        let has_v1 =
            fs::read_to_string("/proc/self/cgroup").unwrap().lines().any(|line| line.contains(":freezer:"));
        let cgroups =
            if has_v1 { "CgroupPlugin=cgroup/v1\n" } else { "CgroupPlugin=cgroup/v2\nIgnoreSystemd=yes\n" };
        fs::write(dir.join("cgroup.conf"), cgroups).unwrap();
        let key = dir.join("munge.key");
        fs::write(&key, [7_u8; 128]).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();

        let cluster = Self { dir: dir.to_owned() };
        let file = |option: &str, name: &str| format!("--{option}={}", dir.join(name).display());
        run(Command::new("munged").args([
            "--force".to_owned(),
            file("key-file", "munge.key"),
            file("socket", "munge.socket"),
            file("pid-file", "munged.pid"),
            file("log-file", "munged.log"),
            file("seed-file", "munged.seed"),
        ]));
        run(&mut cluster.command("slurmctld"));
        run(cluster.command("slurmd").args(["-N", &host]));
        wait_until("the node is idle", || run(cluster.command("sinfo").args(["-h", "-o", "%T"])) == "idle");
        cluster
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("SLURM_CONF", self.dir.join("slurm.conf"));
        command
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for daemon in ["slurmd", "slurmctld", "munged"] {
            if let Ok(pid) = fs::read_to_string(self.dir.join(format!("{daemon}.pid"))) {
                let _ = Command::new("sh").args(["-c", "kill $0"]).arg(pid.trim()).status();
                // The daemon removes the file when it ends.
                let deadline = Instant::now() + Duration::from_secs(10);
                while Path::new(&format!("/proc/{}", pid.trim())).exists() && Instant::now() < deadline {
                    sleep(Duration::from_millis(20));
                }
            }
        }
    }
}

#[test]
fn a_job_gets_its_joules_under_its_own_id() {
    if !can_run(&["slurmctld", "slurmd", "munged", "sbatch", "busybox"]) {
        return;
    }
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let _leftovers = leftovers();
    let cluster = Cluster::start(dir.path());
    let agent = Agent::start(dir.path(), &[]);
    let script = dir.path().join("job.sh");
    let busy = "#!/bin/sh\nfor i in $(seq 100); do busybox true; done\n\
                timeout 3 sh -c 'while :; do :; done'\ntrue\n";
    fs::write(&script, busy).unwrap();
    let submitted = run(cluster
        .command("sbatch")
        .args(["--wait", "--uid=nobody", "--chdir=/", "--output=/dev/null", "--parsable"])
        .arg(&script));
    let id = submitted.lines().next().unwrap();
    let values = agent.stop();

    let [nanoseconds, _] = values.check_sums("job", id, "wattrace.job.id");
    let processes = values.processes("wattrace.job.id", id);
    assert!(processes >= 100, "short processes are in it too: {processes} are");
    let job = values.attributes("job", id);
    assert_eq!(job["wattrace.job.scheduler"], "slurm");
    let nobody =
        values.sum("wattrace.consumer.cpu.time", |p| consumer(p) == "user" && p["consumer"]["id"] == "65534");
    assert!(
        nobody > 1_000_000_000 && nobody <= nanoseconds,
        "the job is its user's, its daemon is root's: {nobody} ns"
    );
}
