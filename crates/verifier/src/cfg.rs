//! The shape of a program: what must hold of its jumps and calls before any path is walked.

use bpf_object::Program;
use isa::{CallTarget, Imm64, Insn, InsnIdx};

use crate::limits::{MAX_INSNS, MAX_SUBPROGS};
use crate::reason::Reason;

/// What the walk needs to know of an instruction's place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Paths meet here: worth comparing with earlier states.
    pub(crate) prune: bool,
    /// A loop closes here that only converges if every state is saved (`may_goto`, iterators, callbacks).
    pub(crate) force: bool,
}

/// One mark per slot.
#[derive(Debug)]
pub(crate) struct Shape {
    marks: Vec<Mark>,
}

impl Shape {
    pub(crate) fn mark(&self, at: InsnIdx) -> Mark {
        self.marks.get(at.index()).copied().unwrap_or_default()
    }
}

/// Checks the structure of a program.
pub(crate) fn check(program: &Program) -> Result<Shape, Reason> {
    let code = &program.code;
    if code.is_empty() {
        return Err(Reason::Empty);
    }
    if code.len() > MAX_INSNS {
        return Err(Reason::TooManyInsns { count: code.len() });
    }
    check_subprogs(program)?;
    let mut shape = Shape { marks: vec![Mark::default(); code.len()] };
    let mut reached = vec![false; code.len()];
    let mut waiting = vec![InsnIdx(0)];
    while let Some(at) = waiting.pop() {
        let Some(seen) = reached.get_mut(at.index()) else { return Err(Reason::FallsOffEnd) };
        if std::mem::replace(seen, true) {
            continue;
        }
        let Some(insn) = code.get(at) else {
            return Err(Reason::JumpIntoLdImm64 { lddw: InsnIdx(at.0.saturating_sub(1)) });
        };
        for next in edges(program, &mut shape, at, &insn)?.into_iter().flatten() {
            waiting.push(next);
        }
    }
    match code.iter().find(|(at, _)| reached.get(at.index()) == Some(&false)) {
        Some((at, _)) => Err(Reason::Unreachable { at }),
        None => Ok(shape),
    }
}

/// Where execution may go after the instruction, within its function.
pub(crate) fn successors(program: &Program, at: InsnIdx, insn: &Insn) -> [Option<InsnIdx>; 2] {
    let next = insn.falls_through().then(|| program.code.next(at));
    let jump = insn.jump_offset().and_then(|offset| InsnIdx(at.0.checked_add(1)?).offset(i64::from(offset)));
    [next, jump]
}

/// The function a call or function address refers to: index in the program's subprograms.
pub(crate) fn callee(program: &Program, at: InsnIdx, offset: i32) -> Result<u32, Reason> {
    let to = i64::from(at.0) + 1 + i64::from(offset);
    let found = u32::try_from(to)
        .ok()
        .and_then(|to| program.subprograms.binary_search_by_key(&InsnIdx(to), |s| s.start).ok());
    found.and_then(|i| u32::try_from(i).ok()).ok_or(Reason::NoSuchSubprog { to })
}

/// Functions must follow each other without gaps, end in an exit or jump, and jump only within themselves.
fn check_subprogs(program: &Program) -> Result<(), Reason> {
    let code = &program.code;
    if program.subprograms.len() > MAX_SUBPROGS {
        return Err(Reason::TooManySubprogs);
    }
    let mut start = InsnIdx(0);
    for subprog in &program.subprograms {
        if subprog.start != start || subprog.end <= start || subprog.end.index() > code.len() {
            return Err(Reason::SubprogLayout);
        }
        start = subprog.end;
    }
    if start.index() != code.len() {
        return Err(Reason::SubprogLayout);
    }
    let mut subprogs = program.subprograms.iter();
    let mut current = subprogs.next().ok_or(Reason::SubprogLayout)?;
    for (at, insn) in code.iter() {
        while at >= current.end {
            current = subprogs.next().ok_or(Reason::SubprogLayout)?;
        }
        if let Some(offset) = insn.jump_offset() {
            let to = i64::from(at.0) + 1 + i64::from(offset);
            if to < i64::from(current.start.0) || to >= i64::from(current.end.0) {
                return Err(Reason::JumpOutOfRange { from: at, to });
            }
        }
        let ends = matches!(insn, Insn::Exit | Insn::Jump { .. } | Insn::IndirectJump { .. });
        if code.next(at) >= current.end && !ends {
            return Err(Reason::FallsOffEnd);
        }
    }
    Ok(())
}

/// Marks the instruction and gives what it leads to, callees included.
fn edges(
    program: &Program,
    shape: &mut Shape,
    at: InsnIdx,
    insn: &Insn,
) -> Result<[Option<InsnIdx>; 2], Reason> {
    let [next, jump] = successors(program, at, insn);
    let mut mark = |at: InsnIdx, force: bool| {
        if let Some(mark) = shape.marks.get_mut(at.index()) {
            mark.prune = true;
            mark.force |= force;
        }
    };
    match *insn {
        Insn::Jump { .. } => jump.into_iter().for_each(|to| mark(to, false)),
        Insn::Branch { .. } => {
            mark(at, false);
            jump.into_iter().for_each(|to| mark(to, false));
        }
        Insn::MayGoto { .. } => {
            mark(at, true);
            jump.into_iter().for_each(|to| mark(to, false));
        }
        Insn::Call { target: CallTarget::Local(offset) } => {
            mark(at, false);
            next.into_iter().for_each(|to| mark(to, false));
            return Ok([next, start_of(program, callee(program, at, offset)?)]);
        }
        Insn::Call { target: CallTarget::Helper(number) } => {
            let calls_back = crate::rules::helpers::find(number)
                .is_some_and(|h| h.effect == crate::rules::helpers::Effect::Loop);
            if calls_back {
                mark(at, true);
            }
        }
        Insn::Call { target: CallTarget::Kfunc { btf_id, .. } } if is_iter_next(program, btf_id) => {
            mark(at, true);
        }
        Insn::LoadImm64 { value: Imm64::Func(offset), .. } => {
            return Ok([next, start_of(program, callee(program, at, offset)?)]);
        }
        _ => {}
    }
    if let Some(to) = jump
        && program.code.get(to).is_none()
    {
        return Err(Reason::JumpIntoLdImm64 { lddw: InsnIdx(to.0.saturating_sub(1)) });
    }
    Ok([next, jump])
}

fn start_of(program: &Program, subprog: u32) -> Option<InsnIdx> {
    program.subprograms.get(subprog as usize).map(|s| s.start)
}

fn is_iter_next(program: &Program, id: i32) -> bool {
    usize::try_from(id)
        .ok()
        .and_then(|id| program.externs.get(id))
        .and_then(|e| crate::rules::kfuncs::find(&e.name))
        .is_some_and(|k| k.effect == crate::rules::kfuncs::KfuncEffect::IterNext)
}
