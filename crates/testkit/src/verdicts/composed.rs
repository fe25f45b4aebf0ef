//! Programs of every type, composed of scenes: pieces of assembly that do what real programs do, mostly right.
//!
//! Registers with a role: `r6` the context, `r7` some pointer, `r8` a packet or arena pointer, `r9` a number; the others are
//! for the scene at hand.

use bpf_object::Program;
use fastrand::Rng;

use super::maps::{ENTRY, FUNCTION, assembled};
use crate::program::subprograms;

/// What scenes need to know of a program type.
#[derive(Debug)]
pub(super) struct Profile {
    pub(super) section: &'static str,
    /// Offsets of `data` and `data_end` in the context, and the size of these fields.
    pub(super) packet: Option<(i16, i16)>,
    /// Bytes of context that are worth a try.
    pub(super) ctx: i16,
    /// Bytes most fields of the context have.
    pub(super) field: i16,
    /// Whether helpers on a `struct __sk_buff` are there.
    pub(super) skb: bool,
}

const fn profile(section: &'static str, ctx: i16, field: i16) -> Profile {
    Profile { section, packet: None, ctx, field, skb: false }
}

const fn skb(section: &'static str, packet: bool) -> Profile {
    let packet = if packet { Some((76, 80)) } else { None };
    Profile { section, packet, ctx: 192, field: 4, skb: true }
}

/// The first ones are more likely.
const PROFILES: [Profile; 32] = [
    Profile { section: "xdp", packet: Some((0, 4)), ctx: 24, field: 4, skb: false },
    skb("tc", true),
    skb("socket", false),
    profile("syscall", 128, 8),
    skb("tc/ingress", true),
    skb("cgroup_skb/egress", true),
    profile("raw_tp/sys_enter", 96, 8),
    profile("kprobe/schedule", 168, 8),
    profile("tracepoint/x/y", 128, 8),
    profile("perf_event", 184, 8),
    skb("lwt_xmit", true),
    skb("lwt_in", true),
    skb("action", true),
    skb("sk_skb/stream_verdict", true),
    Profile { section: "sk_msg", packet: Some((0, 8)), ctx: 80, field: 4, skb: false },
    profile("sockops", 192, 4),
    Profile { section: "sk_reuseport", packet: Some((0, 8)), ctx: 56, field: 4, skb: false },
    profile("sk_lookup", 72, 4),
    skb("flow_dissector", true),
    profile("cgroup/sock_create", 80, 4),
    profile("cgroup/post_bind4", 80, 4),
    profile("cgroup/connect4", 72, 4),
    profile("cgroup/connect6", 72, 4),
    profile("cgroup/bind4", 72, 4),
    profile("cgroup/sendmsg6", 72, 4),
    profile("cgroup/sysctl", 8, 4),
    profile("cgroup/getsockopt", 40, 4),
    profile("cgroup/dev", 12, 4),
    profile("netfilter", 16, 8),
    Profile { section: "xdp.frags", packet: Some((0, 4)), ctx: 24, field: 4, skb: false },
    skb("lwt_seg6local", true),
    profile("raw_tp.w/sys_enter", 96, 8),
];

/// A random program of a random type; the same seed gives the same program.
///
/// # Panics
/// If a scene is not proper assembly, which is a fault of this module.
#[must_use]
#[allow(clippy::panic, reason = "a generator that writes nonsense has to be mended")]
pub fn compose(seed: u64) -> Program {
    let mut rng = Rng::with_seed(seed);
    let few = rng.bool();
    let number = if few { rng.usize(..8) } else { rng.usize(..PROFILES.len()) };
    let Some(profile) = PROFILES.get(number) else { unreachable!("the index is below the length") };
    let mut composer =
        Composer { rng, profile, text: String::new(), functions: Vec::new(), labels: 0, depth: 0 };
    composer.main();
    composer.program().unwrap_or_else(|error| panic!("seed {seed}: {error}"))
}

/// Writes one program.
pub(super) struct Composer {
    pub(super) rng: Rng,
    pub(super) profile: &'static Profile,
    pub(super) text: String,
    /// Texts of functions that are called.
    pub(super) functions: Vec<String>,
    pub(super) labels: u32,
    /// How many blocks the current statement is inside of.
    pub(super) depth: u32,
}

/// Writes a line of assembly or several.
macro_rules! put {
    ($composer:expr, $($arg:tt)*) => {
        let line = format!($($arg)*);
        $composer.text.push_str(&line);
        $composer.text.push('\n');
    };
}
pub(super) use put;

impl Composer {
    fn main(&mut self) {
        put!(self, "r6 = r1");
        self.number_into(9);
        self.pointer_into(7);
        self.far_into(8);
        if self.rng.u8(..4) != 0 {
            for slot in 1..=6 {
                put!(self, "*(u64 *)(r10 -{}) = {}", 8 * slot, slot - 1);
            }
        }
        put!(self, "r0 = 0\nr1 = 1\nr2 = r9\nr3 = r10\nr4 = r7\nr5 = -1");
        let count = self.rng.usize(1..6);
        for _ in 0..count {
            self.scene();
        }
        self.end();
    }

    /// Mostly a value that may be returned.
    fn end(&mut self) {
        match self.rng.u8(..24) {
            0 => {}
            1 => {
                put!(self, "r0 = r9");
            }
            2..=5 => {
                put!(self, "r0 = 1");
            }
            _ => {
                put!(self, "r0 = 0");
            }
        }
        put!(self, "exit");
    }

    /// A function of the program, or a callback; gives its label.
    pub(super) fn function(&mut self, callback: bool) -> String {
        if self.functions.len() >= 3 {
            return "f0".to_owned();
        }
        let name = format!("f{}", self.functions.len());
        self.functions.push(String::new());
        let index = self.functions.len() - 1;
        let outer = std::mem::take(&mut self.text);
        let depth = std::mem::replace(&mut self.depth, 2);
        put!(self, "{name}:");
        if callback && self.rng.bool() {
            put!(self, "r6 = 0\nr7 = r2\nr8 = 0\nr9 = 5");
        } else {
            put!(self, "r6 = r1\nr7 = r2\nr8 = r3\nr9 = r4");
        }
        let count = self.rng.usize(..4);
        for _ in 0..count {
            self.scene();
        }
        match self.rng.u8(..8) {
            0 => {
                put!(self, "r0 = r9");
            }
            1 => {
                put!(self, "r0 = r7");
            }
            2 | 3 => {
                put!(self, "r0 = 1");
            }
            _ => {
                put!(self, "r0 = 0");
            }
        }
        put!(self, "exit");
        self.depth = depth;
        let text = std::mem::replace(&mut self.text, outer);
        if let Some(function) = self.functions.get_mut(index) {
            *function = text;
        }
        name
    }

    pub(super) fn label(&mut self) -> String {
        self.labels += 1;
        format!("l{}", self.labels)
    }

    fn program(mut self) -> Result<Program, String> {
        for function in std::mem::take(&mut self.functions) {
            self.text.push_str(&function);
        }
        let mut program = assembled("composed", self.profile.section, &self.text)
            .map_err(|e| format!("{e}\n{}", self.text))?;
        if let Ok(linked) = super::link(&program) {
            program.subprograms = subprograms(&linked.slots);
        }
        // Callbacks have to have a type, and then every function has.
        if self.text.contains("subprog[") {
            for (number, part) in program.subprograms.iter_mut().enumerate() {
                part.btf_func = Some(if number == 0 { ENTRY } else { FUNCTION });
            }
        }
        Ok(program)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_is_a_program() {
        for seed in 0..3000 {
            let program = compose(seed);
            assert!(!program.subprograms.is_empty());
        }
    }
}
