//! The running kernel's verdict on programs that come without an object.

use std::sync::Arc;

use bpf_arena::kernel::{KernelError, KernelObject, LoadOptions, LogMode};
use bpf_object::{Btf, Linked, MapSpec, Object, Program};
use isa::{CodeError, Endian, RawInsn};

/// The running kernel with the maps that programs name.
#[derive(Debug)]
pub struct Judge {
    kernel: KernelObject,
}

const EPERM: i32 = 1;

/// The kernel's refusal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusal {
    /// Its error number.
    pub errno: i32,
    /// The verifier's last line; empty when no log was asked for.
    pub message: String,
    /// The whole log.
    pub log: String,
}

impl Judge {
    /// Creates the maps, with the types their values have.
    ///
    /// # Errors
    /// The kernel refuses one.
    pub fn new(maps: Arc<[MapSpec]>, btf: Option<Arc<Btf>>) -> Result<Self, KernelError> {
        Ok(Self { kernel: KernelObject::new(&Object::of_maps(maps, btf))? })
    }

    /// Whether the kernel accepts the program with these `BPF_F_*`. A log makes a program that is walked for long take
    /// much longer; one of level 4 has nothing but the verifier's objections and counters.
    ///
    /// # Errors
    /// The kernel was not asked: it lacks a function the program calls, or a privilege is missing.
    pub fn verdict(
        &self,
        program: &Linked,
        flags: u32,
        log: LogMode,
    ) -> Result<Result<(), Refusal>, KernelError> {
        match self.kernel.load(program, &LoadOptions { log, flags }) {
            Ok(_) => Ok(Ok(())),
            // A word of the host, not of the verifier: it does not permit this kind of program.
            Err(error) if is_silent_refusal(&error) => Err(error),
            Err(error @ (KernelError::Rejected(_) | KernelError::Program { .. })) => {
                let Some(errno) = error.errno() else { return Err(error) };
                let log = error.log();
                Ok(Err(Refusal {
                    errno: errno.raw_os_error(),
                    message: log.and_then(|l| l.last_line()).unwrap_or_default().to_owned(),
                    log: log.map(|l| l.text().to_owned()).unwrap_or_default(),
                }))
            }
            Err(error) => Err(error),
        }
    }

    /// The number of instructions the kernel walks until it accepts the program, if it tells.
    ///
    /// # Errors
    /// It does not accept it.
    pub fn walked(&self, program: &Linked, flags: u32) -> Result<Option<u64>, KernelError> {
        let (loaded, _) = self.kernel.load(program, &LoadOptions { flags, ..LoadOptions::default() })?;
        Ok(loaded.info().ok().map(|info| u64::from(info.verified_insns)))
    }
}

/// EPERM that the verifier gave no reason for. (Some of its refusals have this number too.)
fn is_silent_refusal(error: &KernelError) -> bool {
    let silent = error.log().is_none_or(|log| log.text().is_empty());
    silent && error.errno().is_some_and(|errno| errno.raw_os_error() == EPERM)
}

/// Whether the kernel refuses for a bound or a lack of its own that says nothing about the program's safety. The log must
/// have been asked for.
#[must_use]
pub fn is_limit(refusal: &Refusal) -> bool {
    const ENOMEM: i32 = 12;
    // The x86-64 compiler cannot fetch with `and`, `or` and `xor` in an arena, and the verifier says so. A program may be
    // walked further by one verifier than by the other, where states are compared at different places.
    let words = ["arena is not allowed", "BPF program is too large", "jumps is too complex", "verifier bug"];
    // Without an objection of the verifier it was what comes before or after: a program array that belongs to programs of
    // another type, say.
    refusal.errno == ENOMEM
        || refusal.message.is_empty()
        || words.iter().any(|words| refusal.message.contains(words))
}

/// The program as the kernel engine takes it.
///
/// # Errors
/// An instruction has no encoding.
pub fn link(program: &Program) -> Result<Linked, CodeError> {
    let bytes = program.code.encode(Endian::Little)?;
    let (slots, _) = bytes.as_chunks();
    Ok(Linked {
        name: program.name.clone(),
        section: program.section.clone(),
        kind: program.kind.clone(),
        slots: slots.iter().map(|slot| RawInsn::from_bytes(*slot, Endian::Little)).collect(),
        subprograms: program.subprograms.clone(),
        maps: Arc::clone(&program.maps),
        externs: program.externs.clone(),
        btf: program.btf.clone(),
        lines: program.lines.clone(),
        license: program.license.clone(),
    })
}
