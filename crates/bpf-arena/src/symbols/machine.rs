//! What differs between machines: numbers that ELF and DWARF have for them.

use gimli::Register;
use object::elf::Machine;

/// The machine of ELF files.
#[cfg(target_arch = "x86_64")]
pub(super) const ELF_MACHINE: Machine = object::elf::EM_X86_64;
/// The machine of ELF files.
#[cfg(target_arch = "aarch64")]
pub(super) const ELF_MACHINE: Machine = object::elf::EM_AARCH64;

/// What of a frame depends on the machine.
pub(super) struct FrameRules {
    /// The register that holds, or the column that stands for, the return address.
    pub(super) return_address: Register,
    /// Stack pointer.
    pub(super) stack_pointer: Register,
    /// Frame pointer.
    pub(super) frame_pointer: Register,
    /// Bytes that a call puts on the stack.
    pub(super) pushed_by_call: i32,
    /// Whether the return address is saved right above the frame pointer by the function itself.
    pub(super) saves_return_address: bool,
}

#[cfg(target_arch = "x86_64")]
pub(super) const FRAME: FrameRules = FrameRules {
    return_address: gimli::X86_64::RA,
    stack_pointer: gimli::X86_64::RSP,
    frame_pointer: gimli::X86_64::RBP,
    pushed_by_call: 8,
    saves_return_address: false,
};

#[cfg(target_arch = "aarch64")]
pub(super) const FRAME: FrameRules = FrameRules {
    return_address: gimli::AArch64::X30,
    stack_pointer: gimli::AArch64::SP,
    frame_pointer: gimli::AArch64::X29,
    pushed_by_call: 0,
    saves_return_address: true,
};

/// DWARF's number for a general-purpose register.
#[cfg(target_arch = "x86_64")]
pub(super) fn register(number: u8) -> Register {
    // rax, rcx, rdx, rbx, rsp, rbp, rsi and rdi have an order of their own there.
    const LOW: [u16; 8] = [0, 2, 1, 3, 7, 6, 4, 5];
    Register(LOW.get(usize::from(number)).copied().unwrap_or(u16::from(number)))
}

/// DWARF's number for a general-purpose register.
#[cfg(target_arch = "aarch64")]
pub(super) fn register(number: u8) -> Register {
    Register(u16::from(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn registers_have_the_numbers_of_the_abi() {
        use gimli::X86_64;

        let all = [
            X86_64::RAX,
            X86_64::RCX,
            X86_64::RDX,
            X86_64::RBX,
            X86_64::RSP,
            X86_64::RBP,
            X86_64::RSI,
            X86_64::RDI,
            X86_64::R8,
            X86_64::R9,
            X86_64::R10,
            X86_64::R11,
            X86_64::R12,
            X86_64::R13,
            X86_64::R14,
            X86_64::R15,
        ];
        for (number, name) in (0..).zip(all) {
            assert_eq!(register(number), name);
        }
    }
}
