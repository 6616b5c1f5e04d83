//! The memory that a program counts in: a hash map of the kernel's, from 64-bit keys to a few 64-bit counts.

use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use crate::{Instruction, bpf, lift_memlock_limit};

const BPF_MAP_CREATE: libc::c_int = 0;
const BPF_MAP_UPDATE_ELEM: libc::c_int = 2;
const BPF_MAP_DELETE_ELEM: libc::c_int = 3;
const BPF_MAP_LOOKUP_BATCH: libc::c_int = 24;
const BPF_MAP_TYPE_HASH: u32 = 1;

/// The part of `union bpf_attr` for `BPF_MAP_CREATE` that is used.
#[repr(C)]
#[derive(Default)]
struct Create {
    kind: u32,
    key_size: u32,
    value_size: u32,
    entries: u32,
}

/// The same for single entries.
#[repr(C)]
#[derive(Default)]
struct Entry {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// The same for `BPF_MAP_LOOKUP_BATCH`.
#[repr(C)]
#[derive(Default)]
struct Batch {
    position_in: u64,
    position_out: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    entry_flags: u64,
    flags: u64,
}

/// The table. The kernel's memory for all entries is taken when it is created.
#[derive(Debug)]
pub struct Table<const COUNTS: usize> {
    descriptor: OwnedFd,
    /// Room for all entries, to read them into.
    keys: Vec<u64>,
    values: Vec<[u64; COUNTS]>,
}

impl<const COUNTS: usize> Table<COUNTS> {
    /// Creates an empty table of at most `entries`.
    ///
    /// # Errors
    /// Those of `bpf(2)`: no permission, or no memory.
    pub fn create(entries: u32) -> io::Result<Self> {
        let value_size = size_of::<[u64; COUNTS]>() as u32;
        let mut create = Create { kind: BPF_MAP_TYPE_HASH, key_size: 8, value_size, entries };
        lift_memlock_limit();
        // SAFETY: the attributes have the layout of the kernel's, and hold no pointers.
        let descriptor = unsafe { bpf(BPF_MAP_CREATE, &mut create) }?;
        // SAFETY: the call has just returned this descriptor.
        let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor) };
        let (keys, values) = (vec![0; entries as usize], vec![[0; COUNTS]; entries as usize]);
        Ok(Self { descriptor, keys, values })
    }

    /// Puts the table into a register: what a program passes to the helpers.
    pub fn load_into(&self, register: u8) -> [Instruction; 2] {
        const LOAD: u8 = 0x18;
        const IS_A_MAP: u8 = 1 << 4;
        let registers = register | IS_A_MAP;
        [
            Instruction { registers, ..Instruction::new(LOAD, self.descriptor.as_raw_fd()) },
            Instruction::new(0, 0),
        ]
    }

    /// Sets an entry.
    ///
    /// # Errors
    /// Those of `bpf(2)`: the table is full.
    pub fn set(&self, key: u64, counts: &[u64; COUNTS]) -> io::Result<()> {
        self.entry(BPF_MAP_UPDATE_ELEM, &key, Some(counts))
    }

    /// Removes an entry.
    ///
    /// # Errors
    /// Those of `bpf(2)`: there is none.
    pub fn remove(&self, key: u64) -> io::Result<()> {
        self.entry(BPF_MAP_DELETE_ELEM, &key, None)
    }

    fn entry(&self, command: libc::c_int, key: &u64, counts: Option<&[u64; COUNTS]>) -> io::Result<()> {
        let value = counts.map_or(0, |counts| std::ptr::from_ref(counts) as u64);
        let (map, key) = (self.descriptor.as_raw_fd() as u32, std::ptr::from_ref(key) as u64);
        let mut entry = Entry { map, key, value, ..Entry::default() };
        // SAFETY: the attributes have the layout of the kernel's, and what they point to outlives the call.
        unsafe { bpf(command, &mut entry) }.map(drop)
    }

    /// All entries, in no order, by one system call (Linux 5.6).
    ///
    /// # Errors
    /// Those of `bpf(2)`.
    pub fn read(&mut self) -> io::Result<impl Iterator<Item = (u64, [u64; COUNTS])> + '_> {
        let mut position = 0_u32;
        let mut batch = Batch {
            position_out: std::ptr::from_mut(&mut position) as u64,
            keys: self.keys.as_mut_ptr() as u64,
            values: self.values.as_mut_ptr() as u64,
            count: self.keys.len() as u32,
            map: self.descriptor.as_raw_fd() as u32,
            ..Batch::default()
        };
        // SAFETY: the attributes have the layout of the kernel's. There is room for all entries of the table,
        // and for the position, of four bytes in a hash map.
        let read = unsafe { bpf(BPF_MAP_LOOKUP_BATCH, &mut batch) };
        // ENOENT: there are no more, which is always so when all have been read.
        if let Err(e) = read
            && e.raw_os_error() != Some(libc::ENOENT)
        {
            return Err(e);
        }
        let count = batch.count as usize;
        Ok(self.keys[..count].iter().copied().zip(self.values[..count].iter().copied()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layouts_are_the_kernels() {
        assert_eq!((size_of::<Create>(), size_of::<Entry>(), size_of::<Batch>()), (16, 32, 56));
        assert_eq!(std::mem::offset_of!(Batch, map), 36);
    }

    #[test]
    fn entries_are_set_read_and_removed_up_to_the_limit() {
        let mut table = match Table::<2>::create(3) {
            Ok(table) => table,
            Err(e) => return eprintln!("skipped: no permission to create a table: {e}"),
        };
        assert_eq!(table.read().unwrap().count(), 0);
        for key in [7, 8, 9] {
            table.set(key, &[key * 10, key * 100]).unwrap();
        }
        assert!(table.set(10, &[0, 0]).is_err(), "it is full");
        table.remove(8).unwrap();
        assert!(table.remove(8).is_err());
        let mut all: Vec<_> = table.read().unwrap().collect();
        all.sort_unstable();
        assert_eq!(all, [(7, [70, 700]), (9, [90, 900])]);
    }
}
