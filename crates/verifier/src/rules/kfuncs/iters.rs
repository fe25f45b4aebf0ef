//! Kinds of open-coded iterators.

/// A kind of open-coded iterator.
#[derive(Debug)]
pub(crate) struct IterKind {
    /// As in `bpf_iter_<name>_new`.
    pub(crate) name: &'static str,
    /// Slots of stack it takes.
    pub(crate) slots: u32,
}

const fn kind(name: &'static str, slots: u32) -> IterKind {
    IterKind { name, slots }
}

/// Every kind of iterator; a [`crate::state::stack::Iterator`] names its row.
pub(crate) static ITERS: [IterKind; 10] = [
    kind("num", 1),
    kind("bits", 2),
    kind("task", 3),
    kind("task_vma", 1),
    kind("css", 3),
    kind("css_task", 1),
    kind("kmem_cache", 1),
    kind("dmabuf", 1),
    kind("scx_dsq", 6),
    kind("testmod_seq", 2),
];

/// The row of the kind whose structure is `bpf_iter_<name>`.
pub(crate) fn iter_of(structure: &str) -> Option<u8> {
    let name = structure.strip_prefix("bpf_iter_")?;
    ITERS.iter().position(|k| k.name == name).and_then(|i| u8::try_from(i).ok())
}
