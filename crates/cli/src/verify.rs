//! `bpf-arena verify`.

use bpf_object::Program;
use verifier::{Env, Rejection, Verified};

use crate::args::VerifyArgs;
use crate::failure::Failure;
use crate::json::{self, Verdict};
use crate::output::{self, say};
use crate::{input, report};

/// Verifies each program asked for.
pub(crate) fn run(args: &VerifyArgs) -> Result<(), Failure> {
    let object = input::object(&args.object)?;
    let mut refused = 0;
    let names = input::programs(&object, args.program.as_deref())?;
    for name in &names {
        let program = input::link(&object, name)?;
        let verdict = verifier::verify(&program, &Env::default());
        refused += usize::from(verdict.is_err());
        if args.json {
            output::json(&to_json(name, &verdict))?;
            continue;
        }
        match verdict {
            Ok(verified) => {
                let stats = verified.stats();
                say!(
                    "{name}: accepted ({} instructions walked, {} states, {} bytes of stack)",
                    stats.insns_walked,
                    stats.total_states,
                    stats.max_stack_bytes
                )?;
            }
            Err(rejection) => {
                say!("{name}: refused")?;
                output::note(&report::refusal(&program, &rejection));
            }
        }
    }
    if refused == 0 { Ok(()) } else { Err(Failure::Reported) }
}

/// The proof that a program is safe, or a failure that says why it is not.
pub(crate) fn accept(program: &Program) -> Result<Verified, Failure> {
    verifier::verify(program, &Env::default()).map_err(|rejection| {
        output::note(&report::refusal(program, &rejection));
        Failure::Reported
    })
}

fn to_json(name: &str, verdict: &Result<Verified, Rejection>) -> Verdict {
    Verdict {
        version: json::VERSION,
        program: name.to_owned(),
        accepted: verdict.is_ok(),
        reason: verdict.as_ref().err().map(ToString::to_string),
        insns_walked: verdict.as_ref().ok().map(|v| v.stats().insns_walked),
    }
}
