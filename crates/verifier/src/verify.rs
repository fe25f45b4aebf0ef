//! From a program to a verdict.

use std::sync::Arc;

use bpf_object::{Linkage, Program};
use isa::{InsnIdx, Reg};

use crate::facts::Facts;
use crate::limits::MAX_RESTARTS;
use crate::plan::Plan;
use crate::plan::externs::External;
use crate::plan::functions::{Parameter, check_stack, parameters};
use crate::report::diagnose::{self, Site};
use crate::report::error::Rejection;
use crate::report::events::{Event, Listener, Observer};
use crate::report::reason::{FunctionFault, Reason, Unsupported};
use crate::report::view::{PlanView, ValuesView};
use crate::state::reg::{RegState, RegType};
use crate::state::{Frame, State};
use crate::verified::{Inner, Stats};
use crate::walk::explore::{Explorer, Failure, Stop, Work};
use crate::walk::origin::{Origin, Origins};
use crate::walk::trust::Trust;
use crate::{Env, Verified};

/// Verifies a linked program.
///
/// # Errors
/// The program is not safe, or is not understood.
pub fn verify(program: &Program, env: &Env) -> Result<Verified, Rejection> {
    verify_with(program, env, &mut ())
}

/// The same, telling an [`Observer`] what happens.
///
/// # Errors
/// The program is not safe, or is not understood.
pub fn verify_with(program: &Program, env: &Env, observer: &mut dyn Observer) -> Result<Verified, Rejection> {
    let plan = Plan::new(program, env).map_err(|(at, reason)| {
        diagnose::rejection(
            program,
            reason,
            &Site { at, state: None, origins: None, facts: None, stats: Stats::default() },
        )
    })?;
    Listener::new(observer).event(&Event::Planned { plan: PlanView::new(&plan) });
    let mut facts = Facts::new(program.code.len(), program.subprograms.len());
    let (mut work, mut trust) = (Work::default(), true);
    for _ in 0..=MAX_RESTARTS {
        let mut origins = Origins::new();
        let result = walk(&plan, &mut facts, &mut origins, &mut work, trust, observer);
        Listener::new(observer)
            .event(&Event::Walked { values: ValuesView::new(&origins), frames: &facts.frames });
        let failure = match result {
            Ok(()) => return finish(&plan, facts, work),
            Err(failure) => failure,
        };
        match failure.stop {
            Stop::Restart(conflict) => {
                Listener::new(observer).event(&Event::Restart { at: conflict.0 });
                facts.restart(Some(conflict));
                work.restart();
            }
            Stop::Callbacks => {
                Listener::new(observer).event(&Event::Restart { at: failure.at });
                trust = false;
                facts.restart(None);
                work.restart();
            }
            Stop::Refused(reason) => {
                let (state, origins) = (failure.state.as_deref(), Some(&origins));
                let site =
                    Site { at: Some(failure.at), state, origins, facts: Some(&facts), stats: work.stats() };
                return Err(diagnose::rejection(program, reason, &site));
            }
        }
    }
    let what = "arithmetic on arena pointers and numbers by the same instruction, in many places";
    let site = Site { at: None, state: None, origins: None, facts: None, stats: work.stats() };
    Err(diagnose::rejection(program, Unsupported::Feature { what }.into(), &site))
}

/// Walks the entry and then every global function it reaches.
fn walk(
    plan: &Plan<'_>,
    facts: &mut Facts,
    origins: &mut Origins,
    work: &mut Work,
    trust: bool,
    observer: &mut dyn Observer,
) -> Result<(), Failure> {
    facts.reach_function(0, false);
    if let Some(handler) = plan.functions.exception_callback {
        facts.reach_function(handler, true);
        facts.call_later(handler);
    }
    let mut done = vec![false; plan.program.subprograms.len()];
    let mut last = None;
    while let Some(index) = next_function(plan, facts, &done, last) {
        last = Some(index);
        if let Some(done) = done.get_mut(index as usize) {
            *done = true;
        }
        Listener::new(observer).event(&Event::Function { subprog: index });
        let start = plan.subprog(index).map_or(InsnIdx(0), |s| s.start);
        let trust = trust.then(Trust::default);
        let mut explorer = Explorer::new(plan, facts, origins, work, Listener::new(observer), trust);
        let state = entry_state(plan, index, &mut explorer).map_err(|reason| Failure {
            stop: Stop::Refused(reason),
            at: start,
            state: None,
        })?;
        explorer.run(start, state)?;
        Listener::new(observer).event(&Event::FunctionDone { subprog: index });
    }
    Ok(())
}

/// The next function to be verified on its own: the entry, then global ones that are called, round and round from the `last`
/// one.
fn next_function(plan: &Plan<'_>, facts: &Facts, done: &[bool], last: Option<u32>) -> Option<u32> {
    let subprograms = &plan.program.subprograms;
    let wanted = |i: usize| {
        let global = subprograms.get(i).is_some_and(|s| s.linkage != Linkage::Static);
        let reached = facts.frames.get(i).is_some_and(|f| f.reached);
        (i == 0 || global) && reached && done.get(i) == Some(&false)
    };
    let first = last.map_or(0, |last| last as usize + 1);
    let index = (first..subprograms.len()).chain(0..first).find(|&i| wanted(i))?;
    u32::try_from(index).ok()
}

/// The state a function verified on its own starts in.
fn entry_state(plan: &Plan<'_>, index: u32, explorer: &mut Explorer<'_>) -> Result<State, Reason> {
    let mut frame = Frame::new(index, InsnIdx(0), 0);
    if index == 0 {
        frame.set(Reg::R1, RegState::pointer(RegType::PtrToCtx, Origin::NONE));
        return Ok(State::new(frame));
    }
    let parameters = parameters(plan, index)?;
    if plan.functions.exception_callback == Some(index) && parameters != [Parameter::Number] {
        return Err(FunctionFault::ExceptionCallbackArguments.into());
    }
    for (reg, parameter) in Reg::ARGS.into_iter().zip(parameters) {
        let origin = explorer.origins.derive(None, &[]);
        let mut fresh = || {
            explorer.ids += 1;
            explorer.ids
        };
        frame.set(reg, RegState { origin, ..parameter.register(&mut fresh) });
    }
    Ok(State::new(frame))
}

/// Checks what can only be checked at the end, and packs up.
fn finish(plan: &Plan<'_>, facts: Facts, work: Work) -> Result<Verified, Rejection> {
    let max_stack_bytes = check_stack(plan, &facts.frames).map_err(|reason| {
        let site = Site { at: None, state: None, origins: None, facts: None, stats: work.stats() };
        diagnose::rejection(plan.program, reason, &site)
    })?;
    let (ctx_bytes, map_bytes) = (facts.ctx_bytes, facts.map_bytes);
    let (insns, frames) = facts.finish();
    let stats = Stats { max_stack_bytes, ..work.stats() };
    let program = plan.program.clone();
    let (arena, exception_callback) = (plan.arena, plan.functions.exception_callback);
    let variable = |index: usize| match i32::try_from(index).ok().and_then(|index| plan.external(index)) {
        Some(External::Variable { kind: RegType::PtrToMem { size }, .. }) => *size,
        _ => 0,
    };
    let variables = (0..plan.program.externs.len()).map(variable).collect();
    let inner = Inner {
        program,
        facts: insns,
        frames,
        fields: plan.fields.clone(),
        arena,
        exception_callback,
        ctx_bytes,
        map_bytes,
        variables,
        stats,
    };
    Ok(Verified { inner: Arc::new(inner) })
}
