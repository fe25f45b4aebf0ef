//! The tests. `x` is `*(u64 *)(r9 +0)`, `y` is 64 and `z` 128 bytes behind it.

use super::Litmus;

/// All tests.
pub const TESTS: &[Litmus] = &[
    Litmus {
        name: "MP",
        threads: &[
            "*(u64 *)(r9 +0) = 1\n*(u64 *)(r9 +64) = 1",
            "r2 = *(u64 *)(r9 +64)\nr3 = *(u64 *)(r9 +0)",
        ],
        allowed: "everything, even the flag without the message",
        forbidden: "values nobody wrote",
        forbids: |o| o.first(1) > 1 || o.second(1) > 1 || o.variables != [1, 1, 0],
    },
    Litmus {
        name: "MP+release+acquire",
        threads: &[
            "r4 = 1\n*(u64 *)(r9 +0) = 1\nstore_release((u64 *)(r9 +64), r4)",
            "r2 = load_acquire((u64 *)(r9 +64))\nr3 = *(u64 *)(r9 +0)",
        ],
        allowed: "the message before the flag, both, none",
        forbidden: "the flag without the message",
        forbids: |o| o.of(1) == [1, 0],
    },
    Litmus {
        name: "MP+fetch+address",
        threads: &[
            "r4 = 0\n*(u64 *)(r9 +0) = 1\nr4 = atomic64_fetch_add((u64 *)(r9 +128), r4)\n*(u64 *)(r9 +64) = 1",
            "r2 = *(u64 *)(r9 +64)\nr4 = r2\nr4 &= 8\nr5 = r9\nr5 += r4\nr3 = *(u64 *)(r5 +0)",
        ],
        allowed: "the message before the flag, both, none",
        forbidden: "the flag without the message, whose address depends on the flag",
        forbids: |o| o.of(1) == [1, 0],
    },
    Litmus {
        name: "MP+release+spin",
        threads: &[
            "r4 = 1\n*(u64 *)(r9 +0) = 7\nstore_release((u64 *)(r9 +64), r4)",
            "again:\nmay_goto end\nr2 = load_acquire((u64 *)(r9 +64))\nif r2 == 0 goto again\nr3 = *(u64 *)(r9 +0)",
        ],
        allowed: "the message",
        forbidden: "waiting for ever, the flag without the message",
        forbids: |o| o.of(1) != [1, 7],
    },
    Litmus {
        name: "spin, plain",
        threads: &[
            "*(u64 *)(r9 +64) = 3",
            "again:\nmay_goto end\nr2 = *(u64 *)(r9 +64)\nif r2 != 3 goto again",
        ],
        allowed: "the flag",
        forbidden: "waiting for ever",
        forbids: |o| o.first(1) != 3,
    },
    Litmus {
        name: "SB",
        threads: &[
            "*(u64 *)(r9 +0) = 1\nr2 = *(u64 *)(r9 +64)",
            "*(u64 *)(r9 +64) = 1\nr2 = *(u64 *)(r9 +0)",
        ],
        allowed: "everything, even both reading 0",
        forbidden: "values nobody wrote",
        forbids: |o| o.first(0) > 1 || o.first(1) > 1,
    },
    Litmus {
        name: "SB+release+acquire",
        threads: &[
            "r4 = 1\nstore_release((u64 *)(r9 +0), r4)\nr2 = load_acquire((u64 *)(r9 +64))",
            "r4 = 1\nstore_release((u64 *)(r9 +64), r4)\nr2 = load_acquire((u64 *)(r9 +0))",
        ],
        allowed: "everything, even both reading 0",
        forbidden: "values nobody wrote",
        forbids: |o| o.first(0) > 1 || o.first(1) > 1,
    },
    Litmus {
        name: "SB+fetch",
        threads: &[
            "r4 = 0\n*(u64 *)(r9 +0) = 1\nr4 = atomic64_fetch_add((u64 *)(r9 +128), r4)\nr2 = *(u64 *)(r9 +64)",
            "r4 = 0\n*(u64 *)(r9 +64) = 1\nr4 = atomic64_fetch_or((u64 *)(r9 +128), r4)\nr2 = *(u64 *)(r9 +0)",
        ],
        allowed: "one of them reading 0, or none",
        forbidden: "both reading 0",
        forbids: |o| o.first(0) == 0 && o.first(1) == 0,
    },
    Litmus {
        name: "SB+xchg",
        threads: &[
            "r4 = 1\nr4 = xchg_64(r9 +0, r4)\nr2 = *(u64 *)(r9 +64)",
            "r0 = 0\nr4 = 1\nr0 = cmpxchg_64(r9 +64, r0, r4)\nr2 = *(u64 *)(r9 +0)",
        ],
        allowed: "one of them reading 0, or none",
        forbidden: "both reading 0",
        forbids: |o| o.first(0) == 0 && o.first(1) == 0,
    },
    Litmus {
        name: "SB+add",
        threads: &[
            "r4 = 0\n*(u64 *)(r9 +0) = 1\nlock *(u64 *)(r9 +128) += r4\nr2 = *(u64 *)(r9 +64)",
            "r4 = 0\n*(u64 *)(r9 +64) = 1\nlock *(u64 *)(r9 +128) += r4\nr2 = *(u64 *)(r9 +0)",
        ],
        allowed: "everything: without a fetch nothing is ordered",
        forbidden: "values nobody wrote",
        forbids: |o| o.first(0) > 1 || o.first(1) > 1,
    },
    Litmus {
        name: "LB",
        threads: &[
            "r2 = *(u64 *)(r9 +64)\n*(u64 *)(r9 +0) = 1",
            "r2 = *(u64 *)(r9 +0)\n*(u64 *)(r9 +64) = 1",
        ],
        allowed: "everything, even both reading 1",
        forbidden: "values nobody wrote",
        forbids: |o| o.first(0) > 1 || o.first(1) > 1,
    },
    Litmus {
        name: "LB+data",
        threads: &[
            "r2 = *(u64 *)(r9 +64)\n*(u64 *)(r9 +0) = r2",
            "r2 = *(u64 *)(r9 +0)\nr4 = r2\nr4 |= 1\n*(u64 *)(r9 +64) = r4",
        ],
        allowed: "the first reading 1, or none",
        forbidden: "both reading 1: a value out of thin air",
        forbids: |o| o.first(0) == 1 && o.first(1) == 1,
    },
    Litmus {
        name: "LB+control",
        threads: &[
            "r2 = *(u64 *)(r9 +64)\nif r2 != 1 goto end\n*(u64 *)(r9 +0) = 1",
            "r2 = *(u64 *)(r9 +0)\nif r2 != 1 goto end\n*(u64 *)(r9 +64) = 1",
        ],
        allowed: "none reading 1",
        forbidden: "any reading 1: a store that was not executed",
        forbids: |o| o.first(0) != 0 || o.first(1) != 0 || o.variables != [0, 0, 0],
    },
    Litmus {
        name: "LB+acquire+release",
        threads: &[
            "r2 = load_acquire((u64 *)(r9 +64))\n*(u64 *)(r9 +0) = 1",
            "r2 = *(u64 *)(r9 +0)\nr4 = 1\nstore_release((u64 *)(r9 +64), r4)",
        ],
        allowed: "one reading 1, or none",
        forbidden: "both reading 1",
        forbids: |o| o.first(0) == 1 && o.first(1) == 1,
    },
    Litmus {
        name: "CoRR",
        threads: &["*(u64 *)(r9 +0) = 1", "r2 = *(u64 *)(r9 +0)\nr3 = *(u64 *)(r9 +0)"],
        allowed: "the value twice, at last, never",
        forbidden: "the value first and then the one before it",
        forbids: |o| o.of(1) == [1, 0],
    },
    Litmus {
        name: "CoWR",
        threads: &["*(u64 *)(r9 +0) = 1\nr2 = *(u64 *)(r9 +0)", "*(u64 *)(r9 +0) = 2"],
        allowed: "its own value, or the other's where that stays",
        forbidden: "what was before its own value, or the other's under its own",
        forbids: |o| o.first(0) == 0 || (o.first(0) == 2 && o.variables != [2, 0, 0]),
    },
    Litmus {
        name: "CoRW",
        threads: &["r2 = *(u64 *)(r9 +0)\n*(u64 *)(r9 +0) = 1", "*(u64 *)(r9 +0) = 2"],
        allowed: "reading 0, or the other's value below its own",
        forbidden: "reading what it writes afterwards, or the other's value above its own",
        forbids: |o| o.first(0) == 1 || (o.first(0) == 2 && o.variables != [1, 0, 0]),
    },
    Litmus {
        name: "CoWW",
        threads: &["*(u64 *)(r9 +0) = 1\n*(u64 *)(r9 +0) = 2", "r2 = *(u64 *)(r9 +0)\nr3 = *(u64 *)(r9 +0)"],
        allowed: "the values in their order",
        forbidden: "the second and then the first, the first in the end",
        forbids: |o| o.variables != [2, 0, 0] || o.first(1) > o.second(1),
    },
    Litmus {
        name: "S+release+data",
        threads: &[
            "r4 = 1\n*(u64 *)(r9 +0) = 2\nstore_release((u64 *)(r9 +64), r4)",
            "r2 = *(u64 *)(r9 +64)\n*(u64 *)(r9 +0) = r2",
        ],
        allowed: "its value above the other's",
        forbidden: "the flag, and yet the other's value in the end",
        forbids: |o| o.first(1) == 1 && o.variables != [1, 1, 0],
    },
    Litmus {
        name: "R+fetch",
        threads: &[
            "r4 = 0\n*(u64 *)(r9 +0) = 1\nr4 = atomic64_fetch_add((u64 *)(r9 +128), r4)\n*(u64 *)(r9 +64) = 1",
            "r4 = 0\n*(u64 *)(r9 +64) = 2\nr4 = atomic64_fetch_add((u64 *)(r9 +128), r4)\nr2 = *(u64 *)(r9 +0)",
        ],
        allowed: "reading 1, or 0 where the other's store to y stays",
        forbidden: "reading 0 although its own store to y is the last",
        forbids: |o| o.first(1) == 0 && o.variables == [1, 2, 0],
    },
    Litmus {
        name: "2+2W+release",
        threads: &[
            "r4 = 2\n*(u64 *)(r9 +0) = 1\nstore_release((u64 *)(r9 +64), r4)",
            "r4 = 2\n*(u64 *)(r9 +64) = 1\nstore_release((u64 *)(r9 +0), r4)",
        ],
        allowed: "at least one of the second values in the end",
        forbidden: "both first values in the end",
        forbids: |o| o.variables == [1, 1, 0],
    },
    Litmus {
        name: "WRC+release+acquire",
        threads: &[
            "*(u64 *)(r9 +0) = 1",
            "r2 = *(u64 *)(r9 +0)\nr4 = 1\nstore_release((u64 *)(r9 +64), r4)",
            "r2 = load_acquire((u64 *)(r9 +64))\nr3 = *(u64 *)(r9 +0)",
        ],
        allowed: "what the second thread saw seen by the third",
        forbidden: "the flag of a thread that saw x, and then x not written",
        forbids: |o| o.first(1) == 1 && o.of(2) == [1, 0],
    },
    Litmus {
        name: "IRIW+fetch",
        threads: &[
            "*(u64 *)(r9 +0) = 1",
            "*(u64 *)(r9 +64) = 1",
            "r4 = 0\nr2 = *(u64 *)(r9 +0)\nr4 = atomic64_fetch_add((u64 *)(r9 +128), r4)\nr3 = *(u64 *)(r9 +64)",
            "r4 = 0\nr2 = *(u64 *)(r9 +64)\nr4 = atomic64_fetch_add((u64 *)(r9 +128), r4)\nr3 = *(u64 *)(r9 +0)",
        ],
        allowed: "both readers seeing the stores in the same order",
        forbidden: "each seeing another one first",
        forbids: |o| o.of(2) == [1, 0] && o.of(3) == [1, 0],
    },
    Litmus {
        name: "whole words",
        threads: &[
            "r4 = -1\n*(u64 *)(r9 +0) = r4\n*(u32 *)(r9 +64) = r4\n*(u16 *)(r9 +128) = r4",
            "r2 = *(u64 *)(r9 +0)\nr3 = *(u32 *)(r9 +64)\nr4 = *(u16 *)(r9 +128)\nr4 <<= 32\nr3 |= r4",
        ],
        allowed: "each word as it was or as it is",
        forbidden: "a part of a word",
        forbids: |o| {
            let [word, others] = o.of(1);
            let (half, quarter) = (others & 0xffff_ffff, others >> 32);
            ![0, u64::MAX].contains(&word)
                || ![0, 0xffff_ffff].contains(&half)
                || ![0, 0xffff].contains(&quarter)
        },
    },
    Litmus {
        name: "atomic sums",
        threads: &[
            "r4 = 1\nlock *(u64 *)(r9 +0) += r4\nlock *(u32 *)(r9 +64) += r4\nr2 = 1\nr2 = atomic64_fetch_add((u64 *)(r9 +128), r2)",
            "r4 = 1\nlock *(u64 *)(r9 +0) += r4\nlock *(u32 *)(r9 +64) += r4\nr2 = 1\nr2 = atomic64_fetch_add((u64 *)(r9 +128), r2)",
        ],
        allowed: "both added, one before the other",
        forbidden: "a sum that is lost, both the first",
        forbids: |o| o.variables != [2, 2, 2] || o.first(0) + o.first(1) != 1,
    },
    Litmus {
        name: "lock",
        threads: &[LOCKED, LOCKED],
        allowed: "both were in, one after the other",
        forbidden: "both at once: an addition that is lost",
        forbids: |o| o.first(0) != 1 || o.first(1) != 1 || o.variables != [0, 2, 2],
    },
    Litmus {
        name: "seqlock",
        threads: &[
            // A writer: odd, the values, even.
            "r4 = 1\nr4 = atomic64_fetch_add((u64 *)(r9 +0), r4)\n\
             *(u64 *)(r9 +64) = 5\n*(u64 *)(r9 +128) = 5\n\
             r4 = 2\nstore_release((u64 *)(r9 +0), r4)",
            // A reader, which counts only what it read between two equal and even numbers.
            "r0 = load_acquire((u64 *)(r9 +0))\n\
             r2 = *(u64 *)(r9 +64)\nr3 = *(u64 *)(r9 +128)\n\
             r4 = 0\nr4 = atomic64_fetch_add((u64 *)(r9 +192), r4)\n\
             r5 = *(u64 *)(r9 +0)\n\
             if r0 != r5 goto torn\nr0 &= 1\nif r0 == 0 goto end\n\
             torn:\nr2 = 9\nr3 = 9",
        ],
        allowed: "both values old, both new, or a try in vain",
        forbidden: "one old and one new, and numbers that say otherwise",
        forbids: |o| o.first(1) != o.second(1),
    },
];

/// Takes the lock `x`, adds to `y` and `z` without atomics, gives the lock back.
const LOCKED: &str = "again:\nmay_goto end\nr0 = 0\nr4 = 1\nr0 = cmpxchg_64(r9 +0, r0, r4)\nif r0 != 0 goto again\n\
                      r4 = *(u64 *)(r9 +64)\nr4 += 1\n*(u64 *)(r9 +64) = r4\n\
                      r4 = *(u64 *)(r9 +128)\nr4 += 1\n*(u64 *)(r9 +128) = r4\n\
                      r4 = 0\nstore_release((u64 *)(r9 +0), r4)\nr2 = 1";
