//! Consumers as they are described: new ones, those that execute another program, and all of them again after
//! points were lost.

use super::consumer::Consumer;
use super::state::Model;
use crate::message::ConsumerDescription;

impl Model {
    /// Forgets by which numbers consumers and series were referred to, and keeps what is known of them.
    pub(super) fn forget_numbers(&mut self) {
        self.series.clear();
        self.by_number.clear();
        for domain in &mut self.domains {
            domain.meters = 0;
        }
        self.unclaimed.clear();
        for (index, consumer) in &mut self.consumers {
            if !consumer.is_derived && !consumer.has_ended {
                consumer.series = 0;
                // Counters of usage are counted from their beginning again.
                consumer.cpu_nanos = 0;
                let identity = (consumer.kind, consumer.id.clone(), consumer.start_unix_nano);
                self.unclaimed.insert(identity, index);
            }
        }
    }

    pub(super) fn describe_consumer(&mut self, description: &ConsumerDescription) {
        if let Some(&index) = self.by_number.get(&description.number) {
            return self.rename(index, description);
        }
        let ConsumerDescription { kind, id, start_unix_nano, .. } = description;
        let index = match self.unclaimed.remove(&(*kind, id.clone(), *start_unix_nano)) {
            Some(known) => {
                self.rename(known, description);
                if let Some(consumer) = self.consumers.get_mut(known) {
                    consumer.number = description.number;
                }
                known
            }
            None => {
                let mut consumer = Consumer::new(description, self.next_serial());
                self.join_groups(&mut consumer, description.root.as_ref());
                self.consumers.insert(consumer)
            }
        };
        self.by_number.insert(description.number, index);
    }

    /// A process has executed another program, or a name became known.
    fn rename(&mut self, index: usize, description: &ConsumerDescription) {
        let Some(consumer) = self.consumers.get_mut(index) else { return };
        consumer.attributes.clone_from(&description.attributes);
        if consumer.name != description.name {
            let mut consumer = std::mem::replace(consumer, Consumer::placeholder());
            self.leave_program(&consumer);
            consumer.name.clone_from(&description.name);
            self.join_program(&mut consumer);
            self.consumers[index] = consumer;
        }
    }
}
