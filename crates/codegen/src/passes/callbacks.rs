//! `bpf_loop` as a loop that calls its callback.
//!
//! Where the callback is known, the runtime is not needed between the program and itself; the call can then be inlined like any
//! other. Assumed is what the helper does: it refuses flags and more than 8 Mi iterations, ends with the first callback that does not
//! return 0, and gives the number of iterations begun. It looks before its first iteration whether the run is to end
//! ([`End::Look`]), and again before each [`LOOPS_PER_LOOK`](crate::abi::LOOPS_PER_LOOK)th. Not where the program throws exceptions: those pass through
//! the helper.

use isa::{CallTarget, Cond, Imm64, Size, Width};

use crate::flow::{Block, BlockId, Body, End, Op, Src, Step, Test, Var};
use crate::passes::looks::not_due;
use crate::source::Source;

/// Number of `bpf_loop`.
const BPF_LOOP: u32 = 181;
/// Most iterations (`BPF_MAX_LOOPS`).
const MOST: i64 = 8 << 20;
const EINVAL: i64 = -22;
const E2BIG: i64 = -7;

/// Replaces calls; the result is how many.
pub(super) fn run(body: &mut Body, source: Source<'_>) -> u32 {
    if source.throws() || !source.frames().iter().any(|frame| frame.callback) {
        return 0;
    }
    let mut vars = None;
    let mut changes = 0;
    let mut index = 0;
    // What follows a call is a new block, which comes later.
    while let Some(block) = body.blocks.get(index) {
        let id = BlockId::new(index);
        index += 1;
        let found = (0..block.steps.len()).find_map(|call| Some((call, callback(block, call, source)?)));
        let Some((call, callback)) = found else { continue };
        vars = vars.or_else(|| Vars::new(body));
        let Some(vars) = vars else { break };
        changes += u32::from(expand(body, id, call, &callback, vars).is_some());
    }
    changes
}

/// The variables of all loops of a body; none is inside of another.
#[derive(Clone, Copy)]
struct Vars {
    count: Var,
    index: Var,
    context: Var,
    result: Var,
    args: [Var; 5],
}

impl Vars {
    fn new(body: &mut Body) -> Option<Self> {
        let mut new = || body.new_var();
        let (count, index, context, result) = (new()?, new()?, new()?, new()?);
        Some(Self { count, index, context, result, args: [new()?, new()?, new()?, new()?, new()?] })
    }
}

/// The callback of a call.
struct Callback {
    /// As a call from the same place.
    target: CallTarget,
    /// The operation that gives its address, if that serves nothing else.
    address: Option<usize>,
}

/// The callback that an operation of a block is called with, if the operation is `bpf_loop` with a known one.
fn callback(block: &Block, call: usize, source: Source<'_>) -> Option<Callback> {
    let step = block.steps.get(call)?;
    let Op::Call { target: CallTarget::Helper(BPF_LOOP), args: [_, function, ..], clobbers, .. } = step.op
    else {
        return None;
    };
    let before = block.steps.get(..call)?;
    let writes = |step: &Step| {
        let mut writes = false;
        step.op.writes(|var| writes |= var == function);
        writes
    };
    let defined = before.iter().rposition(writes)?;
    let definition = before.get(defined)?;
    let Op::Address { of: Imm64::Func(offset), .. } = definition.op else { return None };
    let subprogram = source.subprogram_at(definition.at.insn, offset).filter(|index| *index != 0)?;
    let start = source.program().subprograms.get(subprogram)?.start;
    let distance = i64::from(start.0) - i64::from(step.at.insn.0) - 1;
    let mut read = false;
    for step in before.get(defined + 1..)? {
        step.op.reads(|var| read |= var == function);
    }
    let unused = !read && clobbers.contains(&function);
    let target = CallTarget::Local(i32::try_from(distance).ok()?);
    Some(Callback { target, address: unused.then_some(defined) })
}

/// Puts a loop in the place of a call.
fn expand(body: &mut Body, id: BlockId, call: usize, callback: &Callback, vars: Vars) -> Option<()> {
    let block = body.block_mut(id)?;
    let Step { at, op: Op::Call { stack, args, dst, clobbers, .. } } = *block.steps.get(call)? else {
        return None;
    };
    let [count, _, context, flags, _] = args;
    let mut rest = block.steps.split_off(call);
    let forget = Op::Forget { vars: clobbers.map(|var| if var == dst { vars.result } else { var }) };
    let first = [Op::Mov { width: Width::W64, dst, src: Src::Var(vars.result) }, forget];
    rest.splice(..1, first.map(|op| Step { at, op }));
    let rest = Block { steps: rest, at: block.at, end: block.end, cold: block.cold };
    if let Some(address) = callback.address {
        block.steps.remove(address);
    }
    let cold = block.cold;
    let [head, many, due, look, round, done, refused, too_many] = {
        let mut empty = |cold| body.push(Block { steps: Vec::new(), at, end: End::Trap, cold });
        let [head, many, due] = [(); 3].map(|()| empty(cold));
        let look = empty(true);
        [head, many, due, look, empty(cold), empty(cold), empty(true), empty(true)]
    };
    let behind = body.push(rest);
    let mut fill = |id: BlockId, ops: &[Op], end: End| {
        if let Some(block) = body.block_mut(id) {
            block.steps.extend(ops.iter().map(|&op| Step { at, op }));
            (block.at, block.end) = (at, end);
        }
    };
    let width = Width::W64;
    let mov = |dst, src| Op::Mov { width, dst, src };
    let test = |cond, a, b| Test { width, cond, a, b };
    let branch = |test, taken, next| End::Branch { test, taken, next };

    let begin = [
        Op::ZeroExtend { from: Size::W, dst: vars.count, src: count },
        mov(vars.context, Src::Var(context)),
        mov(vars.index, Src::Imm(0)),
    ];
    fill(id, &begin, branch(test(Cond::Ne, flags, Src::Imm(0)), refused, many));
    fill(refused, &[mov(vars.result, Src::Imm(EINVAL))], End::Jump(behind));
    fill(many, &[], branch(test(Cond::Gt, vars.count, Src::Imm(MOST)), too_many, head));
    fill(too_many, &[mov(vars.result, Src::Imm(E2BIG))], End::Jump(behind));
    fill(head, &[], branch(test(Cond::Ge, vars.index, Src::Var(vars.count)), done, due));
    fill(due, &[], branch(not_due(vars.index), round, look));
    fill(look, &[], End::Look { taken: done, next: round });

    let [a, b, c, d, e] = vars.args;
    let (target, map) = (callback.target, None);
    let again = [
        mov(a, Src::Var(vars.index)),
        mov(b, Src::Var(vars.context)),
        mov(c, Src::Imm(0)),
        mov(d, Src::Imm(0)),
        mov(e, Src::Imm(0)),
        Op::Call { target, map, stack, args: vars.args, dst: vars.result, clobbers: vars.args },
        Op::Alu { width, op: isa::AluOp::Add, dst: vars.index, a: vars.index, b: Src::Imm(1) },
    ];
    fill(round, &again, branch(test(Cond::Ne, vars.result, Src::Imm(0)), done, head));
    fill(done, &[mov(vars.result, Src::Var(vars.index))], End::Jump(behind));
    Some(())
}
