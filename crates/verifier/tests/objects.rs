//! Every program of the repository's own objects.

use std::path::{Path, PathBuf};

use bpf_arena_verifier::{Env, Reason, Verified, verify};
use bpf_object::Object;

fn objects() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../bpf");
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.to_string_lossy().ends_with(".bpf.o"))
        .collect();
    found.sort();
    found
}

fn verify_all(path: &Path) -> Vec<(String, Result<Verified, bpf_arena_verifier::Rejection>)> {
    let object = Object::parse(&std::fs::read(path).unwrap()).unwrap();
    object
        .programs
        .iter()
        .map(|info| {
            let program = object.link(&info.name).unwrap();
            (info.name.clone(), verify(&program, &Env::default()))
        })
        .collect()
}

#[test]
fn programs_meant_to_run_are_accepted_quickly() {
    for path in objects() {
        let file = path.file_name().unwrap().to_string_lossy().into_owned();
        if file.starts_with("un") {
            continue;
        }
        for (name, result) in verify_all(&path) {
            let verified = result.unwrap_or_else(|e| panic!("{file} {name}: {e}\n{:#?}", e.causes()));
            println!("{file} {name}: {:?} {:?}", verified.stats(), verified.frames());
        }
    }
}

#[test]
fn programs_meant_to_be_refused_are_refused_with_their_line() {
    let of = |name: &str| objects().into_iter().find(|p| p.ends_with(name)).unwrap();
    for (name, result) in verify_all(&of("unverifiable.bpf.o")) {
        let rejection = result.expect_err(&name);
        println!("{rejection}");
        assert!(rejection.line().is_some(), "{rejection:?}");
    }
    for (name, result) in verify_all(&of("unknown_helper.bpf.o")) {
        let rejection = result.expect_err(&name);
        println!("{rejection}");
        assert!(matches!(rejection.reason(), Reason::Unsupported(_)), "{rejection:?}");
    }
}
