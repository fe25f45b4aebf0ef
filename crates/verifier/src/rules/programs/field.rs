//! Fields of the structures programs see, and which accesses to them the kernel admits.
//!
//! A structure is a list of rows. An access is admitted if some row admits it: it lies in the row's bytes, is aligned to
//! its own size, and the row lists that size for loads or for stores.

use crate::plan::hook::Argument;
use bpf_object::AttachType;

/// A set of access sizes: the sum of those in it.
pub(crate) type Sizes = u32;

/// One field, or several next to each other that are treated alike.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    /// The field's name in the kernel's headers.
    pub(crate) name: &'static str,
    /// First byte.
    pub(crate) start: u32,
    /// First byte behind it.
    pub(crate) end: u32,
    /// Sizes of loads.
    pub(crate) load: Sizes,
    /// Sizes of stores.
    pub(crate) store: Sizes,
    /// Only at the first byte.
    pub(crate) first_only: bool,
    /// What a load gives.
    pub(crate) gives: Gives,
    /// Only for programs with one of these attach types; empty: for all.
    pub(crate) attach: &'static [AttachType],
}

/// What a load of a field gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gives {
    /// A number.
    Number,
    /// The beginning of the packet, or of the memory that is checked like one.
    Packet,
    /// The beginning of the metadata in front of the packet.
    PacketMeta,
    /// The end of the packet.
    PacketEnd,
    /// A full socket.
    Socket,
    /// The same, or NULL.
    SocketOrNull,
    /// Any socket, perhaps a small one, or NULL.
    SockCommonOrNull,
    /// `struct bpf_flow_keys`.
    FlowKeys,
    /// The buffer of a writable tracepoint.
    TpBuffer,
    /// An argument of the function that the program is attached to.
    Argument(Argument),
    /// A trusted pointer to this structure of the kernel.
    Kernel(&'static str),
}

/// What is asked of a field.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Query {
    /// From the structure's start, in bytes.
    pub(crate) offset: i64,
    /// In bytes.
    pub(crate) size: u64,
    pub(crate) write: bool,
    /// A load that extends the sign; no pointer can be loaded so.
    pub(crate) sign_extend: bool,
    /// Of the program.
    pub(crate) attach: Option<AttachType>,
}

/// A structure as one kind of program sees it.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) fields: &'static [Field],
    /// Names of rows that are not there for these programs.
    pub(crate) hidden: &'static [&'static str],
    /// Of the rows that have sizes for stores, the names of those that may be written here.
    pub(crate) writable: &'static [&'static str],
}

impl Layout {
    /// What the access gives; `None` if it is not admitted.
    pub(crate) fn find(&self, query: &Query) -> Option<Gives> {
        let seen =
            |f: &Field| !self.hidden.contains(&f.name) && (!query.write || self.writable.contains(&f.name));
        self.fields.iter().find_map(|f| f.admits(query).filter(|_| seen(f)))
    }
}

impl Field {
    fn admits(&self, query: &Query) -> Option<Gives> {
        let Query { offset, size, write, .. } = *query;
        let start = u64::try_from(offset).ok()?;
        let sizes = u64::from(if write { self.store } else { self.load });
        let inside = start >= u64::from(self.start) && start.checked_add(size)? <= u64::from(self.end);
        let sized = size.is_power_of_two() && sizes & size != 0 && start.is_multiple_of(size);
        let placed = !self.first_only || start == u64::from(self.start);
        let extended = query.sign_extend && self.gives != Gives::Number;
        let attached = self.attach.is_empty() || query.attach.is_some_and(|a| self.attach.contains(&a));
        (inside && sized && placed && !extended && attached).then_some(self.gives)
    }

    /// The same, with stores of these sizes.
    pub(crate) const fn store(self, store: Sizes) -> Self {
        Self { store, ..self }
    }

    /// The same, for these attach types only.
    pub(crate) const fn only(self, attach: &'static [AttachType]) -> Self {
        Self { attach, ..self }
    }

    /// The same, at the first byte only.
    pub(crate) const fn first(self) -> Self {
        Self { first_only: true, ..self }
    }

    /// The same, giving a pointer.
    pub(crate) const fn gives(self, gives: Gives) -> Self {
        Self { gives, ..self }
    }
}

/// A number that is loaded by these sizes and not stored.
pub(crate) const fn field(name: &'static str, start: u32, bytes: u32, load: Sizes) -> Field {
    Field {
        name,
        start,
        end: start + bytes,
        load,
        store: 0,
        first_only: false,
        gives: Gives::Number,
        attach: &[],
    }
}

/// A number of 4 bytes of which any part may be loaded.
pub(crate) const fn narrow(name: &'static str, start: u32) -> Field {
    field(name, start, 4, NARROW)
}

/// A number of 4 bytes that is loaded whole.
pub(crate) const fn word(name: &'static str, start: u32) -> Field {
    field(name, start, 4, 4)
}

/// A pointer of 8 bytes.
pub(crate) const fn pointer(name: &'static str, start: u32, gives: Gives) -> Field {
    field(name, start, 8, 8).gives(gives)
}

/// Parts of a number of 4 bytes.
pub(crate) const NARROW: Sizes = 1 + 2 + 4;
/// Any size.
pub(crate) const ANY: Sizes = 1 + 2 + 4 + 8;

#[cfg(test)]
mod tests {
    use super::*;

    static FIELDS: [Field; 4] = [
        narrow("a", 0),
        word("b", 4).store(4),
        pointer("p", 8, Gives::Packet),
        word("c", 16).only(&[AttachType::Xdp]).store(4),
    ];
    static LAYOUT: Layout = Layout { fields: &FIELDS, hidden: &["b"], writable: &["c"] };

    fn find(offset: i64, size: u64, write: bool, attach: Option<AttachType>) -> Option<Gives> {
        LAYOUT.find(&Query { offset, size, write, sign_extend: false, attach })
    }

    #[test]
    fn size_place_and_alignment_decide() {
        assert_eq!(find(3, 1, false, None), Some(Gives::Number));
        assert_eq!(find(2, 2, false, None), Some(Gives::Number));
        for (offset, size) in [(1, 2), (0, 8), (-1, 1), (4, 4), (20, 1), (i64::MAX, 8), (0, 0), (0, 3)] {
            assert_eq!(find(offset, size, false, None), None, "{offset} {size}");
        }
        assert_eq!(find(0, 4, true, None), None);
    }

    #[test]
    fn pointers_are_loaded_whole_and_never_extended() {
        assert_eq!(find(8, 8, false, None), Some(Gives::Packet));
        assert_eq!(find(8, 4, false, None), None);
        let extended = Query { offset: 8, size: 8, write: false, sign_extend: true, attach: None };
        assert_eq!(LAYOUT.find(&extended), None);
    }

    #[test]
    fn attach_types_decide_where_a_row_names_some() {
        assert_eq!(find(16, 4, true, Some(AttachType::Xdp)), Some(Gives::Number));
        assert_eq!(find(16, 4, true, Some(AttachType::XdpDevmap)), None);
        assert_eq!(find(16, 4, false, None), None);
    }
}
