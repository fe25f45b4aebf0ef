//! `bpf_map_lookup_elem` on arrays: an element has its number, and is there from the beginning to the end.

use bpf_object::{MapType, Program};
use isa::{Cond, Width};

use super::Expansion;
use crate::flow::{End, Op, Src, Test};

/// An array that is known where it is looked into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Array {
    /// Its index in the program.
    map: u32,
    entries: u32,
}

impl Array {
    /// The map with this index, if it is an array.
    pub(super) fn of(program: &Program, map: u32) -> Option<Self> {
        let spec = program.maps.get(map as usize)?;
        let is_array = matches!(spec.map_type, MapType::Array | MapType::PercpuArray) && spec.key_size == 4;
        is_array.then_some(Self { map, entries: spec.max_entries })
    }
}

impl Expansion<'_> {
    /// Puts operations in the place of the call.
    pub(super) fn look_up(mut self, array: Array) {
        let (key, address) = self.vars;
        let head = self.head;
        let [inside, outside] = [(); 2].map(|()| self.block(false));

        self.read(head, key, 0);
        let entries = Src::Imm(array.entries.into());
        let past_end = Test { width: Width::W32, cond: Cond::Ge, a: key, b: entries };
        self.end(head, End::Branch { test: past_end, taken: outside, next: inside });

        self.push(inside, Op::Element { dst: address, map: array.map, key });
        self.give(inside, Src::Var(address));
        self.give(outside, Src::Imm(0));
        self.go_on_apart(outside, inside);
    }
}
