//! What survives, what goes first, and what is counted.

mod left;

use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::*;
use crate::Class::{Intermediate, Last};
use crate::{Class, Entry};

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);
/// 2026, in Unix time.
const NOW: Timestamp = Timestamp(1_795_000_000_000_000_000);

struct Fixture {
    dir: tempfile::TempDir,
    clock: Clock,
    max_size: u64,
}

impl Fixture {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), clock: Clock::manual(NOW), max_size: 1 << 30 }
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("state/spool/test.db")
    }

    fn settings(&self, file: PathBuf) -> Settings {
        let max_size = self.max_size;
        Settings { key: "test.spool", file, max_size, max_age: DAY, max_memory: 100_000 }
    }

    fn spool(&self) -> Spool {
        self.spool_of_boot("this")
    }

    fn spool_of_boot(&self, boot: &str) -> Spool {
        Spool::in_boot(self.settings(self.file()), self.clock.clone(), boot.to_owned())
    }

    fn pass(&self, time: Duration) {
        self.clock.set(self.clock.now() + time);
    }

    /// What a machine that stops now finds later: the file and its log, the first `bytes` of one of them.
    fn stop_at(&self, cut: &str, bytes: usize) -> PathBuf {
        let image = self.dir.path().join("image");
        _ = std::fs::remove_dir_all(&image);
        std::fs::create_dir(&image).unwrap();
        for name in ["test.db", "test.db-wal"] {
            let Ok(mut content) = std::fs::read(self.file().with_file_name(name)) else { continue };
            if name == cut {
                content.truncate(bytes);
            }
            std::fs::write(image.join(name), content).unwrap();
        }
        image.join("test.db")
    }

    fn open_image(&self, file: PathBuf) -> Spool {
        Spool::in_boot(self.settings(file), self.clock.clone(), "this".to_owned())
    }
}

/// A payload with a text that is hard to compress, of some 2 kB, and `number` points.
fn entry(class: Class, number: u64) -> Entry {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let payload = (0..2000).map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    });
    Entry { class, points: number, payload: payload.collect() }
}

/// All that waits, by its number.
fn waiting(spool: &mut Spool) -> Vec<(Class, u64)> {
    let mut all: Vec<Waiting> = Vec::new();
    loop {
        let more = spool.oldest(all.last().map(|last| last.id), 10_000);
        if more.is_empty() {
            break;
        }
        all.extend(more);
    }
    for waiting in &all {
        assert_eq!(waiting.entry.payload, entry(Last, waiting.entry.points).payload, "another payload");
    }
    all.iter().map(|waiting| (waiting.entry.class, waiting.entry.points)).collect()
}

fn ids(spool: &mut Spool) -> Vec<Id> {
    spool.oldest(None, usize::MAX).iter().map(|waiting| waiting.id).collect()
}

fn copy_aside(file: &Path) -> PathBuf {
    file.with_file_name("test.db.corrupt")
}

#[test]
fn what_waits_comes_back_in_order_in_another_run_until_it_is_done() {
    let fixture = Fixture::new();
    let mut spool = fixture.spool();
    assert!(!fixture.file().exists(), "nothing waits, so nothing is written");
    spool.push(vec![entry(Last, 1), entry(Intermediate, 2)]);
    spool.push(vec![entry(Last, 3)]);
    drop(spool);
    let mut spool = fixture.spool();
    assert_eq!(spool.amount(), Amount { payloads: 3, points: 6 });
    let first = spool.oldest(None, 1);
    assert_eq!(first.len(), 1);
    assert_eq!(spool.oldest(Some(first[0].id), 1)[0].entry.points, 2);
    spool.done(&[first[0].id]);
    drop(spool);
    let mut spool = fixture.spool();
    assert_eq!(waiting(&mut spool).iter().map(|(_, n)| *n).collect::<Vec<_>>(), [2, 3]);
    let all = ids(&mut spool);
    spool.done(&all);
    assert!(spool.is_empty() && spool.oldest(None, 1).is_empty());
    assert!(fixture.file().metadata().unwrap().len() < 50_000);
    assert!(!fixture.file().with_file_name("test.db-wal").exists(), "it is closed");
    assert_eq!(spool.take_losses(), []);
}

#[test]
fn intermediate_payloads_go_first_then_the_oldest_and_each_point_is_counted() {
    let fixture = Fixture { max_size: 100_000, ..Fixture::new() };
    let mut spool = fixture.spool();
    for number in 0..100 {
        spool.push(vec![entry(if number % 2 == 0 { Last } else { Intermediate }, number)]);
    }
    let left = waiting(&mut spool);
    let lost: u64 = (0..100).sum::<u64>() - left.iter().map(|(_, n)| n).sum::<u64>();
    assert_eq!(spool.take_losses(), [(FULL, lost)]);
    assert!(left.len() > 15 && left.iter().all(|(class, _)| *class == Last), "{left:?}");
    assert_eq!(left.last(), Some(&(Last, 98)), "the newest stay");
    assert!(left.windows(2).all(|pair| pair[1].1 == pair[0].1 + 2), "the oldest went: {left:?}");
    drop(spool);
    // A push is written before what it replaces is removed.
    assert!(fixture.file().metadata().unwrap().len() <= 100_000 + 8192);
}

#[test]
fn the_newest_push_of_a_run_that_was_killed_counts_as_last() {
    let fixture = Fixture { max_size: 80_000, ..Fixture::new() };
    let mut spool = fixture.spool();
    spool.push(vec![entry(Intermediate, 1)]);
    spool.push(vec![entry(Intermediate, 2), entry(Intermediate, 3)]);
    spool.push(vec![entry(Last, 4)]);
    spool.push(vec![entry(Intermediate, 0)]);
    let image = fixture.stop_at("", 0);
    let mut spool = fixture.open_image(image.clone());
    let expected = [(Intermediate, 1), (Last, 2), (Last, 3), (Last, 4), (Intermediate, 0)];
    assert_eq!(waiting(&mut spool), expected);
    drop(spool);
    // A run that pushes nothing changes nothing.
    let mut spool = fixture.open_image(image);
    assert_eq!(waiting(&mut spool), expected);
    (5..60).for_each(|number| spool.push(vec![entry(Intermediate, number)]));
    let left = waiting(&mut spool);
    assert_eq!(left[..3], expected[1..4], "{left:?}");
}

#[test]
fn a_stop_at_any_byte_of_the_log_leaves_whole_pushes() {
    let fixture = Fixture::new();
    let mut spool = fixture.spool();
    for number in 0..8 {
        spool.push(vec![entry(Intermediate, 2 * number), entry(Last, 2 * number + 1)]);
    }
    let length = fixture.file().with_file_name("test.db-wal").metadata().unwrap().len() as usize;
    let mut most = 0;
    for bytes in (0..length).step_by(2003).chain([length - 1, length]) {
        let mut found = fixture.open_image(fixture.stop_at("test.db-wal", bytes));
        let left: Vec<_> = waiting(&mut found).iter().map(|(_, n)| *n).collect();
        assert_eq!(left, (0..left.len() as u64).collect::<Vec<_>>(), "cut at byte {bytes}");
        assert!(left.len() % 2 == 0 && left.len() >= most, "cut at byte {bytes}: {left:?}");
        assert_eq!(found.take_losses(), [], "cut at byte {bytes}");
        most = left.len();
    }
    assert_eq!(most, 16);
}

#[test]
fn a_file_cut_at_any_byte_is_set_aside_and_what_can_be_read_of_it_is_saved() {
    const ALL: u64 = 20 * 21 / 2;
    let fixture = Fixture::new();
    let mut spool = fixture.spool();
    spool.push((1..=20).map(|number| entry(Last, number)).collect());
    drop(spool);
    let length = fixture.file().metadata().unwrap().len() as usize;
    let mut saved_at_all = 0;
    for bytes in (1..length).step_by(3001).chain([length - 1]) {
        let image = fixture.stop_at("test.db", bytes);
        let mut found = fixture.open_image(image.clone());
        let left: u64 = waiting(&mut found).iter().map(|(_, n)| n).sum();
        let lost: u64 = found.take_losses().iter().map(|(_, n)| n).sum();
        // Within the last page only the payload that has a part of it is damaged.
        let is_counted = left + lost == ALL;
        assert!(is_counted || copy_aside(&image).exists(), "cut at byte {bytes}");
        assert!(left + lost <= ALL, "cut at byte {bytes}: {left} left, {lost} lost");
        saved_at_all += left;
        found.push(vec![entry(Last, 1000)]);
        drop(found);
        let mut again = fixture.open_image(image);
        assert!(waiting(&mut again).contains(&(Last, 1000)), "cut at byte {bytes}");
    }
    assert!(saved_at_all > 500, "{saved_at_all} points were saved from all cuts");
}

#[test]
fn a_changed_byte_costs_at_most_what_it_is_part_of() {
    let fixture = Fixture::new();
    let mut spool = fixture.spool();
    spool.push((1..=20).map(|number| entry(Last, number)).collect());
    drop(spool);
    let whole = std::fs::read(fixture.file()).unwrap();
    for at in (0..whole.len()).step_by(1999) {
        let image = fixture.stop_at("", 0);
        let mut content = whole.clone();
        content[at] ^= 0x55;
        std::fs::write(&image, content).unwrap();
        let mut found = fixture.open_image(image);
        // `waiting` checks each payload.
        _ = waiting(&mut found);
        found.push(vec![entry(Last, 1000)]);
        assert!(waiting(&mut found).contains(&(Last, 1000)), "byte {at}");
    }
}

#[test]
fn damage_that_is_found_while_the_file_is_open_is_counted_to_the_point() {
    let fixture = Fixture::new();
    let mut spool = fixture.spool();
    spool.push(vec![entry(Last, 7), entry(Last, 8)]);
    let old = ids(&mut spool);
    let connection = &spool.disk.as_ref().unwrap().connection;
    connection.execute("UPDATE payloads SET payload = x'1f8b' WHERE points = 7", []).unwrap();
    assert_eq!(waiting(&mut spool), [(Last, 8)]);
    assert_eq!(spool.take_losses(), [(CORRUPT, 7)]);
    spool.disk.as_ref().unwrap().connection.execute_batch("DROP TABLE payloads").unwrap();
    assert_eq!(waiting(&mut spool), []);
    assert_eq!(spool.take_losses(), [(CORRUPT, 8)]);
    assert!(copy_aside(&fixture.file()).exists());
    spool.push(vec![entry(Last, 9)]);
    assert_eq!((waiting(&mut spool), spool.trouble()), (vec![(Last, 9)], None));
    // Their ids name nothing in the next file.
    spool.done(&old);
    assert_eq!(waiting(&mut spool), [(Last, 9)]);
}

/// Makes the file refuse what the pragma says.
fn pragma(spool: &Spool, name: &str, value: i64) {
    let connection: &Connection = &spool.disk.as_ref().unwrap().connection;
    connection
        .pragma_update_and_check(None, name, value, |_| Ok(()))
        .or_else(|_| connection.pragma_update(None, name, value))
        .unwrap();
}

#[test]
fn while_the_disk_is_full_it_waits_in_memory_and_nothing_is_sent_twice() {
    let fixture = Fixture::new();
    let mut spool = fixture.spool();
    spool.push(vec![entry(Last, 1), entry(Last, 2)]);
    pragma(&spool, "max_page_count", 1);
    let full = spool.disk.as_ref().unwrap().connection.pragma_query_value(None, "page_count", |r| r.get(0));
    pragma(&spool, "max_page_count", full.unwrap());
    (3..=60).for_each(|number| spool.push(vec![entry(Intermediate, number)]));
    assert!(spool.trouble().unwrap().contains("free some space"), "{:?}", spool.trouble());
    let numbers = |spool: &mut Spool| waiting(spool).iter().map(|(_, n)| *n).collect::<Vec<_>>();
    let left = numbers(&mut spool);
    assert_eq!(left[..2], [1, 2], "what is on the disk first");
    assert!(left.len() <= 52 && *left.last().unwrap() == 60, "memory is limited: {left:?}");
    let lost: u64 = (1..=60).sum::<u64>() - left.iter().sum::<u64>();
    assert_eq!(spool.take_losses(), [(FULL, lost)]);
    let all = ids(&mut spool);
    pragma(&spool, "query_only", 1);
    spool.done(&all[..1]);
    assert_eq!(numbers(&mut spool)[0], 2, "it is done, though it could not be removed");
    pragma(&spool, "query_only", 0);
    pragma(&spool, "max_page_count", 1 << 20);
    fixture.pass(RETRY);
    spool.push(vec![entry(Last, 100)]);
    assert_eq!((spool.trouble(), spool.amount_in_memory()), (None, Amount::default()));
    spool.done(&[]);
    drop(spool);
    let left = numbers(&mut fixture.spool());
    assert_eq!((left[0], *left.last().unwrap()), (2, 100));
}

#[test]
fn a_place_that_cannot_be_written_means_memory_until_it_can() {
    let fixture = Fixture::new();
    std::fs::write(fixture.dir.path().join("state"), "a file").unwrap();
    let mut spool = fixture.spool();
    spool.push(vec![entry(Last, 1)]);
    assert!(spool.trouble().is_some());
    assert_eq!(waiting(&mut spool), [(Last, 1)]);
    std::fs::remove_file(fixture.dir.path().join("state")).unwrap();
    spool.push(vec![entry(Last, 2)]);
    assert!(!fixture.file().exists(), "it is left alone for a while");
    fixture.pass(RETRY);
    spool.push(vec![entry(Last, 3)]);
    drop(spool);
    assert_eq!(waiting(&mut fixture.spool()), [(Last, 1), (Last, 2), (Last, 3)]);
}

#[test]
fn a_second_agent_waits_in_memory_until_the_file_is_free() {
    let fixture = Fixture::new();
    let (mut first, mut second) = (fixture.spool(), fixture.spool());
    first.push(vec![entry(Last, 1)]);
    second.push(vec![entry(Last, 2)]);
    assert!(second.trouble().unwrap().contains("another process uses it"), "{:?}", second.trouble());
    assert_eq!((waiting(&mut first), waiting(&mut second)), (vec![(Last, 1)], vec![(Last, 2)]));
    assert_eq!(fixture.spool().trouble(), None, "nothing is wrong as long as nothing waits");
    let all = ids(&mut first);
    first.done(&all);
    fixture.pass(RETRY);
    second.push(vec![entry(Last, 3)]);
    assert_eq!((second.trouble(), second.amount_in_memory()), (None, Amount::default()));
    assert_eq!(waiting(&mut second), [(Last, 2), (Last, 3)]);
}

#[test]
fn a_database_of_something_else_is_left_alone() {
    let fixture = Fixture::new();
    std::fs::create_dir_all(fixture.file().parent().unwrap()).unwrap();
    let other = Connection::open(fixture.file()).unwrap();
    other.execute_batch("CREATE TABLE precious (x); INSERT INTO precious VALUES (42)").unwrap();
    drop(other);
    let mut spool = fixture.spool();
    spool.push(vec![entry(Last, 1)]);
    assert!(spool.trouble().unwrap().contains("something else"), "{:?}", spool.trouble());
    assert_eq!(waiting(&mut spool), [(Last, 1)]);
    let other = Connection::open(fixture.file()).unwrap();
    assert_eq!(other.query_row("SELECT x FROM precious", [], |row| row.get::<_, i64>(0)).unwrap(), 42);
}

#[test]
fn age_is_counted_and_a_clock_that_jumps_expires_nothing() {
    let fixture = Fixture::new();
    let mut spool = fixture.spool();
    spool.push(vec![entry(Last, 1)]);
    for years in [50_i64, -100] {
        fixture.clock.step_wall_clock(years * 365 * 86_400 * 1_000_000_000);
        fixture.clock.follow_wall_clock();
        fixture.pass(DAY / 4);
        spool.push(vec![entry(Last, 2)]);
        drop(spool);
        spool = fixture.spool();
    }
    assert_eq!(spool.take_losses(), []);
    fixture.pass(DAY / 2 + SECOND);
    let left = waiting(&mut spool);
    assert_eq!((left, spool.take_losses()), (vec![(Last, 2); 2], vec![(EXPIRED, 1)]));
}

#[test]
fn from_one_boot_to_the_next_age_is_that_of_the_wall_clock() {
    let fixture = Fixture::new();
    let mut spool = fixture.spool();
    spool.push(vec![entry(Last, 1)]);
    drop(spool);
    // The machine was off for half a day, and its monotonic clock begins again.
    fixture.clock.step_wall_clock((NOW.0 as i64 - 1000) + (DAY / 2).as_nanos() as i64);
    fixture.clock.set(Timestamp(1000));
    let clock = fixture.clock.clone();
    clock.follow_wall_clock();
    let mut spool = fixture.spool_of_boot("next");
    assert_eq!((waiting(&mut spool), spool.take_losses()), (vec![(Last, 1)], vec![]));
    fixture.pass(DAY / 2 + SECOND);
    assert_eq!((waiting(&mut spool), spool.take_losses()), (vec![], vec![(EXPIRED, 1)]));
}

#[test]
fn payloads_in_memory_age_and_are_removed_by_id() {
    let fixture = Fixture::new();
    std::fs::write(fixture.dir.path().join("state"), "a file").unwrap();
    let mut spool = fixture.spool();
    spool.push(vec![entry(Last, 1), entry(Intermediate, 2), entry(Last, 3)]);
    let all = ids(&mut spool);
    spool.done(&all[1..2]);
    spool.done(&all[1..2]);
    assert_eq!(
        (waiting(&mut spool), spool.amount()),
        (vec![(Last, 1), (Last, 3)], Amount { payloads: 2, points: 4 })
    );
    fixture.pass(DAY + SECOND);
    assert_eq!((waiting(&mut spool), spool.take_losses()), (vec![], vec![(EXPIRED, 4)]));
}
