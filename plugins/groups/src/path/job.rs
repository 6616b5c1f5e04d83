//! Batch jobs in a cgroup path. Of nested jobs the outermost counts.

use std::borrow::Cow;
use std::sync::Arc;

use super::form::{Part, match_last};
use super::text::number;

/// A job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Job {
    /// The program that runs the job.
    pub(crate) scheduler: &'static str,
    /// The number that the scheduler gave it, or what it is called in its path.
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

/// The forms of jobs, and the scheduler of each.
pub(super) const FORMS: &[(&str, &str)] = &[
    // Slurm (cgroup_v1.html, cgroup_v2.html): a job's folder is its number or, from 26.05 on, its SLUID. With
    // several daemons on a machine, each one's folder contains the name of its node.
    ("slurm{node}/uid_{uid}/job_{number}", "slurm"),
    ("slurm{node}/uid_{uid}/{sluid}", "slurm"),
    ("slurm{node}/job_{number}", "slurm"),
    ("slurm{node}/{sluid}", "slurm"),
    ("{node}slurmstepd.scope/job_{number}", "slurm"),
    ("{node}slurmstepd.scope/{sluid}", "slurm"),
    // OAR (job_resource_manager_cgroups.pl, …_systemd.pl).
    ("oar/{owner}_{number}", "oar"),
    ("oar-u{uid}-j{number}.slice", "oar"),
    ("oar-u{uid}-j{number}-{any}", "oar"),
    // HTCondor (ep-policy-configuration.rst): the slot is all that the path shows of the job.
    ("condor_{slot}", "htcondor"),
    // Flux: the shell of a job on each node, and what runs before and after it (flux-core, sdexec).
    ("imp-shell-{any-number}-{flux-id}.service", "flux"),
    ("shell-{any-number}-{flux-id}.service", "flux"),
    ("flux-{flux-step}@{flux-id}.service", "flux"),
    // OpenPBS and PBS Professional (pbs_cgroups.PY): v1, v2, versions before 20.
    ("pbs_jobs.service/jobid/{pbs-id}", "pbs"),
    ("pbs_jobs.service/jobs/{pbs-id}", "pbs"),
    ("pbs_jobs/{pbs-id}", "pbs"),
    ("pbspro.service/jobid/{pbs-id}", "pbs"),
    ("pbspro.slice/pbspro-{pbs-id}.slice", "pbs"),
    ("pbspro/{pbs-id}", "pbs"),
    // Torque (trq_cgroups.c).
    ("torque/{pbs-id}", "torque"),
    // IBM Spectrum LSF: below its cluster, with the first process and the start.
    ("lsf/{any}/job.{lsf-id}.{any-number}.{any-number}", "lsf"),
    // Univa, Altair and other Grid Engines: job and task.
    ("UGE/{number}.{step}", "grid-engine"),
    ("AGE/{number}.{step}", "grid-engine"),
    ("sge/{number}.{step}", "grid-engine"),
    // Nomad: allocation and task; v2, v1.
    ("nomad.slice/share.slice/{uuid}.{step}.scope", "nomad"),
    ("nomad.slice/reserve.slice/{uuid}.{step}.scope", "nomad"),
    ("nomad.slice/{uuid}.{step}.scope", "nomad"),
    ("nomad/reserved/{uuid}-{step}", "nomad"),
    ("nomad/{uuid}.{step}", "nomad"),
    ("nomad/{uuid}", "nomad"),
    // Hadoop YARN (NodeManagerCgroups.html).
    ("hadoop-yarn/{yarn-id}", "yarn"),
];

/// The job.
pub(super) fn find(folders: &[Cow<'_, str>]) -> Option<Job> {
    (0..folders.len()).find_map(|at| {
        let mut job = ends_at(&folders[..=at])?;
        let below = || folders.get(at + 1)?.strip_prefix("step_").filter(|step| !step.is_empty());
        job.step = job.step.or_else(|| below().map(Into::into));
        Some(job)
    })
}

/// The job whose folder is the last of `folders`.
fn ends_at(folders: &[Cow<'_, str>]) -> Option<Job> {
    let (found, scheduler) =
        FORMS.iter().find_map(|&(form, scheduler)| Some((match_last(form, folders)?, scheduler)))?;
    let (mut id, mut step, mut user) = (None, None, None);
    for (part, text) in found {
        match part {
            Part::Id => id = Some((*text).into()),
            Part::Step => step = Some((*text).into()),
            Part::Uid => user = number(&text).map(Owner::Id),
            Part::Owner => user = Some(Owner::Name((*text).into())),
            Part::Other => {}
        }
    }
    Some(Job { scheduler, id: id?, step, user })
}
