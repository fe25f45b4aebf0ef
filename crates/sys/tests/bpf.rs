//! bpf(2) against the running kernel. Where it is not permitted the tests are reported as ignored, naming the missing
//! capability; where it is permitted, what a Linux 6.9 has must be there.

use std::os::fd::{AsFd, BorrowedFd};

use bpf_arena_sys::bpf::{
    ANY, BpfError, BtfFd, Capability, CapabilitySet, Errno, Feature, KernelVersion, LogMode, MAP_TYPE_ARENA,
    Map, MapOptions, NOEXIST, ObjectKind, Prog, ProgSpec, TestRun, object_ids,
};
use libtest_mimic::{Arguments, Failed, Trial};

const ARRAY: u32 = 2;
const HASH: u32 = 1;
const QUEUE: u32 = 22;
const PERCPU_ARRAY: u32 = 6;
const SYSCALL: u32 = 31;
const SOCKET_FILTER: u32 = 1;
const BPF_F_MMAPABLE: u32 = 1 << 10;
const BPF_F_SLEEPABLE: u32 = 1 << 4;

type Test = fn() -> Result<(), Failed>;

fn main() {
    let args = Arguments::from_args();
    let caps = CapabilitySet::effective();
    let missing = caps.first_missing(&[Capability::Bpf, Capability::Perfmon, Capability::SysAdmin]);
    let tests: [(&str, Test); 9] = [
        ("features_of_this_version", features),
        ("map_elements", map_elements),
        ("map_sizes_are_checked", map_sizes),
        ("mapped_array", mapped_array),
        ("arena_program", arena_program),
        ("rejection_carries_the_log", rejection),
        ("long_log_does_not_hide_the_verdict", long_log),
        ("kernel_btf", kernel_btf),
        ("descriptors_do_not_leak", descriptors),
    ];
    let mut trials: Vec<Trial> = tests
        .into_iter()
        .map(|(name, test)| match missing {
            Some(capability) => {
                Trial::test(format!("{name} (needs {capability})"), test).with_ignored_flag(true)
            }
            None => Trial::test(name, test),
        })
        .collect();
    if missing.is_some() {
        trials.push(Trial::test("refusal_names_the_capability", refusal));
    }
    libtest_mimic::run(&args, trials).exit();
}

/// Raw instructions: the words of `bpf_insn`, little endian.
fn code(insns: &[u64]) -> Vec<u8> {
    insns.iter().flat_map(|i| i.to_le_bytes()).collect()
}

fn insn(opcode: u8, dst: u8, src: u8, offset: i16, imm: i32) -> u64 {
    u64::from(opcode)
        | u64::from(dst | src << 4) << 8
        | u64::from(offset.cast_unsigned()) << 16
        | u64::from(imm.cast_unsigned()) << 32
}

fn syscall_spec(insns: &[u8]) -> ProgSpec<'_> {
    ProgSpec {
        name: "test",
        prog_type: SYSCALL,
        insns,
        license: "GPL",
        flags: BPF_F_SLEEPABLE,
        ..Default::default()
    }
}

fn check(condition: bool, what: &str) -> Result<(), Failed> {
    if condition { Ok(()) } else { Err(what.into()) }
}

fn features() -> Result<(), Failed> {
    let running = KernelVersion::running();
    for feature in Feature::ALL {
        if running >= feature.since() {
            check(feature.probe()?, &format!("{feature} is missing on {running}"))?;
            feature.require()?;
        }
    }
    Ok(())
}

fn map_elements() -> Result<(), Failed> {
    let options = MapOptions {
        name: "h",
        map_type: HASH,
        key_size: 4,
        value_size: 8,
        max_entries: 4,
        ..Default::default()
    };
    let map = Map::create(&options)?;
    check(map.info().name() == "h" && map.info().max_entries == 4, "info")?;
    let mut value = [0; 8];
    check(!map.lookup(&[1, 0, 0, 0], &mut value, 0)?, "empty map")?;
    map.update(&[1, 0, 0, 0], &[7; 8], NOEXIST)?;
    let again = map.update(&[1, 0, 0, 0], &[8; 8], NOEXIST);
    check(matches!(again, Err(BpfError::Call { errno: Errno::EXIST, .. })), "create twice")?;
    check(map.lookup(&[1, 0, 0, 0], &mut value, 0)? && value == [7; 8], "lookup")?;
    let mut key = [0; 4];
    check(map.next_key(None, &mut key)? && key == [1, 0, 0, 0], "first key")?;
    let from = key;
    check(!map.next_key(Some(&from), &mut key)?, "last key")?;
    check(map.delete(&from)? && !map.delete(&from)?, "delete")?;

    let options = MapOptions { map_type: QUEUE, value_size: 4, max_entries: 2, ..Default::default() };
    let queue = Map::create(&options)?;
    queue.update(&[], &[1, 2, 3, 4], ANY)?;
    let mut value = [0; 4];
    check(queue.lookup_and_delete(&[], &mut value, 0)? && value == [1, 2, 3, 4], "queue")?;
    check(!queue.lookup_and_delete(&[], &mut value, 0)?, "empty queue")
}

fn map_sizes() -> Result<(), Failed> {
    let options = MapOptions {
        map_type: PERCPU_ARRAY,
        key_size: 4,
        value_size: 4,
        max_entries: 1,
        ..Default::default()
    };
    let map = Map::create(&options)?;
    let mut value = vec![0; map.value_bytes()];
    check(value.len() == 8 * bpf_arena_sys::bpf::possible_cpus(), "per-cpu value size")?;
    check(map.lookup(&[0; 4], &mut value, 0)?, "per-cpu lookup")?;
    let short = map.lookup(&[0; 4], &mut [0; 4], 0);
    check(matches!(short, Err(BpfError::Size { what: "value", .. })), "short value")?;
    let short = map.update(&[0; 3], &value, ANY);
    check(matches!(short, Err(BpfError::Size { what: "key", expected: 4, got: 3 })), "short key")
}

fn mapped_array() -> Result<(), Failed> {
    let flags = BPF_F_MMAPABLE;
    let options = MapOptions {
        map_type: ARRAY,
        key_size: 4,
        value_size: 12,
        max_entries: 1,
        flags,
        ..Default::default()
    };
    let map = Map::create(&options)?;
    let memory = map.mmap()?;
    check(memory.write(1, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]), "write")?;
    let mut value = [0; 12];
    map.lookup(&[0; 4], &mut value, 0)?;
    check(value == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11], "the map holds what was written")?;
    let mut back = [0; 11];
    check(memory.read(1, &mut back) && back == value[1..], "read")?;
    check(!memory.read(10, &mut [0; 7]) && !memory.write(usize::MAX, &[0]), "out of bounds")
}

/// Stores a word through an arena pointer made from an offset, reads a missing page, and gives the sum back.
fn arena_program() -> Result<(), Failed> {
    const EXTRA: u64 = 0x1ff0_0000_0000;
    let options = MapOptions {
        name: "arena",
        map_type: MAP_TYPE_ARENA,
        max_entries: 4,
        flags: BPF_F_MMAPABLE,
        extra: EXTRA,
        ..Default::default()
    };
    let map = Map::create(&options)?;
    let memory = map.mmap()?;
    check(memory.base() as u64 == EXTRA, "mapped at map_extra")?;
    check(memory.write(0, &[0]), "the first page exists now")?;
    let insns = code(&[
        insn(0x18, 1, 5, 0, 0), // r1 = map 0 of the descriptor array: makes it the program's arena
        0,
        insn(0xb7, 6, 0, 0, 0),      // r6 = 0
        insn(0xbf, 6, 6, 1, 1),      // r6 = addr_space_cast(r6, 0, 1)
        insn(0xb7, 2, 0, 0, 42),     // r2 = 42
        insn(0x7b, 6, 2, 16, 0),     // *(u64 *)(r6 + 16) = r2
        insn(0x79, 0, 6, 16, 0),     // r0 = *(u64 *)(r6 + 16)
        insn(0x79, 3, 6, 0x2000, 0), // r3 = *(u64 *)(r6 + 8192): missing, so 0
        insn(0x0f, 0, 3, 0, 0),
        insn(0x95, 0, 0, 0, 0),
    ]);
    let fds: [BorrowedFd<'_>; 1] = [map.as_fd()];
    let (prog, _) = Prog::load(&ProgSpec { fd_array: &fds, ..syscall_spec(&insns) })?;
    let outcome = prog.test_run(&mut TestRun::default())?;
    let mut word = [0; 8];
    memory.read(16, &mut word);
    check(outcome.retval == 42 && word == 42_u64.to_le_bytes(), "program and host see the same memory")?;
    check(prog.info()?.verified_insns > 0, "info")
}

fn rejection() -> Result<(), Failed> {
    let insns = code(&[insn(0x79, 0, 1, 0, 0), insn(0xbf, 0, 9, 0, 0), insn(0x95, 0, 0, 0, 0)]);
    let error = Prog::load(&syscall_spec(&insns)).err().ok_or("accepted")?;
    let log = error.log().ok_or("no log")?;
    check(error.errno() == Some(Errno::ACCESS), "errno")?;
    check(log.last_line() == Some("R9 !read_ok"), "last line")?;
    check(log.last_insn() == Some(1), "last instruction")?;
    let quiet = Prog::load(&ProgSpec { log: LogMode::Never, ..syscall_spec(&insns) });
    check(quiet.is_err_and(|e| e.log().is_none()), "no log when none is wanted")
}

/// A program whose level-2 log is larger than the first buffer (64 KiB), accepted and refused.
fn long_log() -> Result<(), Failed> {
    for (last, accepted) in [(insn(0xb7, 0, 0, 0, 0), true), (insn(0xbf, 0, 9, 0, 0), false)] {
        let mut words = vec![insn(0xb7, 0, 0, 0, 0); 5000];
        words.extend([last, insn(0x95, 0, 0, 0, 0)]);
        let insns = code(&words);
        match Prog::load(&ProgSpec { log: LogMode::Always(2), ..syscall_spec(&insns) }) {
            Ok((_, log)) => {
                check(accepted && log.text().len() > 64 << 10 && !log.is_truncated(), "accepted")?
            }
            Err(error) => {
                check(!accepted && error.errno() == Some(Errno::ACCESS), "refused")?;
                check(error.log().and_then(|l| l.last_line()) == Some("R9 !read_ok"), "log's end")?;
            }
        }
    }
    Ok(())
}

fn kernel_btf() -> Result<(), Failed> {
    let ids = object_ids(ObjectKind::Btf)?;
    let first = BtfFd::by_id(*ids.first().ok_or("no BTF object")?)?;
    let info = first.info()?;
    check(info.is_kernel && info.name == "vmlinux", "the first BTF is the kernel's")?;
    check(first.data()? == std::fs::read("/sys/kernel/btf/vmlinux")?, "its bytes are sysfs's")?;
    let refused = BtfFd::load(&[0; 24]);
    check(refused.is_err_and(|e| e.errno() == Some(Errno::INVAL)), "malformed BTF")
}

fn descriptors() -> Result<(), Failed> {
    let count = || std::fs::read_dir("/proc/self/fd").map(Iterator::count);
    let insns = code(&[insn(0xb7, 0, 0, 0, 0), insn(0x95, 0, 0, 0, 0)]);
    let bad = code(&[insn(0x95, 0, 0, 0, 0)]);
    let round = || -> Result<(), Failed> {
        let options =
            MapOptions { map_type: ARRAY, key_size: 4, value_size: 4, max_entries: 1, ..Default::default() };
        let map = Map::create(&options)?;
        let (prog, _) = Prog::load(&ProgSpec {
            fd_array: &[map.as_fd()],
            prog_type: SOCKET_FILTER,
            flags: 0,
            ..syscall_spec(&insns)
        })?;
        prog.test_run(&mut TestRun { data: &[0; 64], ..Default::default() })?;
        check(Prog::load(&syscall_spec(&bad)).is_err(), "no r0")
    };
    round()?;
    let before = count()?;
    for _ in 0..200 {
        round()?;
    }
    // Other tests run beside this one and hold descriptors of their own, a dozen at most.
    check(count()? < before + 50, "descriptors leak")
}

fn refusal() -> Result<(), Failed> {
    let options =
        MapOptions { map_type: HASH, key_size: 4, value_size: 8, max_entries: 4, ..Default::default() };
    match Map::create(&options) {
        Err(BpfError::MissingCapability { .. }) => Ok(()),
        // `kernel.unprivileged_bpf_disabled = 0` lets hash maps through.
        Ok(_) => Ok(()),
        Err(other) => Err(format!("{other}").into()),
    }
}
