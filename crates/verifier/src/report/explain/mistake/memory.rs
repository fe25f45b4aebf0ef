//! Mistakes with memory: map values, the stack, the context, packets.

use super::{Mistake, mistake, pointer_words};
use crate::report::error::LoadedFrom;
use crate::report::explain::{About, help};
use crate::report::reason::{Access, BoundsFault, ContextFault, MemoryFault, Reason, TypeName};

/// Loads and stores.
pub(super) fn memory(about: &About<'_>, reason: &Reason) -> Option<Mistake> {
    let subject = about.subject();
    Some(match reason {
        Reason::InvalidAccess { found, .. } => invalid_access(about, *found, &subject),
        Reason::MixedPointers => mistake(
            "one instruction accesses different kinds of memory",
            "on one path the pointer leads to another kind of memory than on another",
            help::ONE_POINTER,
        ),
        Reason::CtxAccess { offset, size } => mistake(
            format!("the context of `{}` programs has nothing to access here", about.section()),
            format!("this accesses {} at offset {offset} of the context", bytes(*size)),
            help::CONTEXT_MEMBER,
        )
        .about_place(),
        Reason::ModifiedPointer { found, .. } | Reason::VariableOffset { found, .. } => mistake(
            format!("{} was moved before it is followed", pointer_words(*found)),
            format!("this is {subject}"),
            if found.base() == "ctx" { help::CONTEXT_POINTER } else { "use the pointer as it was given" },
        ),
        Reason::Bounds { fault, region, offset, size, .. } => {
            bounds(about, *fault, (*region, *offset, *size), &subject)
        }
        Reason::MapPermission { access, map, .. } => mistake(
            format!(
                "map `{map}` does not let programs {} it",
                if *access == Access::Write { "write" } else { "read" }
            ),
            format!("this {} its value", verb(*access)),
            "leave out BPF_F_RDONLY_PROG or BPF_F_WRONLY_PROG where the map is declared",
        )
        .about_place(),
        Reason::MapStruct { .. } => {
            mistake("a map's own structure is accessed wrongly", reason.to_string(), help::READ_ONLY)
        }
        Reason::ReadOnly { .. } => {
            mistake("memory that may only be read is written", format!("this is {subject}"), help::READ_ONLY)
        }
        Reason::AtomicTarget { .. } => mistake(
            "this memory takes no atomic operations",
            format!("this is {subject}"),
            "use atomic operations on map values, the stack or the arena",
        ),
        Reason::SpecialField { field, map, .. } => mistake(
            format!("`{field}` in map `{map}` is accessed directly"),
            "only the helpers that belong to it may touch it",
            "access the other members one by one instead of copying the whole value",
        ),
        _ => return None,
    })
}

/// What the bounds and the contents of the stack say.
pub(super) fn stack(about: &About<'_>, fault: &MemoryFault) -> Option<Mistake> {
    let subject = about.subject();
    Some(match fault {
        MemoryFault::Misaligned { size, .. } | MemoryFault::MisalignedPacket { size, .. } => mistake(
            "this access is not aligned",
            format!("{size} bytes are accessed at an offset that may be no multiple of {size}"),
            help::ALIGN,
        ),
        MemoryFault::StackBounds { access, offset, size, .. } => {
            let place = if *offset < 0 {
                format!("{} bytes below its upper end", offset.unsigned_abs())
            } else {
                "above its upper end".to_owned()
            };
            mistake(
                "an access leaves the stack",
                format!("this {} {} of the stack, beginning {place}", verb(*access), bytes(*size)),
                help::WITHIN_STACK,
            )
            .about_place()
        }
        MemoryFault::StackVariableBounds { .. }
        | MemoryFault::StackUnbounded { .. }
        | MemoryFault::StackVariableAtomic { .. } => mistake(
            "an array on the stack is accessed outside",
            format!("this is {subject}"),
            help::STACK_INDEX,
        ),
        MemoryFault::StackRead { .. } | MemoryFault::StackVariableRead { .. } => mistake(
            "the stack is read where nothing was written",
            "not all of these bytes have a value",
            help::INITIALISE,
        ),
        MemoryFault::SpillSize { .. } => mistake(
            "a pointer on the stack was overwritten in part",
            "what is read here is neither the pointer that was stored nor plain data",
            help::SPILL,
        ),
        MemoryFault::SpillToCaller { .. } => mistake(
            "a pointer into a stack is stored in the stack of the caller",
            "the stack it points into is gone when this function returns",
            "let the caller pass a pointer to its own buffer",
        ),
    })
}

/// The context, packets, sockets.
pub(super) fn context(about: &About<'_>, fault: &ContextFault) -> Option<Mistake> {
    let subject = about.subject();
    Some(match fault {
        ContextFault::PacketBounds { offset, size, range, .. } => {
            let known = match range {
                ..=0 => "the program has not compared this pointer with the end of the packet".to_owned(),
                range => format!("the packet is known to have only {} from there on", bytes(*range)),
            };
            mistake(
                "the packet may end before these bytes",
                format!("this accesses {} at offset {offset}, but {known}", bytes(*size)),
                help::PACKET_CHECK,
            )
        }
        ContextFault::NegativeIndex { .. } => {
            mistake("an index may be negative", format!("this is {subject}"), help::BOUND_INDEX)
        }
        ContextFault::VariableOffset { found, .. } | ContextFault::NegativeOffset { found, .. } => mistake(
            format!("{} was moved before it is followed", pointer_words(*found)),
            format!("this is {subject}"),
            help::CONTEXT_POINTER,
        ),
        ContextFault::PacketWrite | ContextFault::PacketForHelper => mistake(
            format!("`{}` programs cannot do this with the packet", about.section()),
            fault.to_string(),
            "use `bpf_skb_load_bytes()` and `bpf_skb_store_bytes()`",
        ),
        _ => return None,
    })
}

fn invalid_access(about: &About<'_>, found: TypeName, subject: &str) -> Mistake {
    if found.maybe_null() {
        return mistake(
            "a pointer that may be NULL is followed",
            format!("this is {subject}"),
            help::NULL_CHECK,
        );
    }
    if found.base() != "scalar" {
        let title = format!("{} cannot be followed like this", pointer_words(found));
        return mistake(
            title,
            format!("this is {subject}"),
            "use the helpers that this kind of pointer is for",
        );
    }
    let label = "to the verifier this is a number, not a pointer";
    let uses_arena = about.program.maps.iter().any(|m| m.map_type == bpf_object::MapType::Arena);
    match about.rejection.loaded_from() {
        Some(LoadedFrom::Arena) => mistake(
            "a pointer that was kept in the arena is followed",
            "what is loaded from the arena is a number: anybody may have changed it",
            help::ARENA_FORGETS,
        ),
        Some(LoadedFrom::Stack) => mistake(
            "what is left of a pointer on the stack is followed",
            "to the verifier this is a number: the pointer that lay there was overwritten in part",
            help::SPILL,
        ),
        _ if about.given_back() => mistake(
            "a pointer is followed after what it points to was given back",
            "what this points to no longer belongs to the program",
            "use it before it is given back",
        ),
        _ if uses_arena => mistake("a number is followed as a pointer", label, help::ARENA_CAST),
        _ => mistake("a number is followed as a pointer", label, help::NUMBER_AS_POINTER),
    }
}

fn bounds(
    about: &About<'_>,
    fault: BoundsFault,
    (region, offset, size): (u32, i64, u64),
    subject: &str,
) -> Mistake {
    let fixed = about
        .rejection
        .register()
        .and_then(|reg| about.rejection.value(reg))
        .is_none_or(|value| value.scalar.as_constant().is_some());
    if fixed {
        return mistake(
            "an access leaves the memory it begins in",
            format!("this accesses {} at offset {offset} of memory that has {region}", bytes(size)),
            help::WITHIN_VALUE,
        );
    }
    let text = match fault {
        BoundsFault::Negative | BoundsFault::Min => format!("the index may be negative: this is {subject}"),
        BoundsFault::Max => format!(
            "the index may be too large: this accesses {} at offsets up to {offset} of memory that has {region}",
            bytes(size)
        ),
        BoundsFault::Unbounded => format!("the index has no upper bound: this is {subject}"),
    };
    mistake("an index may lead outside of the memory", text, help::BOUND_INDEX)
}

/// So many bytes.
fn bytes(count: impl Into<i128>) -> String {
    let count = count.into();
    if count == 1 { "1 byte".to_owned() } else { format!("{count} bytes") }
}

fn verb(access: Access) -> &'static str {
    match access {
        Access::Read => "reads",
        Access::Write => "writes",
    }
}
