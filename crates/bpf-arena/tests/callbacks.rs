//! Programs that are called with arguments or run with a context: callbacks of a table, places in the kernel, sockets.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

mod common;

use std::sync::Arc;

use bpf_arena::host::{Argument, Cgroup, Object, Structure, Task};
use bpf_arena::typed::ArenaType;
use bpf_arena::{App, Context, RunError, Socket, SocketError, SocketRun};
use bpf_object::Btf;
use common::{EXECUTORS, object};

/// `struct tcp_sock`, which the kernel passes as the `struct sock` that it begins with.
enum TcpSock {}
impl Structure for TcpSock {
    const NAME: &'static str = "tcp_sock";
}

/// The types of the running kernel, where it has them.
fn kernel_types() -> Option<Arc<Btf>> {
    let bytes = std::fs::read("/sys/kernel/btf/vmlinux").ok()?;
    Some(Arc::new(Btf::parse(&bytes).unwrap()))
}

/// Loads these programs with each executor in turn.
fn each(file: &str, kernel: &Arc<Btf>, programs: &[&str], check: impl Fn(&'static str, &App)) {
    for (executor, engine) in EXECUTORS {
        let engine = engine().kernel_types(Arc::clone(kernel)).only(programs);
        let app = object(file).load(engine).unwrap_or_else(|error| panic!("{executor}: {error}"));
        check(executor, &app);
    }
}

#[test]
fn callbacks_of_a_table_are_called_by_name() {
    let Some(kernel) = kernel_types() else { return };
    let sock: Object<TcpSock> = Object::new(&kernel).unwrap();
    sock.set("snd_cwnd", 20).unwrap();
    each("congestion.bpf.o", &kernel, &["half", "count", "undo"], |executor, app| {
        let table = app.struct_ops("halving").unwrap();
        assert_eq!(table.callbacks(), ["ssthresh", "cong_avoid", "undo_cwnd"]);
        let outcome = table.call("ssthresh", &[(&sock).into()]).unwrap();
        assert_eq!(outcome.return_value, 10, "{executor}");
        for acked in [3_u32, 4] {
            table.call("cong_avoid", &[(&sock).into(), 100_u32.into(), acked.into()]).unwrap();
        }
        assert_eq!(app.global::<u32>("acknowledged").unwrap(), 7, "{executor}");
        let error =
            |member: &str, arguments: &[Argument]| table.call(member, arguments).unwrap_err().to_string();
        assert_eq!(
            error("ssthresh", &[5_u64.into()]),
            "function `ssthresh`, parameter 1: the host provides `a number`, it is declared as `struct sock *`",
        );
        assert_eq!(
            error("cong_avoid", &[]),
            "function `cong_avoid`, number of parameters: the host has 0 of them, the declaration 3",
        );
        assert!(table.call("init", &[]).is_err() && app.struct_ops("other").is_err());
    });
}

#[test]
fn programs_attached_to_the_kernel_get_arguments() {
    let Some(kernel) = kernel_types() else { return };
    let init: Object<Task> = Object::new(&kernel).unwrap();
    init.set("pid", 1).unwrap();
    let task: Object<Task> = Object::new(&kernel).unwrap();
    task.set("pid", 77).unwrap();
    each("attached.bpf.o", &kernel, &["wakeup", "refuse"], |executor, app| {
        let program = |name| app.program(name).unwrap();
        program("wakeup").call(&[(&task).into()]).unwrap();
        assert_eq!(app.global::<u32>("woken").unwrap(), 77, "{executor}");
        let refuse = |task: &Object<Task>, nice: i32, before: i32| {
            let outcome = program("refuse").call(&[task.into(), nice.into(), before.into()]).unwrap();
            outcome.return_value.cast_signed()
        };
        assert_eq!(
            [refuse(&task, 5, 0), refuse(&task, -5, 0), refuse(&init, -5, 0), refuse(&init, 0, -13)],
            [0, -1, 0, -13],
            "{executor}"
        );
        // A task that nobody gave the program reads as zeroes.
        program("wakeup").call(&[None::<&Object<Task>>.into()]).unwrap();
        assert_eq!(app.global::<u32>("woken").unwrap(), 0, "{executor}");
    });
}

#[test]
fn wrong_arguments_are_named() {
    let Some(kernel) = kernel_types() else { return };
    let cgroup: Object<Cgroup> = Object::new(&kernel).unwrap();
    each("attached.bpf.o", &kernel, &["wakeup", "third_argument"], |executor, app| {
        let error = |program: &str, arguments: &[Argument]| {
            app.program(program).unwrap().call(arguments).unwrap_err().to_string()
        };
        assert_eq!(
            error("wakeup", &[(&cgroup).into()]),
            "function `sched_wakeup`, parameter 1: the host provides `Object<struct cgroup>`, it is declared as \
             `struct task_struct *`",
            "{executor}"
        );
        assert!(error("third_argument", &[]).contains("not called with arguments"));
    });
}

#[test]
fn events_have_the_context_that_the_host_gives() {
    let Some(kernel) = kernel_types() else { return };
    each("attached.bpf.o", &kernel, &["third_argument", "opened", "second_argument"], |executor, app| {
        let mut registers = [0_u64; 21];
        registers[12] = 30;
        let value =
            |name: &str, ctx: &mut [u64; 21]| app.program(name).unwrap().run(ctx).unwrap().return_value;
        assert_eq!(value("third_argument", &mut registers), 30, "{executor}");
        registers[2] = 9;
        assert_eq!(value("opened", &mut registers), 9, "{executor}");
        let second = app.program("second_argument").unwrap();
        assert_eq!(second.run(&mut [1_u64, 2]).unwrap().return_value, 2, "{executor}");
        assert_eq!(second.call(&[1_u64.into(), 3_u64.into()]).unwrap().return_value, 3, "{executor}");
        let short = app.program("opened").unwrap().run(&mut [0_u64; 2]).unwrap_err();
        assert!(matches!(short, RunError::ContextTooSmall { needed: 24, given: 16 }), "{executor}: {short}");
    });
}

/// `struct bpf_sock_addr`.
#[derive(ArenaType, Clone, Copy, Debug, PartialEq)]
#[repr(C)]
struct SockAddr {
    user_family: u32,
    user_ip4: u32,
    user_ip6: [u32; 4],
    user_port: u32,
    family: u32,
    kind: u32,
    protocol: u32,
    msg_src_ip4: u32,
    msg_src_ip6: [u32; 4],
    _padding: u32,
    sk: u64,
}

/// `struct bpf_sockopt`.
#[derive(ArenaType, Clone, Copy, Debug, PartialEq)]
#[repr(C)]
struct SockOpt {
    sk: u64,
    optval: u64,
    optval_end: u64,
    level: u32,
    optname: u32,
    optlen: i32,
    retval: i32,
}

/// Loads `sockets.bpf.o` with each executor in turn.
fn sockets(check: impl Fn(&'static str, &App)) {
    for (executor, engine) in EXECUTORS {
        let app =
            object("sockets.bpf.o").load(engine()).unwrap_or_else(|error| panic!("{executor}: {error}"));
        check(executor, &app);
    }
}

/// Runs a program with a structure as its context.
fn with_context<T: ArenaType>(app: &App, program: &str, ctx: T, run: SocketRun<'_>) -> (u32, T) {
    let mut ctx = ctx;
    let outcome = ctx
        .with_bytes(|bytes| app.program(program).unwrap().run_socket(&mut SocketRun { ctx: bytes, ..run }));
    (outcome.unwrap_or_else(|error| panic!("{program}: {error}")).return_value, ctx)
}

#[test]
fn an_address_is_changed_and_its_socket_looked_at() {
    sockets(|executor, app| {
        let from = SockAddr { user_family: 2, user_ip4: 0x0100_007f, user_port: 80, ..SockAddr::ZERO };
        let socket = Socket { protocol: 6, mark: 7, ..Socket::default() };
        let run = SocketRun { socket: Some(socket), ..SocketRun::default() };
        let (verdict, to) = with_context(app, "connect4", from, run);
        assert_eq!(verdict, 1, "{executor}");
        assert_eq!(to, SockAddr { user_ip4: 0x0200_007f, user_port: 87, ..from }, "{executor}");
        let (verdict, to) = with_context(app, "connect4", from, SocketRun::default());
        assert_eq!((verdict, to), (0, from), "{executor}: an unused socket has no mark");
    });
}

#[test]
fn an_option_is_read_and_written() {
    sockets(|executor, app| {
        let ctx = SockOpt { level: 1, optname: 2, optlen: 4, ..SockOpt::ZERO };
        let mut option = 5_u32.to_le_bytes();
        let run = SocketRun { data: &mut option, ..SocketRun::default() };
        let (verdict, after) = with_context(app, "getsockopt", ctx, run);
        assert_eq!((verdict, u32::from_le_bytes(option)), (1, 50), "{executor}");
        assert_eq!(after, ctx, "{executor}: no pointer of the run is left");
        let mut short = [1; 3];
        let run = SocketRun { data: &mut short, ..SocketRun::default() };
        assert_eq!(with_context(app, "getsockopt", ctx, run).0, 0, "{executor}: not as many bytes");
        let error =
            app.program("getsockopt").unwrap().run(&mut SockOpt { optval: 1 << 40, ..ctx }).unwrap_err();
        assert!(
            matches!(error, RunError::Socket(SocketError::ContextField { offset: 13 })),
            "{executor}: {error}"
        );
    });
}

#[test]
fn sockets_devices_and_sysctls_are_contexts_themselves() {
    sockets(|executor, app| {
        let mut socket = Socket { family: 10, ..Socket::default() };
        assert_eq!(app.program("create").unwrap().run(&mut socket).unwrap().return_value, 1, "{executor}");
        assert_eq!(socket, Socket { family: 10, mark: 10, ..Socket::default() }, "{executor}");
        // struct bpf_cgroup_dev_ctx { u32 access_type, major, minor; }
        let device = |major: u32| app.program("device").unwrap().run(&mut [2_u32 << 16, major, 3]).unwrap();
        assert_eq!([device(1).return_value, device(5).return_value], [1, 0], "{executor}");
        // struct bpf_sysctl { u32 write, file_pos; }
        let mut sysctl = [1_u32, 8];
        assert_eq!(app.program("sysctl").unwrap().run(&mut sysctl).unwrap().return_value, 0, "{executor}");
        assert_eq!(sysctl, [1, 0], "{executor}");
    });
}
