//! The user engine as a judge.

use std::sync::Arc;

use bpf_object::{LinkError, MapType, Object, ProgType};

use super::judge::{Answer, Judge, Question, Verdict};
use super::memory::Memory;
use crate::error::LoadError;
use crate::{Program, UpdateMode, UserEngine};

/// The user engine, with the options it was given.
#[derive(Clone, Debug)]
pub struct UserJudge {
    name: &'static str,
    engine: UserEngine,
}

impl UserJudge {
    /// Compiled programs.
    #[must_use]
    pub fn new(engine: UserEngine) -> Self {
        Self { name: "user", engine }
    }

    /// Interpreted programs.
    #[must_use]
    pub fn interpreter(engine: UserEngine) -> Self {
        Self { name: "user-interp", engine: engine.interpreter() }
    }
}

impl Judge for UserJudge {
    fn name(&self) -> &str {
        self.name
    }

    fn judge(&self, object: &Arc<Object>, question: &Question) -> Answer {
        let target = question.target.as_ref().and_then(|t| t.btf.clone());
        let engine = match target {
            Some(btf) => self.engine.clone().target_btf(btf),
            None => self.engine.clone(),
        };
        answer(&engine, object, question).unwrap_or_else(|error| refusal(&error))
    }
}

fn answer(engine: &UserEngine, object: &Arc<Object>, question: &Question) -> Result<Answer, LoadError> {
    let options = engine.link_options();
    let program = object.link_with(&question.program, &options)?;
    let maps = engine.maps(&program)?;
    let instance = engine.load_program(&program, &maps)?;
    let mut answer = Answer::default();
    if !question.run {
        return Ok(answer);
    }
    // The programs that tail calls may enter, itself among them; alive until the run is over.
    let mut programs = vec![Program::new(Arc::new(program), Arc::new(instance.clone()))];
    for name in &question.auxiliary {
        let program = object.link_with(name, &options)?;
        let instance = engine.load_program(&program, &maps)?;
        programs.push(Program::new(Arc::new(program), Arc::new(instance)));
    }
    let named = |name: &str| programs.iter().find(|program| program.name() == name);
    maps.fill_slots(&[MapType::ProgArray], named, |map, key, program| map.set_program(key, program))?;
    for (name, key, value) in &question.map_values {
        let Some(map) = maps.maps().into_iter().find(|m| m.name() == name) else {
            answer.run_error = Some(format!("no map `{name}`"));
            return Ok(answer);
        };
        if let Err(error) = map.update(key, value, UpdateMode::Any) {
            answer.run_error = Some(format!("map `{name}`: {error}"));
            return Ok(answer);
        }
    }
    let mut ctx = question.ctx.clone();
    // A kernel makes up what the hook would have been called with.
    let traced = [ProgType::Tracing, ProgType::Lsm, ProgType::Netfilter];
    if instance.program().kind.prog_type.is_some_and(|kind| traced.contains(&kind)) {
        ctx.resize(ctx.len().max(instance.inner.image.verified.ctx_bytes() as usize), 0);
    }
    match instance.run(&mut ctx) {
        Ok(outcome) => answer.return_value = Some(outcome.return_value),
        Err(error) => answer.run_error = Some(error.to_string()),
    }
    if let Some(pages) = &question.pages {
        answer.memory = Memory::copy_of(&maps.maps(), maps.arena(), pages);
    }
    Ok(answer)
}

fn refusal(error: &LoadError) -> Answer {
    let reason = error.to_string();
    let verdict = match error {
        LoadError::Rejected { source, .. } => Verdict::Rejected { errno: None, reason: source.to_string() },
        // What is no instruction is refused before verification.
        LoadError::Link(LinkError::Decode { .. }) => Verdict::Rejected { errno: None, reason },
        _ => Verdict::Undecided { reason },
    };
    Answer { verdict, ..Answer::default() }
}
