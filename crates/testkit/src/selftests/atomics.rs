//! `arena_atomics`: atomic operations on arena memory, each in a program of its own, and a use after free.

use bpf_arena::App;

use super::{Bench, CheckError, expect_global, missing, run};

/// Loads the object for this process (its programs do nothing in others), runs a program, and compares variables.
fn check(bench: &Bench<'_>, program: &str, expected: &[(&str, i128)]) -> Result<(), CheckError> {
    let app: App = bench.load()?;
    expect_global(&app, "skip_tests", 0)?;
    app.set_global("pid", std::process::id()).map_err(|error| missing("pid", error))?;
    run(&app, program)?;
    expected.iter().try_for_each(|&(name, value)| expect_global(&app, name, value))
}

pub(super) fn add(bench: &Bench<'_>) -> Result<(), CheckError> {
    let expected = [
        ("add64_value", 3),
        ("add64_result", 1),
        ("add32_value", 3),
        ("add32_result", 1),
        ("add_stack_value_copy", 3),
        ("add_stack_result", 1),
        ("add_noreturn_value", 3),
    ];
    check(bench, "add", &expected)
}

pub(super) fn sub(bench: &Bench<'_>) -> Result<(), CheckError> {
    let expected = [
        ("sub64_value", -1),
        ("sub64_result", 1),
        ("sub32_value", -1),
        ("sub32_result", 1),
        ("sub_stack_value_copy", -1),
        ("sub_stack_result", 1),
        ("sub_noreturn_value", -1),
    ];
    check(bench, "sub", &expected)
}

pub(super) fn and(bench: &Bench<'_>) -> Result<(), CheckError> {
    check(bench, "and", &[("and64_value", 0x010 << 32), ("and32_value", 0x010)])
}

pub(super) fn or(bench: &Bench<'_>) -> Result<(), CheckError> {
    check(bench, "or", &[("or64_value", 0x111 << 32), ("or32_value", 0x111)])
}

pub(super) fn xor(bench: &Bench<'_>) -> Result<(), CheckError> {
    check(bench, "xor", &[("xor64_value", 0x101 << 32), ("xor32_value", 0x101)])
}

pub(super) fn cmpxchg(bench: &Bench<'_>) -> Result<(), CheckError> {
    let expected = [
        ("cmpxchg64_value", 2),
        ("cmpxchg64_result_fail", 1),
        ("cmpxchg64_result_succeed", 1),
        ("cmpxchg32_value", 2),
        ("cmpxchg32_result_fail", 1),
        ("cmpxchg32_result_succeed", 1),
    ];
    check(bench, "cmpxchg", &expected)
}

pub(super) fn xchg(bench: &Bench<'_>) -> Result<(), CheckError> {
    let expected = [("xchg64_value", 2), ("xchg64_result", 1), ("xchg32_value", 2), ("xchg32_result", 1)];
    check(bench, "xchg", &expected)
}

pub(super) fn use_after_free(bench: &Bench<'_>) -> Result<(), CheckError> {
    check(bench, "uaf", &[("uaf_recovery_fails", 0)])
}
