//! The program as a shared library, in this process.

use std::ffi::c_void;
use std::path::Path;
use std::ptr;

use anyhow::Context as _;
use libloading::Library;
use object::{Object as _, ObjectSection as _};
use rustix::mm::{MapFlags, ProtFlags};

use super::{Code, Loaded, Run};
use crate::programs::Ctx;

/// `int prog(struct ctx *)`.
type Prog = unsafe extern "C" fn(*mut Ctx) -> i32;

struct Native {
    prog: Prog,
    memory: Memory,
    /// Keeps `prog` mapped.
    _library: Library,
}

/// Opens the library and gives the program memory of its own.
#[allow(unsafe_code, reason = "code of another compiler is entered here")]
pub(super) fn load(path: &Path, mem_bytes: usize) -> anyhow::Result<Loaded> {
    // SAFETY: the library was compiled from a source without constructors.
    let library = unsafe { Library::new(path) }.with_context(|| path.display().to_string())?;
    // SAFETY: `prog` has this type in every program: `ENTRY` of bench.h.
    let prog = *unsafe { library.get::<Prog>(b"prog\0") }?;
    let file = std::fs::read(path)?;
    let text = object::File::parse(&*file)?.section_by_name(".text").map(|section| section.size());
    let program = Native { prog, memory: Memory::new(mem_bytes)?, _library: library };
    Ok(Loaded { program: Box::new(program), code: Code { bytes: text, ..Code::default() } })
}

impl Run for Native {
    #[allow(unsafe_code, reason = "code of another compiler is entered here")]
    fn run(&mut self, mut ctx: Ctx) -> anyhow::Result<u64> {
        ctx.mem = self.memory.start as u64;
        // SAFETY: the program is trusted C, which works in the memory it is given.
        unsafe { (self.prog)(&raw mut ctx) };
        Ok(ctx.ret)
    }
}

/// Zeroed pages of the size that arenas have.
struct Memory {
    start: *mut c_void,
    bytes: usize,
}

impl Memory {
    #[allow(unsafe_code, reason = "mmap")]
    fn new(bytes: usize) -> anyhow::Result<Self> {
        let (protection, flags) =
            (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE | MapFlags::POPULATE);
        // SAFETY: a new mapping where the system likes.
        let start = unsafe { rustix::mm::mmap_anonymous(ptr::null_mut(), bytes, protection, flags) }?;
        Ok(Self { start, bytes })
    }
}

impl Drop for Memory {
    #[allow(unsafe_code, reason = "munmap")]
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and nothing refers to it any more.
        let unmapped = unsafe { rustix::mm::munmap(self.start, self.bytes) };
        debug_assert!(unmapped.is_ok(), "the mapping exists");
    }
}
