//! The scenes that programs are composed of.

use super::composed::{Composer, put};

/// Deepest nesting of blocks.
const DEPTH: u32 = 3;
/// Bytes of assembly after which no more blocks are opened.
const LONG: usize = 2500;

const COMPARES: [&str; 11] = ["==", "!=", "<", "<=", ">", ">=", "s<", "s<=", "s>", "s>=", "&"];
const SIZES: [(&str, i16); 4] = [("u8", 1), ("u16", 2), ("u32", 4), ("u64", 8)];
const SIGNED: [(&str, i16); 3] = [("s8", 1), ("s16", 2), ("s32", 4)];

impl Composer {
    pub(super) fn scene(&mut self) {
        if self.text.len() > LONG {
            return self.arithmetic();
        }
        match self.rng.u8(..40) {
            0..=5 => self.arithmetic(),
            6..=9 => self.access(),
            10 | 11 => self.spill(),
            12..=14 => self.bounded(),
            15..=18 => self.block(),
            19..=22 if self.profile.packet.is_some() => self.packet(),
            19 | 20 if self.profile.skb => self.load_packet(),
            23..=26 => self.map(),
            27..=29 => self.helper(),
            30 if self.profile.skb => self.socket(),
            31 => self.ring(),
            32 if self.profile.skb || self.profile.packet.is_some() => self.lock(),
            33 => self.loops(),
            34 => self.call(),
            35 => self.callback(),
            36 => self.dynptr(),
            37 => self.iterator(),
            _ => self.atomic(),
        }
    }

    fn pick<T: Copy>(&mut self, among: &[T]) -> T {
        let index = self.rng.usize(..among.len());
        #[allow(clippy::indexing_slicing, reason = "the index is drawn below the length")]
        among[index]
    }

    fn one_in(&mut self, n: u32) -> bool {
        self.rng.u32(..n) == 0
    }

    /// A register that mostly holds a number.
    fn number(&mut self) -> u8 {
        if self.one_in(16) { self.rng.u8(..11) } else { self.pick(&[0, 2, 5, 9, 9]) }
    }

    fn imm(&mut self) -> i32 {
        match self.rng.u8(..5) {
            0 => self.rng.i32(-16..64),
            1 => 1 << self.rng.u8(..31),
            2 => self.pick(&[0, 1, -1, i32::MAX, i32::MIN, 0xff, 0xffff, 8, 16, 64, -8]),
            3 => self.rng.i32(0..16),
            _ => self.rng.i32(..),
        }
    }

    /// A number the verifier knows little or something of.
    pub(super) fn number_into(&mut self, reg: u8) {
        let mask = self.pick(&[7, 15, 31, 63, 64, 127, 255, 511, 0xffff]);
        match self.rng.u8(..6) {
            0 => {
                put!(self, "r{reg} = {}", self.imm());
            }
            1 => {
                let offset = self.rng.i16(0..4) * 4;
                put!(self, "r{reg} = *(u32 *)(r6 +{offset})");
            }
            2 => {
                put!(self, "call bpf_get_prandom_u32\nr{reg} = r0\nr{reg} &= {mask}");
            }
            3 => {
                put!(self, "call bpf_get_prandom_u32\nr{reg} = r0");
            }
            4 => {
                put!(self, "call bpf_ktime_get_ns\nr{reg} = r0\nr{reg} >>= {}", self.rng.u8(40..64));
            }
            _ => {
                let label = self.label();
                put!(self, "call bpf_ktime_get_ns\nr{reg} = 0");
                put!(
                    self,
                    "if r0 {} {mask} goto {label}\nr{reg} = r0\n{label}:",
                    self.pick(&[">", "s>", ">="])
                );
            }
        }
    }

    /// A pointer into a map's value, the stack or something else.
    pub(super) fn pointer_into(&mut self, reg: u8) {
        match self.rng.u8(..16) {
            0..=11 => {
                let offset = if self.one_in(6) { self.rng.u8(..64) } else { 0 };
                put!(self, "r{reg} = map[idx:1][0]+{offset}");
            }
            12 => {
                put!(self, "r{reg} = r10\nr{reg} += -{}", self.pick(&[8, 16, 32, 64, 512]));
            }
            13 => {
                self.lookup(2);
                put!(self, "r{reg} = r0");
            }
            14 => {
                put!(self, "r{reg} = r6");
            }
            _ => {
                put!(self, "r{reg} = 0");
            }
        }
    }

    /// The packet if there is one, or the arena.
    pub(super) fn far_into(&mut self, reg: u8) {
        let packet = self.profile.packet.filter(|_| !self.one_in(12));
        match packet {
            Some((data, _)) => {
                let word = self.packet_word();
                put!(self, "r{reg} = *({word} *)(r6 +{data})");
            }
            _ if self.one_in(2) => {
                put!(self, "r{reg} = map[idx:0]\nr{reg} = 4096\nr{reg} = addr_space_cast(r{reg}, 0, 1)");
            }
            _ => {
                put!(self, "r{reg} = r9");
            }
        }
    }

    fn packet_word(&self) -> &'static str {
        match self.profile.packet {
            Some((first, second)) if second - first == 8 => "u64",
            _ => "u32",
        }
    }

    fn arithmetic(&mut self) {
        let dst = self.number();
        let src = self.number();
        let letter = if self.one_in(3) { 'w' } else { 'r' };
        match self.rng.u8(..16) {
            0 => {
                put!(self, "{letter}{dst} = -{letter}{dst}");
            }
            1 => {
                let (name, bytes) = self.pick(&SIGNED);
                let letter = if bytes == 4 { 'r' } else { letter };
                put!(self, "{letter}{dst} = ({name}){letter}{src}");
            }
            2 => {
                let swap = self.pick(&["be16", "be32", "be64", "le16", "bswap16", "bswap32", "bswap64"]);
                put!(self, "r{dst} = {swap} r{dst}");
            }
            3 | 4 => {
                put!(self, "{letter}{dst} = {letter}{src}");
            }
            5 => {
                put!(self, "{letter}{dst} = {}", self.imm());
            }
            6 => {
                put!(self, "r{dst} = {:#x} ll", self.rng.u64(..) >> self.rng.u8(..64));
            }
            7 | 8 => {
                let shift =
                    if self.one_in(8) { format!("{letter}{src}") } else { self.rng.u8(..32).to_string() };
                put!(self, "{letter}{dst} {} {shift}", self.pick(&["<<=", ">>=", "s>>="]));
            }
            9 => {
                let by =
                    if self.one_in(2) { format!("{letter}{src}") } else { self.rng.i32(1..99).to_string() };
                put!(self, "{letter}{dst} {} {by}", self.pick(&["/=", "%=", "s/=", "s%="]));
            }
            _ => {
                let with = if self.one_in(2) { format!("{letter}{src}") } else { self.imm().to_string() };
                put!(self, "{letter}{dst} {} {with}", self.pick(&["+=", "-=", "*=", "&=", "|=", "^="]));
            }
        }
    }

    /// An address that may well be fine: a base register, an offset, a size.
    fn place(&mut self) -> (u8, i16, &'static str) {
        let (name, bytes) = self.pick(&SIZES);
        let slack = i16::from(self.one_in(16));
        match self.rng.u8(..12) {
            0..=4 => (10, -bytes * self.rng.i16(1..6) + slack, name),
            5 | 6 => {
                let field = self.profile.field;
                let last = (self.profile.ctx / field).max(1);
                let natural = if field == 8 { "u64" } else { "u32" };
                let name = if self.one_in(4) { name } else { natural };
                (6, field * self.rng.i16(0..last) + slack, name)
            }
            7..=9 => (7, self.rng.i16(0..66 - bytes) / bytes * bytes + slack, name),
            10 => (8, self.rng.i16(-16..40), name),
            _ => (self.rng.u8(..11), self.rng.i16(-16..16), name),
        }
    }

    fn access(&mut self) {
        let (base, offset, size) = self.place();
        let reg = self.pick(&[0, 1, 2, 3, 4, 5, 5, 9]);
        match self.rng.u8(..9) {
            0..=3 => {
                put!(self, "r{reg} = *({size} *)(r{base} {offset:+})");
            }
            4 => {
                let (signed, _) = self.pick(&SIGNED);
                put!(self, "r{reg} = *({signed} *)(r{base} {offset:+})");
            }
            5 | 6 => {
                put!(self, "*({size} *)(r{base} {offset:+}) = {}", self.imm());
            }
            _ => {
                put!(self, "*({size} *)(r{base} {offset:+}) = r{}", self.number());
            }
        }
    }

    /// Something on the stack, perhaps partly overwritten, and back again.
    fn spill(&mut self) {
        let slot = -8 * self.rng.i16(1..6);
        let reg = self.pick(&[6, 7, 8, 9, 9, 10]);
        let (size, _) = if self.one_in(3) { self.pick(&SIZES) } else { ("u64", 8) };
        put!(self, "*({size} *)(r10 {slot}) = r{reg}");
        if self.one_in(3) {
            self.scene();
        }
        if self.one_in(3) {
            let (size, bytes) = self.pick(&SIZES);
            let within = self.rng.i16(0..8) / bytes * bytes;
            put!(self, "*({size} *)(r10 {}) = {}", slot + within, self.pick(&[0, 0, 1, -1]));
        }
        let (size, bytes) = if self.one_in(2) { self.pick(&SIZES) } else { ("u64", 8) };
        let within = self.rng.i16(0..8) / bytes * bytes;
        let to = self.pick(&[0, 2, 3, reg.min(9)]);
        put!(self, "r{to} = *({size} *)(r10 {:+})", slot + within);
    }

    /// An index that is made to fit, then used.
    fn bounded(&mut self) {
        let index = self.pick(&[2, 3, 5]);
        let label = self.label();
        let skip = self.label();
        put!(self, "r{index} = r9");
        if self.one_in(3) {
            self.arithmetic();
        }
        let limit = self.pick(&[3, 7, 8, 31, 56, 57, 60, 63, 64, 127]);
        let letter = if self.one_in(3) { 'w' } else { 'r' };
        let mut skipped = true;
        match self.rng.u8(..6) {
            0 | 1 => {
                skipped = false;
                put!(self, "{letter}{index} &= {limit}");
            }
            2 | 3 => {
                put!(self, "if {letter}{index} {} {limit} goto {skip}", self.pick(&[">", ">=", "s>", "!="]));
                if self.one_in(2) {
                    put!(self, "if {letter}{index} s< {} goto {skip}", self.pick(&[0, 1, -1, 4]));
                }
            }
            4 => {
                put!(self, "r4 = {limit}\nif {letter}{index} > {letter}4 goto {skip}");
            }
            _ => {
                skipped = false;
                put!(self, "r{index} >>= {}", self.rng.u8(52..64));
            }
        }
        if self.one_in(4) {
            put!(self, "r{index} <<= {}", self.rng.u8(..4));
        }
        let base = self.pick(&[7, 7, 10, 8]);
        let (size, _) = self.pick(&SIZES);
        let offset = if base == 10 { self.pick(&[-64, -72, -128, -8]) } else { self.pick(&[0, 0, 0, -4, 8]) };
        let op = if self.one_in(8) { "-=" } else { "+=" };
        put!(self, "r4 = r{base}\nr4 {op} r{index}");
        if self.one_in(2) {
            put!(self, "r0 = *({size} *)(r4 {offset:+})");
        } else {
            put!(self, "*({size} *)(r4 {offset:+}) = {}", self.pick(&[0, 1, -1]));
        }
        if skipped {
            put!(self, "goto {label}\n{skip}:\nr{index} = 0\n{label}:");
        }
    }

    /// Something under a condition.
    fn block(&mut self) {
        if self.depth >= DEPTH {
            return self.arithmetic();
        }
        self.depth += 1;
        let (over, end) = (self.label(), self.label());
        let letter = if self.one_in(3) { 'w' } else { 'r' };
        let dst = self.number();
        let with = if self.one_in(2) { format!("{letter}{}", self.number()) } else { self.imm().to_string() };
        put!(self, "if {letter}{dst} {} {with} goto {over}", self.pick(&COMPARES));
        for _ in 0..self.rng.usize(1..3) {
            self.scene();
        }
        if self.one_in(2) {
            put!(self, "goto {end}\n{over}:");
            self.scene();
            put!(self, "{end}:");
        } else {
            put!(self, "{over}:");
        }
        self.depth -= 1;
    }

    /// A packet's bytes behind a check of their number.
    fn packet(&mut self) {
        let Some((data, end)) = self.profile.packet else { return };
        let word = self.packet_word();
        let skip = self.label();
        let bytes = self.pick(&[1, 4, 8, 14, 20, 34, 64]);
        if self.one_in(3) {
            put!(self, "r8 = *({word} *)(r6 +{data})");
        }
        put!(self, "r3 = *({word} *)(r6 +{end})\nr2 = r8");
        if self.one_in(3) {
            let mask = self.pick(&[7, 63, 255, 0x7fff, 0xffff]);
            put!(self, "r4 = r9\nr4 &= {mask}\nr2 += r4");
            if self.one_in(2) {
                put!(self, "r8 = r2");
            }
        }
        put!(self, "r5 = r2\nr2 += {bytes}");
        match self.rng.u8(..6) {
            0 => {
                put!(self, "if r3 < r2 goto {skip}");
            }
            1 => {
                put!(self, "if r2 >= r3 goto {skip}");
            }
            2 => {
                put!(self, "if r3 {} r2 goto {skip}", self.pick(&["<=", ">", ">=", "=="]));
            }
            _ => {
                put!(self, "if r2 > r3 goto {skip}");
            }
        }
        for _ in 0..self.rng.usize(1..3) {
            let (size, width) = self.pick(&SIZES);
            let offset =
                if self.one_in(8) { self.rng.i16(-4..70) } else { self.rng.i16(0..=(bytes - width).max(0)) };
            let base = self.pick(&[5, 5, 8]);
            if self.one_in(3) {
                put!(self, "*({size} *)(r{base} {offset:+}) = 0");
            } else {
                put!(self, "r0 = *({size} *)(r{base} {offset:+})");
            }
        }
        put!(self, "{skip}:");
        if self.one_in(8) {
            put!(self, "r2 = 1\nr5 = 0");
        }
    }

    /// Bytes of a packet as classic filters read them.
    fn load_packet(&mut self) {
        let size = self.pick(&["u8", "u16", "u32"]);
        if self.one_in(2) {
            put!(self, "r0 = *({size} *)skb[{}]", self.rng.u8(..64));
        } else {
            put!(self, "r0 = *({size} *)skb[r9 + {}]", self.rng.u8(..64));
        }
        self.after_call();
    }

    /// What a call took away gets values again, mostly.
    fn after_call(&mut self) {
        if !self.one_in(8) {
            put!(self, "r2 = {}\nr5 = r9", self.pick(&["r9", "1", "r7", "r0"]));
        }
    }

    /// Leaves in `r0` what looking up a key gives.
    fn lookup(&mut self, map: u8) {
        put!(self, "*(u64 *)(r10 -8) = {}", self.pick(&[0, 1, -1]));
        if !self.one_in(24) {
            put!(self, "r2 = r10\nr2 += -8");
        }
        put!(self, "r1 = map[idx:{map}]\ncall bpf_map_lookup_elem");
    }

    fn map(&mut self) {
        // Programs that may sleep may not use most maps.
        let map = if self.profile.section == "syscall" {
            self.pick(&[1, 2, 2, 2])
        } else {
            self.pick(&[1, 2, 2, 2, 5, 6, 7, 7, 10, 3, 9])
        };
        match self.rng.u8(..8) {
            0 => {
                put!(self, "*(u64 *)(r10 -8) = 0\n*(u64 *)(r10 -16) = 0\n*(u64 *)(r10 -24) = 0");
                put!(self, "r2 = r10\nr2 += -8\nr3 = r10\nr3 += -{}", self.pick(&[24, 16, 24, 64]));
                put!(self, "r4 = {}\nr1 = map[idx:{map}]\ncall bpf_map_update_elem", self.pick(&[0, 1, 4]));
            }
            1 => {
                put!(self, "*(u64 *)(r10 -8) = 0\nr2 = r10\nr2 += -8\nr1 = map[idx:{map}]");
                put!(self, "call bpf_map_delete_elem");
            }
            2 if self.profile.section != "syscall" => {
                put!(
                    self,
                    "r1 = {}\nr2 = map[idx:3]\nr3 = {}",
                    self.pick(&["r6", "r6", "r7"]),
                    self.pick(&["0", "r9"])
                );
                put!(self, "call bpf_tail_call");
            }
            _ => {
                self.lookup(map);
                let missing = self.label();
                if !self.one_in(8) {
                    put!(self, "if r0 == 0 goto {missing}");
                }
                let (size, bytes) = self.pick(&SIZES);
                let offset = self.rng.i16(0..18) / bytes * bytes;
                match self.rng.u8(..5) {
                    0 => {
                        put!(self, "*({size} *)(r0 +{offset}) = 1");
                    }
                    1 => {
                        put!(self, "r7 = r0");
                    }
                    2 => {
                        put!(self, "*(u64 *)(r10 -16) = r0\nr3 = *(u64 *)(r10 -16)\nr3 = *({size} *)(r3 +0)");
                    }
                    _ => {
                        put!(self, "r3 = *({size} *)(r0 +{offset})");
                    }
                }
                put!(self, "{missing}:");
            }
        }
        self.after_call();
    }

    /// A helper that takes memory or numbers.
    fn helper(&mut self) {
        let size = self.pick(&["8", "16", "4", "0", "r9", "64", "-1", "520"]);
        let at = self.pick(&[8, 16, 64, 512, 24]);
        let filled = !self.one_in(3);
        if filled {
            put!(self, "*(u64 *)(r10 -8) = 0\n*(u64 *)(r10 -16) = r9");
        }
        let pointer = |base: &str| match base {
            "stack" => format!("r10\nrX += -{at}"),
            other => other.to_owned(),
        };
        let memory = self.pick(&["stack", "stack", "r7", "r8", "r6", "0"]);
        let argument =
            |reg: u8, base: &str| format!("r{reg} = {}", pointer(base).replace("rX", &format!("r{reg}")));
        match self.rng.u8(..14) {
            0 => {
                put!(
                    self,
                    "call {}",
                    self.pick(&["bpf_get_smp_processor_id", "bpf_ktime_get_ns", "bpf_jiffies64"])
                );
            }
            1 => {
                put!(self, "{}\nr2 = {size}\ncall bpf_get_current_comm", argument(1, memory));
            }
            2 => {
                put!(self, "{}\nr2 = {size}\nr3 = r9\ncall bpf_probe_read_kernel", argument(1, memory));
            }
            3 => {
                put!(self, "r1 = r6\nr2 = map[idx:8]\nr3 = 0\n{}\nr5 = {size}", argument(4, memory));
                put!(self, "call bpf_perf_event_output");
            }
            4 => {
                put!(
                    self,
                    "{}\nr2 = 8\nr3 = 10\n{}\ncall bpf_strtol",
                    argument(1, memory),
                    argument(4, "stack")
                );
            }
            5 => {
                put!(self, "{}\nr2 = {size}\n{}\nr4 = 8\nr5 = 0", argument(1, memory), argument(3, "stack"));
                put!(self, "call bpf_csum_diff");
            }
            6 => {
                put!(self, "{}\nr2 = {size}\nr3 = 0\ncall bpf_trace_printk", argument(1, memory));
            }
            7 if self.profile.section.starts_with("xdp") => {
                put!(
                    self,
                    "r1 = r6\nr2 = {}\ncall bpf_xdp_adjust_{}",
                    self.imm(),
                    self.pick(&["head", "tail", "meta"])
                );
            }
            7 | 8 if self.profile.skb => {
                put!(self, "r1 = r6\nr2 = {}\n{}\nr4 = {size}", self.pick(&["0", "r9"]), argument(3, memory));
                if self.one_in(3) {
                    put!(self, "r5 = 0\ncall bpf_skb_store_bytes");
                } else {
                    put!(self, "call bpf_skb_load_bytes");
                }
            }
            9 if self.profile.skb => {
                put!(
                    self,
                    "r1 = r6\nr2 = {size}\nr3 = 0\ncall bpf_skb_{}",
                    self.pick(&["pull_data", "change_tail"])
                );
            }
            10 => {
                put!(
                    self,
                    "{}\nr2 = {size}\nr3 = map[idx:1][0]+0\nr4 = 0\ncall bpf_get_stackid",
                    argument(1, "r6")
                );
            }
            11 => {
                put!(self, "{}\nr2 = {size}\n{}\ncall bpf_strncmp", argument(1, memory), argument(3, "r7"));
            }
            12 => {
                put!(self, "r1 = map[idx:7]\n*(u32 *)(r10 -4) = 0\nr2 = r10\nr2 += -4\nr3 = 0");
                put!(self, "call bpf_map_lookup_percpu_elem");
            }
            _ => {
                put!(
                    self,
                    "r1 = map[idx:4]\n{}\nr3 = {size}\nr4 = 0\ncall bpf_ringbuf_output",
                    argument(2, memory)
                );
            }
        }
        self.after_call();
    }

    /// A socket that is looked up and released.
    fn socket(&mut self) {
        let none = self.label();
        put!(
            self,
            "*(u64 *)(r10 -16) = 0\n*(u64 *)(r10 -8) = 0\nr1 = r6\nr2 = r10\nr2 += -16\nr3 = 12\nr4 = -1\nr5 = 0"
        );
        put!(self, "call bpf_{}", self.pick(&["sk_lookup_tcp", "sk_lookup_udp", "skc_lookup_tcp"]));
        if !self.one_in(8) {
            put!(self, "if r0 == 0 goto {none}");
        }
        if self.one_in(3) {
            put!(self, "r7 = r0\nr2 = *(u32 *)(r0 +{})", 4 * self.rng.i16(0..20));
        }
        if self.one_in(6) {
            put!(self, "*(u64 *)(r10 -24) = r0\nr0 = *(u64 *)(r10 -24)");
        }
        if !self.one_in(8) {
            put!(self, "r1 = r0\ncall bpf_sk_release");
        }
        put!(self, "{none}:");
        self.after_call();
    }

    /// A record of a ring buffer: reserved, used, given back.
    fn ring(&mut self) {
        let none = self.label();
        let bytes = self.pick(&[8, 16, 64]);
        put!(self, "r1 = map[idx:4]\nr2 = {bytes}\nr3 = 0\ncall bpf_ringbuf_reserve");
        if !self.one_in(8) {
            put!(self, "if r0 == 0 goto {none}");
        }
        put!(self, "r7 = r0");
        if self.one_in(2) {
            put!(self, "*(u64 *)(r7 +{}) = r9", self.pick(&[0, 0, 8, 56]));
        }
        if self.one_in(4) {
            self.scene();
        }
        if !self.one_in(8) {
            put!(self, "r1 = r7\nr2 = 0\ncall bpf_ringbuf_{}", self.pick(&["submit", "discard"]));
        }
        put!(self, "{none}:");
        if !self.one_in(3) {
            put!(self, "r7 = map[idx:1][0]+0");
        }
        self.after_call();
    }

    fn lock(&mut self) {
        let none = self.label();
        self.lookup(5);
        put!(self, "if r0 == 0 goto {none}\nr7 = r0\nr1 = r0\nr1 += {}", self.pick(&[4, 4, 4, 0]));
        put!(self, "call bpf_spin_lock");
        if self.one_in(2) {
            put!(self, "*(u32 *)(r7 +0) = {}", self.pick(&["0", "r9"]));
        }
        if self.one_in(8) {
            self.scene();
        }
        if !self.one_in(12) {
            put!(self, "r1 = r7\nr1 += 4\ncall bpf_spin_unlock");
        }
        put!(self, "{none}:\nr7 = map[idx:1][0]+0");
        self.after_call();
    }

    fn loops(&mut self) {
        if self.depth >= DEPTH {
            return self.arithmetic();
        }
        self.depth += 1;
        let (again, end) = (self.label(), self.label());
        match self.rng.u8(..4) {
            0 => {
                put!(self, "{again}:\nmay_goto {end}");
                self.scene();
                put!(self, "goto {again}\n{end}:");
            }
            1 => {
                put!(self, "*(u64 *)(r10 -40) = 0\n{again}:");
                self.scene();
                put!(self, "r0 = *(u64 *)(r10 -40)\nr0 += 1\n*(u64 *)(r10 -40) = r0");
                put!(self, "if r0 < {} goto {again}", self.rng.u8(2..20));
            }
            _ => {
                put!(self, "r9 = {}\n{again}:\nr9 += 1", self.pick(&["0", "r9", "1"]));
                self.scene();
                put!(
                    self,
                    "if r9 {} {} goto {again}",
                    self.pick(&["<", "<=", "s<", "!="]),
                    self.rng.u8(2..30)
                );
            }
        }
        self.depth -= 1;
    }

    fn call(&mut self) {
        let name = self.function(false);
        put!(
            self,
            "r1 = r6\nr2 = {}\nr3 = {}\nr4 = r9",
            self.pick(&["r7", "r9", "r10"]),
            self.pick(&["r8", "r10"])
        );
        if self.one_in(6) {
            put!(self, "r5 = r9");
        }
        put!(self, "call {name}");
        self.after_call();
    }

    fn callback(&mut self) {
        let name = self.function(true);
        put!(self, "*(u64 *)(r10 -48) = 0\nr3 = {}\nr4 = 0", self.pick(&["r10", "r10", "r7", "r9"]));
        if self.one_in(3) {
            put!(
                self,
                "r1 = map[idx:{}]\nr2 = subprog[{name}]\ncall bpf_for_each_map_elem",
                self.pick(&[1, 2, 7])
            );
        } else {
            put!(self, "r1 = {}\nr2 = subprog[{name}]\ncall bpf_loop", self.pick(&["1", "10", "r9", "0"]));
        }
        self.after_call();
    }

    fn dynptr(&mut self) {
        let base = self.pick(&["r7", "r7", "r7", "r10"]);
        put!(self, "r1 = {base}\nr2 = {}\nr3 = 0\nr4 = r10\nr4 += -32", self.pick(&["8", "16", "r9", "64"]));
        put!(self, "call bpf_dynptr_from_mem");
        match self.rng.u8(..5) {
            0 | 1 => {
                put!(self, "r1 = r10\nr1 += -8\nr2 = 8\nr3 = r10\nr3 += -{}", self.pick(&[32, 32, 24]));
                put!(self, "r4 = 0\nr5 = 0\ncall bpf_dynptr_read");
            }
            2 => {
                put!(
                    self,
                    "*(u64 *)(r10 -8) = 0\nr1 = r10\nr1 += -32\nr2 = 0\nr3 = r10\nr3 += -8\nr4 = 8\nr5 = 0"
                );
                put!(self, "call bpf_dynptr_write");
            }
            3 => {
                let none = self.label();
                put!(
                    self,
                    "r1 = r10\nr1 += -32\nr2 = 0\nr3 = 8\ncall bpf_dynptr_data\nif r0 == 0 goto {none}"
                );
                put!(self, "r5 = *(u64 *)(r0 +{})\n{none}:", self.pick(&[0, 0, 1, 8]));
            }
            _ => {
                put!(self, "r0 = *(u64 *)(r10 -{})", self.pick(&[32, 24]));
            }
        }
        self.after_call();
    }

    fn iterator(&mut self) {
        if self.depth >= DEPTH {
            return self.arithmetic();
        }
        self.depth += 1;
        let (again, end) = (self.label(), self.label());
        put!(
            self,
            "r1 = r10\nr1 += -56\nr2 = 0\nr3 = {}\ncall bpf_iter_num_new\n{again}:",
            self.pick(&["10", "3", "r9"])
        );
        put!(self, "r1 = r10\nr1 += -56\ncall bpf_iter_num_next\nif r0 == 0 goto {end}");
        if self.one_in(2) {
            put!(self, "r0 = *(u32 *)(r0 +0)");
        }
        put!(self, "r2 = 1\nr5 = 2");
        self.scene();
        put!(self, "goto {again}\n{end}:");
        if !self.one_in(10) {
            put!(self, "r1 = r10\nr1 += -56\ncall bpf_iter_num_destroy");
        }
        self.depth -= 1;
        put!(self, "r0 = 0");
        self.after_call();
    }

    fn atomic(&mut self) {
        let (mut base, offset, _) = self.place();
        if base == 6 && !self.one_in(8) {
            base = 7;
        }
        let (size, bytes) = self.pick(&[("u32", 4), ("u64", 8)]);
        let offset = offset / bytes * bytes;
        let src = self.number();
        let letter = if bytes == 4 { 'w' } else { 'r' };
        let name = if bytes == 4 { "atomic" } else { "atomic64" };
        match self.rng.u8(..6) {
            0 | 1 => {
                let op = self.pick(&["+=", "|=", "&=", "^="]);
                put!(self, "lock *({size} *)(r{base} {offset:+}) {op} r{src}");
            }
            2 => {
                let op = self.pick(&["add", "or", "and", "xor"]);
                put!(
                    self,
                    "{letter}{src} = {name}_fetch_{op}(({size} *)(r{base} {offset:+}), {letter}{src})"
                );
            }
            3 => {
                let name = if bytes == 4 { "cmpxchg32_32" } else { "cmpxchg_64" };
                put!(self, "{letter}0 = {name}(r{base} {offset:+}, {letter}0, {letter}{src})");
            }
            4 => {
                let letter = if bytes == 4 { 'w' } else { 'r' };
                put!(self, "{letter}{src} = load_acquire(({size} *)(r{base} {offset:+}))");
            }
            _ => {
                put!(self, "store_release(({size} *)(r{base} {offset:+}), {letter}{src})");
            }
        }
    }
}
