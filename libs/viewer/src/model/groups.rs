//! Programs and trees, which the model adds up from processes. A program stays when its last process has
//! ended, with what they used: a build is thousands of compilers.

use super::consumer::Consumer;
use super::state::Model;
use crate::kind::Kind;
use crate::message::{ConsumerDescription, Root};

/// Programs and trees without processes that are kept at most.
const MOST: usize = 4096;

impl Model {
    /// Adds a new process to its program and its tree.
    pub(super) fn join_groups(&mut self, process: &mut Consumer, root: Option<&Root>) {
        if process.kind != Kind::Process {
            return;
        }
        self.join_program(process);
        let own = || Root {
            id: process.id.clone(),
            start_unix_nano: process.start_unix_nano,
            name: process.name.clone(),
        };
        let root = root.cloned().unwrap_or_else(own);
        let key = (root.id.clone(), root.start_unix_nano);
        let index = match self.groups.trees.get(&key) {
            Some(&index) => index,
            None => {
                let index = self.open_group(Kind::Tree, &root.id, root.start_unix_nano, &root.name);
                self.groups.trees.insert(key, index);
                index
            }
        };
        self.consumers[index].series += 1;
        process.tree = Some(index);
    }

    /// Adds a process to the program of its name.
    pub(super) fn join_program(&mut self, process: &mut Consumer) {
        if process.kind != Kind::Process {
            return;
        }
        let index = match self.groups.programs.get(&process.name) {
            Some(&index) => index,
            None => {
                let index = self.open_group(Kind::Program, &process.name, 0, &process.name);
                self.groups.programs.insert(process.name.clone(), index);
                index
            }
        };
        self.consumers[index].series += 1;
        process.program = Some(index);
    }

    /// A process ends, or executes another program. What it used stays where it is.
    pub(super) fn leave_program(&mut self, process: &Consumer) {
        if let Some(program) = process.program.and_then(|index| self.consumers.get_mut(index)) {
            program.series = program.series.saturating_sub(1);
        }
    }

    /// A process ends.
    pub(super) fn leave_tree(&mut self, process: &Consumer) {
        if let Some(tree) = process.tree.and_then(|index| self.consumers.get_mut(index)) {
            tree.series = tree.series.saturating_sub(1);
        }
    }

    fn open_group(&mut self, kind: Kind, id: &str, start_unix_nano: u64, name: &str) -> usize {
        let description = ConsumerDescription {
            number: 0,
            kind,
            id: id.to_owned(),
            start_unix_nano,
            name: name.to_owned(),
            root: None,
            attributes: std::collections::BTreeMap::new(),
        };
        let serial = self.next_serial();
        self.consumers.insert(Consumer { is_derived: true, ..Consumer::new(&description, serial) })
    }

    /// Forgets the programs and trees that used least, if there are too many whose processes have all ended.
    /// What they used belongs to the rest then.
    pub(super) fn forget_groups(&mut self) {
        if self.groups.programs.len() + self.groups.trees.len() <= 2 * MOST {
            return;
        }
        let over = |model: &Self, all: Vec<usize>| {
            let mut empty: Vec<_> = all
                .into_iter()
                .filter_map(|index| Some((model.consumers.get(index)?, index)))
                .filter(|(group, _)| group.series == 0 && !group.is_active)
                .map(|(group, index)| (model.microjoules_of(group), index))
                .collect();
            empty.sort_unstable();
            empty.truncate(empty.len().saturating_sub(MOST / 2));
            empty
        };
        let mut gone = over(self, self.groups.programs.values().copied().collect());
        gone.extend(over(self, self.groups.trees.values().copied().collect()));
        for (_, index) in gone {
            let group = self.consumers.remove(index);
            match group.kind {
                Kind::Program => self.groups.programs.remove(&group.id),
                _ => self.groups.trees.remove(&(group.id, group.start_unix_nano)),
            };
        }
    }
}
