//! Packets, contexts and scripts: random, near the limits that the rules have.

use fastrand::Rng;

use super::{Case, STEPS, Step};

/// Numbers of operations, as `bpf/packets/script.bpf.c` has them.
mod operation {
    pub(super) const LOAD: u32 = 1;
    pub(super) const LOAD_RELATIVE: u32 = 2;
    pub(super) const STORE: u32 = 3;
    pub(super) const PULL: u32 = 4;
    pub(super) const L3_CSUM: u32 = 5;
    pub(super) const L4_CSUM: u32 = 6;
    pub(super) const CSUM_UPDATE: u32 = 7;
    pub(super) const CSUM_LEVEL: u32 = 8;
    pub(super) const VLAN_PUSH: u32 = 9;
    pub(super) const CHANGE_PROTO: u32 = 11;
    pub(super) const CHANGE_TYPE: u32 = 12;
    pub(super) const CHANGE_TAIL: u32 = 13;
    pub(super) const CHANGE_HEAD: u32 = 14;
    pub(super) const ADJUST_ROOM: u32 = 15;
    pub(super) const SET_HASH: u32 = 18;
    pub(super) const SET_FIELDS: u32 = 19;
    pub(super) const POKE: u32 = 20;
    pub(super) const REDIRECT: u32 = 21;
    pub(super) const CHECK_MTU: u32 = 22;
    pub(super) const FIB: u32 = 23;
    pub(super) const SOCKET: u32 = 24;
    pub(super) const SET_TSTAMP: u32 = 26;
    pub(super) const ABOUT: u32 = 27;
    pub(super) const CLONE: u32 = 28;
    pub(super) const XDP_HEAD: u32 = 29;
    pub(super) const XDP_META: u32 = 30;
    pub(super) const XDP_TAIL: u32 = 31;
    pub(super) const XDP_LEN: u32 = 32;
    pub(super) const XDP_PULL: u32 = 33;
    pub(super) const TUNNEL: u32 = 34;
    pub(super) const LOOKUP: u32 = 35;
    pub(super) const END: u32 = 36;
}

/// A device that no machine has.
const NO_DEVICE: u32 = 0x7fff_0001;

/// `BPF_F_TEST_SKB_CHECKSUM_COMPLETE`.
const CHECKSUM_COMPLETE: u32 = 4;

/// The case with this number.
pub(super) fn case(program: &'static str, seed: u64) -> Case {
    let mut random = Rng::with_seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ program.len() as u64);
    let is_xdp = program == "script_xdp";
    let packet = packet(&mut random, is_xdp);
    let context = match program {
        "script_xdp" => frame_context(&mut random, packet.len()),
        "dissect" => keys_context(&mut random),
        _ => buffer_context(&mut random, packet.len()),
    };
    let mut steps = [Step::default(); STEPS];
    for step in &mut steps {
        *step = match program {
            "script_xdp" => frame_step(&mut random, packet.len()),
            "legacy_tc" | "legacy_socket" => legacy_step(&mut random, packet.len()),
            "dissect" => Step { a: random.u32(0..200), b: random.u32(0..200), ..Step::default() },
            _ => step_of(&mut random, packet.len()),
        };
    }
    let with_sum = program.starts_with("script_") && !is_xdp && random.u8(..) < 40;
    let is_gso = context.get(176..180).is_some_and(|size| size.iter().any(|byte| *byte != 0));
    keep_harmless(&mut steps, with_sum, is_gso);
    let unknown_flags = random.u8(..) < 5;
    // Of a packet in several pieces without room for all of it the kernel gives back a part in a wrong order.
    let whole = !is_xdp || context.is_empty() && packet.len() < 3500;
    Case {
        program,
        steps,
        count: random.u32(1..=STEPS as u32),
        verdict: random.u32(0..8),
        buffer: std::array::from_fn(|_| random.u8(..)),
        room: if whole && random.u8(..) < 20 {
            random.usize(0..packet.len() + 4)
        } else {
            packet.len() + 20000
        },
        repeat: if random.u8(..) < 20 { random.u32(0..3) } else { 1 },
        flags: if with_sum { CHECKSUM_COMPLETE } else { u32::from(unknown_flags) },
        packet,
        context,
    }
}

/// Takes out what a kernel does not survive: where the packet was moved to a larger block, it takes a transport header that was
/// never set for set, lets the packet be cut in front of its network header, and then sums up less than nothing.
fn keep_harmless(steps: &mut [Step], with_sum: bool, is_gso: bool) {
    let reshapes = |step: &Step| {
        [operation::CHANGE_HEAD, operation::CHANGE_TAIL, operation::CHANGE_PROTO, operation::ADJUST_ROOM]
            .contains(&step.operation)
    };
    let mut seen = false;
    for step in steps {
        let endless = is_gso && step.operation == operation::CHANGE_HEAD;
        if endless || with_sum && seen && reshapes(step) {
            *step = Step { operation: operation::PULL, ..Step::default() };
        }
        seen |= reshapes(step);
    }
}

fn pick<T: Copy>(random: &mut Rng, from: &[T]) -> T {
    from[random.usize(..from.len())]
}

/// A number near one of these, or any.
fn near(random: &mut Rng, limits: &[u32]) -> u32 {
    match random.u8(..10) {
        0 => random.u32(..),
        1 => random.u32(0..200),
        _ => pick(random, limits).wrapping_add(random.u32(0..3)).wrapping_sub(1),
    }
}

fn packet(random: &mut Rng, is_xdp: bool) -> Vec<u8> {
    let len = match random.u8(..100) {
        0..4 => random.usize(0..16),
        4..70 => random.usize(14..200),
        70..90 => random.usize(14..1600),
        90..95 => pick(random, &[3711, 3712, 3713, 3520, 3521, 4096, 4097]),
        _ if is_xdp => pick(random, &[3519, 3520, 3521, 7616, 7617, 20000, 73151, 73152, 73153, 80000]),
        _ => random.usize(14..4000),
    };
    let mut bytes: Vec<u8> = (0..len).map(|_| random.u8(..)).collect();
    let mut put = |at: usize, value: &[u8]| {
        bytes.iter_mut().skip(at).zip(value).for_each(|(to, from)| *to = *from);
    };
    match random.u8(..6) {
        0 => {}
        1 => put(0, &[0xff; 6]),
        _ => put(0, &[0; 6]),
    }
    let kind: &[u8] = match random.u8(..10) {
        0..4 => &[0x08, 0x00, 0x45],
        4..7 => &[0x86, 0xdd, 0x60],
        7 => &[0x81, 0x00, 0x20, 0x01, 0x08, 0x00],
        8 => &[0x88, 0xa8, 0x20, 0x01, 0x81, 0x00, 0x20, 0x02, 0x86, 0xdd],
        _ => pick(random, &[&[0x05, 0xdc, 0xff, 0xff], &[0x00, 0x40, 0x42, 0x42], &[0x08, 0x06, 0x00, 0x01]]),
    };
    put(12, kind);
    bytes
}

/// `struct __sk_buff`, of which a test run takes some fields.
fn buffer_context(random: &mut Rng, len: usize) -> Vec<u8> {
    if random.u8(..) < 100 {
        return Vec::new();
    }
    let mut context = vec![0; 192];
    let mut word = |at: usize, value: u32| context[at..at + 4].copy_from_slice(&value.to_le_bytes());
    let len = len as u32;
    for at in [8, 32, 36, 48, 52, 60, 64, 152, 184] {
        if random.bool() {
            word(at, random.u32(..));
        }
    }
    match random.u8(..8) {
        0 => word(40, pick(random, &[1, NO_DEVICE])),
        1 => word(160, near(random, &[len, len.wrapping_sub(14), 65536])),
        2 => word(164, near(random, &[1, 65535])),
        3 => word(176, near(random, &[100, 65535])),
        _ => {}
    }
    if random.u8(..) < 20 {
        context[random.usize(..192)] = 1;
    }
    resized(random, context)
}

/// `struct xdp_md`.
fn frame_context(random: &mut Rng, len: usize) -> Vec<u8> {
    if random.u8(..) < 100 {
        return Vec::new();
    }
    let mut context = vec![0; 24];
    let mut word = |at: usize, value: u32| context[at..at + 4].copy_from_slice(&value.to_le_bytes());
    let len = len as u32;
    if random.bool() {
        word(0, pick(random, &[4, 8, 32, 212, 216, 220, 252, 256, 3]));
    }
    word(4, if random.bool() { len } else { near(random, &[len, 64, 3520, 3000]) });
    match random.u8(..10) {
        0 => word(8, 4),
        1 => word(12, pick(random, &[1, NO_DEVICE])),
        2 => word(16, 1),
        3 => word(20, 1),
        _ => {}
    }
    resized(random, context)
}

/// `struct bpf_flow_keys`.
fn keys_context(random: &mut Rng) -> Vec<u8> {
    if random.bool() {
        return Vec::new();
    }
    let mut context = vec![0; 56];
    context[48] = random.u8(..);
    if random.u8(..) < 20 {
        context[random.usize(..56)] = 1;
    }
    resized(random, context)
}

/// Sometimes shorter or longer than the structure.
fn resized(random: &mut Rng, mut context: Vec<u8>) -> Vec<u8> {
    match random.u8(..16) {
        0 => context.truncate(random.usize(1..context.len())),
        1 => context.resize(context.len() + random.usize(1..200), 0),
        2 => context.resize(context.len() + 8, 1),
        _ => {}
    }
    context
}

/// A step for programs on `struct __sk_buff`.
fn step_of(random: &mut Rng, len: usize) -> Step {
    use operation as op;
    let len = len as u32;
    let offset = near(random, &[0, 12, 14, 24, 34, len, len.wrapping_sub(14), 0xffff, 0x7fff_ffff]);
    let mut step =
        Step { operation: random.u32(1..op::END), a: offset, b: random.u32(..), c: random.u32(..), flags: 0 };
    match step.operation {
        op::LOAD => {}
        op::LOAD_RELATIVE => step.b = random.u32(0..3),
        op::STORE => step.flags = pick(random, &[0, 1, 2, 3, 4, 1 << 40]),
        op::PULL => step.a = near(random, &[0, 14, len, len.wrapping_sub(14)]),
        op::L3_CSUM | op::L4_CSUM => checksum_step(random, &mut step),
        op::CSUM_UPDATE => step.a = random.u32(..),
        op::CSUM_LEVEL => step.flags = random.u64(0..5),
        op::VLAN_PUSH => {
            step.a = pick(random, &[0x0081, 0xa888, 0x0008, 0x1_0081]);
            step.b = random.u32(0..0x2_0000);
        }
        op::CHANGE_PROTO => {
            step.a = pick(random, &[0x0008, 0xdd86, 0xdd86, 0x0608]);
            step.flags = u64::from(random.u8(..) < 20);
        }
        op::CHANGE_TYPE => step.a = random.u32(0..6),
        op::CHANGE_TAIL => {
            step.a = near(random, &[len, len + 100, len / 2, 14, 34, 0, 16064]);
            step.flags = u64::from(random.u8(..) < 10);
        }
        op::CHANGE_HEAD => {
            step.a = near(random, &[0, 14, 64, 200, 16064 - len.min(16000)]);
            step.flags = u64::from(random.u8(..) < 10);
        }
        op::ADJUST_ROOM => room_step(random, &mut step, len),
        op::SET_HASH => step.a = random.u32(..),
        op::SET_FIELDS => {
            step.c &= 0xffff;
            step.b &= 0x7fff;
            step.flags = random.u64(..);
        }
        op::POKE => step.a &= 0xfff,
        op::REDIRECT => step.flags = pick(random, &[0, 1, 2, 1 << 16, 1 << 40]),
        op::CHECK_MTU => mtu_step(random, &mut step),
        op::FIB => route_step(random, &mut step),
        op::SOCKET => step.a = random.u32(0..8),
        op::SET_TSTAMP => {
            step.a = random.u32(0..5);
            step.flags = if random.bool() { 0 } else { random.u64(..) };
        }
        op::ABOUT => (step.a, step.flags) = (random.u32(0..8), random.u64(0..2)),
        // A copy that really goes to a device would arrive at this machine.
        op::CLONE => {
            step.a = pick(random, &[0, NO_DEVICE]);
            step.flags = pick(random, &[0, 1, 2, 1 << 16]);
        }
        op::TUNNEL => step.flags = random.u64(0..2),
        op::LOOKUP => step.flags = u64::from(random.u32(..)) << 32 | random.u64(0..4),
        _ => {}
    }
    step
}

fn checksum_step(random: &mut Rng, step: &mut Step) {
    let size = pick(random, &[0, 2, 4, 4, 3, 8]);
    step.flags = size;
    if size == 0 && random.u8(..) < 200 {
        step.b = 0;
    }
    if step.operation == operation::L4_CSUM {
        step.flags |= random.u64(0..16) << 4;
    }
    if random.u8(..) < 10 {
        step.flags |= 1 << 8;
    }
    if random.bool() {
        step.a &= !1;
    }
}

fn room_step(random: &mut Rng, step: &mut Step, len: u32) {
    let bytes = near(random, &[4, 8, 20, 28, 40, 50, len / 2, 0xfff]);
    step.a = if random.bool() { bytes } else { bytes.wrapping_neg() };
    step.b = if random.u8(..) < 10 { 2 } else { random.u32(0..2) };
    step.flags = match random.u8(..4) {
        0 => 0,
        1 => 1 << random.u32(0..9),
        2 => random.u64(0..1 << 9),
        _ => random.u64(0..1 << 7) | random.u64(0..20) << 56,
    };
    if random.u8(..) < 5 {
        step.flags |= 1 << 20;
    }
}

fn mtu_step(random: &mut Rng, step: &mut Step) {
    step.a = pick(random, &[0, 1, NO_DEVICE]);
    step.b = if random.bool() { 0 } else { near(random, &[100, 65536, 65550, 0x7fff_ffff]) };
    step.c = if random.bool() { 0 } else { near(random, &[65536, 0, 0xffff_ff00]) };
    step.flags = pick(random, &[0, 0, 1, 2]);
}

fn route_step(random: &mut Rng, step: &mut Step) {
    step.a = pick(random, &[2, 10, 1, 0]);
    step.b = pick(random, &[0, 1, NO_DEVICE]);
    step.c = pick(random, &[0x0100_007f, 0x8000_80fe, 0xff, 0x0101_0101]);
    step.flags = pick(random, &[64, 64, 65, 0, 64 + 0x8000_0000]);
}

/// A step for XDP.
fn frame_step(random: &mut Rng, len: usize) -> Step {
    use operation as op;
    let len = len as u32;
    let kinds = [
        op::LOAD,
        op::STORE,
        op::XDP_HEAD,
        op::XDP_HEAD,
        op::XDP_META,
        op::XDP_META,
        op::XDP_TAIL,
        op::XDP_TAIL,
        op::XDP_LEN,
        op::XDP_PULL,
        op::REDIRECT,
        op::CHECK_MTU,
        op::FIB,
        op::LOOKUP,
        op::POKE,
    ];
    let offset = near(random, &[0, 14, len, 3520, 7616, 0xffff]);
    let mut step =
        Step { operation: pick(random, &kinds), a: offset, b: random.u32(..), c: random.u32(..), flags: 0 };
    let either = |random: &mut Rng, value: u32| if random.bool() { value } else { value.wrapping_neg() };
    match step.operation {
        op::XDP_HEAD => {
            let by = near(random, &[0, 4, 14, 32, 216, 256, len.wrapping_sub(14)]);
            step.a = either(random, by);
        }
        op::XDP_META => {
            let by = pick(random, &[0, 4, 8, 32, 3, 216, 220, 252]);
            step.a = either(random, by);
        }
        op::XDP_TAIL => {
            let by = near(random, &[0, 10, 100, len.wrapping_sub(14), 3520_u32.wrapping_sub(len), 4096]);
            step.a = either(random, by);
        }
        op::XDP_PULL => step.a = near(random, &[0, 14, len, 3520, 3776, 3736]),
        op::REDIRECT => step.flags = random.u64(0..2),
        op::CHECK_MTU => mtu_step(random, &mut step),
        op::FIB => route_step(random, &mut step),
        op::LOOKUP => step.flags = u64::from(random.u32(..)) << 32 | random.u64(0..4),
        op::POKE => step.a &= 0xfff,
        _ => {}
    }
    step
}

/// The offset and the width of a legacy load.
fn legacy_step(random: &mut Rng, len: usize) -> Step {
    let len = len as u32;
    let (network, link) = ((-0x10_0000_i32).cast_unsigned(), (-0x20_0000_i32).cast_unsigned());
    let bases =
        [0, len, len.wrapping_sub(14), network, network.wrapping_add(len), link, link.wrapping_add(len)];
    let base = pick(random, &bases);
    let a = base.wrapping_add(random.u32(0..24)).wrapping_sub(16);
    Step { a, b: pick(random, &[1, 2, 4]), ..Step::default() }
}
