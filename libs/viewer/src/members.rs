//! Which processes belong to a row, for what is known of processes alone, such as their memory.

use rustc_hash::FxHashMap;

use crate::kind::Kind;
use crate::model::{Consumer, Key, Model};

impl Model {
    /// The processes of each of these consumers that live, in one pass over all processes. A process has
    /// itself.
    pub fn members(&self, of: &[Key]) -> FxHashMap<Key, Vec<&Consumer>> {
        let mut members: FxHashMap<Key, Vec<&Consumer>> = FxHashMap::default();
        // By what a process says of its group: the group's id, or the index that the model gave it.
        let (mut by_id, mut by_index) = (FxHashMap::default(), FxHashMap::default());
        let mut kinds: Vec<Kind> = Vec::new();
        for &key in of {
            let Some(consumer) = self.consumer(key) else { continue };
            members.insert(key, Vec::new());
            match consumer.kind() {
                Kind::Process => members.entry(key).or_default().push(consumer),
                Kind::Program | Kind::Tree => _ = by_index.insert(key.index as usize, key),
                kind => {
                    by_id.insert((kind, consumer.id()), key);
                    if !kinds.contains(&kind) {
                        kinds.push(kind);
                    }
                }
            }
        }
        if by_id.is_empty() && by_index.is_empty() {
            return members;
        }
        let processes = self.consumers().map(|(_, c)| c).filter(|c| c.kind() == Kind::Process);
        for process in processes.filter(|process| !process.has_ended()) {
            let derived = process.groups().into_iter().flatten().filter_map(|index| by_index.get(&index));
            let named = kinds.iter().filter_map(|kind| by_id.get(&(*kind, group_id(process, *kind)?)));
            for key in derived.chain(named) {
                members.entry(*key).or_default().push(process);
            }
        }
        members
    }
}

/// The id of the group of `kind` that a process is in, as the plugin `groups` names it.
fn group_id(process: &Consumer, kind: Kind) -> Option<&str> {
    let attribute = |key: &str| process.attributes().get(key).map(String::as_str);
    match kind {
        Kind::Unit => attribute("systemd.unit"),
        Kind::Container => attribute("container.id"),
        Kind::Pod => attribute("k8s.pod.uid"),
        Kind::Job => attribute("wattrace.job.id"),
        Kind::Machine => attribute("wattrace.machine.id"),
        Kind::User => attribute("process.real_user.id").or_else(|| attribute("process.owner")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Query;
    use crate::testing::Machine;

    /// The pids of the members of each row, by its name.
    fn pids(machine: &Machine, kind: Kind) -> Vec<(String, Vec<u32>)> {
        let rows = machine.model().table(&Query::of(kind)).rows;
        let keys: Vec<Key> = rows.iter().filter_map(|row| row.key).collect();
        let members = machine.model().members(&keys);
        let of = |key: &Key| {
            let mut pids: Vec<u32> = members[key].iter().map(|c| c.id().parse().unwrap()).collect();
            pids.sort_unstable();
            pids
        };
        let mut all: Vec<_> = rows.iter().map(|row| (row.name.clone(), of(&row.key.unwrap()))).collect();
        all.sort();
        all
    }

    #[test]
    fn the_members_of_a_row_are_the_processes_whose_power_it_is() {
        let mut machine = Machine::office();
        machine.run(3);
        let programs = pids(&machine, Kind::Program);
        assert!(programs.contains(&("rustc".to_owned(), vec![5120, 5123])), "{programs:?}");
        let units = pids(&machine, Kind::Unit);
        assert!(units.contains(&("docker.service".to_owned(), vec![7001, 7002])), "{units:?}");
        let containers = pids(&machine, Kind::Container);
        assert_eq!(containers, [("api".to_owned(), vec![7002]), ("web".to_owned(), vec![7001])]);
        let users = pids(&machine, Kind::User);
        assert_eq!(users[0], ("ada".to_owned(), vec![3977, 4211, 5101, 5120, 5123, 6001]));
        let processes = pids(&machine, Kind::Process);
        assert!(processes.contains(&("firefox".to_owned(), vec![3977])), "{processes:?}");
        let trees: Vec<u32> = pids(&machine, Kind::Tree).into_iter().flat_map(|(_, pids)| pids).collect();
        assert_eq!(trees.len(), processes.len());
    }
}
