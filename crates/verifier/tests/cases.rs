//! The cases of `cases/*.txt`. The same files are judged by the running kernel in `testkit`.

mod common;

use std::error::Error;

use bpf_arena_verifier::{Env, Memory, Verified, verify};
use common::{Case, Expected, cases};
use isa::InsnIdx;

#[test]
fn every_case_gets_its_verdict() -> Result<(), Box<dyn Error>> {
    let mut wrong = String::new();
    for case in cases()? {
        let program = case.program(None)?;
        let verdict = verify(&program, &Env::default());
        let fault = match (&case.expected, &verdict) {
            (Expected::Accept, Ok(verified)) => facts(&case, verified),
            (Expected::Accept, Err(rejection)) => Some(format!("refused: {rejection}")),
            (Expected::Reject(_), Ok(_)) => Some("accepted".to_owned()),
            (Expected::Reject(message), Err(rejection)) => {
                (!rejection.to_string().contains(message)).then(|| format!("other message: {rejection}"))
            }
        };
        if let Some(fault) = fault {
            wrong += &format!("{}: {fault}\n", case.name);
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    Ok(())
}

fn facts(case: &Case, verified: &Verified) -> Option<String> {
    for (slot, expected) in &case.facts {
        let facts = verified.facts(InsnIdx(*slot));
        let holds = match expected.as_str() {
            "arena" => facts.memory == Some(Memory::Arena),
            "proven" => facts.memory == Some(Memory::Proven),
            "narrow" => facts.narrow,
            "wide" => facts.reached && !facts.narrow,
            "unreached" => !facts.reached,
            _ => false,
        };
        if !holds {
            return Some(format!("slot {slot} is not {expected}: {facts:?}"));
        }
    }
    None
}
