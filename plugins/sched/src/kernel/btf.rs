//! Finds byte offsets of structure members in the kernel's BTF (`Documentation/bpf/btf.rst`). aya parses BTF
//! too, but does not expose the offsets of members; and it holds five times as much memory as the blob, so it
//! gets an outline.

use std::collections::{HashMap, HashSet};

/// What is wrong with a BTF blob.
#[derive(Debug, thiserror::Error)]
pub enum BtfError {
    /// Truncated, or of an unknown layout.
    #[error("the kernel's BTF is truncated or of an unknown layout")]
    Malformed,
    /// A structure is missing.
    #[error("the kernel's BTF has no struct {0}")]
    NoStruct(&'static str),
    /// A member of a structure is missing.
    #[error("the kernel's struct {0} has no member {1}")]
    NoMember(&'static str, &'static str),
}

/// A parsed BTF blob: its types.
pub(crate) struct Btf<'a> {
    strings: &'a [u8],
    types: &'a [u8],
    /// Where each type begins, in their order. Ids count from 1: the first place is that of 0, which is void.
    places: Vec<u32>,
}

#[derive(Clone, Copy)]
struct Type<'a> {
    name: u32,
    kind: u32,
    /// Whether the offsets of members have a bit-field size in their upper byte.
    bit_fields: bool,
    /// For structs and unions: their members, 12 bytes each.
    members: &'a [u8],
}

const STRUCT: u32 = 4;
const UNION: u32 = 5;
const FORWARD: u32 = 7;
const TYPEDEF: u32 = 8;
const FUNCTION: u32 = 12;

impl<'a> Type<'a> {
    /// The type at the beginning of `bytes`.
    fn read(bytes: &'a [u8]) -> Result<Self, BtfError> {
        let (name, info) = (u32_at(bytes, 0)?, u32_at(bytes, 4)?);
        let (kind, count) = ((info >> 24) & 0x1f, (info & 0xffff) as usize);
        let tail = match kind {
            1 | 14 | 17 => 4,                       // int, var, decl_tag
            3 => 12,                                // array
            STRUCT | UNION | 15 | 19 => 12 * count, // and datasec, enum64
            6 | 13 => 8 * count,                    // enum, func_proto
            2 | 7..=12 | 16 | 18 => 0,
            _ => return Err(BtfError::Malformed),
        };
        let members = bytes.get(12..12 + tail).ok_or(BtfError::Malformed)?;
        Ok(Self { name, kind, bit_fields: info >> 31 == 1, members })
    }
}

impl<'a> Btf<'a> {
    /// Reads the blob's table of types.
    pub(crate) fn parse(blob: &'a [u8]) -> Result<Self, BtfError> {
        let header = |word: usize| u32_at(blob, word * 4).map(|v| v as usize);
        // magic and flags, header length, type offset and length, string offset and length
        let (base, type_off, type_len, str_off, str_len) =
            (header(1)?, header(2)?, header(3)?, header(4)?, header(5)?);
        let section = |at: usize, len: usize| blob.get(base + at..base + at + len).ok_or(BtfError::Malformed);
        let (strings, types) = (section(str_off, str_len)?, section(type_off, type_len)?);
        // Most have a tail: fewer come than this.
        let mut places = Vec::with_capacity(types.len() / 16);
        places.push(0);
        let mut at = 0;
        while at < types.len() {
            places.push(at as u32);
            at += 12 + Type::read(&types[at..])?.members.len();
        }
        Ok(Self { strings, types, places })
    }

    /// The type with this id.
    fn get(&self, id: usize) -> Option<Type<'a>> {
        let place = self.places.get(id).filter(|_| id != 0)?;
        Type::read(self.types.get(*place as usize..)?).ok()
    }

    /// All types but void, with their ids.
    fn all(&self) -> impl Iterator<Item = (usize, Type<'a>)> {
        (1..self.places.len()).filter_map(|id| Some((id, self.get(id)?)))
    }

    /// The structures called `names`.
    pub(crate) fn structs(&self, names: impl IntoIterator<Item = &'static str>) -> Structs<'_> {
        let mut wanted: HashSet<_> = names.into_iter().collect();
        let mut found = HashMap::new();
        for (_, t) in self.all().filter(|(_, t)| t.kind == STRUCT && t.name != 0) {
            if let Some(&name) = wanted.iter().find(|name| self.is_named(t.name, name)) {
                wanted.remove(name);
                found.insert(name, t);
            }
        }
        Structs { btf: self, found }
    }

    /// Offset in bits of `member` in `t` or in its anonymous structs and unions. Those in `seen` are skipped:
    /// types that contain each other would be searched again and again.
    fn member_bits(&self, t: &Type<'_>, member: &str, depth: u32, seen: &mut HashSet<u32>) -> Option<u32> {
        for m in t.members.chunks_exact(12) {
            let (name, id, offset) = (u32_at(m, 0).ok()?, u32_at(m, 4).ok()?, u32_at(m, 8).ok()?);
            let offset = if t.bit_fields { offset & 0xff_ffff } else { offset };
            if name != 0 && self.is_named(name, member) {
                return Some(offset);
            }
            let inner = if name == 0 && depth < 8 { self.get(id as usize) } else { None };
            if let Some(inner) = inner.filter(|inner| matches!(inner.kind, STRUCT | UNION))
                && seen.insert(id)
                && let Some(bits) = self.member_bits(&inner, member, depth + 1, seen)
            {
                return offset.checked_add(bits);
            }
        }
        None
    }

    /// A blob with the same type ids, up to the last of the typedefs and functions whose names begin with one
    /// of `prefixes`. These have their names, and every other type is a forward declaration without one.
    pub(crate) fn outline(&self, prefixes: &[&str]) -> Vec<u8> {
        const MAGIC_AND_VERSION: u32 = 0x0001_eb9f;
        const HEADER_LEN: u32 = 24;
        let (mut types, mut strings) = (Vec::new(), vec![0]);
        let mut next = 1;
        let is_wanted = |t: &Type<'_>| {
            [TYPEDEF, FUNCTION].contains(&t.kind)
                && prefixes.iter().any(|prefix| self.begins_with(t.name, prefix))
        };
        for (id, t) in self.all().filter(|(_, t)| is_wanted(t)) {
            let Some(name) = self.name(t.name) else { continue };
            let others = [0, FORWARD << 24, 0].into_iter().cycle().take(3 * (id - next));
            let this = [strings.len() as u32, t.kind << 24, 0];
            types.extend(others.chain(this).flat_map(u32::to_ne_bytes));
            strings.extend_from_slice(name);
            strings.push(0);
            next = id + 1;
        }
        let (type_len, string_len) = (types.len() as u32, strings.len() as u32);
        let header = [MAGIC_AND_VERSION, HEADER_LEN, 0, type_len, type_len, string_len];
        let mut blob: Vec<u8> = header.into_iter().flat_map(u32::to_ne_bytes).collect();
        blob.append(&mut types);
        blob.append(&mut strings);
        blob
    }

    fn name(&self, offset: u32) -> Option<&[u8]> {
        self.strings.get(offset as usize..)?.split(|&byte| byte == 0).next()
    }

    /// Compares without looking for the end of the name first: this is asked of every function.
    fn begins_with(&self, offset: u32, prefix: &str) -> bool {
        self.strings.get(offset as usize..).is_some_and(|rest| rest.starts_with(prefix.as_bytes()))
    }

    /// Compares without looking for the end of the name first: this is asked of every structure.
    fn is_named(&self, offset: u32, name: &str) -> bool {
        let rest = self.strings.get(offset as usize..).and_then(|rest| rest.strip_prefix(name.as_bytes()));
        rest.is_some_and(|rest| rest.first() == Some(&0))
    }
}

/// Structures of a blob.
pub(crate) struct Structs<'a> {
    btf: &'a Btf<'a>,
    found: HashMap<&'static str, Type<'a>>,
}

impl Structs<'_> {
    /// Byte offsets of `wanted` (structure, member) pairs, in their order.
    pub(crate) fn offsets(&self, wanted: &[(&'static str, &'static str)]) -> Result<Vec<u32>, BtfError> {
        let find = |&(name, member)| {
            let t = self.found.get(name).ok_or(BtfError::NoStruct(name))?;
            let seen = &mut HashSet::new();
            let bits = self.btf.member_bits(t, member, 0, seen).ok_or(BtfError::NoMember(name, member))?;
            Ok(bits / 8)
        };
        wanted.iter().map(find).collect()
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, BtfError> {
    let word = bytes.get(at..at + 4).and_then(|w| w.try_into().ok()).ok_or(BtfError::Malformed)?;
    Ok(u32::from_ne_bytes(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A blob with `struct outer { int a; union { int b; int c; }; }`.
    fn blob() -> Vec<u8> {
        let strings = b"\0int\0outer\0a\0b\0c\0";
        let types: Vec<u32> = vec![
            1,
            1 << 24,
            4,
            32, // 1: int
            5,
            STRUCT << 24 | 2,
            8,
            /* a */ 11,
            1,
            0,
            /* anonymous */ 0,
            3,
            32, // 2: outer
            0,
            UNION << 24 | 2,
            4,
            /* b */ 13,
            1,
            0,
            /* c */ 15,
            1,
            0, // 3: the union
        ];
        let mut blob = Vec::new();
        let type_len = types.len() as u32 * 4;
        for word in [0x0001_eb9f, 24, 0, type_len, type_len, strings.len() as u32].into_iter().chain(types) {
            blob.extend(word.to_ne_bytes());
        }
        blob.extend(strings);
        blob
    }

    fn offsets(blob: &[u8], wanted: &[(&'static str, &'static str)]) -> Result<Vec<u32>, BtfError> {
        Btf::parse(blob)?.structs(wanted.iter().map(|(name, _)| *name)).offsets(wanted)
    }

    #[test]
    fn members_are_found_through_anonymous_unions() {
        let blob = blob();
        assert_eq!(offsets(&blob, &[("outer", "a"), ("outer", "c")]).unwrap(), [0, 4]);
    }

    #[test]
    fn an_outline_keeps_the_ids_of_the_types_that_are_looked_up() {
        let Ok(blob) = std::fs::read("/sys/kernel/btf/vmlinux") else {
            return eprintln!("skipped: this kernel has no BTF");
        };
        let outline = Btf::parse(&blob).unwrap().outline(&["btf_trace_", "bpf_iter_task"]);
        assert!(outline.len() < blob.len() / 2, "{} of {}", outline.len(), blob.len());
        aya::Btf::parse(&outline, aya::Endianness::default()).unwrap();
        let id = |blob: &[u8], kind: u32, name: &str| {
            let btf = Btf::parse(blob).unwrap();
            btf.all().find(|(_, t)| t.kind == kind && btf.is_named(t.name, name)).unwrap().0
        };
        let types = [(TYPEDEF, "btf_trace_sched_switch"), (TYPEDEF, "btf_trace_cgroup_mkdir")];
        for (kind, name) in types.into_iter().chain([(FUNCTION, "bpf_iter_task")]) {
            assert_eq!(id(&outline, kind, name), id(&blob, kind, name), "{name}");
        }
    }

    #[test]
    fn types_that_contain_themselves_are_searched_once() {
        let members = 1000;
        let strings = b"\0outer\0";
        let mut types = vec![1, STRUCT << 24 | members, 8];
        types.extend([0, 1, 0].repeat(members as usize));
        let type_len = types.len() as u32 * 4;
        let header = [0x0001_eb9f, 24, 0, type_len, type_len, strings.len() as u32];
        let mut blob: Vec<u8> = header.into_iter().chain(types).flat_map(u32::to_ne_bytes).collect();
        blob.extend(strings);
        // A thousand to the eighth power would never end.
        let message = offsets(&blob, &[("outer", "z")]).unwrap_err().to_string();
        assert!(message.contains("has no member z"), "{message}");
    }

    #[test]
    fn an_error_names_what_is_missing_and_a_truncated_blob_does_not_panic() {
        let blob = blob();
        let message = |w| offsets(&blob, &[w]).unwrap_err().to_string();
        assert!(message(("outer", "z")).contains("struct outer has no member z"));
        assert!(message(("inner", "a")).contains("no struct inner"));
        for len in 0..blob.len() {
            let _ = offsets(&blob[..len], &[("outer", "c")]);
        }
    }
}
