//! The facts that decide about a process's groups, and the attributes that follow from them: under
//! OpenTelemetry's names where it has them, under `wattrace.*` where it has none (jobs, machines),
//! `systemd.unit` for units.

use std::sync::Arc;

use wattrace_api::{Attribute, AttributeValue};

use crate::level::Level;
use crate::path::{Owner, PathInfo};
use crate::tree::Root;

/// The user who started the process. The user whose rights it has now is `process.user.id`.
pub(crate) const USER: &str = "process.real_user.id";
/// That user's name.
pub(crate) const USER_NAME: &str = "process.real_user.name";
/// The same, as OpenTelemetry recommends it for processes.
pub(crate) const OWNER: &str = "process.owner";

/// What decides about a process's groups.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    /// Shared by the processes of a cgroup.
    pub(crate) path: Arc<PathInfo>,
    pub(crate) user: Option<u32>,
    pub(crate) root: Option<Root>,
}

impl Facts {
    /// The key of the process's group of `level`; `None`: it is in none.
    pub(crate) fn key(&self, level: Level) -> Option<Arc<str>> {
        let path = &self.path;
        match level {
            Level::Cgroup => path.cgroup.clone(),
            Level::Unit => path.unit.as_ref().map(|unit| unit.id()),
            Level::Container => path.container.as_ref().map(|container| container.id.clone()),
            Level::Pod => path.pod.as_ref().map(|pod| pod.uid.clone()),
            Level::Job => path.job.as_ref().map(|job| job.id.clone()),
            Level::Machine => path.machine.as_ref().map(|machine| machine.id.clone()),
            Level::User => self.user.map(|user| user.to_string().into()),
            Level::Tree => self.root.as_ref().map(|root| root.key.clone()),
        }
    }

    /// The id of the group of `level`: in most cases its key.
    pub(crate) fn id(&self, level: Level, key: &Arc<str>) -> Arc<str> {
        match (level, &self.root) {
            (Level::Tree, Some(root)) => root.pid.to_string().into(),
            _ => key.clone(),
        }
    }

    /// The attributes of the group of `level`.
    pub(crate) fn of_group(&self, level: Level) -> Vec<Attribute> {
        let path = &self.path;
        let mut facts = Vec::new();
        let mut add = |key, value: &Arc<str>| facts.push(text(key, value));
        match level {
            Level::Cgroup => path.cgroup.iter().for_each(|cgroup| add("process.linux.cgroup", cgroup)),
            Level::Container => {
                facts = self.container();
                facts.extend(path.pod.iter().map(|pod| text("k8s.pod.uid", &pod.uid)));
            }
            Level::Pod => {
                if let Some(pod) = &path.pod {
                    add("k8s.pod.uid", &pod.uid);
                    facts.push(Attribute::new("k8s.pod.qos_class", pod.qos.as_str()));
                }
            }
            Level::Unit => {
                if let Some(unit) = &path.unit {
                    add("systemd.unit", &unit.name);
                    facts.extend(unit.user.map(|user| Attribute::new(USER, user)));
                }
            }
            Level::Job => {
                if let Some(job) = &path.job {
                    add("wattrace.job.id", &job.id);
                    facts.push(Attribute::new("wattrace.job.scheduler", job.scheduler));
                    facts.extend(job.user.as_ref().map(|owner| match owner {
                        Owner::Id(user) => Attribute::new(USER, *user),
                        Owner::Name(name) => text(USER_NAME, name),
                    }));
                }
            }
            Level::Machine => {
                if let Some(machine) = &path.machine {
                    add("wattrace.machine.id", &machine.id);
                    add("wattrace.machine.name", &machine.name);
                }
            }
            Level::User => facts.extend(self.user.map(|user| Attribute::new(USER, user))),
            Level::Tree => {
                facts.extend(self.root.as_ref().map(|root| Attribute::new("process.pid", root.pid)))
            }
        }
        facts
    }

    /// The attributes of the process itself.
    pub(crate) fn of_process(&self) -> Vec<Attribute> {
        let path = &self.path;
        let mut facts = self.container();
        facts.extend(path.pod.iter().map(|pod| text("k8s.pod.uid", &pod.uid)));
        facts.extend(path.unit.iter().map(|unit| text("systemd.unit", &unit.name)));
        if let Some(job) = &path.job {
            facts.push(text("wattrace.job.id", &job.id));
            facts.push(Attribute::new("wattrace.job.scheduler", job.scheduler));
            facts.extend(job.step.iter().map(|step| text("wattrace.job.step", step)));
        }
        if let Some(machine) = &path.machine {
            facts.push(text("wattrace.machine.id", &machine.id));
            facts.push(text("wattrace.machine.name", &machine.name));
        }
        facts
    }

    fn container(&self) -> Vec<Attribute> {
        let Some(container) = &self.path.container else { return Vec::new() };
        let runtime = container.runtime.map(|runtime| Attribute::new("container.runtime.name", runtime));
        [text("container.id", &container.id)].into_iter().chain(runtime).collect()
    }
}

/// An attribute whose text is not copied.
fn text(key: &'static str, text: &Arc<str>) -> Attribute {
    Attribute::new(key, AttributeValue::Str(text.clone()))
}
