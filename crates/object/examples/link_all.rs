//! Parses the given objects and links every program in them: `link_all [--target BTF] [--kconfig FILE] OBJECT...`.
//! Prints each failure and a last line with counts. CO-RE relocations are resolved against the target.

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;

use bpf_arena_object::{Btf, Kconfig, LinkError, LinkOptions, Object};

fn main() -> ExitCode {
    let (options, paths) = match arguments() {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    let mut counts = [0usize; 5];
    for path in &paths {
        for (sum, add) in counts.iter_mut().zip(check(path, &options)) {
            *sum += add;
        }
    }
    let [objects, parsed, programs, linked, undecodable] = counts;
    println!(
        "{parsed} of {objects} objects parsed; {linked} of {programs} programs linked, {undecodable} not decodable"
    );
    ExitCode::SUCCESS
}

fn arguments() -> Result<(LinkOptions, Vec<String>), Box<dyn Error>> {
    let mut options = LinkOptions::default();
    let mut paths = Vec::new();
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--target" => {
                let bytes = std::fs::read(args.next().ok_or("--target needs a file")?)?;
                options.target_btf = Some(Arc::new(Btf::parse(&bytes)?));
            }
            "--kconfig" => {
                options.kconfig =
                    Kconfig::parse(&std::fs::read_to_string(args.next().ok_or("--kconfig needs a file")?)?);
            }
            _ => paths.push(arg),
        }
    }
    options.kconfig.set_kernel_version(6, 18, 0).set_has_bpf_cookie(true).set_has_syscall_wrapper(true);
    Ok((options, paths))
}

/// Objects, parsed, programs, linked, undecodable.
fn check(path: &str, options: &LinkOptions) -> [usize; 5] {
    let object = match std::fs::read(path).map_err(|e| e.to_string()).and_then(|bytes| parse(&bytes)) {
        Ok(object) => object,
        Err(error) => {
            println!("{path}: {error}");
            return [1, 0, 0, 0, 0];
        }
    };
    let (mut linked, mut undecodable) = (0, 0);
    for program in &object.programs {
        match object.link_with(&program.name, options) {
            Ok(_) => linked += 1,
            Err(error @ LinkError::Decode { .. }) => {
                undecodable += 1;
                println!("{path}: {}: {error}", program.name);
            }
            Err(error) => println!("{path}: {}: {error}", program.name),
        }
    }
    [1, 1, object.programs.len(), linked, undecodable]
}

fn parse(bytes: &[u8]) -> Result<Object, String> {
    Object::parse(bytes).map_err(|e| e.to_string())
}
