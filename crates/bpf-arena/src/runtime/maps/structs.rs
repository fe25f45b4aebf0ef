//! What programs see of a map through a pointer to it: `struct bpf_map`, inside of the structure of its type.
//!
//! The layout is this engine's own, smaller than a kernel's and without its pointers. It is defined here alone, and three
//! things follow from it: the BTF that CO-RE relocations are resolved against, the table that the verifier checks accesses
//! with, and the bytes that programs read.

use std::sync::{Arc, LazyLock};

use bpf_object::{Array, Btf, Composite, Enum, Int, Kind, MapType, Member, Type, TypeId};
use verifier::{MapMember, MapStruct};

use super::UserMap;
use crate::access::Block;

/// Bytes that are readable where a pointer to a map points. At least the size of each structure.
pub(super) const STRIDE: u64 = 128;

/// Bytes of a map's name, the zero at its end included (`BPF_OBJ_NAME_LEN`).
const NAME_BYTES: u32 = 16;

const BPF_F_NUMA_NODE: u32 = 1 << 2;
/// `BPF_F_RDONLY` and `BPF_F_WRONLY`: of the descriptor, not of the map.
const DESCRIPTOR_FLAGS: u32 = 1 << 3 | 1 << 4;

/// The types of the structures, for CO-RE relocations.
pub(crate) fn btf() -> &'static Arc<Btf> {
    static BTF: LazyLock<Arc<Btf>> = LazyLock::new(|| Arc::new(Types::new().build()));
    &BTF
}

/// The structures, for the verifier.
pub(crate) fn table() -> &'static Arc<[MapStruct]> {
    static TABLE: LazyLock<Arc<[MapStruct]>> = LazyLock::new(|| STRUCTS.iter().map(described).collect());
    &TABLE
}

/// Bytes that may be read where a pointer to a map points.
pub(crate) fn readable_bytes() -> u32 {
    u32::try_from(STRIDE).unwrap_or(u32::MAX)
}

/// Makes the structure of a map; `None` if there is no memory.
pub(super) fn image(map: &dyn UserMap) -> Option<Block> {
    let block = Block::new(usize::try_from(STRIDE).ok()?)?;
    let subject = Subject { map };
    for (member, offset) in members_of(map.spec().map_type) {
        let bytes = (member.value)(&subject);
        block.place(u64::from(offset), u64::from(member.kind.size()))?.write(&bytes);
    }
    Some(block)
}

/// A map of which a structure is made.
struct Subject<'m> {
    map: &'m dyn UserMap,
}

/// What a member is.
#[derive(Clone, Copy, Debug)]
enum MemberKind {
    U32,
    I32,
    U64,
    MapType,
    Name,
}

impl MemberKind {
    fn size(self) -> u32 {
        match self {
            Self::U32 | Self::I32 | Self::MapType => 4,
            Self::U64 => 8,
            Self::Name => NAME_BYTES,
        }
    }

    fn align(self) -> u32 {
        if matches!(self, Self::Name) { 1 } else { self.size() }
    }
}

/// The bytes of a member, little-endian; as many as its kind has count.
type Bytes = [u8; NAME_BYTES as usize];

/// A member of a structure.
struct MemberRow {
    name: &'static str,
    kind: MemberKind,
    value: fn(&Subject<'_>) -> Bytes,
}

/// The structure of a map type. Its first member is the map.
struct StructRow {
    map_type: MapType,
    /// The map type's enumerator.
    enumerator: &'static str,
    name: &'static str,
    members: &'static [MemberRow],
}

/// `struct bpf_map`.
static MAP: [MemberRow; 10] = [
    // First in every kernel, which programs rely on that know no types. There are no operations to point to.
    member("ops", MemberKind::U64, |_| number(0_u64)),
    member("map_type", MemberKind::MapType, |s| number(s.map.spec().map_type as u32)),
    member("key_size", MemberKind::U32, |s| number(s.map.spec().key_size)),
    member("value_size", MemberKind::U32, |s| number(s.map.spec().value_size)),
    member("max_entries", MemberKind::U32, |s| number(s.map.spec().max_entries)),
    member("map_extra", MemberKind::U64, |s| number(s.map.spec().extra)),
    member("map_flags", MemberKind::U32, |s| number(s.map.spec().flags & !DESCRIPTOR_FLAGS)),
    member("id", MemberKind::U32, |s| number(s.map.core().id)),
    member("numa_node", MemberKind::I32, |s| {
        let spec = s.map.spec();
        number(if spec.flags & BPF_F_NUMA_NODE == 0 { u32::MAX } else { spec.numa_node })
    }),
    member("name", MemberKind::Name, |s| {
        let mut bytes = Bytes::default();
        let text = s.map.spec().name.bytes().take(NAME_BYTES as usize - 1);
        bytes.iter_mut().zip(text).for_each(|(to, from)| *to = from);
        bytes
    }),
];

static STRUCTS: [StructRow; 2] = [
    StructRow {
        map_type: MapType::Array,
        enumerator: "BPF_MAP_TYPE_ARRAY",
        name: "bpf_array",
        members: &[
            member("elem_size", MemberKind::U32, |s| {
                number(u64::from(s.map.spec().value_size).next_multiple_of(8))
            }),
            member("index_mask", MemberKind::U32, |s| {
                number(u64::from(s.map.spec().max_entries).next_power_of_two() - 1)
            }),
        ],
    },
    StructRow {
        map_type: MapType::Arena,
        enumerator: "BPF_MAP_TYPE_ARENA",
        name: "bpf_arena",
        members: &[
            member("user_vm_start", MemberKind::U64, |s| number(s.map.direct_value())),
            member("user_vm_end", MemberKind::U64, |s| {
                number(s.map.direct_value() + u64::from(s.map.spec().max_entries) * sys::PAGE_SIZE)
            }),
        ],
    },
];

const fn member(name: &'static str, kind: MemberKind, value: fn(&Subject<'_>) -> Bytes) -> MemberRow {
    MemberRow { name, kind, value }
}

fn number(value: impl Into<u64>) -> Bytes {
    u128::from(value.into()).to_le_bytes()
}

/// The members from `start` on, each with its offset, laid out as C does; and the size of it all.
fn laid_out(members: &'static [MemberRow], start: u32) -> (Vec<(&'static MemberRow, u32)>, u32) {
    let mut end = start;
    let place = |member: &'static MemberRow| {
        let offset = end.next_multiple_of(member.kind.align());
        end = offset + member.kind.size();
        (member, offset)
    };
    let rows = members.iter().map(place).collect();
    (rows, end.next_multiple_of(8))
}

/// The members of the structure of a map type, those of `struct bpf_map` first.
fn members_of(map_type: MapType) -> Vec<(&'static MemberRow, u32)> {
    let (mut members, end) = laid_out(&MAP, 0);
    if let Some(row) = STRUCTS.iter().find(|row| row.map_type == map_type) {
        members.extend(laid_out(row.members, end).0);
    }
    members
}

fn described(row: &'static StructRow) -> MapStruct {
    let member = |(member, offset): (&MemberRow, u32)| MapMember {
        name: member.name.to_owned(),
        offset,
        size: member.kind.size(),
    };
    MapStruct {
        map_type: row.map_type,
        name: row.name.to_owned(),
        size: laid_out(row.members, laid_out(&MAP, 0).1).1,
        members: members_of(row.map_type).into_iter().map(member).collect(),
    }
}

/// The BTF in the making.
struct Types {
    btf: Btf,
    u32_type: TypeId,
    i32_type: TypeId,
    u64_type: TypeId,
    map_type: TypeId,
    name: TypeId,
}

impl Types {
    /// With the types of members.
    fn new() -> Self {
        let mut btf = Btf::default();
        let mut int = |name: &str, size: u32, signed| {
            let name = btf.add_str(name);
            let bits = u8::try_from(size * 8).unwrap_or_default();
            btf.push(Type { name, kind: Kind::Int(Int { size, bits, signed, ..Int::default() }) })
        };
        let u32_type = int("unsigned int", 4, false);
        let i32_type = int("int", 4, true);
        let u64_type = int("unsigned long long", 8, false);
        let char_type = int("char", 1, true);
        let array = Array { element: char_type, index: u32_type, len: NAME_BYTES };
        let name = btf.push(Type { kind: Kind::Array(array), ..Type::default() });
        let enumerator = |row: &StructRow| (btf.add_str(row.enumerator), (row.map_type as u32).cast_signed());
        let values = STRUCTS.iter().map(enumerator).collect();
        let map_type = Type {
            name: btf.add_str("bpf_map_type"),
            kind: Kind::Enum(Enum { size: 4, signed: false, values }),
        };
        let map_type = btf.push(map_type);
        Self { btf, u32_type, i32_type, u64_type, map_type, name }
    }

    /// With the structures.
    fn build(mut self) -> Btf {
        let (members, size) = laid_out(&MAP, 0);
        let map = self.structure("bpf_map", None, members, size);
        for row in &STRUCTS {
            let (members, total) = laid_out(row.members, size);
            self.structure(row.name, Some(map), members, total);
        }
        self.btf
    }

    fn structure(
        &mut self,
        name: &str,
        map: Option<TypeId>,
        rows: Vec<(&MemberRow, u32)>,
        size: u32,
    ) -> TypeId {
        let mut members = Vec::new();
        if let Some(ty) = map {
            members.push(Member { name: self.btf.add_str("map"), ty, ..Member::default() });
        }
        for (row, offset) in rows {
            let (name, ty) = (self.btf.add_str(row.name), self.type_of(row.kind));
            members.push(Member { name, ty, bit_offset: offset * 8, bit_size: 0 });
        }
        let name = self.btf.add_str(name);
        self.btf.push(Type { name, kind: Kind::Struct(Composite { size, members, kind_flag: false }) })
    }

    fn type_of(&self, kind: MemberKind) -> TypeId {
        match kind {
            MemberKind::U32 => self.u32_type,
            MemberKind::I32 => self.i32_type,
            MemberKind::U64 => self.u64_type,
            MemberKind::MapType => self.map_type,
            MemberKind::Name => self.name,
        }
    }
}

#[cfg(test)]
mod tests {
    use bpf_object::KindTag;

    use super::*;

    #[test]
    fn the_verifier_and_core_know_the_same_layout() {
        // What CO-RE is given survives being written and read.
        let btf = Btf::parse(&btf().to_bytes()).unwrap();
        let map = btf.find("bpf_map", KindTag::Struct).unwrap();
        assert_eq!(table().len(), STRUCTS.len());
        for known in table().iter() {
            let id = btf.find(&known.name, KindTag::Struct).unwrap();
            assert_eq!(btf.size_of(id), Some(u64::from(known.size)));
            assert!(u64::from(known.size) <= STRIDE);
            assert_eq!(btf.member(id, "map").unwrap().1, 0);
            for member in &known.members {
                let in_map = btf.member(map, &member.name).or_else(|| btf.member(id, &member.name));
                let (found, bits) = in_map.unwrap();
                assert_eq!(bits, u64::from(member.offset) * 8, "{}", member.name);
                assert_eq!(btf.size_of(found.ty), Some(u64::from(member.size)), "{}", member.name);
            }
            let ends = known.members.iter().map(|m| m.offset + m.size);
            let starts = known.members.iter().map(|m| m.offset).skip(1).chain([known.size]);
            assert!(ends.zip(starts).all(|(end, start)| end <= start));
        }
    }

    #[test]
    fn structures_are_of_supported_types() {
        assert!(table().iter().all(|s| super::super::create::supported(s.map_type)));
    }
}
