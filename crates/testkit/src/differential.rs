//! The same program by interpreter and by compiled code, in the same memory, compared in all that can be seen.

use std::fmt;
use std::sync::Arc;

use bpf_arena::arena::{PageCount, UserAddr};
use bpf_arena::{Engine, Fault, Instance, LoadError, LoopLimit, MapError, MapSet, UpdateMode, UserEngine};
use bpf_object::{BPF_F_MMAPABLE, Extern, ExternKind, Linkage, MapSpec, MapType, Program, Subprogram};
use codegen::{Changes, PassSet};
use isa::{AtomicOp, CallTarget, Code, Imm64, Insn, InsnIdx, JumpForm};
use verifier::verify;

use crate::generate::{ARENA_PAGES, ARRAY_ENTRIES, ARRAY_VALUE_BYTES, Case, KFUNCS};
use crate::kernel::{KernelArena, KernelProgram, OracleError};

const PAGE_BYTES: u64 = 4096;
const ARRAY_BYTES: usize = ARRAY_ENTRIES as usize * ARRAY_VALUE_BYTES as usize;
/// Iterations of all `may_goto` loops of a run.
const LOOP_ITERATIONS: u64 = 500;
/// More faults than these would be counted but not compared one by one.
const FAULTS: usize = 4096;
/// What seeds the programs' random numbers.
const SEED: u64 = 0x5eed;

/// Everything a run left that two engines must agree on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// All of `r0`.
    pub r0: u64,
    /// The context after the run.
    pub ctx: Vec<u8>,
    /// The arena's pages after the run, by index.
    pub pages: Vec<(u32, Vec<u8>)>,
    /// The values of the array after the run, one behind the other.
    pub array: Vec<u8>,
    /// Arena faults, in order: the kind, where, how many bytes, by which instruction and the calls that led to it.
    pub faults: Vec<(String, u64, u8, Vec<InsnIdx>)>,
}

/// Why a case failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The program was not loaded. The generator promises that every program is.
    #[error("not loaded: {0}")]
    Load(#[from] LoadError),
    /// A run ended with an error.
    #[error("the {engine} stopped: {why}")]
    Stopped {
        /// Which engine.
        engine: &'static str,
        /// Its error.
        why: String,
    },
    /// The arena could not be prepared or read.
    #[error("arena: {0}")]
    Arena(String),
    /// The array could not be prepared or read.
    #[error("array: {0}")]
    Array(String),
    /// The kernel refuses the program or cannot run it.
    #[error("kernel: {0}")]
    Kernel(#[from] OracleError),
    /// This process and the kernel do not agree.
    #[error("compiled code and the kernel differ: {}", describe(compiled, kernel))]
    KernelDiffers {
        /// By compiled code.
        compiled: Box<Observed>,
        /// By the kernel.
        kernel: Box<Observed>,
    },
    /// The engines do not agree.
    #[error("interpreter and code compiled with {passes:?} differ: {}", describe(interpreted, compiled))]
    Differ {
        /// The passes that the code was made with.
        passes: PassSet,
        /// By the interpreter.
        interpreted: Box<Observed>,
        /// By compiled code.
        compiled: Box<Observed>,
    },
}

/// One arena and both engines, used for one case after the other.
#[derive(Debug)]
pub struct Bench {
    interpreter: UserEngine,
    compiler: UserEngine,
    maps: MapSet,
    specs: Arc<[MapSpec]>,
    /// Whether arena accesses are checked in software, as asked for or for want of anything better.
    checked: bool,
}

/// What agreeing runs left, and how often each pass changed the program on the way.
#[derive(Clone, Debug)]
pub struct Agreement {
    /// What they left.
    pub observed: Observed,
    /// For each choice of passes.
    pub changes: Vec<Changes>,
}

impl Bench {
    /// Creates the arena. In one process each bench needs its own `user_vm_start`; its low half must be that of
    /// [`USER_VM_START`](crate::generate::USER_VM_START) for generated programs.
    ///
    /// # Errors
    /// The arena cannot be had.
    pub fn new(user_vm_start: u64) -> Result<Self, LoadError> {
        Self::with_flags(user_vm_start, 0)
    }

    /// As [`Bench::new`], with `BPF_F_*` flags of the arena beside `BPF_F_MMAPABLE`.
    ///
    /// # Errors
    /// The arena cannot be had.
    pub fn with_flags(user_vm_start: u64, flags: u32) -> Result<Self, LoadError> {
        Self::with_engine(Engine::user(), user_vm_start, flags)
    }

    /// As [`Bench::new`], with arena accesses checked in software: what runs where no signal handler can be had.
    ///
    /// # Errors
    /// The arena cannot be had.
    pub fn checked(user_vm_start: u64) -> Result<Self, LoadError> {
        Self::with_engine(Engine::user().checked_arena(), user_vm_start, 0)
    }

    fn with_engine(engine: UserEngine, user_vm_start: u64, flags: u32) -> Result<Self, LoadError> {
        let engine = engine.loop_limit(LoopLimit::Iterations(LOOP_ITERATIONS)).seed(SEED);
        let array = MapSpec {
            key_size: 4,
            value_size: ARRAY_VALUE_BYTES,
            max_entries: ARRAY_ENTRIES,
            ..MapSpec::new("array", MapType::Array)
        };
        let specs: Arc<[MapSpec]> = Arc::from([arena_spec(user_vm_start, flags), array]);
        let compiler = engine.clone().fault_records(FAULTS);
        let mut program = Program::from_code("generated", "syscall", Code::new());
        program.maps = Arc::clone(&specs);
        let maps = compiler.maps(&program)?;
        let checked = maps.arena().is_some_and(|arena| !arena.faults_in_hardware());
        Ok(Self { interpreter: compiler.clone().interpreter(), compiler, maps, specs, checked })
    }

    /// Runs a case on both engines and gives what both left.
    ///
    /// # Errors
    /// The engines disagree, or one of them cannot run it.
    pub fn compare(&self, case: &Case) -> Result<Observed, Failure> {
        Ok(self.compare_with(case, &[PassSet::ALL])?.observed)
    }

    /// Runs a case by the interpreter, and compiled with each choice of passes.
    ///
    /// # Errors
    /// One of them leaves something else than the interpreter, or cannot run it.
    pub fn compare_with(&self, case: &Case, choices: &[PassSet]) -> Result<Agreement, Failure> {
        let program = self.program(case);
        let verified = verify(&program, self.interpreter.verifier_env()).map_err(|source| {
            LoadError::Rejected { program: program.name.clone(), source: Box::new(source) }
        })?;
        let instance = self.interpreter.instantiate(&verified, &self.maps)?;
        let interpreted = self.observe(case, &instance, "interpreter")?;
        let mut changes = Vec::new();
        for &passes in choices {
            let instance = self.compiler.clone().passes(passes).instantiate(&verified, &self.maps)?;
            changes.extend(instance.changes());
            let compiled = self.observe(case, &instance, "compiled code")?;
            if interpreted != compiled {
                let (interpreted, compiled) = (Box::new(interpreted), Box::new(compiled));
                return Err(Failure::Differ { passes, interpreted, compiled });
            }
        }
        Ok(Agreement { observed: interpreted, changes })
    }

    fn program(&self, case: &Case) -> Program {
        let mut program = Program::from_code("generated", "syscall", case.code.clone());
        program.maps = Arc::clone(&self.specs);
        program.externs = KFUNCS
            .iter()
            .map(|&name| Extern { name: name.to_owned(), kind: ExternKind::Function, weak: false, btf: None })
            .collect();
        let end = InsnIdx(u32::try_from(case.code.len()).unwrap_or(u32::MAX));
        let ends = case.functions.iter().skip(1).copied().chain([end]);
        program.subprograms = case
            .functions
            .iter()
            .zip(ends)
            .enumerate()
            .map(|(number, (&start, end))| Subprogram {
                name: format!("fn{number}"),
                start,
                end,
                btf_func: None,
                linkage: if number == 0 { Linkage::Global } else { Linkage::Static },
            })
            .collect();
        program
    }

    fn observe(&self, case: &Case, instance: &Instance, engine: &'static str) -> Result<Observed, Failure> {
        self.fill_arena(case)?;
        let array = self.maps.maps().into_iter().find(|map| map.spec().map_type == MapType::Array);
        let array = array.ok_or_else(|| Failure::Array("there is none".to_owned()))?;
        let broken = |error: MapError| Failure::Array(error.to_string());
        let values: Vec<u8> = case.ctx.iter().cycle().take(ARRAY_BYTES).copied().collect();
        let entries = (0_u32..).zip(values.chunks(ARRAY_VALUE_BYTES as usize));
        for (key, value) in entries.clone() {
            array.update(&key.to_le_bytes(), value, UpdateMode::Any).map_err(broken)?;
        }
        let mut ctx = case.ctx.clone();
        let outcome =
            instance.run(&mut ctx).map_err(|why| Failure::Stopped { engine, why: why.to_string() })?;
        let faults = outcome.faults.iter().map(|fault| seen(fault, case, self.checked)).collect();
        let mut left = Vec::new();
        for (key, _) in entries {
            left.extend(array.lookup(&key.to_le_bytes()).map_err(broken)?.unwrap_or_default());
        }
        Ok(Observed { r0: outcome.r0, ctx, pages: self.read_arena()?, array: left, faults })
    }

    fn fill_arena(&self, case: &Case) -> Result<(), Failure> {
        let arena = self.arena()?;
        let start = arena.user_vm_start().get();
        arena.free_pages(UserAddr::new(start), PageCount::new(ARENA_PAGES));
        for (page, contents) in &case.pages {
            let at = UserAddr::new(start + u64::from(*page) * PAGE_BYTES);
            arena
                .alloc_pages(Some(at), PageCount::new(1))
                .ok_or_else(|| Failure::Arena(format!("page {page} cannot be allocated")))?;
            arena.write_bytes(at, contents).map_err(|error| Failure::Arena(error.to_string()))?;
        }
        Ok(())
    }

    fn read_arena(&self) -> Result<Vec<(u32, Vec<u8>)>, Failure> {
        let arena = self.arena()?;
        let start = arena.user_vm_start().get();
        let pages = arena.snapshot().map_err(|error| Failure::Arena(error.to_string()))?;
        let index = |at: UserAddr| u32::try_from((at.get() - start) / PAGE_BYTES).unwrap_or(u32::MAX);
        Ok(pages.into_iter().map(|(at, contents)| (index(at), contents)).collect())
    }

    fn arena(&self) -> Result<&bpf_arena::arena::Arena, Failure> {
        self.maps.arena().ok_or_else(|| Failure::Arena("there is none".to_owned()))
    }
}

/// Runs a case on both engines of this process and in the running kernel, and compares all three. Programs must be
/// without [`beyond_kernel`](crate::generate::Features::beyond_kernel).
///
/// # Errors
/// One of them cannot run it, or they disagree. The kernel tells no faults and only half of `r0`.
pub fn compare_with_kernel(case: &Case, user_vm_start: u64) -> Result<Observed, Failure> {
    // One after the other: both have their arena at the same address.
    let mut compiled = Bench::new(user_vm_start)?.compare(case)?;
    let kernel = in_kernel(case, user_vm_start, 0)?;
    let faults = std::mem::take(&mut compiled.faults);
    let r0 = compiled.r0;
    compiled.r0 &= u64::from(u32::MAX);
    // Programs for the kernel do not use it.
    compiled.array.clear();
    if compiled != kernel {
        return Err(Failure::KernelDiffers { compiled: Box::new(compiled), kernel: Box::new(kernel) });
    }
    Ok(Observed { r0, faults, ..compiled })
}

/// Runs a case in the running kernel. Only pages present at the start are looked at, faults not at all.
///
/// # Errors
/// The kernel refuses the program or cannot run it.
pub fn in_kernel(case: &Case, user_vm_start: u64, flags: u32) -> Result<Observed, OracleError> {
    let arena = KernelArena::new(ARENA_PAGES, user_vm_start, flags)?;
    let offset = |page: u32| usize::try_from(u64::from(page) * PAGE_BYTES).unwrap_or(usize::MAX);
    for (page, contents) in &case.pages {
        let _ = arena.write(offset(*page), contents);
    }
    let mut ctx = case.ctx.clone();
    let r0 = KernelProgram::load(&case.code, Some(&arena))?.run(&mut ctx)?;
    // Only these can be read without making pages: programs allocate none.
    let pages = case.pages.iter().map(|(page, contents)| {
        let mut bytes = vec![0; contents.len()];
        let _ = arena.read(offset(*page), &mut bytes);
        (*page, bytes)
    });
    Ok(Observed { r0: r0.into(), ctx, pages: pages.collect(), array: Vec::new(), faults: Vec::new() })
}

/// An arena of the generator's size at this address, with these flags beside `BPF_F_MMAPABLE`.
#[must_use]
pub fn arena_spec(user_vm_start: u64, flags: u32) -> MapSpec {
    MapSpec {
        max_entries: ARENA_PAGES,
        flags: BPF_F_MMAPABLE | flags,
        extra: user_vm_start,
        ..MapSpec::new("arena", MapType::Arena)
    }
}

fn seen(fault: &Fault, case: &Case, checked: bool) -> (String, u64, u8, Vec<InsnIdx>) {
    // Compiled code has the runtime do some accesses, which does not know who called the function.
    let by_runtime = |insn: Insn| {
        let logical = |op| matches!(op, AtomicOp::Or | AtomicOp::And | AtomicOp::Xor);
        checked || matches!(insn, Insn::Atomic { op, fetch: true, .. } if logical(op))
    };
    let known =
        if fault.insn().and_then(|at| case.code.get(at)).is_none_or(by_runtime) { 1 } else { usize::MAX };
    // Nor does it say through which helper a callback was entered.
    let by_program = |at: &InsnIdx| {
        let call = case.code.get(*at);
        !matches!(call, Some(Insn::Call { target }) if !matches!(target, CallTarget::Local(_)))
    };
    let chain = fault.frames.iter().take(known).map(|frame| frame.insn).take_while(by_program).collect();
    (format!("{:?}", fault.kind), fault.address.get(), fault.size, chain)
}

/// The first differences of each kind.
fn describe(a: &Observed, b: &Observed) -> impl fmt::Display {
    let mut text = String::new();
    if a.r0 != b.r0 {
        text.push_str(&format!("\n  r0: {:#x}, {:#x}", a.r0, b.r0));
    }
    let words = |ctx: &[u8]| -> Vec<u64> {
        let (words, _) = ctx.as_chunks();
        words.iter().map(|word| u64::from_le_bytes(*word)).collect()
    };
    for (at, (a, b)) in words(&a.ctx).into_iter().zip(words(&b.ctx)).enumerate().filter(|(_, (a, b))| a != b)
    {
        text.push_str(&format!("\n  context at {}: {a:#x}, {b:#x}", 8 * at));
    }
    let indices = |pages: &[(u32, Vec<u8>)]| pages.iter().map(|(page, _)| *page).collect::<Vec<_>>();
    if indices(&a.pages) != indices(&b.pages) {
        text.push_str(&format!("\n  pages: {:?}, {:?}", indices(&a.pages), indices(&b.pages)));
    }
    for ((page, a), (_, b)) in a.pages.iter().zip(&b.pages) {
        if let Some((at, (a, b))) = a.iter().zip(b).enumerate().find(|(_, (a, b))| a != b) {
            text.push_str(&format!("\n  page {page} at {at:#x}: {a:#04x}, {b:#04x}"));
        }
    }
    if let Some((at, (a, b))) = a.array.iter().zip(&b.array).enumerate().find(|(_, (a, b))| a != b) {
        text.push_str(&format!("\n  array at {at:#x}: {a:#04x}, {b:#04x}"));
    }
    if a.faults != b.faults {
        let first = a.faults.iter().zip(&b.faults).position(|(a, b)| a != b);
        let at = first.unwrap_or(a.faults.len().min(b.faults.len()));
        text.push_str(&format!(
            "\n  faults: {} and {}; number {at}: {:?}, {:?}",
            a.faults.len(),
            b.faults.len(),
            a.faults.get(at),
            b.faults.get(at)
        ));
    }
    text
}

/// Makes a failing case smaller while it keeps failing: takes instructions away in ever smaller pieces, then data.
pub fn shrink(case: &Case, fails: impl Fn(&Case) -> bool) -> Case {
    let mut best = case.clone();
    let mut piece = best.code.len().next_power_of_two() / 2;
    while piece > 0 {
        let mut start = 0;
        while start < best.code.len() {
            let smaller = Case { code: without(&best.code, start, start + piece), ..best.clone() };
            if smaller.code != best.code && fails(&smaller) {
                best = smaller;
            }
            start += piece;
        }
        piece /= 2;
    }
    let zeroed = Case { ctx: vec![0; best.ctx.len()], ..best.clone() };
    if fails(&zeroed) {
        best = zeroed;
    }
    for at in (0..best.pages.len()).rev() {
        let mut fewer = best.clone();
        fewer.pages.remove(at);
        if fails(&fewer) {
            best = fewer;
        }
    }
    let compact = without_idle(&best);
    if fails(&compact) { compact } else { best }
}

/// The same program without the instructions that [`without`] made idle, jumps adapted.
fn without_idle(case: &Case) -> Case {
    let is_idle = |insn: Insn| insn == Insn::Jump { form: JumpForm::Short, offset: 0 };
    // Where each slot ends up: an idle one where its successor does.
    let mut moved = Vec::with_capacity(case.code.len() + 1);
    let mut next = 0_i32;
    for (_, insn) in case.code.iter() {
        moved.push(next);
        if insn.slots() == 2 {
            moved.push(next);
        }
        next += if is_idle(insn) { 0 } else { insn.slots().cast_signed() };
    }
    moved.push(next);
    let place = |at: InsnIdx| moved.get(at.index()).copied().unwrap_or(next);
    let code = case
        .code
        .iter()
        .filter(|(_, insn)| !is_idle(*insn))
        .map(|(at, insn)| {
            let distance =
                |old: i32| at.offset(i64::from(old) + 1).map_or(old, |target| place(target) - place(at) - 1);
            let near = |old: i16| i16::try_from(distance(old.into())).unwrap_or(old);
            match insn {
                Insn::Jump { form, offset } => Insn::Jump { form, offset: distance(offset) },
                Insn::MayGoto { offset } => Insn::MayGoto { offset: near(offset) },
                Insn::Branch { width, cond, dst, src, offset } => {
                    Insn::Branch { width, cond, dst, src, offset: near(offset) }
                }
                Insn::Call { target: CallTarget::Local(offset) } => {
                    Insn::Call { target: CallTarget::Local(distance(offset)) }
                }
                Insn::LoadImm64 { dst, value: Imm64::Func(offset) } => {
                    Insn::LoadImm64 { dst, value: Imm64::Func(distance(offset)) }
                }
                other => other,
            }
        })
        .collect();
    let functions = case.functions.iter().map(|at| InsnIdx(place(*at).cast_unsigned())).collect();
    Case { code, functions, ..case.clone() }
}

/// The code with instructions of a range made idle, in place, so that every jump still fits.
fn without(code: &Code, start: usize, end: usize) -> Code {
    let idle = |insn: Insn| match insn {
        Insn::Exit | Insn::LoadImm64 { value: Imm64::MapIdx(_), .. } => insn,
        Insn::LoadImm64 { dst, .. } => Insn::LoadImm64 { dst, value: Imm64::Const(0) },
        _ => Insn::Jump { form: JumpForm::Short, offset: 0 },
    };
    code.iter().map(|(at, insn)| if (start..end).contains(&at.index()) { idle(insn) } else { insn }).collect()
}
