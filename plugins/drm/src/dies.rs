//! Puts GPUs together that have one meter: the two dies of AMD's MI250X are GPUs of their own, and the first
//! one reports the power of both.

use std::cmp::Ordering;

use wattrace_meter::sysfs;

use crate::accumulator::OF_TWO_DIES;
use crate::cards::Card;

/// The cards by meter, in their order: the one that is metered first, then, if there is one, its second die.
pub(crate) fn by_meter(mut cards: Vec<Card>) -> Vec<Vec<Card>> {
    let ids: Vec<String> = cards.iter().map(|card| card.id.clone()).collect();
    // The dies of a module are neighbours on the bus, the first one first.
    cards.sort_by(order);
    let (seconds, firsts): (Vec<_>, Vec<_>) = cards.into_iter().partition(may_be_second);
    let mut groups: Vec<Vec<Card>> = firsts.into_iter().map(|card| vec![card]).collect();
    for second in seconds {
        let is_free = |group: &&mut Vec<Card>| group.len() == 1 && is_first_of(&group[0], &second);
        let before = groups.iter_mut().rev().filter(is_free).find(|group| order(&group[0], &second).is_lt());
        match before {
            Some(group) => group.push(second),
            None => match groups.iter_mut().find(is_free) {
                Some(group) => group.push(second),
                None => groups.push(vec![second]),
            },
        }
    }
    groups.sort_by_key(|group| ids.iter().position(|id| group.first().is_some_and(|card| card.id == *id)));
    groups
}

fn order(a: &Card, b: &Card) -> Ordering {
    (a.id.len(), &a.id).cmp(&(b.id.len(), &b.id))
}

/// Whether a card may be a second die: it is awake, and reports no power. A GPU that works never draws
/// nothing. A simulated tree may leave the model out.
fn may_be_second(card: &Card) -> bool {
    card.driver == "amdgpu"
        && !card.integrated
        && card.model.is_none_or(|model| OF_TWO_DIES.contains(&model))
        && !card.is_suspended()
        && !has_power(card)
}

fn has_power(card: &Card) -> bool {
    card.sensors.iter().any(|sensor| sysfs::read_number(&sensor.path).is_ok_and(|power| power > 0))
}

/// Whether `second` may be on the module of `first`, which is metered.
fn is_first_of(first: &Card, second: &Card) -> bool {
    first.driver == second.driver && !first.integrated && first.model == second.model && has_power(first)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::sensors::{Quantity, Sensor};

    /// The groups of cards with these addresses, models and powers; `None`: without a sensor.
    fn of(cards: &[(&str, Option<u16>, Option<u64>)]) -> Vec<String> {
        let root = tempfile::tempdir().unwrap();
        let card = |&(id, model, power): &(&str, Option<u16>, Option<u64>)| {
            let device = root.path().join(id);
            fs::create_dir_all(&device).unwrap();
            let path = device.join("power1_average");
            let sensor = power.map(|power| {
                fs::write(&path, power.to_string()).unwrap();
                Sensor { path, part: None, quantity: Quantity::Power }
            });
            let (id, driver) = (id.to_owned(), "amdgpu".to_owned());
            Card { id, driver, device, model, integrated: false, sensors: sensor.into_iter().collect() }
        };
        let ids = |group: &Vec<Card>| group.iter().map(|card| &*card.id).collect::<Vec<_>>().join("+");
        by_meter(cards.iter().map(card).collect()).iter().map(ids).collect()
    }

    #[test]
    fn a_die_without_power_belongs_to_its_neighbour_before_it() {
        let (mi250x, on, off) = (Some(0x7408), Some(90_000_000), Some(0));
        let node = ["c9", "c1", "c6", "ce", "d1", "d6"];
        let node: Vec<_> =
            node.iter().map(|id| (*id, mi250x, if id.ends_with(['1', '9']) { on } else { off })).collect();
        assert_eq!(of(&node), ["c9+ce", "c1+c6", "d1+d6"]);
        assert_eq!(of(&[("c1", mi250x, on), ("c6", mi250x, None)]), ["c1+c6"], "not available");
        assert_eq!(of(&[("c1", mi250x, off), ("c6", mi250x, on)]), ["c6+c1"], "in another order");
        assert_eq!(of(&[("c1", None, on), ("c6", None, off)]), ["c1+c6"]);
    }

    #[test]
    fn other_cards_have_a_meter_each() {
        let (mi250x, navi31, on, off) = (Some(0x7408), Some(0x744c), Some(90_000_000), Some(0));
        assert_eq!(of(&[("03", navi31, on), ("0a", navi31, off)]), ["03", "0a"]);
        assert_eq!(of(&[("c1", mi250x, on), ("c6", mi250x, on)]), ["c1", "c6"]);
        assert_eq!(of(&[("03", navi31, on), ("c6", mi250x, off)]), ["03", "c6"]);
        assert_eq!(of(&[("c1", mi250x, off), ("c6", mi250x, off)]), ["c1", "c6"]);
        assert_eq!(of(&[("c1", mi250x, on), ("c6", mi250x, off), ("c9", mi250x, off)]), ["c1+c6", "c9"]);
    }
}
