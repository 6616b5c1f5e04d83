//! What processes and groups are told of who they are: OpenTelemetry's names where it has them, `wattrace.*`
//! where it has none (jobs, machines), `systemd.unit` for units.

use std::sync::Arc;

use wattrace_api::Attribute;

use crate::config::Level;
use crate::path::{Owner, Place};
use crate::tree::Root;

/// Who started the process. Whose rights it has now (`process.user.id`) is another question.
pub(crate) const USER: &str = "process.real_user.id";
/// The same by name.
pub(crate) const USER_NAME: &str = "process.real_user.name";

/// All that decides about a process's groups.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    pub(crate) place: Place,
    pub(crate) user: Option<u32>,
    pub(crate) root: Option<Root>,
}

impl Facts {
    /// What tells the process's group of `level` from the others there; `None`: it has none.
    pub(crate) fn key(&self, level: Level) -> Option<Arc<str>> {
        let place = &self.place;
        match level {
            Level::Cgroup => place.cgroup.clone(),
            Level::Unit => place.unit.as_ref().map(|unit| unit.id()),
            Level::Container => place.container.as_ref().map(|container| container.id.clone()),
            Level::Pod => place.pod.as_ref().map(|pod| pod.uid.clone()),
            Level::Job => place.job.as_ref().map(|job| job.id.clone()),
            Level::Machine => place.machine.as_ref().map(|machine| machine.id.clone()),
            Level::User => self.user.map(|user| user.to_string().into()),
            Level::Tree => self.root.as_ref().map(|root| root.key.clone()),
        }
    }

    /// What the group of `level` calls itself: as a rule what it is found by.
    pub(crate) fn id(&self, level: Level, key: &Arc<str>) -> Arc<str> {
        match (level, &self.root) {
            (Level::Tree, Some(root)) => root.pid.to_string().into(),
            _ => key.clone(),
        }
    }

    /// What is known of the group of `level`.
    pub(crate) fn of_group(&self, level: Level) -> Vec<Attribute> {
        let place = &self.place;
        let mut facts = Vec::new();
        let mut know = |key: &'static str, value: &str| facts.push(Attribute::new(key, value));
        match level {
            Level::Cgroup => place.cgroup.iter().for_each(|path| know("process.linux.cgroup", path)),
            Level::Container => {
                self.container(&mut know);
                place.pod.iter().for_each(|pod| know("k8s.pod.uid", &pod.uid));
            }
            Level::Pod => {
                if let Some(pod) = &place.pod {
                    know("k8s.pod.uid", &pod.uid);
                    know("k8s.pod.qos_class", pod.qos.as_str());
                }
            }
            Level::Unit => {
                if let Some(unit) = &place.unit {
                    know("systemd.unit", &unit.name);
                    facts.extend(unit.user.map(|user| Attribute::new(USER, user)));
                }
            }
            Level::Job => {
                if let Some(job) = &place.job {
                    know("wattrace.job.id", &job.id);
                    know("wattrace.job.scheduler", job.scheduler.as_str());
                    facts.extend(job.user.as_ref().map(|owner| match owner {
                        Owner::Id(user) => Attribute::new(USER, *user),
                        Owner::Name(name) => Attribute::new(USER_NAME, &**name),
                    }));
                }
            }
            Level::Machine => {
                if let Some(machine) = &place.machine {
                    know("wattrace.machine.id", &machine.id);
                    know("wattrace.machine.name", &machine.name);
                }
            }
            Level::User => facts.extend(self.user.map(|user| Attribute::new(USER, user))),
            Level::Tree => {
                facts.extend(self.root.as_ref().map(|root| Attribute::new("process.pid", root.pid)))
            }
        }
        facts
    }

    /// What is known of the process itself.
    pub(crate) fn of_process(&self) -> Vec<Attribute> {
        let place = &self.place;
        let mut facts = Vec::new();
        let mut know = |key: &'static str, value: &str| facts.push(Attribute::new(key, value));
        self.container(&mut know);
        place.pod.iter().for_each(|pod| know("k8s.pod.uid", &pod.uid));
        place.unit.iter().for_each(|unit| know("systemd.unit", &unit.name));
        if let Some(job) = &place.job {
            know("wattrace.job.id", &job.id);
            know("wattrace.job.scheduler", job.scheduler.as_str());
            job.step.iter().for_each(|step| know("wattrace.job.step", step));
        }
        if let Some(machine) = &place.machine {
            know("wattrace.machine.id", &machine.id);
            know("wattrace.machine.name", &machine.name);
        }
        facts
    }

    fn container(&self, know: &mut impl FnMut(&'static str, &str)) {
        if let Some(container) = &self.place.container {
            know("container.id", &container.id);
            container.runtime.iter().for_each(|runtime| know("container.runtime.name", runtime));
        }
    }
}
