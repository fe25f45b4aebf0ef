//! The running kernel as a judge.

use std::sync::Arc;

use bpf_object::{Object, ProgType};

use super::annotation::TEST_DATA_LEN;
use super::judge::{Answer, Judge, Question, Verdict};
use super::memory::Memory;
use crate::kernel::{KernelError, KernelObject, KernelProgram, LoadOptions, LogMode};
use crate::{PacketRun, UpdateMode};

/// The running kernel.
#[derive(Clone, Copy, Debug, Default)]
pub struct KernelJudge;

impl Judge for KernelJudge {
    fn name(&self) -> &'static str {
        "kernel"
    }

    fn judge(&self, object: &Arc<Object>, question: &Question) -> Answer {
        answer(object, question).unwrap_or_else(|error| refusal(&error))
    }
}

fn answer(object: &Arc<Object>, question: &Question) -> Result<Answer, KernelError> {
    let target = question.target.as_ref().and_then(|t| t.btf.clone());
    let kernel_object = KernelObject::with_target(object, target)?;
    let load = |name: &str, options: &LoadOptions| {
        let linked = kernel_object.link(object, name)?;
        kernel_object.load(&linked, options)
    };
    let mut programs = Vec::new();
    for name in &question.auxiliary {
        programs.push(load(name, &LoadOptions::default())?.0);
    }
    let log = match question.log_level {
        0 => LogMode::OnRejection,
        level => LogMode::Always(level),
    };
    let (program, log) = load(&question.program, &LoadOptions { log, flags: question.flags })?;
    programs.push(program);
    kernel_object.fill_program_slots(object, &programs)?;
    let mut answer = Answer { log: Some(log.text().to_owned()), ..Answer::default() };
    if question.run
        && let Some(program) = programs.last()
    {
        match set_maps(&kernel_object, question).and_then(|()| run(program, &question.ctx)) {
            Ok(value) => answer.return_value = Some(value),
            Err(reason) => answer.run_error = Some(reason),
        }
        if let Some(pages) = &question.pages {
            let maps: Vec<_> = kernel_object.maps().collect();
            answer.memory = Memory::copy_of(&maps, kernel_object.arena(), pages);
        }
    }
    Ok(answer)
}

fn set_maps(object: &KernelObject, question: &Question) -> Result<(), String> {
    for (name, key, value) in &question.map_values {
        let map = object.maps().find(|m| m.name() == name).ok_or_else(|| format!("no map `{name}`"))?;
        map.update(key, value, UpdateMode::Any).map_err(|error| format!("map `{name}`: {error}"))?;
    }
    Ok(())
}

/// Runs as the selftests do: with a packet of zeroes, but nothing at all for `syscall`.
fn run(program: &KernelProgram, ctx: &[u8]) -> Result<u32, String> {
    let mut ctx = ctx.to_vec();
    let data = [0; TEST_DATA_LEN as usize];
    let mut data_out = [0; 4 * TEST_DATA_LEN as usize];
    let mut packet = PacketRun { ctx: &mut ctx, repeat: 1, ..PacketRun::default() };
    if program.kind() != Some(ProgType::Syscall) {
        packet.data = &data;
        packet.data_out = &mut data_out;
    }
    program.run_packet(&mut packet).map(|outcome| outcome.return_value).map_err(|error| error.to_string())
}

fn refusal(error: &KernelError) -> Answer {
    let log = error.log().map(|log| log.text().to_owned()).unwrap_or_default();
    let verdict = match error {
        // What the host lacks: privileges, an arena, or (mostly of a module that is not loaded) a kernel function.
        KernelError::MissingCapability { .. }
        | KernelError::Feature(_)
        | KernelError::MissingExtern { .. }
        | KernelError::NoStructOps { .. }
        | KernelError::NoAttachTarget { .. } => Verdict::Undecided { reason: error.to_string() },
        // Refused without a word, for a reason that is the host's: a policy, not the verifier.
        KernelError::Rejected(rejection) if rejection.is_policy() => Verdict::Undecided {
            reason: format!("{} without a log: this host does not permit it", rejection.errno),
        },
        _ => {
            let reason = match error.log().and_then(|log| log.last_line()) {
                Some(line) => line.to_owned(),
                None => error.to_string(),
            };
            Verdict::Rejected { errno: error.errno().map(|e| e.raw_os_error()), reason }
        }
    };
    Answer { verdict, log: Some(log), ..Answer::default() }
}
