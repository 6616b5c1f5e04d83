//! Counts the bytes of packets by cgroup, in the kernel: two programs on the root of the cgroup hierarchy add
//! each packet's length to the entry of its socket's cgroup. systemd counts so too (`IPAccounting=`), for its
//! own units.
//!
//! A packet's length is that from the network layer's header on: what the link adds is not in it.

use std::io;
use std::os::fd::BorrowedFd;

use wattrace_bpf::{Direction, Instruction, Link, Program, Table};

/// Bytes received and sent.
pub(crate) type Bytes = [u64; 2];

/// The most cgroups that are counted one by one.
const MOST_CGROUPS: u32 = 4096;

/// The entry of packets without a cgroup of their own: of cgroups beyond [`MOST_CGROUPS`].
pub(crate) const OTHERS: u64 = 0;

/// The programs, and the table that they count in. Dropping it detaches them.
#[derive(Debug)]
pub(crate) struct Traffic {
    table: Table<2>,
    programs: [Program; 2],
    links: Vec<Link>,
}

impl Traffic {
    /// Loads the programs. They count nothing yet.
    ///
    /// # Errors
    /// Those of `bpf(2)`.
    pub(crate) fn load() -> io::Result<Self> {
        let table = Table::create(MOST_CGROUPS)?;
        table.set(OTHERS, &[0; 2])?;
        let programs = [load(&table, Direction::Ingress, RECEIVED)?, load(&table, Direction::Egress, SENT)?];
        Ok(Self { table, programs, links: Vec::new() })
    }

    /// Counts the packets of `cgroup`, the directory of a cgroup v2, and of all cgroups in it.
    ///
    /// # Errors
    /// Those of `bpf(2)`.
    pub(crate) fn count(&mut self, cgroup: BorrowedFd<'_>) -> io::Result<()> {
        let [ingress, egress] = &self.programs;
        let links = [ingress.attach(cgroup, Direction::Ingress)?, egress.attach(cgroup, Direction::Egress)?];
        self.links.extend(links);
        Ok(())
    }

    /// What each cgroup has received and sent since the beginning, by its id.
    ///
    /// # Errors
    /// Those of `bpf(2)`.
    pub(crate) fn read(&mut self) -> io::Result<impl Iterator<Item = (u64, Bytes)> + '_> {
        self.table.read()
    }

    /// Gives the entry of a cgroup that was removed to others.
    pub(crate) fn forget(&self, cgroup: u64) {
        // An error means that there is none.
        let _ = self.table.remove(cgroup);
    }
}

fn load(table: &Table<2>, direction: Direction, counter: i16) -> io::Result<Program> {
    Program::of_packets(direction, &instructions(table, counter))
}

// Where the counters are in an entry.
const RECEIVED: i16 = 0;
const SENT: i16 = 8;

// Where the program has its variables on the stack: the cgroup's id, and an entry of zeros.
const ID: i16 = -8;
const ZEROS: i16 = -24;

// The numbers of helpers.
const LOOK_UP: i32 = 1;
const UPDATE: i32 = 2;
const CGROUP_OF_PACKET: i32 = 79;

/// Of the helper that updates: only if there is no such entry.
const IS_NEW: i32 = 1;

/// `struct __sk_buff.len`
const PACKET_LEN: i16 = 0;

/// The program that adds the packet's length to the counter at `counter` of its cgroup's entry.
fn instructions(table: &Table<2>, counter: i16) -> Vec<Instruction> {
    let add = [
        op(0x61, 1, 6, PACKET_LEN, 0), // r1 = packet.len
        op(0xdb, 0, 1, counter, 0),    // lock *(u64 *)(r0 + counter) += r1
    ];
    let pass = [op(0xb7, 0, 0, 0, 1), op(0x95, 0, 0, 0, 0)]; // return 1
    // The table is full.
    let mut others = vec![op(0x7a, 10, 0, ID, OTHERS as i32)]; // id = OTHERS
    others.extend(look_up(table));
    others.push(op(0x15, 0, 0, add.len() as i16, 0)); // if r0 == 0 goto pass
    // The first packet of a cgroup.
    let mut insert = vec![op(0x7a, 10, 0, ZEROS, 0), op(0x7a, 10, 0, ZEROS + 8, 0)];
    insert.extend(table.load_into(1));
    insert.extend(address(2, ID));
    insert.extend(address(3, ZEROS));
    insert.push(op(0xb7, 4, 0, 0, IS_NEW));
    insert.push(op(0x85, 0, 0, 0, UPDATE));
    insert.extend(look_up(table));
    insert.push(op(0x55, 0, 0, others.len() as i16, 0)); // if r0 != 0 goto add
    let mut all = vec![
        op(0xbf, 6, 1, 0, 0),                // r6 = packet
        op(0x85, 0, 0, 0, CGROUP_OF_PACKET), // r0 = its cgroup's id
        op(0x7b, 10, 0, ID, 0),              // id = r0
    ];
    all.extend(look_up(table));
    all.push(op(0x55, 0, 0, (insert.len() + others.len()) as i16, 0)); // if r0 != 0 goto add
    [all, insert, others, add.to_vec(), pass.to_vec()].concat()
}

/// `r0 = the address of the entry of id, or 0`
fn look_up(table: &Table<2>) -> Vec<Instruction> {
    [&table.load_into(1)[..], &address(2, ID), &[op(0x85, 0, 0, 0, LOOK_UP)]].concat()
}

/// `register = the address of the variable`
fn address(register: u8, variable: i16) -> [Instruction; 2] {
    [op(0xbf, register, 10, 0, 0), op(0x07, register, 0, 0, variable.into())]
}

fn op(opcode: u8, destination: u8, source: u8, offset: i16, constant: i32) -> Instruction {
    Instruction { opcode, registers: destination | source << 4, offset, constant }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::fd::AsFd as _;
    use std::os::unix::fs::MetadataExt as _;

    use wattrace_cgroup::Hierarchy;

    use super::super::testing::{HEADERS, Scene};
    use super::*;

    #[test]
    fn every_byte_is_counted_for_the_cgroup_of_the_socket() {
        let (Some(scene), Ok(mut traffic)) = (Scene::new("traffic"), Traffic::load()) else {
            return eprintln!("skipped: packets may not be counted here");
        };
        let hierarchy = Hierarchy::find().unwrap();
        let id = |path: &str| fs::metadata(hierarchy.cgroup(path).unwrap().dir()).unwrap().ino();
        let root = File::open(hierarchy.cgroup("/").unwrap().dir()).unwrap();
        traffic.count(root.as_fd()).unwrap();
        scene.send(&[1000, 1, 300]);
        let of = |traffic: &mut Traffic, wanted: u64| {
            traffic.read().unwrap().find(|(id, _)| *id == wanted).map(|(_, bytes)| bytes)
        };
        let sender = id(&scene.path());
        assert_eq!(of(&mut traffic, sender), Some([0, 1301 + 3 * HEADERS]));
        // The receiver's, in the cgroup of this process, beside what others receive there.
        let own = id(&Hierarchy::own_path().unwrap());
        assert!(of(&mut traffic, own).unwrap()[0] >= 1301 + 3 * HEADERS);
        traffic.forget(sender);
        assert_eq!(of(&mut traffic, sender), None);
    }

    /// ```sh
    /// cargo test -p wattrace-context --lib cost -- --ignored --nocapture
    /// ```
    #[test]
    #[ignore = "prints what the programs cost on this machine"]
    fn cost_of_a_packet() {
        let mut traffic = Traffic::load().unwrap();
        let mut packet = [0; 74];
        // Of IPv4.
        (packet[12], packet[14]) = (8, 0x45);
        for (name, program) in ["receiving", "sending"].iter().zip(&traffic.programs) {
            let costs: Vec<u32> = (0..5).map(|_| program.cost(&packet, 1_000_000).unwrap()).collect();
            eprintln!("{name} a packet costs {costs:?} ns more");
        }
        assert!(traffic.read().unwrap().map(|(_, bytes)| bytes[0]).sum::<u64>() > 0, "they counted");
    }
}
