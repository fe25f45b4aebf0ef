//! A slice of what `cargo xtask litmus` runs for long: every litmus test by interpreter and as compiled code, with all passes, none,
//! and each alone.

use std::time::Duration;

use bpf_arena::Engine;
use bpf_arena_testkit::litmus::{Bench, Seen, TESTS};
use codegen::{Pass, PassSet};

#[test]
fn forbidden_outcomes_are_not_seen() {
    let alone = Pass::ALL.into_iter().map(|pass| PassSet::NONE.with(pass));
    let choices = [PassSet::ALL, PassSet::NONE].into_iter().chain(alone);
    let compiled = choices.map(|passes| (format!("{passes:?}"), Engine::user().passes(passes)));
    let engines: Vec<_> =
        [("interpreter".to_owned(), Engine::user().interpreter())].into_iter().chain(compiled).collect();
    for test in TESTS {
        for (name, engine) in &engines {
            let mut seen = Seen::default();
            Bench::new(test, engine).unwrap().run(Duration::from_millis(10), &mut seen).unwrap();
            assert_eq!(seen.forbidden(test), None, "{}, {name}: {}", test.name, test.forbidden);
            assert!(seen.rounds > 0);
        }
    }
}

/// The tests see what the machine does: a test whose forbidden outcome is one that is allowed and common finds it.
#[test]
fn outcomes_are_found() {
    let test = TESTS.iter().find(|test| test.name == "CoRR").unwrap();
    let wrong =
        bpf_arena_testkit::litmus::Litmus { forbids: |o| o.second(1) == 1 || o.second(1) == 0, ..*test };
    let mut seen = Seen::default();
    Bench::new(&wrong, &Engine::user()).unwrap().run(Duration::from_millis(10), &mut seen).unwrap();
    assert!(seen.forbidden(&wrong).is_some());
}
