//! The cases of `cases/*.txt`. The same files are judged by the running kernel in `testkit`.

mod common;

use std::error::Error;
use std::sync::Arc;

use bpf_arena_verifier::{Env, LoadFlags, MapMember, MapStruct, Memory, Verified, verify};
use bpf_object::{Btf, MapType};
use common::{Case, Expected, cases};
use isa::InsnIdx;

#[test]
fn every_case_gets_its_verdict() -> Result<(), Box<dyn Error>> {
    let mut wrong = String::new();
    let kernel =
        std::fs::read("/sys/kernel/btf/vmlinux").ok().map(|b| Btf::parse(&b)).transpose()?.map(Arc::new);
    for case in cases()? {
        let program = case.program()?;
        let env = match (case.kernel_types, &kernel) {
            (false, _) => env(),
            (true, Some(kernel)) => env().with_kernel(Arc::clone(kernel)),
            (true, None) => {
                eprintln!(
                    "{}: left out, there are no types of a kernel (/sys/kernel/btf/vmlinux)",
                    case.name
                );
                continue;
            }
        };
        let verdict = verify(&program, &env.with_flags(LoadFlags::from_bits(case.flags)));
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

/// Without `CAP_PERFMON` the kernel refuses reads of stack that was never written, also where the paths that wrote it and
/// those that did not come together.
#[test]
fn stack_that_nobody_wrote_may_be_closed() -> Result<(), Box<dyn Error>> {
    const READ: &str = "r0 = *(u64 *)(r10 -8)\nexit\n";
    const PRINTED: &str = "r1 = r10\nr1 += -8\nr2 = 4\ncall bpf_trace_printk\nr0 = 0\nexit\n";
    const WRITE: &str = "*(u64 *)(r10 -8) = r1\n";
    const ON_ONE_PATH: &str = "r6 = r1\ncall bpf_get_prandom_u32\nr1 = 7\nif r0 > 5 goto skip\n*(u32 *)(r10 -8) = r1\n\
         *(u32 *)(r10 -4) = r1\nskip:\n";
    let mut closed = Env::default();
    closed.refuse_uninit_stack = true;
    for reader in [READ, PRINTED] {
        for (before, fine) in [("", false), (WRITE, true), (ON_ONE_PATH, false)] {
            let text = format!("{before}{reader}");
            let code = isa::assemble(&text).map_err(|e| format!("{text}: {e}"))?.code;
            let program = bpf_object::Program::from_code("main", "syscall", code);
            verify(&program, &Env::default()).map_err(|e| format!("{text}: {e}"))?;
            let verdict = verify(&program, &closed);
            assert_eq!(verdict.is_ok(), fine, "{text}{verdict:?}");
            if let Err(rejection) = verdict {
                assert!(rejection.to_string().contains("invalid read from stack"), "{rejection}");
            }
        }
    }
    Ok(())
}

/// What the cases are verified against: pointers to arrays point to two numbers and a text. The kernel has structures of
/// its own.
fn env() -> Env {
    let member = |name: &str, offset, size| MapMember { name: name.to_owned(), offset, size };
    let mut env = Env::default();
    env.map_structs = Arc::from([MapStruct {
        map_type: MapType::Array,
        name: "bpf_array".to_owned(),
        size: 32,
        members: vec![member("first", 0, 4), member("second", 8, 4), member("text", 12, 16)],
    }]);
    env
}

fn facts(case: &Case, verified: &Verified) -> Option<String> {
    let walked = verified.stats().insns_walked;
    if case.walked.is_some_and(|expected| expected != walked) {
        return Some(format!("{walked} instructions were walked"));
    }
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
