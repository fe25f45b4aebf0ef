//! What lies at an offset of a structure (the kernel's rules: nested structures, arrays, unions, bit fields).

use bpf_object::{Btf, Composite, Kind, Member, TypeId};

use super::shown_name;

/// A tag on the type a member points to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PointerTag {
    /// `__user`: an address of user space.
    User,
    /// `__percpu`: every processor has its own.
    PerCpu,
    /// `__rcu`: lives as long as the reading side is held; may be NULL.
    Rcu,
}

/// A member that points to a structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Field<'b> {
    /// The structure pointed to.
    pub(crate) target: TypeId,
    pub(crate) tag: Option<PointerTag>,
    /// The way led through a union of several members: which of them is there is not known.
    pub(crate) in_union: bool,
    /// Name of the member.
    pub(crate) name: &'b str,
}

/// What lies at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found<'b> {
    /// A number.
    Number,
    /// A pointer to something that has no structure: it may be read through, guarded.
    Bytes,
    /// A pointer to a structure.
    Pointer(Field<'b>),
}

/// Why a place cannot be accessed. `Display` is the kernel's message.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[allow(missing_docs, reason = "fields are the names, offsets and sizes that the message gives")]
#[non_exhaustive]
pub enum WalkFault {
    #[error("Type '{name}' is not a struct")]
    NotStruct { name: String },
    #[error("access beyond struct {name} at off {offset} size {size}")]
    Beyond { name: String, offset: u32, size: u32 },
    #[error("field {field} doesn't have size")]
    NoSize { field: String },
    #[error(
        "cannot access ptr member {member} with moff {start} in struct {name} with off {offset} size {size}"
    )]
    PartOfPointer { member: String, start: u32, name: String, offset: u32, size: u32 },
    #[error(
        "access beyond the end of member {member} (mend:{end}) in struct {name} with off {offset} size {size}"
    )]
    MemberEnd { member: String, end: u32, name: String, offset: u32, size: u32 },
    #[error("struct {name} doesn't have field at offset {offset}")]
    NoField { name: String, offset: u32 },
}

/// Structures inside one another that are looked into. More cannot be in a well-formed BTF.
const MAX_NESTING: u32 = 64;

/// What the `size` bytes at `offset` of the structure `ty` hold. `flexible`: a trailing array without length may be
/// accessed past the structure's size.
pub(crate) fn member_at(
    btf: &Btf,
    ty: TypeId,
    offset: u32,
    size: u32,
    flexible: bool,
) -> Result<Found<'_>, WalkFault> {
    let mut walk = Walk { btf, ty, offset, size, flexible, in_union: false };
    for _ in 0..MAX_NESTING {
        match walk.step()? {
            Step::Done(found) => return Ok(found),
            Step::Into { ty, offset } => (walk.ty, walk.offset) = (ty, offset),
        }
    }
    Err(WalkFault::NoField { name: shown_name(btf, walk.ty).to_owned(), offset: walk.offset })
}

/// Where a walk is. Offsets count from the start of `ty`.
pub(super) struct Walk<'b> {
    pub(super) btf: &'b Btf,
    pub(super) ty: TypeId,
    pub(super) offset: u32,
    pub(super) size: u32,
    pub(super) flexible: bool,
    pub(super) in_union: bool,
}

pub(super) enum Step<'b> {
    Done(Found<'b>),
    /// A structure is there; the place is at this offset in it.
    Into {
        ty: TypeId,
        offset: u32,
    },
}

/// A member's storage: `count` elements of one type one after the other; one if it is no array.
struct Storage {
    element: TypeId,
    element_bytes: u32,
    bytes: u32,
    array: bool,
}

impl<'b> Walk<'b> {
    /// Finds the member that holds the place.
    pub(super) fn step(&mut self) -> Result<Step<'b>, WalkFault> {
        let ty = self.btf.resolve(self.ty);
        let Some(kind @ (Kind::Struct(composite) | Kind::Union(composite))) = self.btf.kind(ty) else {
            return Err(WalkFault::NotStruct { name: shown_name(self.btf, ty).to_owned() });
        };
        // A union with a single member only gives it a size: `__bpf_md_ptr`.
        self.in_union |= matches!(kind, Kind::Union(_)) && composite.members.len() != 1;
        let end = self.offset.saturating_add(self.size);
        if end > composite.size {
            return self.past_the_end(ty, composite);
        }
        for member in &composite.members {
            let start = member.bit_offset / 8;
            if end <= start {
                break;
            }
            if member.bit_size != 0 {
                let last = member.bit_offset.saturating_add(u32::from(member.bit_size)).div_ceil(8);
                if self.offset <= start && last <= end {
                    return Ok(Step::Done(Found::Number));
                }
                continue;
            }
            if self.offset < start {
                break;
            }
            let Some(storage) = storage(self.btf, member.ty) else {
                return Err(WalkFault::NoSize { field: self.member_name(member).to_owned() });
            };
            let member_end = start.saturating_add(storage.bytes);
            if self.offset >= member_end {
                continue;
            }
            return self.inside(ty, member, &storage, start, member_end);
        }
        Err(WalkFault::NoField { name: shown_name(self.btf, ty).to_owned(), offset: self.offset })
    }

    fn member_name(&self, member: &Member) -> &'b str {
        let name = self.btf.str(member.name);
        if name.is_empty() { "(anon)" } else { name }
    }

    /// Only elements of a trailing array without length lie past the end of a structure.
    fn past_the_end(&self, ty: TypeId, composite: &Composite) -> Result<Step<'b>, WalkFault> {
        let beyond = || WalkFault::Beyond {
            name: shown_name(self.btf, ty).to_owned(),
            offset: self.offset,
            size: self.size,
        };
        let last = composite.members.last().filter(|_| self.flexible).ok_or_else(beyond)?;
        let Some(Kind::Array(array)) = self.btf.kind(self.btf.resolve(last.ty)) else { return Err(beyond()) };
        let within =
            self.offset.checked_sub(last.bit_offset / 8).filter(|_| array.len == 0).ok_or_else(beyond)?;
        let element = self.btf.resolve(array.element);
        match self.btf.kind(element) {
            Some(Kind::Int(_)) => Ok(Step::Done(Found::Number)),
            Some(Kind::Struct(c) | Kind::Union(c)) => {
                let offset = within.checked_rem(c.size).ok_or_else(beyond)?;
                Ok(Step::Into { ty: element, offset })
            }
            _ => Err(beyond()),
        }
    }

    /// The place begins inside this member.
    fn inside(
        &self,
        ty: TypeId,
        member: &Member,
        storage: &Storage,
        start: u32,
        end: u32,
    ) -> Result<Step<'b>, WalkFault> {
        let (offset, size) = (self.offset, self.size);
        let index = (offset - start).checked_div(storage.element_bytes).unwrap_or(0);
        let start = start.saturating_add(index.saturating_mul(storage.element_bytes));
        let name = || shown_name(self.btf, ty).to_owned();
        let element = self.btf.resolve(storage.element);
        match self.btf.kind(element) {
            Some(Kind::Struct(_) | Kind::Union(_)) => {
                // A copy of the id with its modifiers, as the kernel compares it.
                let ty = if storage.array { storage.element } else { element };
                return Ok(Step::Into { ty, offset: offset - start });
            }
            Some(Kind::Ptr(target)) => {
                if size != storage.element_bytes || offset != start {
                    let member = self.member_name(member).to_owned();
                    return Err(WalkFault::PartOfPointer { member, start, name: name(), offset, size });
                }
                let pointee = self.btf.resolve(*target);
                if let Some(Kind::Struct(_) | Kind::Union(_)) = self.btf.kind(pointee) {
                    let (tag, in_union) = (tag(self.btf, *target), self.in_union);
                    let name = self.btf.str(member.name);
                    return Ok(Step::Done(Found::Pointer(Field { target: pointee, tag, in_union, name })));
                }
                return Ok(Step::Done(Found::Bytes));
            }
            _ => {}
        }
        // Part of a number, or several elements of an array: scratch space such as `skb->cb`.
        if offset.saturating_add(size) > end && !self.in_union {
            let member = self.member_name(member).to_owned();
            return Err(WalkFault::MemberEnd { member, end, name: name(), offset, size });
        }
        Ok(Step::Done(Found::Number))
    }
}

/// The tag directly on the type pointed to.
fn tag(btf: &Btf, target: TypeId) -> Option<PointerTag> {
    if !matches!(btf.kind(target), Some(Kind::TypeTag { .. })) {
        return None;
    }
    match btf.name(target) {
        "user" => Some(PointerTag::User),
        "percpu" => Some(PointerTag::PerCpu),
        "rcu" => Some(PointerTag::Rcu),
        _ => None,
    }
}

/// The storage of a member: arrays of arrays are one array.
fn storage(btf: &Btf, ty: TypeId) -> Option<Storage> {
    let mut element = btf.resolve(ty);
    let mut count = 1_u32;
    let mut array = false;
    for _ in 0..MAX_NESTING {
        let Some(Kind::Array(inner)) = btf.kind(btf.resolve(element)) else { break };
        count = count.checked_mul(inner.len)?;
        element = inner.element;
        array = true;
    }
    let element_bytes = u32::try_from(btf.size_of(element)?).ok()?;
    Some(Storage { element, element_bytes, bytes: element_bytes.checked_mul(count)?, array })
}
