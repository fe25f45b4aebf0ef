//! Loops over memory that compiled code does sixteen bytes at a time, beside the interpreter, which knows nothing of that: at the ends of
//! pages, over pages that are missing, over one another, until the budget ends, and while other threads write and take pages away.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bpf_arena::arena::{PageCount, UserAddr};
use bpf_arena::{Engine, Instance, MapSet};
use bpf_arena_testkit::differential::{Bench, arena_spec};
use bpf_arena_testkit::generate::{CTX_BYTES, Case, USER_VM_START};
use bpf_object::Program;
use codegen::{Pass, PassSet};
use isa::{Code, InsnIdx};

const PAGE: u64 = 4096;
const LOW: u64 = USER_VM_START & 0xffff_ffff;
/// What the loops do to an element of type `T`; `r1` and `r2` go through memory.
const BODIES: [(&str, &str); 6] = [
    ("copy", "r4 = *(T *)(r1 +0)\n*(T *)(r2 +0) = r4"),
    ("fill", "*(T *)(r2 +0) = r5"),
    ("change", "r4 = *(T *)(r2 +0)\nr4 ^= 77\n*(T *)(r2 +0) = r4"),
    ("sum", "r4 = *(T *)(r1 +0)\nr0 += r4"),
    ("differ", "r4 = *(T *)(r1 +0)\nr7 = *(T *)(r2 +0)\nif r4 != r7 goto out"),
    ("copy until", "r4 = *(T *)(r1 +0)\n*(T *)(r2 +0) = r4\nif r4 == 0 goto out"),
];
const TYPES: [(&str, i64); 4] = [("u8", 1), ("u16", 2), ("u32", 4), ("u64", 8)];

/// A loop of `count` iterations behind another one of `before`, as the context says: from, to, count, before, and a number.
fn looping(body: &str, (ty, bytes): (&str, i64), down: bool, bounded: bool) -> Code {
    let step = if down { -bytes } else { bytes };
    let again = if bounded { "if r6 < r3 goto again" } else { "goto again" };
    let text = format!(
        "    r9 = r1
    r0 = map[idx:0]
    r1 = *(u64 *)(r9 +0)
    r1 = addr_space_cast(r1, 0, 1)
    r2 = *(u64 *)(r9 +8)
    r2 = addr_space_cast(r2, 0, 1)
    r3 = *(u64 *)(r9 +16)
    r7 = *(u64 *)(r9 +24)
    r5 = *(u64 *)(r9 +32)
    r6 = *(u64 *)(r9 +40)
    r0 = *(u64 *)(r9 +48)
before:
    may_goto again
    if r7 == 0 goto again
    r7 += -1
    goto before
again:
    may_goto out
    {}
    r1 += {step}
    r2 += {step}
    r6 += 1
    {again}
out:
    *(u64 *)(r9 +64) = r6
    *(u64 *)(r9 +72) = r0
    r1 = addr_space_cast(r1, 1, 0)
    *(u64 *)(r9 +80) = r1
    r0 = 0
    exit
",
        body.replace('T', ty),
    );
    isa::assemble(&text).unwrap_or_else(|error| panic!("{error}\n{text}")).code
}

/// One run of a loop.
#[derive(Clone, Copy, Debug)]
struct Run {
    from: u64,
    to: u64,
    count: u64,
    before: u64,
}

/// Both engines, with which the same is to come out.
struct Judge {
    bench: Bench,
    runs: u64,
}

impl Judge {
    fn new(number: u64) -> Self {
        Self { bench: Bench::new(USER_VM_START + (number << 32)).unwrap(), runs: 0 }
    }

    /// Compares interpreter and compiled code, with this pass alone and with all.
    fn compare(&mut self, what: &str, code: &Code, run: Run, pages: &[(u32, Vec<u8>)]) {
        let words = [LOW + run.from, LOW + run.to, run.count, run.before, 0x8182_8384_8586_8788, 0, 0];
        let mut ctx: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        ctx.resize(CTX_BYTES, 0);
        let case =
            Case { seed: 0, code: code.clone(), functions: vec![InsnIdx(0)], ctx, pages: pages.into() };
        let choices = [PassSet::NONE.with(Pass::Wide), PassSet::ALL];
        let agreement = self.bench.compare_with(&case, &choices);
        let agreement = agreement.unwrap_or_else(|error| panic!("{what}, {run:?}: {error}"));
        assert!(agreement.changes.iter().all(|changes| changes.of(Pass::Wide) > 0), "{what} stays as it was");
        self.runs += 1;
    }
}

/// A page of bytes of which none is 0, and no two that are close to each other are alike.
fn contents(page: u32) -> (u32, Vec<u8>) {
    (page, (0..PAGE).map(|at| u8::try_from(1 + (at * 7 + u64::from(page)) % 251).unwrap()).collect())
}

/// Pages that are alike, but for one byte.
fn alike(page: u32, other: Option<usize>) -> (u32, Vec<u8>) {
    let mut bytes = vec![9; 4096];
    if let Some(byte) = other.and_then(|at| bytes.get_mut(at)) {
        *byte = 0;
    }
    (page, bytes)
}

#[test]
fn missing_pages_at_each_place_of_a_group() {
    let mut judge = Judge::new(1);
    for (name, body) in BODIES {
        for ty in TYPES {
            let code = looping(body, ty, false, true);
            // Bytes before the end of a page of what is read, or written.
            for before in [0, 3, 16, 40, 63, 100] {
                let near = PAGE - before;
                let run = Run { from: 2 * PAGE + near, to: 6 * PAGE + 16, count: 170, before: 0 };
                let run_to = Run { from: 2 * PAGE + 24, to: 6 * PAGE + near, ..run };
                for present in [&[2, 6, 7][..], &[3, 6, 7], &[2, 3], &[2, 3, 6], &[2, 3, 7]] {
                    let pages: Vec<_> = match name {
                        "differ" => present.iter().map(|page| alike(*page, None)).collect(),
                        _ => present.iter().map(|page| contents(*page)).collect(),
                    };
                    let run = if present.len() == 3 && present[1] == 6 { run } else { run_to };
                    judge.compare(name, &code, run, &pages);
                }
            }
        }
    }
    assert_eq!(judge.runs, 6 * 4 * 6 * 5);
}

#[test]
fn overlapping_at_each_small_distance() {
    let mut judge = Judge::new(2);
    let pages = [contents(1), contents(2)];
    for (name, body) in [BODIES[0], BODIES[5]] {
        for ty in TYPES {
            for down in [false, true] {
                let code = looping(body, ty, down, true);
                for distance in (-68..=68).step_by(if ty.1 == 1 { 2 } else { 5 }) {
                    let from = 2 * PAGE - 20;
                    let to = from.checked_add_signed(distance).unwrap();
                    judge.compare(name, &code, Run { from, to, count: 110, before: 0 }, &pages);
                }
            }
        }
    }
}

#[test]
fn the_element_that_ends_a_loop_at_each_place() {
    let mut judge = Judge::new(3);
    let find = ("find", "r4 = *(T *)(r2 +0)\nif r4 == 0 goto out");
    let until =
        ("until", "r4 = *(T *)(r1 +0)\nr7 = *(T *)(r2 +0)\nif r4 != r7 goto out\nif r4 == 0 goto out");
    for (name, body) in [BODIES[4], BODIES[5], find, until] {
        for ty in TYPES {
            for bounded in [false, true] {
                let code = looping(body, ty, false, bounded);
                for at in (0..36).step_by(if bounded { 5 } else { 2 }) {
                    // The first 40 elements, with the last one on a page that is missing.
                    let bytes = ty.1.cast_unsigned();
                    let from = PAGE - 39 * bytes;
                    let other = usize::try_from(from + at * bytes).unwrap();
                    // Both sides have the 0, or one.
                    let both = at % 3 == 0;
                    let pages = [alike(0, both.then_some(other)), alike(4, Some(other)), alike(5, None)];
                    let run = Run { from, to: 4 * PAGE + from, count: 39, before: 0 };
                    judge.compare(name, &code, run, &pages);
                }
            }
        }
    }
}

#[test]
fn the_budget_ends_at_each_place_of_a_group() {
    let mut judge = Judge::new(4);
    let pages = [contents(1), contents(2), contents(3)];
    for (name, body) in BODIES {
        for ty in [TYPES[0], TYPES[3]] {
            let code = looping(body, ty, false, true);
            for before in (0..72).step_by(3).chain(240..=262) {
                let run = Run { from: PAGE, to: 2 * PAGE + 3, count: 600, before };
                judge.compare(name, &code, run, &pages);
            }
        }
    }
}

/// A program of its own, on memory that others use as well.
fn instance(engine: &bpf_arena::UserEngine, code: Code, maps: &MapSet) -> Instance {
    let mut program = Program::from_code("shared", "syscall", code);
    program.maps = maps.specs().clone();
    let verified = verifier::verify(&program, engine.verifier_env()).unwrap();
    engine.instantiate(&verified, maps).unwrap()
}

/// While one thread writes words and another takes pages away and brings them back, copies have words that were written, or 0,
/// and never parts of two.
#[test]
fn threads_see_whole_elements() {
    const WORDS: [u64; 2] = [0x1111_1111_1111_1111, 0xeeee_eeee_eeee_eeee];
    let start = USER_VM_START + (5 << 32);
    let engine = Engine::user();
    let mut program = Program::from_code("shared", "syscall", Code::new());
    program.maps = [arena_spec(start, 0)].into();
    let maps = engine.maps(&program).unwrap();
    let arena = maps.arena().unwrap();
    arena.alloc_pages(Some(UserAddr::new(start)), PageCount::new(8)).unwrap();
    let copy = instance(&engine, looping(BODIES[0].1, TYPES[3], false, true), &maps);
    let fill = instance(&engine, looping(BODIES[1].1, TYPES[3], false, true), &maps);
    let run = |instance: &Instance, words: [u64; 5]| {
        let mut ctx: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        ctx.resize(CTX_BYTES, 0);
        instance.run(&mut ctx).unwrap();
    };
    let done = AtomicBool::new(false);
    let is_done = || done.load(Ordering::Relaxed);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for word in WORDS.into_iter().cycle().take_while(|_| !is_done()) {
                run(&fill, [0, start + 8, 1023, 0, word]);
            }
        });
        scope.spawn(|| {
            for page in [1, 5].into_iter().cycle().take_while(|_| !is_done()) {
                let at = UserAddr::new(start + page * PAGE);
                arena.free_pages(at, PageCount::new(1));
                // Unless who reads below was quicker.
                let _ = arena.alloc_pages(Some(at), PageCount::new(1));
            }
        });
        let begin = Instant::now();
        let (mut seen, mut rounds) = ([0_u64; 3], 0);
        let patience = Duration::from_secs(60);
        while begin.elapsed() < Duration::from_millis(400) || seen.contains(&0) && begin.elapsed() < patience
        {
            run(&copy, [start + 8, start + 4 * PAGE + 24, 1000, 0, 0]);
            let mut bytes = vec![0; 8000];
            // A page that is missing when it is read is one that is populated.
            arena.read_bytes(UserAddr::new(start + 4 * PAGE + 24), &mut bytes).unwrap_or_default();
            for word in bytes.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap())) {
                let which = [0, WORDS[0], WORDS[1]].iter().position(|known| *known == word);
                seen[which.unwrap_or_else(|| panic!("{word:#x} is of two words"))] += 1;
            }
            rounds += 1;
        }
        done.store(true, Ordering::Relaxed);
        assert!(!seen.contains(&0), "{rounds} rounds, {seen:?}");
    });
}
