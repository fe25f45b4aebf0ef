//! Helpers: arguments, results and where they may be called (`bpf-helpers(7)`, `struct bpf_func_proto`).

mod arg;
pub(crate) mod callbacks;
pub(crate) mod callers;
pub(crate) mod id;
mod table;
mod variants;

use bpf_object::ProgramKind;

pub(crate) use arg::{Arg, ArgFlags, ArgKind, Ret};
pub(crate) use callbacks::{Callback, CallbackArg};
pub(crate) use callers::{attach_type, may_call};

/// A helper.
#[derive(Debug)]
pub(crate) struct Helper {
    /// `enum bpf_func_id`.
    pub(crate) number: u32,
    pub(crate) args: &'static [Arg],
    pub(crate) ret: Ret,
    pub(crate) effect: Effect,
    pub(crate) traits: Traits,
    /// Which programs may call it, of those that know it.
    pub(crate) allowed: Allowed,
}

/// What a helper does besides, where its arguments and result do not say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Nothing.
    None,
    /// Takes the spin lock in `R1`.
    Lock,
    /// Gives it back.
    Unlock,
    /// Ends the program, if all goes well.
    TailCall,
    /// Calls the function in `R2` up to `R1` times.
    Loop,
    /// Calls it for each element of the map in `R1`.
    ForEachElement,
    /// Has it called when the timer in `R1` runs off.
    TimerCallback,
    /// Calls the function in `R3` with a memory area.
    FindVma,
    /// Calls the function in `R2` for each record of the user's ring buffer.
    DrainRingbuf,
    /// Takes no flags: `R2` is 0.
    NoFlags,
    /// Takes a format that must fit its data.
    Format,
    DynptrFromMem,
    DynptrData,
    DynptrWrite,
    /// Turns a per-CPU pointer into an address.
    Percpu,
    /// Asks for the address of the function that is traced.
    FunctionAddress,
    /// Replaces what the hook returns.
    SetRetval,
}

/// Which programs may call a helper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Allowed {
    /// All that know it.
    All,
    /// Those at hooks that may sleep (`bpf_lsm_is_sleepable_hook`).
    SleepableHook,
    /// Those, iterators, and those at a few functions that have a path in hand (`bpf_d_path_allowed`).
    DPath,
    /// Those that do not trace socket storage itself (`bpf_sk_storage_tracing_allowed`).
    SocketStorage,
}

/// What is true of a helper, as a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Traits(u16);

impl Traits {
    /// `gpl_only`: needs a GPL-compatible licence.
    pub(crate) const GPL: Self = Self(1);
    /// `pkt_access`: takes pointers into the packet as memory.
    pub(crate) const READS_PACKET: Self = Self(1 << 1);
    /// Moves or changes the packet: every pointer into it is lost (`bpf_helper_changes_pkt_data`).
    pub(crate) const CHANGES_PACKET: Self = Self(1 << 2);
    /// `might_sleep`.
    pub(crate) const SLEEPS: Self = Self(1 << 3);
    /// `allow_fastcall`: leaves the argument registers as they were.
    pub(crate) const FASTCALL: Self = Self(1 << 4);
    /// Returns at most the size it was given, or an error.
    pub(crate) const RETURNS_SIZE: Self = Self(1 << 5);
    /// Returns the number of a processor.
    pub(crate) const RETURNS_CPU: Self = Self(1 << 6);
    /// Its result must be given back (`is_acquire_function`).
    pub(crate) const ACQUIRES: Self = Self(1 << 7);
    /// Its result is another view of its argument, with the same reference (`is_ptr_cast_function`).
    pub(crate) const CASTS: Self = Self(1 << 8);
}

impl Helper {
    /// Its name, with `bpf_`.
    pub(crate) fn name(&self) -> &'static str {
        isa::helper_name(self.number).unwrap_or("")
    }

    pub(crate) fn is(&self, traits: Traits) -> bool {
        self.traits.0 & traits.0 == traits.0
    }

    /// How it calls back, if it does.
    pub(crate) fn callback(&self) -> Option<&'static Callback> {
        match self.effect {
            Effect::Loop => Some(&callbacks::LOOP),
            Effect::ForEachElement => Some(&callbacks::ELEMENT),
            Effect::TimerCallback => Some(&callbacks::TIMER),
            Effect::FindVma => Some(&callbacks::AREA),
            Effect::DrainRingbuf => Some(&callbacks::RECORD),
            _ => None,
        }
    }

    const fn set(mut self, traits: Traits) -> Self {
        self.traits.0 |= traits.0;
        self
    }

    const fn gpl(self) -> Self {
        self.set(Traits::GPL)
    }

    const fn reads_packet(self) -> Self {
        self.set(Traits::READS_PACKET)
    }

    const fn changes_packet(self) -> Self {
        self.set(Traits::CHANGES_PACKET)
    }

    const fn sleeps(self) -> Self {
        self.set(Traits::SLEEPS)
    }

    const fn fastcall(self) -> Self {
        self.set(Traits::FASTCALL)
    }

    const fn returns_size(self) -> Self {
        self.set(Traits::RETURNS_SIZE)
    }

    const fn returns_cpu(self) -> Self {
        self.set(Traits::RETURNS_CPU)
    }

    const fn acquires(self) -> Self {
        self.set(Traits::ACQUIRES)
    }

    const fn casts(self) -> Self {
        self.set(Traits::CASTS)
    }

    const fn effect(mut self, effect: Effect) -> Self {
        self.effect = effect;
        self
    }

    const fn only(mut self, allowed: Allowed) -> Self {
        self.allowed = allowed;
        self
    }
}

/// The helper with this number, as most programs get it.
pub(crate) fn find(number: u32) -> Option<&'static Helper> {
    table::HELPERS.get(usize::try_from(number).ok()?.checked_sub(1)?)
}

/// The helper with this number, as a program of this kind gets it, whether it may call it or not.
pub(crate) fn find_for(kind: &ProgramKind, number: u32) -> Option<&'static Helper> {
    let attach = attach_type(kind);
    let variant = variants::VARIANTS.iter().find(|v| {
        v.helper.number == number
            && kind.prog_type.is_some_and(|t| v.prog_types.contains(&t))
            && (v.attach_types.is_empty() || v.attach_types.contains(&attach))
    });
    variant.map(|v| &v.helper).or_else(|| find(number))
}

const fn helper(number: u32, args: &'static [Arg], ret: Ret) -> Helper {
    Helper { number, args, ret, effect: Effect::None, traits: Traits(0), allowed: Allowed::All }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_helper_has_its_row() {
        for number in 1..212 {
            assert_eq!(find(number).map(|h| h.number), Some(number));
            assert!(isa::helper_name(number).is_some());
        }
        assert!(find(0).is_none());
        assert!(find(212).is_none());
        assert!(find(u32::MAX).is_none());
    }

    #[test]
    fn sizes_follow_memory() {
        let rows = table::HELPERS.iter().chain(variants::VARIANTS.iter().map(|v| &v.helper));
        for row in rows {
            for (i, arg) in row.args.iter().enumerate() {
                let size = matches!(arg.kind, ArgKind::Size | ArgKind::SizeOrZero);
                let memory = i > 0 && row.args[i - 1].kind == ArgKind::Mem;
                assert_eq!(size, memory, "{} argument {}", row.name(), i + 1);
            }
            // What changes the packet has the context in R1, so that code can be emitted that reloads it.
            if row.is(Traits::CHANGES_PACKET) {
                assert_eq!(row.args.first().map(|a| a.kind), Some(ArgKind::Ctx), "{}", row.name());
            }
        }
    }
}
