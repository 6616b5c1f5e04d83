//! Names of groups, from those who know them: container engines, Kubernetes, the user database. Each of them
//! is a resolver with a task of its own on the agent's runtime, so the pipeline never waits for a name. The
//! transform sends lookups and takes the answers between batches. Until there is an answer, a group is shown
//! by its id.

pub(crate) mod engine;
mod kube;
pub(crate) mod lookup;
pub(crate) mod pods;
mod resolver;
mod users;

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use wattrace_api::{Consumer, Finding};

use self::lookup::{Answer, Lookup, Subject};
use crate::config::{GroupsConfig, Kubernetes};

/// The transform's side: sends lookups, receives answers.
#[derive(Debug)]
pub(crate) struct Names {
    engines: Option<mpsc::UnboundedSender<Lookup>>,
    kubernetes: Option<mpsc::UnboundedSender<Lookup>>,
    users: Option<mpsc::UnboundedSender<Lookup>>,
    answers: mpsc::UnboundedReceiver<Answer>,
}

impl Names {
    /// Starts the resolvers. They end when this is dropped.
    pub(crate) fn open(config: &GroupsConfig, runtime: &Handle) -> Self {
        let (answered, answers) = mpsc::unbounded_channel();
        let retry = resolver::Retry::default();
        let mut names = Self { engines: None, kubernetes: None, users: None, answers };
        if config.names {
            let engines = engine::Engines::new(&config.engines);
            names.engines = Some(resolver::spawn(runtime, engines, retry, answered.clone()));
            if config.kubernetes != Kubernetes::Off {
                let kube = kube::Kube::new(config);
                names.kubernetes = Some(resolver::spawn(runtime, kube, retry, answered.clone()));
            }
            names.users = Some(resolver::spawn(runtime, users::Users, retry, answered));
        }
        names
    }

    /// Asks for the name of `group`, which is `subject`.
    pub(crate) fn look_up(&self, subject: Subject, group: &Arc<Consumer>) {
        let resolver = match &subject {
            Subject::Container { is_in_pod: false, .. } => &self.engines,
            Subject::Container { .. } | Subject::Pod { .. } => &self.kubernetes,
            Subject::User(_) => &self.users,
        };
        if let Some(resolver) = resolver {
            // It fails only if the runtime has shut down.
            _ = resolver.send(Lookup { subject, group: Arc::downgrade(group) });
        }
    }

    /// The next answer, if one has come.
    pub(crate) fn next_answer(&mut self) -> Option<Answer> {
        self.answers.try_recv().ok()
    }
}

/// Which resolvers would answer.
pub(crate) fn diagnose(config: &GroupsConfig) -> Vec<Finding> {
    let mut findings = Vec::new();
    if config.names {
        findings.extend(engine::diagnose(&config.engines));
        if config.kubernetes != Kubernetes::Off {
            findings.extend(kube::diagnose(config));
        }
    }
    findings
}
