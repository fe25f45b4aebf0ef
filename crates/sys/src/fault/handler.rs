//! The signal handler, and the way to the handler before it.

use core::cell::UnsafeCell;
use core::ffi::{c_int, c_void};
use core::mem::MaybeUninit;
use std::sync::OnceLock;

use super::record::{self, MAX_RETURNS, Record};
use super::table::Reading;
use super::{CODE, WINDOWS};
use crate::OsError;
use crate::arch::{self, Context};

/// Frames of generated code lie this close to each other (a BPF stack and what calls spill).
const MAX_FRAME: u64 = 1 << 16;

/// Codes of SIGBUS for memory that broke.
const BUS_MCEERR_AR: c_int = 4;
const BUS_MCEERR_AO: c_int = 5;

/// What was installed before, for SIGBUS and SIGSEGV.
struct Previous {
    bus: UnsafeCell<MaybeUninit<libc::sigaction>>,
    segv: UnsafeCell<MaybeUninit<libc::sigaction>>,
}

// SAFETY: written once, before our handler is installed, and read by the handler only.
unsafe impl Sync for Previous {}

static PREVIOUS: Previous =
    Previous { bus: UnsafeCell::new(MaybeUninit::uninit()), segv: UnsafeCell::new(MaybeUninit::uninit()) };

impl Previous {
    fn slot(&self, signal: c_int) -> *mut libc::sigaction {
        let cell = if signal == libc::SIGBUS { &self.bus } else { &self.segv };
        cell.get().cast()
    }
}

/// Installs the handler, once in a process.
pub(super) fn install() -> Result<(), OsError> {
    static DONE: OnceLock<Result<(), OsError>> = OnceLock::new();
    *DONE.get_or_init(|| install_one(libc::SIGBUS).and_then(|()| install_one(libc::SIGSEGV)))
}

fn install_one(signal: c_int) -> Result<(), OsError> {
    let slot = PREVIOUS.slot(signal);
    // Asked for before ours is installed: the handler may run at any moment from then on.
    // SAFETY: `slot` has room for the structure; only this thread uses it yet.
    if unsafe { libc::sigaction(signal, core::ptr::null(), slot) } != 0 {
        return Err(OsError::last("sigaction"));
    }
    // SAFETY: all zeros is a valid `sigaction`: default action, empty mask.
    let mut action: libc::sigaction = unsafe { core::mem::zeroed() };
    action.sa_sigaction = on_fault as *const () as usize;
    // SA_SIGINFO: the address and the registers.
    // SA_ONSTACK: a handler before us may be there for overflowing stacks, and can only run on the other stack.
    // SA_RESTART, if the handler before had it: sent by kill(2), these signals may interrupt system calls.
    // No SA_NODEFER: a fault inside this handler is a bug in it and must kill, not recurse. The handlers we pass signals
    // on to get the mask they asked for.
    // SAFETY: filled by the call above.
    let restart = unsafe { (*slot).sa_flags } & libc::SA_RESTART;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | restart;
    // SAFETY: the handler is a function of the right type, and async-signal-safe.
    if unsafe { libc::sigaction(signal, &raw const action, core::ptr::null_mut()) } != 0 {
        return Err(OsError::last("sigaction"));
    }
    Ok(())
}

/// What is to be done about a signal.
enum Verdict {
    /// The thread can go on with the registers as they are now.
    Resume,
    /// The handler before us gets it.
    PassOn,
    /// The handler before us gets it as SIGSEGV: host code touched a page that it may not populate.
    Segv,
}

/// The handler.
///
/// # Safety
/// Called by the kernel, with what SA_SIGINFO promises.
unsafe extern "C" fn on_fault(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel passes a valid `siginfo_t`, ours alone until we return.
    let facts = unsafe { &*info };
    let code = facts.si_code;
    // Only faults of this thread have an address: kill(2) and its like have codes up to 0, SI_KERNEL is 0x80.
    let is_fault = (1..0x80).contains(&code);
    let is_memory_error = signal == libc::SIGBUS && matches!(code, BUS_MCEERR_AR | BUS_MCEERR_AO);
    let verdict = if is_fault && !is_memory_error {
        let missing_page = signal == libc::SIGBUS && code == libc::BUS_ADRERR;
        // SAFETY: SIGBUS and SIGSEGV of a fault carry the address.
        let address = unsafe { facts.si_addr() } as u64;
        // SAFETY: with SA_SIGINFO the third argument is the interrupted thread's context, ours alone meanwhile.
        let context = unsafe { &mut *context.cast::<libc::ucontext_t>() };
        judge(missing_page, address, &mut Context::new(context))
    } else {
        Verdict::PassOn
    };
    match verdict {
        Verdict::Resume => {}
        // SAFETY: the arguments are the kernel's.
        Verdict::PassOn => unsafe { pass_on(signal, info, context) },
        // SAFETY: as above.
        Verdict::Segv => unsafe { pass_on_as_segv(info, context) },
    }
}

fn judge(missing_page: bool, address: u64, context: &mut Context<'_>) -> Verdict {
    let reading = Reading::begin();
    let Some(memory) = WINDOWS.find(address, &reading) else { return Verdict::PassOn };
    let pc = context.pc();
    let own = arch::primitives();
    if (own.start..own.end).contains(&pc) {
        context.set_pc(own.landing);
        return Verdict::Resume;
    }
    if let Some(code) = CODE.find(pc, &reading) {
        // Generated code at an instruction that was not to fault: not for us to repair.
        let Some(site) = code.site(pc) else { return Verdict::PassOn };
        if site.probe {
            record::miss();
        } else {
            record::note(|record| {
                *record = Record { address, pc, tag: site.tag, ..Record::default() };
                walk(context, &reading, record);
            });
        }
        site.leaves.apply(context);
        context.set_pc(code.memory.start() + u64::from(site.resume));
        return Verdict::Resume;
    }
    match memory.user_page(address) {
        // SIGSEGV in an arena is of the guards, or the kernel's own verdict.
        Some(page) if missing_page => match memory.touch(page) {
            Ok(()) => Verdict::Resume,
            Err(_) => Verdict::Segv,
        },
        _ => Verdict::PassOn,
    }
}

/// Collects return addresses, from frame to frame of generated code.
///
/// Only frames of registered code are read, which keeps frame pointers: the first is that of the code that faulted, each
/// next one exists if the return address found last is in registered code.
fn walk(context: &mut Context<'_>, reading: &Reading, record: &mut Record) {
    let (mut frame, mut below) = (context.frame_pointer(), context.stack_pointer());
    for place in record.returns.iter_mut().take(MAX_RETURNS) {
        let plausible = frame.is_multiple_of(8) && frame >= below && frame - below <= MAX_FRAME;
        if !plausible {
            return;
        }
        let words = core::ptr::with_exposed_provenance::<u64>(crate::arena::to_usize(frame));
        // SAFETY: a frame of registered code (see above), on the stack of this thread, which is stopped in it.
        let [next, returns_to] = unsafe { words.cast::<[u64; 2]>().read_volatile() };
        if CODE.find(returns_to, reading).is_none() {
            return;
        }
        *place = returns_to;
        record.depth += 1;
        below = frame;
        frame = next;
    }
}

/// Calls the handler that was there before us, or does what the system would.
///
/// # Safety
/// `info` and `context` are what the kernel gave our handler.
unsafe fn pass_on(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: filled before our handler was installed.
    let previous = unsafe { &*PREVIOUS.slot(signal) };
    // SAFETY: the kernel's `siginfo_t`.
    let sent = unsafe { (*info).si_code } <= 0;
    match previous.sa_sigaction {
        // The system does not ignore faults.
        libc::SIG_IGN if sent => {}
        libc::SIG_DFL | libc::SIG_IGN => {
            set_default(signal);
            // Back in the thread a fault happens again, now with the default action. A signal that was sent does not:
            // it is sent again, and is delivered once we return.
            if sent {
                // SAFETY: raises a signal.
                unsafe { libc::raise(signal) };
            }
        }
        function => {
            // The kernel would run it with its own mask: that, and the signal itself unless SA_NODEFER. Ours is restored
            // with the context when we return.
            // SAFETY: an out-parameter and a valid mask.
            unsafe {
                libc::pthread_sigmask(libc::SIG_BLOCK, &raw const previous.sa_mask, core::ptr::null_mut())
            };
            if previous.sa_flags & libc::SA_NODEFER != 0 {
                unblock(signal);
            }
            if previous.sa_flags & libc::SA_SIGINFO != 0 {
                type Handler = unsafe extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void);
                // SAFETY: with SA_SIGINFO the field is a function of this type.
                let function = unsafe { core::mem::transmute::<usize, Handler>(function) };
                // SAFETY: the arguments are those of the kernel.
                unsafe { function(signal, info, context) };
            } else {
                // SAFETY: without SA_SIGINFO the field is a function of this type.
                let function =
                    unsafe { core::mem::transmute::<usize, unsafe extern "C" fn(c_int)>(function) };
                // SAFETY: as the kernel would call it.
                unsafe { function(signal) };
            }
        }
    }
}

/// As [`pass_on`], for a SIGBUS that is to be a SIGSEGV.
///
/// # Safety
/// As for [`pass_on`].
unsafe fn pass_on_as_segv(info: *mut libc::siginfo_t, context: *mut c_void) {
    const SEGV_MAPERR: c_int = 1;
    // SAFETY: ours to change until we return.
    unsafe { (*info).si_signo = libc::SIGSEGV };
    // SAFETY: as above.
    unsafe { (*info).si_code = SEGV_MAPERR };
    // SAFETY: a fault's `siginfo_t` still, of a SIGSEGV now.
    unsafe { pass_on(libc::SIGSEGV, info, context) };
    // The handler may have wanted the default action for the fault when it happens again (ours above does, and Rust's own
    // handler). But it would happen again as SIGBUS, and come here for ever.
    let mut now = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: an out-parameter with room for the structure.
    if unsafe { libc::sigaction(libc::SIGSEGV, core::ptr::null(), now.as_mut_ptr()) } != 0 {
        return;
    }
    // SAFETY: the call filled it.
    let now = unsafe { now.assume_init() };
    if now.sa_sigaction == libc::SIG_DFL {
        unblock(libc::SIGSEGV);
        // SAFETY: raises a signal, which kills.
        unsafe { libc::raise(libc::SIGSEGV) };
    }
}

fn set_default(signal: c_int) {
    // SAFETY: all zeros is the default action with an empty mask.
    let action: libc::sigaction = unsafe { core::mem::zeroed() };
    // SAFETY: a valid action.
    unsafe { libc::sigaction(signal, &raw const action, core::ptr::null_mut()) };
}

fn unblock(signal: c_int) {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: fills the set.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: the set is initialised.
    unsafe { libc::sigaddset(set.as_mut_ptr(), signal) };
    // SAFETY: a valid set.
    unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, set.as_ptr(), core::ptr::null_mut()) };
}
