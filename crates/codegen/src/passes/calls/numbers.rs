//! `bpf_iter_num_*`: the numbers from a start to an end, one after the other.
//!
//! The iterator is `{ s32 current, s32 end }`; current is the number that was given last. One that is at its end, or was never
//! begun, is all zeroes. Whether the run is to end is looked at where an iterator begins, and then at numbers with some zeroes
//! at their end, so that few iterations pass in between.

use isa::{AluOp, Cond, Size, Width};

use super::Expansion;
use crate::flow::{BlockId, End, Op, Order, Src, Test, Var};
use crate::passes::looks::not_due;

/// A function of iterators over numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Numbers {
    New,
    Next,
    Destroy,
}

/// Most numbers of one iterator (`BPF_MAX_LOOPS`).
const MOST: i64 = 8 << 20;

/// Error numbers as an `int`.
const EINVAL: i64 = -22 & 0xffff_ffff;
const E2BIG: i64 = -7 & 0xffff_ffff;

impl Numbers {
    pub(super) fn from_name(name: &str) -> Option<Self> {
        match name {
            "bpf_iter_num_new" => Some(Self::New),
            "bpf_iter_num_next" => Some(Self::Next),
            "bpf_iter_num_destroy" => Some(Self::Destroy),
            _ => None,
        }
    }
}

impl Expansion<'_> {
    /// Puts operations in the place of the call.
    pub(super) fn iterate(mut self, what: Numbers) {
        let (current, end) = self.vars;
        match what {
            Numbers::New => self.begin(current, end),
            Numbers::Next => self.next(current, end),
            Numbers::Destroy => {
                let head = self.head;
                self.finish(head);
                self.give(head, Src::Imm(0));
                self.go_on(head);
            }
        }
    }

    /// `int bpf_iter_num_new(struct bpf_iter_num *it, int start, int end)`.
    fn begin(&mut self, less: Var, distance: Var) {
        let [_, start, end, ..] = self.args;
        let head = self.head;
        let [measure, begin] = [(); 2].map(|()| self.block(false));
        let [refuse, stop] = [(); 2].map(|()| self.block(true));
        let behind = self.block(false);

        let backwards = Test { width: Width::W32, cond: Cond::SGt, a: start, b: Src::Var(end) };
        self.end(head, End::Branch { test: backwards, taken: refuse, next: measure });

        for (dst, src) in [(less, start), (distance, end)] {
            self.push(measure, Op::SignExtend { width: Width::W64, from: Size::W, dst, src });
        }
        let (width, b) = (Width::W64, Src::Var(less));
        self.push(measure, Op::Alu { width, op: AluOp::Sub, dst: distance, a: distance, b });
        let far = Test { width, cond: Cond::SGt, a: distance, b: Src::Imm(MOST) };
        self.end(measure, End::Branch { test: far, taken: refuse, next: begin });

        let (width, b) = (Width::W32, Src::Imm(-1));
        self.push(begin, Op::Alu { width, op: AluOp::Add, dst: less, a: start, b });
        self.write(begin, Src::Var(less), Src::Var(end));
        self.give(begin, Src::Imm(0));
        self.end(begin, End::Look { taken: stop, next: behind });

        self.finish(stop);
        self.end(stop, End::Jump(behind));

        self.finish(refuse);
        let (yes, no) = (Src::Imm(EINVAL), Src::Imm(E2BIG));
        self.push(refuse, Op::Select { dst: less, test: backwards, yes, no });
        self.give(refuse, Src::Var(less));
        self.end(refuse, End::Jump(behind));
        self.go_on(behind);
    }

    /// `int *bpf_iter_num_next(struct bpf_iter_num *it)`.
    fn next(&mut self, current: Var, end: Var) {
        let [pointer, ..] = self.args;
        let head = self.head;
        let [due, more, done] = [(); 3].map(|()| self.block(false));
        let look = self.block(true);

        self.read(head, current, 0);
        let width = Width::W32;
        self.push(head, Op::Alu { width, op: AluOp::Add, dst: current, a: current, b: Src::Imm(1) });
        self.read(head, end, 4);
        let at_end = Test { width, cond: Cond::SGe, a: current, b: Src::Var(end) };
        self.end(head, End::Branch { test: at_end, taken: done, next: due });

        self.end(due, End::Branch { test: not_due(current), taken: more, next: look });
        self.end(look, End::Look { taken: done, next: more });

        let place = self.part(0);
        self.push(more, Op::Store { size: Size::W, place, src: Src::Var(current), order: Order::Plain });
        match self.on_stack {
            Some(offset) => {
                // In a form that is known to be an address of the stack.
                let b = Src::Imm(offset.into());
                let a = Var::FRAME;
                self.push(more, Op::Alu { width: Width::W64, op: AluOp::Add, dst: end, a, b });
                self.give(more, Src::Var(end));
            }
            None => self.give(more, Src::Var(pointer)),
        }

        self.finish(done);
        self.give(done, Src::Imm(0));
        self.go_on_apart(done, more);
    }

    /// Makes the iterator one that gives nothing more.
    fn finish(&mut self, block: BlockId) {
        self.write(block, Src::Imm(0), Src::Imm(0));
    }

    fn write(&mut self, block: BlockId, current: Src, end: Src) {
        for (src, offset) in [(current, 0), (end, 4)] {
            let place = self.part(offset);
            self.push(block, Op::Store { size: Size::W, place, src, order: Order::Plain });
        }
    }
}
