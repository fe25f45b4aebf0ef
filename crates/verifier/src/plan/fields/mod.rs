//! Fields of map values and allocated objects that the kernel owns (`struct btf_record`): locks, timers, work, kernel
//! pointers, lists and trees. They are found by the types and tags that BTF gives.

mod maps;
mod owned;
mod search;

use bpf_object::{Btf, MapSpec, TypeId};

pub(crate) use maps::MapFields;
use owned::Structs;

use crate::state::reg::BtfOwner;

/// The fields of everything a program can reach: its maps and its own structs.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    structs: Structs,
    maps: Vec<MapFields>,
    /// The kernel refuses the object's types, so that loaders go on without them.
    pub(crate) btf_refused: bool,
}

impl Fields {
    /// Looks through the types of the object. With no `kernel`, pointers to kernel types that a map may own are not
    /// understood (a map has no fields then); with an empty one they count as the object's own.
    #[must_use]
    pub fn new(btf: Option<&Btf>, kernel: Option<&Btf>, maps: &[&MapSpec]) -> Self {
        let found = btf.map_or_else(|| Ok(Structs::default()), |btf| Structs::new(btf, kernel));
        let btf_refused = found == Err(Malformed::Refused);
        let structs = found.unwrap_or_default();
        let btf = btf.filter(|_| !btf_refused);
        let maps = maps.iter().map(|map| MapFields::new(btf, kernel, &structs, map)).collect();
        Self { structs, maps, btf_refused }
    }

    /// Those of the values of a map.
    pub(crate) fn map(&self, map: u32) -> Option<&MapFields> {
        self.maps.get(map as usize)
    }

    /// Those in the values of a map of this number; empty if it has none.
    #[must_use]
    pub fn of_map(&self, map: u32) -> &[Field] {
        self.map(map).map_or(&[], |map| map.record.fields())
    }

    /// Those of a struct of the object; empty if it has none.
    #[must_use]
    pub fn of_object(&self, ty: TypeId) -> &[Field] {
        self.object(ty).map_or(&[], Record::fields)
    }

    /// Those of a struct of the object, if it has any.
    pub(crate) fn object(&self, ty: TypeId) -> Option<&Record> {
        self.structs.get(ty)
    }
}

/// What a field is, without what it refers to. The names are the kernel's (`enum btf_field_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Tag {
    /// `struct bpf_spin_lock`.
    SpinLock,
    /// `struct bpf_res_spin_lock`.
    ResSpinLock,
    /// `struct bpf_timer`.
    Timer,
    /// `struct bpf_wq`.
    Wq,
    /// `struct bpf_task_work`.
    TaskWork,
    /// `struct bpf_list_head`.
    ListHead,
    /// `struct bpf_list_node`.
    ListNode,
    /// `struct bpf_rb_root`.
    RbRoot,
    /// `struct bpf_rb_node`.
    RbNode,
    /// `struct bpf_refcount`.
    Refcount,
    /// A pointer tagged `kptr_untrusted`: it owns nothing.
    KptrUntrusted,
    /// A pointer tagged `kptr`: it owns what it points to.
    KptrRef,
    /// A pointer tagged `percpu_kptr`: it owns one object of each CPU.
    KptrPercpu,
    /// A pointer tagged `uptr`: memory of user space.
    Uptr,
}

impl Tag {
    const fn bit(self) -> u16 {
        1 << self as u16
    }

    /// The name of its type, as messages have it (`btf_field_type_name`).
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::SpinLock => "bpf_spin_lock",
            Self::ResSpinLock => "bpf_res_spin_lock",
            Self::Timer => "bpf_timer",
            Self::Wq => "bpf_wq",
            Self::TaskWork => "bpf_task_work",
            Self::ListHead => "bpf_list_head",
            Self::ListNode => "bpf_list_node",
            Self::RbRoot => "bpf_rb_root",
            Self::RbNode => "bpf_rb_node",
            Self::Refcount => "bpf_refcount",
            Self::KptrUntrusted | Self::KptrRef => "kptr",
            Self::KptrPercpu => "percpu_kptr",
            Self::Uptr => "uptr",
        }
    }

    /// Bytes it takes.
    #[must_use]
    pub fn size(self) -> u32 {
        match self {
            Self::SpinLock | Self::ResSpinLock | Self::Refcount => 4,
            Self::TaskWork | Self::KptrUntrusted | Self::KptrRef | Self::KptrPercpu | Self::Uptr => 8,
            Self::Timer | Self::Wq | Self::ListHead | Self::RbRoot => 16,
            Self::ListNode => 24,
            Self::RbNode => 32,
        }
    }

    fn align(self) -> u32 {
        self.size().min(8)
    }

    /// A pointer, which loads and stores may touch by the kernel's rules.
    pub(crate) fn is_pointer(self) -> bool {
        Set::POINTERS.has(self)
    }
}

/// A set of kinds of fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Set(u16);

impl Set {
    /// `BPF_KPTR`.
    pub(crate) const KPTR: Self = Self(Tag::KptrUntrusted.bit() | Tag::KptrRef.bit() | Tag::KptrPercpu.bit());
    pub(crate) const POINTERS: Self = Self::KPTR.with(Tag::Uptr);
    /// `BPF_GRAPH_ROOT`.
    pub(crate) const ROOTS: Self = Self(Tag::ListHead.bit() | Tag::RbRoot.bit());
    /// `BPF_GRAPH_NODE`.
    pub(crate) const NODES: Self = Self(Tag::ListNode.bit() | Tag::RbNode.bit());
    /// What may be in the value of a map.
    const IN_MAPS: Self = Self::POINTERS
        .with(Tag::SpinLock)
        .with(Tag::ResSpinLock)
        .with(Tag::Timer)
        .with(Tag::Wq)
        .with(Tag::TaskWork)
        .with(Tag::ListHead)
        .with(Tag::RbRoot)
        .with(Tag::Refcount);
    /// What may be in an allocated object.
    const IN_OBJECTS: Self = Self::KPTR
        .with(Tag::SpinLock)
        .with(Tag::ResSpinLock)
        .with(Tag::ListHead)
        .with(Tag::ListNode)
        .with(Tag::RbRoot)
        .with(Tag::RbNode)
        .with(Tag::Refcount);

    pub(crate) const fn of(tag: Tag) -> Self {
        Self(tag.bit())
    }

    pub(crate) const fn with(self, tag: Tag) -> Self {
        Self(self.0 | tag.bit())
    }

    pub(crate) const fn has(self, tag: Tag) -> bool {
        self.0 & tag.bit() != 0
    }

    pub(crate) const fn any(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// What a field refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refers {
    /// Nothing.
    Nothing,
    /// A kernel pointer to this type.
    Pointer { owner: BtfOwner, ty: TypeId },
    /// A list or tree of objects of this type of the program, linked by their node at this offset.
    Graph { value: TypeId, node_offset: u32 },
}

/// One field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Where it is, in bytes.
    pub offset: u32,
    /// What it is.
    pub tag: Tag,
    pub(crate) refers: Refers,
}

/// The fields of one type, by ascending offset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Record {
    fields: Vec<Field>,
    tags: Set,
}

impl Record {
    /// Whether it has a field of one of these kinds.
    pub(crate) fn has(&self, tags: Set) -> bool {
        self.tags.any(tags)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    pub(crate) fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// The field at this offset, if it is of one of these kinds.
    pub(crate) fn at(&self, offset: i64, tags: Set) -> Option<&Field> {
        self.fields.iter().find(|f| i64::from(f.offset) == offset && tags.has(f.tag))
    }

    /// Where the only field of this kind is.
    pub(crate) fn offset_of(&self, tag: Tag) -> Option<u32> {
        self.fields.iter().find(|f| f.tag == tag).map(|f| f.offset)
    }

    /// Fields that the bytes from `low` up to but not including `high` touch.
    pub(crate) fn touched(&self, low: i64, high: i64) -> impl Iterator<Item = &Field> {
        self.fields.iter().filter(move |f| {
            let (start, end) = (i64::from(f.offset), i64::from(f.offset) + i64::from(f.tag.size()));
            low < end && start < high
        })
    }
}

/// The types say something about a field that makes no sense, or that the kernel refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Malformed {
    /// The kernel refuses it.
    Refused,
    /// A pointer to a type whose place only the kernel's types could tell.
    NeedsKernel,
}

#[cfg(test)]
mod tests {
    use bpf_object::{Array, Composite, Kind, MapType, Member, Type};

    use super::*;

    /// Types made by hand.
    #[derive(Default)]
    struct Types(Btf);

    impl Types {
        fn push(&mut self, name: &str, kind: Kind) -> TypeId {
            let name = self.0.add_str(name);
            self.0.push(Type { name, kind })
        }

        fn structure(&mut self, name: &str, size: u32, members: &[(&str, TypeId, u32)]) -> TypeId {
            let members = members
                .iter()
                .map(|&(name, ty, offset)| Member {
                    name: self.0.add_str(name),
                    ty,
                    bit_offset: offset * 8,
                    bit_size: 0,
                })
                .collect();
            self.push(name, Kind::Struct(Composite { size, members, kind_flag: false }))
        }

        fn field(&mut self, tag: Tag) -> TypeId {
            self.structure(tag.name(), tag.size(), &[])
        }

        fn tagged_pointer(&mut self, tag: &str, to: TypeId) -> TypeId {
            let tagged = self.push(tag, Kind::TypeTag { ty: to, attribute: false });
            self.push("", Kind::Ptr(tagged))
        }

        fn map(&self, map_type: MapType, value: TypeId) -> MapSpec {
            let value_size = u32::try_from(self.0.size_of(value).unwrap_or(0)).unwrap_or(0);
            let key_btf = self.0.find("key", bpf_object::KindTag::Struct);
            MapSpec {
                key_btf,
                key_size: 4,
                value_size,
                value_btf: Some(value),
                ..MapSpec::new("m", map_type)
            }
        }

        fn fields(&self, map: &MapSpec) -> Fields {
            Fields::new(Some(&self.0), Some(&Btf::default()), &[map])
        }
    }

    fn with_key() -> Types {
        let mut types = Types::default();
        types.structure("key", 4, &[]);
        types
    }

    fn offsets(fields: &Fields) -> Vec<(u32, Tag)> {
        fields.map(0).map_or_else(Vec::new, |m| m.record.fields.iter().map(|f| (f.offset, f.tag)).collect())
    }

    #[test]
    fn fields_are_found_in_nested_structs_and_arrays() {
        let mut types = with_key();
        let lock = types.field(Tag::SpinLock);
        let object = types.structure("object", 8, &[]);
        let pointer = types.tagged_pointer("kptr", object);
        let array = types.push("", Kind::Array(Array { element: pointer, index: lock, len: 2 }));
        let inner = types.structure("inner", 24, &[("lock", lock, 4), ("pointers", array, 8)]);
        let value = types.structure("value", 32, &[("inner", inner, 8)]);
        let fields = types.fields(&types.map(MapType::Hash, value));
        assert_eq!(offsets(&fields), [(12, Tag::SpinLock), (16, Tag::KptrRef), (24, Tag::KptrRef)]);
        let record = &fields.map(0).unwrap().record;
        assert_eq!(record.touched(0, 13).count(), 1);
        assert!(record.at(16, Set::KPTR).is_some() && record.at(16, Set::ROOTS).is_none());
    }

    #[test]
    fn what_makes_no_sense_is_no_field() {
        let mut types = with_key();
        let timer = types.field(Tag::Timer);
        let two = types.structure("two", 32, &[("a", timer, 0), ("b", timer, 16)]);
        let crooked = types.structure("crooked", 24, &[("a", timer, 4)]);
        for value in [two, crooked] {
            let fields = types.fields(&types.map(MapType::Hash, value));
            assert!(fields.map(0).unwrap().has_btf);
            assert_eq!(offsets(&fields), []);
        }
        let lock = types.field(Tag::SpinLock);
        let one = types.structure("one", 8, &[("a", lock, 0)]);
        // The kernel refuses the map with this BTF, so it is created without.
        assert!(!types.fields(&types.map(MapType::LruHash, one)).map(0).unwrap().has_btf);
    }

    #[test]
    fn types_of_objects_that_make_no_sense_are_refused() {
        let mut types = with_key();
        let lock = types.field(Tag::SpinLock);
        let fine = types.structure("fine", 8, &[("a", lock, 0)]);
        types.structure("two", 8, &[("a", lock, 0), ("b", lock, 4)]);
        let fields = types.fields(&types.map(MapType::Hash, fine));
        assert!(fields.btf_refused && !fields.map(0).unwrap().has_btf);
    }

    #[test]
    fn lists_know_what_they_contain() {
        let mut types = with_key();
        let (lock, head) = (types.field(Tag::SpinLock), types.field(Tag::ListHead));
        let node = types.field(Tag::ListNode);
        let object = types.structure("object", 32, &[("data", lock, 0), ("node", node, 8)]);
        let value = types.structure("value", 24, &[("lock", lock, 0), ("head", head, 8)]);
        let map = types.map(MapType::Array, value);
        assert_eq!(offsets(&types.fields(&map)), [], "nothing says what the list contains");
        let tag = Kind::DeclTag { target: value, component: Some(1), attribute: false };
        types.push("contains:object:node", tag);
        let key = types.push("int", Kind::Int(bpf_object::Int { size: 4, ..Default::default() }));
        let fields = types.fields(&MapSpec { key_btf: Some(key), ..map });
        let record = &fields.map(0).unwrap().record;
        let expected = Refers::Graph { value: object, node_offset: 8 };
        assert_eq!(record.at(8, Set::ROOTS).map(|f| f.refers), Some(expected));
        assert!(fields.object(object).is_some_and(|r| r.has(Set::NODES)));
    }
}
