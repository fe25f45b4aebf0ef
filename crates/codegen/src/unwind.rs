//! How a function's first instructions build its frame, for those who walk stacks from outside: debuggers.

use cranelift_codegen::isa::unwind::UnwindInst;
use cranelift_codegen::{CompiledCode, RegClass};

/// One step of building a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameStep {
    /// Offset in the text behind the instruction that did it.
    pub offset: u32,
    /// What is so from there on.
    pub change: FrameChange,
}

/// What a [`FrameStep`] changes. Addresses are told from the stack pointer as it was before the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameChange {
    /// The caller's frame pointer was pushed (on AArch64 with the link register behind it). The stack pointer is `below` bytes
    /// below what it was before the call, and points to the saved frame pointer.
    Pushed {
        /// Bytes.
        below: u32,
    },
    /// The frame pointer points to where the stack pointer does.
    Established,
    /// A register that belongs to the caller was saved.
    Saved {
        /// General-purpose register (x86-64 number 0 to 15, AArch64 0 to 30).
        register: u8,
        /// Bytes below the stack pointer before the call.
        below: u32,
    },
}

/// The steps of a function, from the beginning of its code.
pub(crate) fn steps(code: &CompiledCode) -> Vec<FrameStep> {
    let mut clobbers_end = 0;
    let step = |(offset, inst): &(u32, UnwindInst)| {
        let change = match *inst {
            UnwindInst::PushFrameRegs { offset_upward_to_caller_sp } => {
                FrameChange::Pushed { below: offset_upward_to_caller_sp }
            }
            UnwindInst::DefineNewFrame { offset_upward_to_caller_sp, offset_downward_to_clobbers } => {
                clobbers_end = offset_upward_to_caller_sp + offset_downward_to_clobbers;
                FrameChange::Established
            }
            // Programs have no numbers that live in other registers across calls.
            UnwindInst::SaveReg { clobber_offset, reg } if reg.class() == RegClass::Int => {
                let below = clobbers_end.checked_sub(clobber_offset)?;
                FrameChange::Saved { register: reg.hw_enc(), below }
            }
            _ => return None,
        };
        Some(FrameStep { offset: *offset, change })
    };
    code.buffer.unwind_info.iter().filter_map(step).collect()
}

/// The steps of a function whose code begins at `start` of the text.
pub(crate) fn moved(start: u32, steps: &[FrameStep]) -> Vec<FrameStep> {
    steps.iter().map(|step| FrameStep { offset: start + step.offset, ..*step }).collect()
}
