//! Contexts of socket lookups and events: what both engines make of the same ones, errors included.

use bpf_arena::typed::ArenaType;
use bpf_arena::{App, Engine, RunError};
use libtest_mimic::Failed;

use super::{check, object};

/// `struct bpf_sk_lookup`.
#[derive(ArenaType, Clone, Copy, Debug, PartialEq)]
#[repr(C)]
struct Lookup {
    sk: u64,
    family: u32,
    protocol: u32,
    remote_ip4: u32,
    remote_ip6: [u32; 4],
    remote_port: u16,
    _padding: u16,
    local_ip4: u32,
    local_ip6: [u32; 4],
    local_port: u32,
    ingress_ifindex: u32,
}

/// The result of a run: what it returned or the error number, and the context afterwards.
type Answer<T> = (Result<u32, i32>, T);

/// Runs a program of both engines with a context.
fn answers<T: ArenaType>(apps: &[App; 3], program: &str, ctx: T) -> Result<[Answer<T>; 3], Failed> {
    let [user, interpreted, kernel] = apps;
    let run = |app: &App| -> Result<Answer<T>, Failed> {
        let mut ctx = ctx;
        let result = match app.program(program)?.run(&mut ctx) {
            Ok(outcome) => Ok(outcome.return_value),
            Err(RunError::Kernel { source, .. }) => {
                Err(source.errno().map_or(0, |errno| errno.raw_os_error()))
            }
            Err(RunError::Socket(error)) => Err(error.errno()),
            Err(RunError::ContextTooSmall { .. } | RunError::ContextTooLarge { .. }) => Err(22),
            Err(other) => return Err(other.into()),
        };
        Ok((result, ctx))
    };
    Ok([run(user)?, run(interpreted)?, run(kernel)?])
}

fn apps(file: &str, program: &str) -> Result<[App; 3], Failed> {
    let load = |engine: Engine| object(file)?.load(engine).map_err(Failed::from);
    let user = Engine::user().only(&[program]);
    let kernel = Engine::kernel()?.only(&[program]);
    Ok([load(user.clone().into())?, load(user.interpreter().into())?, load(kernel.into())?])
}

/// Lookups: the one that the program serves, and contexts that differ from it in a field each, many of them refused.
pub(crate) fn lookups_agree() -> Result<(), Failed> {
    let (apps, looks) = (apps("sockets.bpf.o", "lookup")?, apps("sockets.bpf.o", "look")?);
    let served = Lookup {
        family: 2,
        protocol: 6,
        remote_port: 0x3930,
        local_ip4: 0x0100_007f,
        local_port: 80,
        ..Lookup::ZERO
    };
    let asked = [
        served,
        Lookup { local_port: 81, ..served },
        Lookup { local_port: 1 << 16, ..served },
        Lookup { remote_port: 7, ..served },
        Lookup { local_ip4: 1, ..served },
        Lookup { family: 10, ..served },
        Lookup { family: 0, ..served },
        Lookup { family: 1 << 16 | 2, ..served },
        Lookup { protocol: 1 << 16 | 17, ..served },
        Lookup { sk: 1 << 20, ..served },
        Lookup { ingress_ifindex: 1, ..served },
        Lookup { _padding: 1, ..served },
        Lookup { remote_ip4: 5, remote_ip6: [1, 2, 3, 4], local_ip6: [5, 6, 7, 8], ..served },
        Lookup { family: 10, remote_ip4: 5, remote_ip6: [1, 2, 3, 4], local_ip6: [5, 6, 7, 8], ..served },
    ];
    for ctx in asked {
        let [user, interpreted, kernel] = answers(&apps, "lookup", ctx)?;
        check(user == kernel, format!("{ctx:?}: {user:?}, in the kernel {kernel:?}"))?;
        check(interpreted == kernel, format!("{ctx:?}: {interpreted:?}, in the kernel {kernel:?}"))?;
        let looked = answers(&looks, "look", ctx)?.map(|(result, _)| result);
        check(looked[0] == looked[2] && looked[1] == looked[2], format!("{ctx:?}: {looked:?}"))?;
        let [user, interpreted, kernel] = &looks;
        let seen = [user, interpreted, kernel].map(|app| app.global::<u64>("seen").ok());
        check(seen[0] == seen[2] && seen[1] == seen[2], format!("{ctx:?}: {seen:x?}"))?;
    }
    Ok(())
}

/// Raw tracepoints with arguments, as many as a program asks for, fewer, and too many.
pub(crate) fn raw_tracepoints_agree() -> Result<(), Failed> {
    let apps = apps("attached.bpf.o", "second_argument")?;
    let same = |answers: [Result<u32, i32>; 3], words: usize| {
        let [user, interpreted, kernel] = answers;
        check(user == kernel && interpreted == kernel, format!("{words} arguments: {answers:?}"))
    };
    same(answers(&apps, "second_argument", [5_u64; 1])?.map(|(result, _)| result), 1)?;
    same(answers(&apps, "second_argument", [5_u64; 2])?.map(|(result, _)| result), 2)?;
    same(answers(&apps, "second_argument", [5_u64; 12])?.map(|(result, _)| result), 12)?;
    same(answers(&apps, "second_argument", [5_u64; 13])?.map(|(result, _)| result), 13)
}
