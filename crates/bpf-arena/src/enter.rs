//! Entering generated code, and generated code entering the runtime. One of the two files with `unsafe`.
//!
//! [`Machine`] compiles a verified program itself, so that the machine code it enters is the code generator's and
//! obeys its contract: the entry is an [`EntryFn`], callbacks are [`CallbackFn`]s, and it reaches memory only through
//! the [`VmContext`] and what verification allowed. Everything else here follows from that.
//!
//! **Aliasing.** Generated code reaches the run's [`Invocation`] through `VmContext::owner`, and only to hand it to a
//! [`trampoline`]. Each time Rust enters generated code it lends its `&mut Invocation` as that pointer and does not touch
//! it until the code returns; a helper that enters a callback lends on what it was lent. So the references nest as
//! calls do. The `VmContext` itself is only accessed through raw pointers.
//!
//! **Panics** never cross generated code: a trampoline catches them and ends the run with an error.
#![allow(unsafe_code, reason = "machine code cannot be entered safely")]

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use codegen::abi::{self, CallbackFn, EntryFn, RuntimeFn, VmContext};
use codegen::{Compiled, FaultSite, Import, Line, Options};
use isa::InsnIdx;
use sys::code::CodeMemory;
use sys::fault::CodeRegion;
use verifier::Verified;

use crate::error::{RunError, TrapKind};
use crate::runtime::hosted::Hosted;
use crate::runtime::{self, Invocation, Leave, Loops};
use crate::symbols::{Announced, Symbols, SymbolsError};

/// A function of the runtime.
pub(crate) trait Callee {
    /// Its name, for errors.
    const NAME: &'static str;
    /// Calls it with `r1` to `r5`.
    fn call(invocation: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, Trapped>;
}

/// What a function of the runtime gives instead of a result. Boxed, so that results come back in registers: through memory, each
/// call would wait for a load of what was just written in parts.
pub(crate) type Trapped = Box<TrapKind>;

/// Calls a function of the runtime: a trap or a panic ends the run, and the result is 0.
///
/// A part of each trampoline, so that the arguments stay in registers.
#[inline(always)]
pub(crate) fn call<C: Callee>(invocation: &mut Invocation<'_>, args: [u64; 5]) -> u64 {
    let outcome = catch_unwind(AssertUnwindSafe(|| C::call(invocation, args)));
    match outcome {
        Ok(Ok(value)) => value,
        Ok(Err(kind)) => trapped(invocation, *kind),
        Err(panic) => panicked(invocation, C::NAME, &*panic),
    }
}

#[cold]
fn trapped(invocation: &mut Invocation<'_>, kind: TrapKind) -> u64 {
    invocation.trap_in_call(kind);
    0
}

#[cold]
fn panicked(invocation: &mut Invocation<'_>, function: &'static str, panic: &(dyn Any + Send)) -> u64 {
    let message = panic_message(panic);
    invocation.stop(RunError::Panicked { function, message });
    0
}

/// What a panic said.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let message = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    message.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}

/// The same as generated code calls it.
pub(crate) extern "C" fn trampoline<C: Callee>(
    vm: *mut VmContext,
    r1: u64,
    r2: u64,
    r3: u64,
    r4: u64,
    r5: u64,
) -> u64 {
    // SAFETY: generated code passes the context it was entered with, which `Machine::run` keeps alive.
    let slot = unsafe { &raw const (*vm).owner };
    // SAFETY: as above.
    let owner = unsafe { slot.read() };
    // SAFETY: the owner is the invocation that was lent for this entry; its lender waits for the code to return.
    let invocation = unsafe { &mut *owner.cast::<Invocation<'_>>() };
    let result = call::<C>(invocation, [r1, r2, r3, r4, r5]);
    if let Some(leave) = invocation.leave {
        let word = match leave {
            Leave::Function => abi::LEAVE_FUNCTION,
            Leave::Program(_) | Leave::Run => abi::LEAVE_PROGRAM,
        };
        if leave == Leave::Function {
            invocation.leave = None;
        }
        // SAFETY: as above.
        let slot = unsafe { &raw mut (*vm).leave };
        // SAFETY: as above.
        unsafe { slot.write(word) };
    }
    result
}

/// A compiled program in executable memory.
#[derive(Debug)]
pub(crate) struct Machine {
    // Before the code, so that it is withdrawn first.
    _announced: Announced,
    region: CodeRegion,
    entry: EntryFn,
    callbacks: Vec<(u64, CallbackFn)>,
    imports: Vec<RuntimeFn>,
    compiled: Compiled,
}

/// Why a verified program has no machine code.
#[derive(Debug)]
pub(crate) enum MachineError {
    Compile(codegen::CompileError),
    Os(sys::OsError),
    Symbols(SymbolsError),
    /// The code calls something that the runtime does not have; loading has listed it for the user.
    Import(Import),
}

impl Machine {
    /// Compiles a program and makes it executable.
    pub(crate) fn compile(
        verified: &Verified,
        options: &Options,
        hosted: &Hosted,
        symbols: &Symbols,
    ) -> Result<Self, MachineError> {
        let mut compiled = codegen::compile(verified, options).map_err(MachineError::Compile)?;
        let imports = compiled
            .imports
            .iter()
            .map(|import| {
                runtime::import(*import, verified.program(), hosted).ok_or(MachineError::Import(*import))
            })
            .collect::<Result<_, _>>()?;
        let mut memory = CodeMemory::new(&compiled.text).map_err(MachineError::Os)?;
        symbols.prepare(&mut memory);
        let sites = compiled.faults.iter().zip(0..).map(|(site, tag)| sys_site(site, tag)).collect();
        let region = CodeRegion::register(memory, sites).map_err(MachineError::Os)?;
        let announced = symbols.announce(verified.program(), &compiled, region.start());
        let announced = announced.map_err(MachineError::Symbols)?;
        let address = |offset: u32| region.start().wrapping_add(u64::from(offset));
        // SAFETY: the code generator says that the code at `entry` is such a function.
        let entry = unsafe { std::mem::transmute::<*const (), EntryFn>(pointer(address(compiled.entry))) };
        let callbacks = compiled
            .functions
            .iter()
            .filter_map(|function| function.callback)
            .map(|offset| {
                let code = pointer(address(offset));
                // SAFETY: the code generator says that the code at `callback` is such a function.
                (address(offset), unsafe { std::mem::transmute::<*const (), CallbackFn>(code) })
            })
            .collect();
        compiled.text = Vec::new();
        Ok(Self { _announced: announced, region, entry, callbacks, imports, compiled })
    }

    /// How often each pass changed the program.
    pub(crate) fn changes(&self) -> codegen::Changes {
        self.compiled.changes
    }

    /// The fault site with this tag.
    pub(crate) fn fault_site(&self, tag: u32) -> Option<&FaultSite> {
        self.compiled.faults.get(tag as usize)
    }

    /// The instruction of a fault site, and the calls that were inlined around it.
    pub(crate) fn faulting(&self, site: &FaultSite) -> impl Iterator<Item = InsnIdx> + '_ {
        core::iter::once(site.insn).chain(self.compiled.inlined_calls(site.inlined))
    }

    /// The BPF call instruction that returns to this address, and the calls that were inlined around it; nothing if the address
    /// does not lie in this code.
    pub(crate) fn calls_at(&self, return_address: u64) -> impl Iterator<Item = InsnIdx> + '_ {
        let line = self.line_of_call(return_address);
        let inlined = self.compiled.inlined_calls(line.and_then(|line| line.inlined));
        line.map(|line| line.insn).into_iter().chain(inlined)
    }

    fn line_of_call(&self, return_address: u64) -> Option<&Line> {
        // The call ends at the return address, so it begins before.
        let offset = return_address.checked_sub(self.region.start())?.checked_sub(1)?;
        if offset >= self.region.len() as u64 {
            return None;
        }
        let after = self.compiled.lines.partition_point(|line| u64::from(line.offset) <= offset);
        self.compiled.lines.get(after.checked_sub(1)?)
    }

    /// Whether this address lies in the machine's code.
    pub(crate) fn contains(&self, pc: u64) -> bool {
        pc.checked_sub(self.region.start()).is_some_and(|offset| offset < self.region.len() as u64)
    }

    /// What the program knows this callback by: the address that `lddw Func` loads.
    pub(crate) fn function(&self, subprogram: usize) -> Option<u64> {
        let function = self.compiled.functions.iter().find(|f| f.subprogram == subprogram)?;
        Some(self.region.start().wrapping_add(u64::from(function.callback?)))
    }

    /// Runs the program with `r1` and the frame pointer `r10`; the result is its `r0`.
    pub(crate) fn run<'r>(&'r self, invocation: &mut Invocation<'r>, r1: u64, r10: u64) -> u64 {
        self.enter(invocation, |vm| (self.entry)(vm, r1, r10))
    }

    /// Runs one of the program's callbacks from outside of any run of it.
    pub(crate) fn run_callback<'r>(
        &'r self,
        invocation: &mut Invocation<'r>,
        function: u64,
        args: [u64; 5],
        r10: u64,
    ) -> Result<u64, TrapKind> {
        let known = self.callbacks.iter().find(|(address, _)| *address == function);
        let (_, callback) = known.ok_or(TrapKind::BadJump)?;
        let [r1, r2, r3, r4, r5] = args;
        Ok(self.enter(invocation, |vm| callback(vm, r1, r2, r3, r4, r5, r10)))
    }

    fn enter<'r>(&'r self, invocation: &mut Invocation<'r>, code: impl FnOnce(*mut VmContext) -> u64) -> u64 {
        let cpu = match self.compiled.uses_cpu {
            false => 0,
            true => match invocation.cpu_unless_ended() {
                Some(cpu) => u64::from(cpu),
                None => return 0,
            },
        };
        let maps = &invocation.image.maps;
        let loops = Loops::first(invocation.image);
        let mut vm = VmContext {
            window_base: maps.window_base(),
            user_vm_high: maps.user_vm_high(),
            maps: maps.handles().as_ptr(),
            map_values: maps.values().as_ptr(),
            variables: invocation.image.variables.addresses().as_ptr(),
            imports: self.imports.as_ptr(),
            loop_budget: loops.left,
            loop_state: loops.state,
            callback_frame: 0,
            leave: 0,
            answer: 0,
            stop: invocation.signal.word(),
            cpu,
            missed: sys::fault::missed_word(),
            faulted: sys::fault::faulted_word(),
            loops_left: 0,
            owner: std::ptr::null_mut(),
        };
        let vm = &raw mut vm;
        let before = invocation.executor;
        invocation.executor = runtime::Executor::Compiled(Entered { machine: self, vm });
        let result = lend(vm, invocation, || code(vm));
        invocation.executor = before;
        result
    }
}

/// Compiled code that is being executed: what a helper needs to enter a callback of it.
///
/// Exists only in the invocation, during [`Machine::run`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entered<'r> {
    machine: &'r Machine,
    vm: *mut VmContext,
}

impl Entered<'_> {
    /// Enters the callback whose address the program passed.
    pub(crate) fn callback(
        self,
        invocation: &mut Invocation<'_>,
        function: u64,
        args: [u64; 5],
    ) -> Result<u64, TrapKind> {
        let known = self.machine.callbacks.iter().find(|(address, _)| *address == function);
        let (_, callback) = known.ok_or(TrapKind::BadJump)?;
        let [r1, r2, r3, r4, r5] = args;
        let vm = self.vm;
        // SAFETY: an `Entered` exists only while its context does.
        let slot = unsafe { &raw mut (*vm).callback_frame };
        // SAFETY: as above.
        let frame = unsafe { slot.read() };
        let result = lend(vm, invocation, || callback(vm, r1, r2, r3, r4, r5, frame));
        // The callback wrote the frame of callbacks of its own over it.
        // SAFETY: as above.
        unsafe { slot.write(frame) };
        Ok(result)
    }
}

/// Makes `invocation` the owner of `vm` while `enter` executes generated code.
fn lend(vm: *mut VmContext, invocation: &mut Invocation<'_>, enter: impl FnOnce() -> u64) -> u64 {
    // SAFETY: the callers' context is alive.
    let slot = unsafe { &raw mut (*vm).owner };
    // SAFETY: as above.
    let before = unsafe { slot.read() };
    // SAFETY: as above.
    unsafe { slot.write(std::ptr::from_mut(invocation).cast()) };
    let result = enter();
    // SAFETY: as above.
    unsafe { slot.write(before) };
    result
}

fn pointer(address: u64) -> *const () {
    std::ptr::with_exposed_provenance(usize::try_from(address).unwrap_or(0))
}

fn sys_site(site: &FaultSite, tag: u32) -> sys::fault::FaultSite {
    use sys::fault::Leaves;

    let leaves = match site.leaves {
        codegen::Leaves::Registers => Leaves::Registers,
        codegen::Leaves::Zero(register) => Leaves::Zero(register),
        codegen::Leaves::Operand { from, to } => Leaves::Copy { from, to, half: site.size != isa::Size::DW },
    };
    sys::fault::FaultSite { offset: site.offset, resume: site.resume, leaves, tag, probe: site.probe }
}
