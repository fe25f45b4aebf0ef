//! What differs between processors: accesses that survive a missing page, and the registers of an interrupted thread.
//!
//! A module for a processor provides the [`Primitive`]s and the `Context` of a signal with the same names and signatures.

/// Declares primitives by the symbols of a module's assembly, and `primitives()`, the code they all lie in.
macro_rules! declare {
    ($($name:ident = $symbol:literal),* $(,)?) => {
        unsafe extern "C" {
            $(
                #[link_name = $symbol]
                pub(crate) fn $name(address: u64, operand: u64, expected: u64) -> Accessed;
            )*
            #[link_name = "bpf_arena_sys_access_start"]
            static START: u8;
            #[link_name = "bpf_arena_sys_access_landing"]
            static LANDING: u8;
        }
        const _: &[Primitive] = &[$($name),*];

        /// All primitives, as one range of code.
        pub(crate) fn primitives() -> Landing {
            let landing = (&raw const LANDING).addr() as u64;
            Landing { start: (&raw const START).addr() as u64, end: landing, landing }
        }
    };
}
use declare;

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(target_arch = "aarch64")]
pub(crate) use aarch64::*;
#[cfg(target_arch = "x86_64")]
pub(crate) use x86_64::*;

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("bpf-arena runs on x86-64 and AArch64");

/// What an access gave, in the two registers of a C structure.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Accessed {
    /// The value read; for copies that met a missing page: the bytes not copied.
    pub(crate) value: u64,
    /// 0, or 1 if a page was missing.
    pub(crate) missing: u64,
}

/// `load(address)`, `rmw(address, operand)` and the like: the third argument is what compare-exchange expects.
pub(crate) type Primitive = unsafe extern "C" fn(u64, u64, u64) -> Accessed;

/// Code that may touch missing pages, and where it goes on when it does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Landing {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) landing: u64,
}
