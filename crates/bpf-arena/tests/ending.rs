//! Runs that are ended early, in every way of taking long: they end, say why, and leave nothing behind.
//!
//! How soon they end is measured by `cargo xtask bench cancel`. Here it is only asked that they do.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

mod common;

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use bpf_arena::host::Call;
use bpf_arena::{App, Cancel, LoopLimit, Outcome, RunError, RunLimits, StopReason, UserEngine};
use common::{arena, both_with, each_app_with, program};

/// By when everything has happened that is to happen.
const SOON: Duration = Duration::from_secs(60);

/// Programs that go on until they are ended.
const ENDLESS: [&str; 9] = [
    "spin",
    "spin_in_calls",
    "spin_on_faults",
    "spin_on_faults_late",
    "spin_in_helpers",
    "loop",
    "iterate",
    "each",
    "call",
];

/// Loops that nobody ends go on for as long as a test may take.
fn patient(engine: UserEngine) -> UserEngine {
    engine.loop_limit(LoopLimit::Time(2 * SOON))
}

fn started(app: &App) -> u64 {
    app.global("started").unwrap()
}

fn wait_until(what: &str, done: impl Fn() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < SOON, "{what}");
        thread::sleep(Duration::from_micros(100));
    }
}

/// Runs a program under these limits on another thread, and waits until it has begun.
fn spawn(app: &App, name: &str, limits: RunLimits) -> mpsc::Receiver<Result<Outcome, RunError>> {
    let before = started(app);
    let program = app.program(name).unwrap().limited(limits).unwrap();
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let result = program.run(&mut ());
        // The arena lies at a fixed address, and whoever hears of the end may want it.
        drop(program);
        sender.send(result)
    });
    wait_until(name, || started(app) > before);
    receiver
}

#[track_caller]
fn reason(outcome: Result<Outcome, RunError>) -> StopReason {
    match outcome {
        Err(RunError::Stopped(stopped)) => stopped.reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_token_ends_its_runs_and_no_others() {
    each_app_with("endless.bpf.o", patient, |executor, app| {
        let other = Cancel::new();
        let spared = spawn(app, "spin", RunLimits::new().cancel(&other));
        for name in ENDLESS {
            let cancel = Cancel::new();
            let run = spawn(app, name, RunLimits::new().cancel(&cancel));
            cancel.cancel();
            let outcome = run.recv_timeout(SOON).unwrap_or_else(|_| panic!("{executor}: {name} goes on"));
            assert_eq!(reason(outcome), StopReason::Cancelled, "{executor}: {name}");
        }
        assert!(spared.try_recv().is_err(), "{executor}: it has a token of its own");
        other.cancel();
        assert_eq!(reason(spared.recv_timeout(SOON).unwrap()), StopReason::Cancelled);
    });
}

#[test]
fn one_token_ends_many_runs_and_those_that_begin_later() {
    each_app_with("endless.bpf.o", patient, |executor, app| {
        let cancel = Cancel::new();
        let limits = RunLimits::new().cancel(&cancel);
        let runs: Vec<_> = ["spin", "loop", "spin"].map(|name| spawn(app, name, limits.clone())).into();
        cancel.clone().cancel();
        for run in runs {
            assert_eq!(reason(run.recv_timeout(SOON).expect(executor)), StopReason::Cancelled);
        }
        let before = started(app);
        let later = app.program("spin").unwrap().limited(limits).unwrap().run(&mut ());
        assert_eq!(reason(later), StopReason::Cancelled);
        assert_eq!(started(app), before, "{executor}: it does not begin");
    });
}

#[test]
fn a_time_limit_ends_runs() {
    each_app_with("endless.bpf.o", patient, |executor, app| {
        let limit = Duration::from_millis(3);
        for name in ENDLESS {
            let begin = Instant::now();
            let outcome =
                app.program(name).unwrap().limited(RunLimits::new().time(limit)).unwrap().run(&mut ());
            assert!(begin.elapsed() >= limit, "{executor}: {name}");
            assert_eq!(reason(outcome), StopReason::TimeLimit(limit), "{executor}: {name}");
        }
        // A run that comes to its end in time is none of the limit's business.
        let bounded = app.program("wait").unwrap().limited(RunLimits::new().time(SOON)).unwrap();
        assert_eq!(bounded.run(&mut ()).unwrap().return_value, 0);
    });
}

#[test]
fn the_engine_limits_every_run_callbacks_among_them() {
    let limit = Duration::from_millis(200);
    let limited = |engine: UserEngine| patient(engine).time_limit(limit);
    each_app_with("endless.bpf.o", limited, |executor, app| {
        assert_eq!(reason(app.program("spin").unwrap().run(&mut ())), StopReason::TimeLimit(limit));
        let shorter = Duration::from_millis(1);
        let spin = app.program("spin").unwrap().limited(RunLimits::new().time(shorter)).unwrap();
        assert_eq!(reason(spin.run(&mut ())), StopReason::TimeLimit(shorter), "{executor}: the sooner one");

        // The callback is a run of its own, which nothing else would end.
        let before = started(app);
        app.program("start_timer").unwrap().run(&mut ()).unwrap();
        wait_until("the callback begins", || started(app) > before);
        let stop = app.program("stop_timer").unwrap();
        let outcome = stop.limited(RunLimits::new().time(shorter)).unwrap().run(&mut ());
        assert_eq!(
            reason(outcome),
            StopReason::TimeLimit(shorter),
            "{executor}: it does not wait for the callback"
        );
        wait_until("the callback has returned", || stop.run(&mut ()).is_ok());
    });
}

#[test]
fn it_is_said_where_a_loop_was() {
    each_app_with("endless.bpf.o", patient, |executor, app| {
        // On a busy machine a short time may be over before the program has begun.
        let run = |limit: &Duration| {
            let spin = app.program("spin").unwrap().limited(RunLimits::new().time(*limit)).unwrap();
            match spin.run(&mut ()) {
                Err(RunError::Stopped(stopped)) => (!stopped.frames.is_empty()).then_some((*limit, stopped)),
                outcome => panic!("{executor}: {outcome:?}"),
            }
        };
        let (limit, stopped) = [2, 20, 200, 2000].map(Duration::from_millis).iter().find_map(run).unwrap();
        assert_eq!(stopped.program, "spin");
        let line = stopped.frames[0].line.as_ref().unwrap();
        assert!(line.source.contains("can_loop") || line.source.contains("n++"), "{executor}: {line:?}");
        let text = RunError::Stopped(stopped).to_string();
        assert!(
            text.starts_with(&format!("stopped after {limit:?}: spin\n  spin at ./bpf/endless.bpf.c:")),
            "{executor}: {text}"
        );
    });
}

/// Who waits for a lock that is not given back leaves the program there: without having been inside, and without what it owned.
#[test]
fn a_run_that_waits_for_a_lock_ends_outside_of_it() {
    each_app_with("endless.bpf.o", patient, |executor, app| {
        for (holder, waiter) in [("hold", "wait"), ("hold_resilient", "wait_resilient")] {
            let release = Cancel::new();
            let holds = spawn(app, holder, RunLimits::new().cancel(&release));
            let cancel = Cancel::new();
            let waits = spawn(app, waiter, RunLimits::new().cancel(&cancel));
            cancel.cancel();
            let outcome = waits.recv_timeout(SOON).unwrap_or_else(|_| panic!("{executor}: {waiter} goes on"));
            assert_eq!(reason(outcome), StopReason::Cancelled, "{executor}: {waiter}");
            assert!(holds.try_recv().is_err(), "{executor}: {holder} is inside");
            release.cancel();
            assert_eq!(reason(holds.recv_timeout(SOON).unwrap()), StopReason::Cancelled);
        }
        let cell = app.map("guarded").unwrap().lookup(&[0; 4]).unwrap().unwrap();
        assert_eq!(cell[..4], [0; 4], "{executor}: the lock is free");
        // Nobody is in the way any more.
        assert_eq!(app.program("wait").unwrap().run(&mut ()).unwrap().return_value & 1, 0, "{executor}");
    });
}

#[test]
fn a_chain_of_programs_ends() {
    each_app_with("endless.bpf.o", patient, |executor, app| {
        let chain = app.program("chain").unwrap();
        app.map("programs").unwrap().set_program(&[0; 4], chain).unwrap();
        let cancel = Cancel::new();
        let before = started(app);
        let run = spawn(app, "chain", RunLimits::new().cancel(&cancel));
        cancel.cancel();
        assert_eq!(reason(run.recv_timeout(SOON).expect(executor)), StopReason::Cancelled);
        assert_eq!(started(app), before + 1, "{executor}: no other program was entered");
    });
}

#[test]
fn orders_of_the_host_end() {
    each_app_with("endless.bpf.o", patient, |executor, app| {
        let mut orders = app.map("orders").unwrap().user_ring_buffer().unwrap();
        for _ in 0..64 {
            orders.push(&[0; 8]).unwrap();
        }
        let cancel = Cancel::new();
        let run = spawn(app, "drain", RunLimits::new().cancel(&cancel));
        cancel.cancel();
        assert_eq!(reason(run.recv_timeout(SOON).expect(executor)), StopReason::Cancelled);
    });
}

/// Iterations are counted exactly, however they are given out.
#[test]
fn a_budget_of_iterations_is_exact() {
    let text = "
        r0 = 0
    again:
        may_goto done
        r0 += 1
        r0 &= 0xffffff
        goto again
    done:
        exit
    ";
    for limit in [0, 1, 255, 256, 257, 1000, 4095, 4096, 4097, 65535, 65536, 70_000, 200_000, 1_000_000] {
        let r0 = common::both_with(
            &program(text, vec![]),
            &[],
            |engine| engine.loop_limit(LoopLimit::Iterations(limit)),
            |outcome, _, _| outcome.unwrap().r0,
        );
        assert_eq!(r0, limit);
    }
}

/// Loops that compiled code takes iterations for ahead of time: towards bounds near and far, at the ends of the numbers, past them;
/// left where the bound is, in their midst, and where the budget ends. What they leave of it another loop counts.
#[test]
fn a_budget_is_exact_behind_counted_loops() {
    let numbers: [(u64, u64); 8] = [
        (0, 5),
        (0, 400),
        (400, 0),
        (7, 7),
        (u64::MAX - 3, 2),
        (3, u64::MAX - 1),
        (u64::MAX / 2 - 3, u64::MAX / 2 + 4),
        (0x7fff_fff0, 0x8000_0010),
    ];
    let conditions =
        [("<", 1), ("<", 4), ("s<", 1), ("<=", 2), (">", -1), (">", -8), ("s>", -2), ("!=", 1), ("!=", -1)];
    for (kind, (condition, step)) in (0..8).flat_map(|kind| conditions.map(|condition| (kind, condition))) {
        let (reg, leaves_early) = (if kind & 1 == 0 { 'r' } else { 'w' }, kind & 2 == 0);
        let test = format!("if {reg}6 {condition} {reg}7 goto");
        let [before, behind] =
            if leaves_early { ["if r6 == r8 goto rest", ""] } else { ["", "if r6 == r8 goto rest"] };
        let body = format!("r0 += 1\nr0 &= 0xffff\n{before}\n{reg}6 += {step}\n{behind}");
        let counted = if kind & 4 == 0 {
            format!("again:\nmay_goto rest\n{body}\n{test} again")
        } else {
            format!("again:\n{test} inside\ngoto rest\ninside:\nmay_goto rest\n{body}\ngoto again")
        };
        let text = format!(
            "
            r6 = *(u64 *)(r1 +0)
            r7 = *(u64 *)(r1 +8)
            r8 = *(u64 *)(r1 +16)
            r0 = 0
            r9 = 0
            {counted}
        rest:
            may_goto done
            r9 += 1
            r9 &= 0xffff
            goto rest
        done:
            r0 <<= 32
            r0 |= r9
            exit
        "
        );
        let program = program(&text, vec![]);
        for (from, to) in numbers {
            for limit in [0, 1, 128, 129, 300] {
                let needle = from.wrapping_add_signed(step * 6);
                let ctx: Vec<u8> =
                    [from, to, needle].iter().flat_map(|number| number.to_le_bytes()).collect();
                let r0 = both_with(
                    &program,
                    &ctx,
                    |engine| engine.loop_limit(LoopLimit::Iterations(limit)),
                    |outcome, _, instance| {
                        let counted = |changes: codegen::Changes| changes.of(codegen::Pass::Unroll) > 0;
                        assert!(condition == "<=" || instance.changes().is_none_or(counted), "{text}");
                        outcome.unwrap().r0
                    },
                );
                assert_eq!((r0 >> 32) + (r0 & 0xffff), limit, "{from} {to}\n{text}");
            }
        }
    }
}

/// A budget that is spent is no error: the loop is left, and the program goes on.
#[test]
fn a_loop_whose_time_is_over_is_left() {
    let limited = |engine: UserEngine| engine.loop_limit(LoopLimit::Time(Duration::from_millis(2)));
    each_app_with("endless.bpf.o", limited, |executor, app| {
        let ended: u64 = app.global("ended").unwrap();
        let begin = Instant::now();
        for name in ["spin", "spin_on_faults", "spin_in_helpers"] {
            app.program(name).unwrap().run(&mut ()).unwrap_or_else(|error| panic!("{executor}: {error}"));
        }
        assert!(begin.elapsed() >= Duration::from_millis(6), "{executor}");
        assert_eq!(app.global::<u64>("ended").unwrap(), ended + 3, "{executor}");
    });
}

/// A missing page takes a thousand times as long as one that exists, so a compiled loop that meets them looks more often.
#[test]
fn a_loop_that_meets_missing_pages_ends_within_a_few_of_them() {
    let text = "
        r6 = r1
        r7 = map[idx:0]
        r7 = 0x40000000 ll
        r7 = addr_space_cast(r7, 0, 1)
    again:
        r8 = *(u64 *)(r6 +0)
        r8 += 1
        *(u64 *)(r6 +0) = r8
        r0 = *(u64 *)(r7 +8)
        if r8 != 1000 goto next
        call bpf_get_current_cgroup_id
    next:
        may_goto done
        goto again
    done:
        r0 = 0
        exit
    ";
    let ends = |engine: UserEngine| {
        let cancel = Cancel::new();
        let engine = engine.cancel(&cancel).loop_limit(LoopLimit::Iterations(u64::MAX));
        engine.mock("bpf_get_current_cgroup_id", move |_: &mut Call<'_>| -> u64 {
            cancel.cancel();
            0
        })
    };
    both_with(&program(text, vec![arena(4, 0)]), &[0; 8], ends, |outcome, ctx, instance| {
        assert_eq!(reason(outcome), StopReason::Cancelled);
        let after = u64::from_le_bytes(ctx.try_into().unwrap()) - 1000;
        let compiled = instance.changes().is_some();
        let most = if compiled { codegen::abi::LOOPS_AFTER_FAULTS } else { codegen::abi::LOOPS_PER_LOOK };
        assert!(after <= most, "{after} iterations later");
    });
}
