//! Every program of the repository's own objects.

use std::error::Error;
use std::path::{Path, PathBuf};

use bpf_arena_verifier::{CallFault, Env, Reason, Rejection, Unsupported, Verified, verify};
use bpf_object::Object;

type Verdicts = Vec<(String, Result<Verified, Rejection>)>;

/// Objects that are refused on purpose, one that is linked for an engine only, and one whose map gets its type from who loads it.
const OTHERS: [&str; 4] =
    ["unverifiable.bpf.o", "unknown_helper.bpf.o", "map_fields.bpf.o", "map_script.bpf.o"];

/// Objects about the host's own functions and variables, or a kernel's structures: verified with these, in the tests of the engines.
const WITH_TYPES: [&str; 7] = [
    "attached.bpf.o",
    "congestion.bpf.o",
    "host_functions.bpf.o",
    "missing.bpf.o",
    "policy.bpf.o",
    "tasks.bpf.o",
    "variables.bpf.o",
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../bpf")
}

fn verdicts(path: &Path) -> Result<Verdicts, Box<dyn Error>> {
    let object = Object::parse(&std::fs::read(path)?)?;
    let verdict = |name: &str| Ok((name.to_owned(), verify(&object.link(name)?, &Env::default())));
    object.programs.iter().map(|info| verdict(&info.name)).collect()
}

/// Some programs are for the kernel engine alone, for now.
fn is_other_type(rejection: &Rejection) -> bool {
    matches!(rejection.reason(), Reason::Unsupported(Unsupported::ProgramType { .. }))
}

#[test]
fn programs_meant_to_run_are_accepted() -> Result<(), Box<dyn Error>> {
    for entry in std::fs::read_dir(folder())? {
        let path = entry?.path();
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !file.ends_with(".bpf.o") || OTHERS.contains(&&*file) || WITH_TYPES.contains(&&*file) {
            continue;
        }
        for (name, verdict) in verdicts(&path)? {
            if verdict.as_ref().is_err_and(is_other_type) {
                continue;
            }
            let verified = verdict.map_err(|e| format!("{file} {name}: {e}"))?;
            assert!(verified.frames().iter().any(|f| f.reached), "{file} {name}");
        }
    }
    Ok(())
}

#[test]
fn programs_meant_to_be_refused_name_rule_register_and_line() -> Result<(), Box<dyn Error>> {
    let expected = [
        ("unchecked_lookup", "R0 invalid mem access 'map_value_or_null'", "return c->values[0];"),
        (
            "unbounded_index",
            "math between map_value pointer and register with unbounded min value is not allowed",
            "return c->values[req->index];",
        ),
        ("endless_loop", "infinite loop detected at insn 7", "while (i) {"),
        ("pointer_without_cast", "R1 invalid mem access 'scalar'", "return *(u64 *)req->index;"),
    ];
    let verdicts = verdicts(&folder().join("unverifiable.bpf.o"))?;
    for (name, message, source) in expected {
        let found = verdicts.iter().find(|(n, _)| n == name).ok_or(name)?;
        let rejection = found.1.as_ref().expect_err(name);
        assert_eq!(rejection.reason().to_string(), message);
        assert_eq!(rejection.line().map(|l| l.source.trim()), Some(source));
        assert_eq!(rejection.function(), Some(name));
    }
    Ok(())
}

#[test]
fn what_is_not_known_is_refused_by_name() -> Result<(), Box<dyn Error>> {
    for (name, verdict) in verdicts(&folder().join("unknown_helper.bpf.o"))? {
        let rejection = verdict.expect_err(&name);
        let unknown = matches!(
            rejection.reason(),
            Reason::Unsupported(_) | Reason::Call(CallFault::NoSuchHelper { .. })
        );
        assert!(unknown, "{rejection:?}");
    }
    Ok(())
}
