//! The shape of a program: what must hold of its jumps and calls before any path is walked.

use bpf_object::Program;
use isa::{CallTarget, Imm64, Insn, InsnIdx};

use crate::limits::{MAX_INSNS, MAX_SUBPROGS};
use crate::plan::loops;
use crate::report::reason::Reason;
use crate::rules::helpers::{self, Helper};

/// What the walk needs to know of an instruction's place: a set of the marks below.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark(u8);

impl Mark {
    /// Paths meet here: worth comparing with earlier states.
    #[doc(alias = "prune_point")]
    pub(crate) const PRUNE: Self = Self(1);
    /// A loop closes here that only converges if every state is saved (`may_goto`, iterators, callbacks).
    #[doc(alias = "force_checkpoint")]
    pub(crate) const FORCE: Self = Self(1 << 1);
    /// Reached other than from the instruction before: a path's history has an entry for it.
    #[doc(alias = "jmp_point")]
    pub(crate) const JUMP: Self = Self(1 << 2);
    /// A call of a helper that calls back before it returns.
    #[doc(alias = "calls_callback")]
    pub(crate) const CALLS_BACK: Self = Self(1 << 3);
    /// A call of `bpf_iter_*_next`.
    #[doc(alias = "is_iter_next")]
    pub(crate) const ITER_NEXT: Self = Self(1 << 4);

    pub(crate) fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// One mark per slot, and the loops of each function.
#[derive(Debug)]
pub(crate) struct Shape {
    marks: Vec<Mark>,
    /// For each slot, the strongly connected component it is in; 0 for what is in no loop.
    components: Vec<u32>,
}

impl Shape {
    pub(crate) fn mark(&self, at: InsnIdx) -> Mark {
        self.marks.get(at.index()).copied().unwrap_or_default()
    }

    /// The loop (strongly connected component of its function) the instruction is in, if it is in one.
    pub(crate) fn component(&self, at: InsnIdx) -> Option<u32> {
        self.components.get(at.index()).copied().filter(|c| *c != 0)
    }
}

/// Checks that every instruction is reached; see [`check_subprogs`] for what comes before.
pub(crate) fn check(program: &Program) -> Result<Shape, Reason> {
    let code = &program.code;
    let mut shape = Shape { marks: vec![Mark::default(); code.len()], components: Vec::new() };
    let mut reached = vec![false; code.len()];
    let mut waiting = vec![InsnIdx(0)];
    waiting.extend(exception_callback(program).and_then(|subprog| start_of(program, subprog)));
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
        None => {
            shape.components = loops::components(program);
            Ok(shape)
        }
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
pub(crate) fn check_subprogs(program: &Program) -> Result<(), Reason> {
    let code = &program.code;
    if code.is_empty() {
        return Err(Reason::Empty);
    }
    if code.len() > MAX_INSNS {
        return Err(Reason::TooManyInsns { count: code.len() });
    }
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

/// Marks the instruction and gives what it leads to, callees included. Marks are the kernel's (`visit_insn`): how often
/// states are compared and saved depends on them.
fn edges(
    program: &Program,
    shape: &mut Shape,
    at: InsnIdx,
    insn: &Insn,
) -> Result<[Option<InsnIdx>; 2], Reason> {
    let [next, jump] = successors(program, at, insn);
    let mut mark = |at: Option<InsnIdx>, marks: &[Mark]| {
        if let Some(mark) = at.and_then(|at| shape.marks.get_mut(at.index())) {
            marks.iter().for_each(|new| mark.0 |= new.0);
        }
    };
    let target = [Mark::PRUNE, Mark::JUMP];
    let here = Some(at);
    match *insn {
        Insn::Jump { .. } => mark(jump, &target),
        Insn::Branch { .. } => {
            mark(here, &[Mark::PRUNE]);
            mark(jump, &target);
        }
        Insn::MayGoto { .. } => {
            mark(here, &[Mark::PRUNE, Mark::FORCE]);
            mark(jump, &target);
        }
        Insn::Call { target: CallTarget::Local(offset) } => {
            let callee = start_of(program, callee(program, at, offset)?);
            mark(here, &[Mark::PRUNE]);
            mark(callee, &target);
            mark(next, &target);
            return Ok([next, callee]);
        }
        Insn::Call { target } => {
            match calls_back(program, target) {
                CallsBack::Never => {}
                CallsBack::Later => mark(here, &[Mark::PRUNE]),
                CallsBack::Now => {
                    mark(here, &[Mark::PRUNE, Mark::JUMP, Mark::FORCE, Mark::CALLS_BACK]);
                }
            }
            if is_iter_next(program, target) {
                mark(here, &[Mark::PRUNE, Mark::FORCE, Mark::ITER_NEXT]);
            }
            mark(next, &[Mark::PRUNE, Mark::JUMP]);
        }
        Insn::LoadImm64 { value: Imm64::Func(offset), .. } => {
            let callee = start_of(program, callee(program, at, offset)?);
            mark(here, &[Mark::PRUNE]);
            mark(callee, &target);
            mark(next, &target);
            return Ok([next, callee]);
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

/// The function that handles exceptions, if the entry names one: it is called by no instruction.
pub(crate) fn exception_callback(program: &Program) -> Option<u32> {
    let btf = program.btf.as_deref()?;
    let entry = program.subprograms.first()?.btf_func?;
    let name = btf.decl_tags(entry, None).find_map(|tag| tag.strip_prefix("exception_callback:"))?;
    let index = program.subprograms.iter().position(|s| s.name == name)?;
    u32::try_from(index).ok()
}

/// When a function calls a subprogram that it is given.
enum CallsBack {
    Never,
    /// Before it returns, any number of times.
    Now,
    /// Some time after.
    Later,
}

fn calls_back(program: &Program, target: CallTarget) -> CallsBack {
    match target {
        CallTarget::Helper(number) => match helpers::find(number).and_then(Helper::callback) {
            Some(callback) if callback.later => CallsBack::Later,
            Some(_) => CallsBack::Now,
            None => CallsBack::Never,
        },
        CallTarget::Kfunc { btf_id, .. } => match kfunc_name(program, btf_id) {
            "bpf_rbtree_add_impl" | "bpf_rbtree_add" => CallsBack::Now,
            "bpf_wq_set_callback_impl"
            | "bpf_task_work_schedule_signal_impl"
            | "bpf_task_work_schedule_resume_impl" => CallsBack::Later,
            _ => CallsBack::Never,
        },
        _ => CallsBack::Never,
    }
}

fn is_iter_next(program: &Program, target: CallTarget) -> bool {
    let CallTarget::Kfunc { btf_id, .. } = target else { return false };
    let name = kfunc_name(program, btf_id);
    name.starts_with("bpf_iter_") && name.ends_with("_next")
}

fn kfunc_name(program: &Program, id: i32) -> &str {
    let found = usize::try_from(id).ok().and_then(|id| program.externs.get(id));
    found.map_or("", |e| e.name.as_str())
}
