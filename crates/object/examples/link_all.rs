//! Parses the given objects and links every program in them: `link_all [--target BTF] OBJECT...`. Prints each failure
//! and a last line with counts. With a target, CO-RE relocations are resolved against that BTF.

use std::process::ExitCode;
use std::sync::Arc;

use bpf_arena_object::{Btf, Kconfig, KconfigValue, LinkError, LinkOptions, Object};

fn main() -> ExitCode {
    let mut options = LinkOptions { kconfig: some_configuration(), ..LinkOptions::default() };
    let mut paths = Vec::new();
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        if arg != "--target" {
            paths.push(arg);
            continue;
        }
        let path = args.next().unwrap_or_default();
        match std::fs::read(&path)
            .map_err(|e| e.to_string())
            .and_then(|b| Btf::parse(&b).map_err(|e| e.to_string()))
        {
            Ok(btf) => options.target_btf = Some(Arc::new(btf)),
            Err(error) => {
                eprintln!("{path}: {error}");
                return ExitCode::from(2);
            }
        }
    }
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

fn some_configuration() -> Kconfig {
    let mut kconfig = Kconfig::new();
    kconfig.set("LINUX_KERNEL_VERSION", KconfigValue::Number(6 << 16 | 18 << 8));
    kconfig
}
