//! The spool: everything goes to `disk`, or to `memory` while the disk does not work. It decides when to try
//! the disk again, what to log about it, and counts what is lost.

use std::collections::BTreeSet;
use std::time::Duration;

use tracing::{info, warn};
use wattrace_api::{Clock, Timestamp};

use crate::disk::{Disk, Moment, Pushed};
use crate::memory::Memory;
use crate::problem::Problem;
use crate::salvage::{self, Remains};
use crate::{Amount, CORRUPT, EXPIRED, Entry, FULL, Id, Place, Settings, Waiting};

/// How long a disk that does not work is left alone.
const RETRY: Duration = Duration::from_secs(30);
/// How often ages are checked.
const EXPIRE_EVERY: Duration = Duration::from_secs(60);
/// How many bytes of a damaged file are taken over at a time.
const CHUNK: usize = 1024 * 1024;

/// See the crate.
#[derive(Debug)]
pub struct Spool {
    settings: Settings,
    clock: Clock,
    /// Which boot of the machine this is.
    boot: String,
    /// While something waits on it; and the number of the file.
    disk: Option<Disk>,
    number: u32,
    memory: Memory,
    /// Why the disk does not work, and when to try it again.
    trouble: Option<(String, Timestamp)>,
    /// Payloads on disk that are done, but could not be removed.
    unremoved: BTreeSet<i64>,
    expire_at: Timestamp,
    losses: Vec<(&'static str, u64)>,
}

impl Spool {
    /// A spool, with what an earlier run has left in its file. A file that cannot be used is logged.
    pub fn new(settings: Settings, clock: Clock) -> Self {
        Self::in_boot(settings, clock, boot())
    }

    pub(crate) fn in_boot(settings: Settings, clock: Clock, boot: String) -> Self {
        let memory = Memory::new(settings.max_memory);
        let mut spool = Self {
            settings,
            clock,
            boot,
            disk: None,
            number: 0,
            memory,
            trouble: None,
            unremoved: BTreeSet::new(),
            expire_at: Timestamp(0),
            losses: Vec::new(),
        };
        if spool.settings.file.metadata().is_ok_and(|file| file.len() > 0) {
            match spool.open() {
                // What waits there is the business of the agent that has it.
                Err(Problem::InUse) => {}
                Err(Problem::Corrupt(why)) => _ = spool.take_over(&why),
                Err(problem) => spool.fails(&problem),
                Ok(_) => {}
            }
            spool.expire();
            spool.close_if_empty();
        }
        spool
    }

    /// Takes what could not be delivered. It is on the disk afterwards, or in memory if the disk does not
    /// work; or it is lost to a limit, and counted.
    pub fn push(&mut self, entries: Vec<Entry>) {
        if entries.is_empty() {
            return;
        }
        self.memory.push(self.clock.now(), entries);
        self.follow_path();
        self.expire();
        self.move_to_disk();
    }

    /// What waits after `after`, or at all, oldest first: one payload, and as many more as `bytes` have room
    /// for. It stays until [`Spool::done`].
    pub fn oldest(&mut self, after: Option<Id>, bytes: usize) -> Vec<Waiting> {
        self.follow_path();
        self.expire();
        if self.memory.amount.payloads > 0 {
            self.move_to_disk();
        }
        let mut on_disk = match after {
            None => Some(i64::MIN),
            // If it was in another file, what is skipped now comes when the caller begins at the oldest.
            Some(Id(Place::Disk(_), id)) => Some(id),
            Some(Id(Place::Memory, _)) => None,
        };
        while let (Some(after), Some(disk)) = (on_disk, &mut self.disk) {
            let oldest = match disk.oldest(after, bytes) {
                Ok(oldest) => oldest,
                Err(Problem::Corrupt(why)) if self.take_over(&why) => continue,
                Err(problem) => {
                    self.fails(&problem);
                    break;
                }
            };
            self.lose(CORRUPT, oldest.damaged);
            let (mut waiting, place) = (oldest.waiting, Place::Disk(self.number));
            on_disk = waiting.last().map(|(last, _)| *last);
            waiting.retain(|(id, _)| !self.unremoved.contains(id));
            if !waiting.is_empty() {
                return waiting.into_iter().map(|(id, entry)| Waiting { id: Id(place, id), entry }).collect();
            }
        }
        let after = if let Some(Id(Place::Memory, id)) = after { id } else { i64::MIN };
        self.memory.oldest(after, bytes)
    }

    /// These were taken, or refused for good.
    pub fn done(&mut self, ids: &[Id]) {
        for Id(place, number) in ids {
            match place {
                Place::Memory => self.memory.remove(*number),
                Place::Disk(file) if *file == self.number => _ = self.unremoved.insert(*number),
                // It was moved to another file, and is sent again.
                Place::Disk(_) => {}
            }
        }
        self.follow_path();
        self.remove_done();
        self.close_if_empty();
    }

    /// How much waits.
    pub fn amount(&self) -> Amount {
        let (memory, disk) =
            (self.memory.amount, self.disk.as_ref().map(|disk| disk.amount).unwrap_or_default());
        Amount { payloads: memory.payloads + disk.payloads, points: memory.points + disk.points }
    }

    /// How much of that is in memory alone, and ends with the agent.
    pub fn amount_in_memory(&self) -> Amount {
        self.memory.amount
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.amount().payloads == 0
    }

    /// Why what waits is in memory only; `None`: it is on the disk.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_ref().map(|(why, _)| &**why)
    }

    /// Where it is.
    pub fn file(&self) -> &std::path::Path {
        &self.settings.file
    }

    /// Lost points, by reason ([`FULL`], [`EXPIRED`], [`CORRUPT`]), since the last call.
    pub fn take_losses(&mut self) -> Vec<(&'static str, u64)> {
        std::mem::take(&mut self.losses)
    }

    fn lose(&mut self, reason: &'static str, points: u64) {
        match self.losses.iter_mut().find(|(known, _)| *known == reason) {
            _ if points == 0 => {}
            Some((_, count)) => *count += points,
            None => self.losses.push((reason, points)),
        }
    }

    fn open(&mut self) -> Result<&mut Disk, Problem> {
        if self.disk.is_none() {
            let now = self.clock.now();
            let moment =
                Moment { monotonic: now.0, unix: self.clock.unix_nanos(now), boot: self.boot.clone() };
            self.disk = Some(Disk::open(&self.settings.file, self.settings.max_size, &moment)?);
        }
        // It is there now.
        self.disk.as_mut().ok_or_else(|| Problem::Disk("it is not open".to_owned()))
    }

    /// Writes to the disk, unless it did not work just before. A damaged file is replaced.
    fn write<T>(&mut self, act: impl Fn(&mut Disk) -> Result<T, Problem>) -> Option<T> {
        if self.trouble.as_ref().is_some_and(|(_, retry_at)| self.clock.now() < *retry_at) {
            return None;
        }
        let mut result = self.open().and_then(&act);
        if let Err(Problem::Corrupt(why)) = &result
            && self.take_over(why)
        {
            result = self.open().and_then(&act);
        }
        match result {
            Ok(value) => {
                self.works();
                Some(value)
            }
            Err(problem) => {
                self.fails(&problem);
                None
            }
        }
    }

    /// Moves what is in memory to the disk, or what does not fit into memory out of it.
    fn move_to_disk(&mut self) {
        let held = self.memory.take();
        let all = || held.iter().map(|held| Pushed { at: held.pushed.0, entry: &held.entry });
        let removed = match self.write(|disk| disk.push(all())) {
            Some(removed) => removed,
            None => {
                self.memory.put_back(held);
                self.memory.shrink()
            }
        };
        self.lose(FULL, removed);
    }

    fn remove_done(&mut self) {
        if self.unremoved.is_empty() || self.disk.is_none() {
            return;
        }
        let ids: Vec<i64> = self.unremoved.iter().copied().collect();
        if self.write(|disk| disk.remove(&ids)).is_some() {
            self.unremoved.clear();
        }
    }

    fn expire(&mut self) {
        let now = self.clock.now();
        if now < self.expire_at || self.is_empty() {
            return;
        }
        self.expire_at = now + EXPIRE_EVERY;
        // The machine may run for less than the age.
        let oldest = i128::from(now.0) - self.settings.max_age.as_nanos().min(1 << 62).cast_signed();
        let mut removed = match u64::try_from(oldest) {
            Ok(oldest) => self.memory.expire(Timestamp(oldest)),
            Err(_) => 0,
        };
        if self.disk.is_some() {
            let oldest = i64::try_from(oldest).unwrap_or(i64::MIN);
            removed += self.write(|disk| disk.expire(oldest)).unwrap_or(0);
        }
        self.lose(EXPIRED, removed);
        self.remove_done();
    }

    fn close_if_empty(&mut self) {
        if self.disk.as_ref().is_some_and(|disk| disk.amount.payloads == 0)
            && let Some(disk) = self.disk.take()
        {
            self.unremoved.clear();
            // If it cannot be made smaller it stays as large as it is.
            _ = disk.close_empty();
        }
    }

    /// Moves what waits in a file that was deleted or renamed to the one that the path names now.
    fn follow_path(&mut self) {
        let Some(mut disk) = self.disk.take_if(|disk| !disk.is_at(&self.settings.file)) else { return };
        let done: Vec<i64> = std::mem::take(&mut self.unremoved).into_iter().collect();
        // What cannot be removed is sent twice.
        _ = disk.remove(&done);
        self.number += 1;
        let points = disk.amount.points;
        let saved = self.salvage(&Remains::of_left(disk.connection));
        self.lose(CORRUPT, points.saturating_sub(saved));
        let (key, file) = (self.settings.key, self.settings.file.display());
        warn!(
            "{key}: {file} was deleted or renamed while it was in use; {saved} of its {points} points are in \
             another file of that name now"
        );
    }

    /// Sets a damaged file aside, and takes over what can be read of it. Returns whether there is room for
    /// another file.
    fn take_over(&mut self, why: &str) -> bool {
        let known = self.disk.take().map(|disk| disk.amount.points);
        self.unremoved.clear();
        self.number += 1;
        let (key, file) = (self.settings.key, self.settings.file.display().to_string());
        let aside = match salvage::set_aside(&self.settings.file) {
            Ok(aside) => aside,
            Err(error) => {
                let what = format!("it is damaged ({why}) and cannot be set aside: {error}");
                self.fails(&Problem::Disk(what));
                return false;
            }
        };
        let remains = Remains::open(&aside);
        let known = known.or_else(|| remains.as_ref()?.points());
        let saved = remains.map_or(0, |remains| self.salvage(&remains));
        let lost = known.map(|points| points.saturating_sub(saved));
        self.lose(CORRUPT, lost.unwrap_or(0));
        let lost = lost.map_or_else(|| "an unknown number of".to_owned(), |points| points.to_string());
        let aside = aside.display();
        warn!(
            "{key}: {file} is damaged ({why}): it is set aside as {aside}; {saved} points of it are saved, \
             {lost} points are lost"
        );
        true
    }

    /// Pushes what can be read. Returns how many points that is.
    fn salvage(&mut self, remains: &Remains) -> u64 {
        let (mut saved, mut chunk, mut size) = (0, Vec::new(), 0);
        let now = self.clock.now();
        let store = |spool: &mut Self, chunk: Vec<Entry>| {
            let pushed = || chunk.iter().map(|entry| Pushed { at: now.0, entry });
            match spool.open().and_then(|disk| disk.push(pushed())) {
                Ok(removed) => spool.lose(FULL, removed),
                Err(_) => {
                    spool.memory.push(now, chunk);
                    let removed = spool.memory.shrink();
                    spool.lose(FULL, removed);
                }
            }
        };
        remains.each(|entry| {
            saved += entry.points;
            size += entry.payload.len();
            chunk.push(entry);
            if size > CHUNK {
                size = 0;
                store(self, std::mem::take(&mut chunk));
            }
        });
        store(self, chunk);
        saved
    }

    fn fails(&mut self, problem: &Problem) {
        let why = problem.to_string();
        let (key, file) = (self.settings.key, self.settings.file.display());
        if self.trouble.as_ref().is_none_or(|(known, _)| *known != why) {
            let most = self.settings.max_memory / (1024 * 1024);
            warn!(
                "{key}: {file}: {why}. What waits is kept in memory, at most {most} MiB, and ends \
                 with the agent"
            );
        }
        self.trouble = Some((why, self.clock.now() + RETRY));
    }

    fn works(&mut self) {
        if self.trouble.take().is_some() {
            let (key, file) = (self.settings.key, self.settings.file.display());
            info!("{key}: {file} works again");
        }
    }
}

/// Which boot of the machine this is. Where that is unknown, another one each time.
fn boot() -> String {
    let known = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok();
    known.map_or_else(|| format!("unknown {:?}", std::time::SystemTime::now()), |id| id.trim().to_owned())
}

#[cfg(test)]
mod tests;
