//! Batch jobs in a cgroup path: Slurm's (v1: `/slurm/uid_1000/job_7/step_0/task_0`, v2:
//! `/system.slice/slurmstepd.scope/job_7/step_0/user/task_0`) and OAR's (v1: `/oar/ann_7`, v2:
//! `/oar.slice/oar-u1000.slice/oar-u1000-j7.slice/…`).

use std::sync::Arc;

use super::text::{number, pieces};

/// A job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Job {
    pub(crate) scheduler: Scheduler,
    /// The number that the scheduler gave it.
    pub(crate) id: Arc<str>,
    /// The part of the job: a number, `batch`, `extern`, …
    pub(crate) step: Option<Arc<str>>,
    pub(crate) user: Option<Owner>,
}

/// The user who submitted a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    Id(u32),
    Name(Arc<str>),
}

/// The program that runs the job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheduler {
    Slurm,
    Oar,
}

impl Scheduler {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Scheduler::Slurm => "slurm",
            Scheduler::Oar => "oar",
        }
    }
}

/// The job.
pub(crate) fn find(path: &str) -> Option<Job> {
    let (mut is_slurm, mut folder, mut user) = (false, "", None);
    let mut names = pieces(path);
    while let Some(piece) = names.next() {
        if is_slurm && let Some(id) = piece.strip_prefix("job_").filter(|id| number::<u64>(id).is_some()) {
            let step = names.next().and_then(|name| name.strip_prefix("step_")).map(Into::into);
            return Some(Job { scheduler: Scheduler::Slurm, id: id.into(), step, user });
        }
        if let Some(job) = oar(folder, piece) {
            return Some(job);
        }
        if is_slurm && let Some(id) = piece.strip_prefix("uid_").and_then(number) {
            user = Some(Owner::Id(id));
        }
        // With several daemons on a machine, each one's folder contains the name of its node.
        is_slurm |= piece == "slurm" || piece.starts_with("slurm_") || piece.ends_with("slurmstepd.scope");
        folder = piece;
    }
    None
}

fn oar(folder: &str, piece: &str) -> Option<Job> {
    let job = |id: &str, user| Job { scheduler: Scheduler::Oar, id: id.into(), step: None, user: Some(user) };
    if folder == "oar" {
        let (user, id) = piece.rsplit_once('_')?;
        number::<u64>(id)?;
        return Some(job(id, Owner::Name(user.into())));
    }
    let (user, rest) = piece.strip_prefix("oar-u")?.split_once("-j")?;
    let id = rest.split(['-', '.']).next().filter(|id| number::<u64>(id).is_some())?;
    Some(job(id, Owner::Id(number(user)?)))
}
