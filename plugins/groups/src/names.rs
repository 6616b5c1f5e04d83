//! Names of groups, asked of whoever knows them: container engines, Kubernetes, the user database. Each is
//! asked by a task of its own on the agent's runtime, never in the pipeline's path; the transform looks for
//! answers between batches. Without answers everything goes by its id.

mod asker;
pub(crate) mod engine;
pub(crate) mod http;
mod kube;
pub(crate) mod pods;
mod tls;
mod users;

use std::sync::{Arc, Weak};

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use wattrace_api::{Attribute, Consumer, Finding};

use crate::config::{GroupsConfig, Kubernetes, Level};
pub(crate) use http::Url;

/// Who is to be named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    Container { id: Arc<str>, is_in_pod: bool },
    Pod { uid: Arc<str> },
    User(u32),
}

/// A question: who is this? It lapses with the group.
#[derive(Debug)]
struct Question {
    subject: Subject,
    group: Weak<Consumer>,
}

/// An answer, about the group `key` of `level`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) level: Level,
    pub(crate) key: Arc<str>,
    /// For the group alone.
    pub(crate) of_group: Vec<Attribute>,
    /// For the group and for each of its processes.
    pub(crate) of_processes: Vec<Attribute>,
}

impl Answer {
    /// Whether it is the answer to a question about `subject`.
    fn is_to(&self, subject: &Subject) -> bool {
        match subject {
            Subject::Container { id, .. } => (self.level, &self.key) == (Level::Container, id),
            Subject::Pod { uid } => (self.level, &self.key) == (Level::Pod, uid),
            Subject::User(user) => self.level == Level::User && self.key.parse() == Ok(*user),
        }
    }
}

/// The transform's end of the conversation.
#[derive(Debug)]
pub(crate) struct Names {
    engines: Option<mpsc::UnboundedSender<Question>>,
    kubernetes: Option<mpsc::UnboundedSender<Question>>,
    users: Option<mpsc::UnboundedSender<Question>>,
    answers: mpsc::UnboundedReceiver<Answer>,
}

impl Names {
    /// Sets the askers going; they end with this.
    pub(crate) fn open(config: &GroupsConfig, runtime: &Handle) -> Self {
        let (tell, answers) = mpsc::unbounded_channel();
        let pace = asker::Pace::default();
        let mut names = Self { engines: None, kubernetes: None, users: None, answers };
        if config.names {
            let engines = engine::Engines::new(config.engines.clone());
            names.engines = Some(asker::spawn(runtime, engines, pace, tell.clone()));
            if config.kubernetes != Kubernetes::Off {
                let kube = kube::Kube::new(config);
                names.kubernetes = Some(asker::spawn(runtime, kube, pace, tell.clone()));
            }
            names.users = Some(asker::spawn(runtime, users::Users, pace, tell));
        }
        names
    }

    /// Asks for the name of `group`, which is `subject`.
    pub(crate) fn ask(&self, subject: Subject, group: &Arc<Consumer>) {
        let asker = match &subject {
            Subject::Container { is_in_pod: false, .. } => &self.engines,
            Subject::Container { .. } | Subject::Pod { .. } => &self.kubernetes,
            Subject::User(_) => &self.users,
        };
        if let Some(asker) = asker {
            // Without an asker there is no answer.
            let _ = asker.send(Question { subject, group: Arc::downgrade(group) });
        }
    }

    /// An answer that has come.
    pub(crate) fn next_answer(&mut self) -> Option<Answer> {
        self.answers.try_recv().ok()
    }
}

/// Looks who would answer.
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
