//! The tests of the kernel engine.

pub(crate) mod attach;
pub(crate) mod compare;
pub(crate) mod contexts;
pub(crate) mod freed;
pub(crate) mod handed_over;
pub(crate) mod linked;

use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::path::PathBuf;

use bpf_arena::PacketRun;
use bpf_arena::arena::PageCount;
use bpf_arena::kernel::{AttachTarget, KernelError};
use bpf_arena::typed::{ArenaPtr, ArenaType};
use bpf_arena::{App, Engine, LoadError, Object, RunError};
use libtest_mimic::Failed;
use sys::bpf::{Capability, ObjectKind, WithoutCapabilities, object_ids};

/// An object of the repository.
pub(crate) fn object(name: &str) -> Result<Object, Failed> {
    Ok(Object::open(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../bpf").join(name))?)
}

pub(crate) fn check(condition: bool, what: impl std::fmt::Display) -> Result<(), Failed> {
    if condition { Ok(()) } else { Err(what.to_string().into()) }
}

/// `struct request` of the linked list.
#[derive(ArenaType, Clone, Copy, Debug)]
#[repr(C)]
struct Request {
    value: u64,
    count: u64,
}

/// `struct node` of the linked list.
#[derive(ArenaType, Clone, Copy, Debug)]
#[repr(C)]
struct Node {
    next: ArenaPtr<Node>,
    value: u64,
}

/// `struct count` of the packet counters.
#[derive(ArenaType, Clone, Copy, Debug, PartialEq)]
#[repr(C)]
pub(crate) struct Count {
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
}

/// The same host code on both engines, chosen by one argument, with the same results.
pub(crate) fn one_host_two_engines() -> Result<(), Failed> {
    fn host(engine: Engine) -> Result<(Vec<u64>, Vec<u32>), Failed> {
        let app = object("linked_list.bpf.o")?.load(engine)?;
        let insert = app.program("insert")?;
        let mut returned = vec![insert.run(&mut Request { value: 10, count: 600 })?.return_value];
        returned.push(app.program("delete")?.run(&mut Request { value: 300, count: 0 })?.return_value);
        returned.push(app.program("walk")?.run(&mut ())?.return_value);
        let head: ArenaPtr<Node> = app.global("head")?;
        let mut values = Vec::new();
        for node in app.arena()?.list(head, |node: &Node| node.next) {
            values.push(node?.value);
        }
        check(app.global::<u64>("length")? == values.len() as u64, "the program counted its nodes")?;
        check(app.global::<u64>("sum")? == values.iter().sum(), "the program added its values up")?;
        Ok((values, returned))
    }
    let user = host(Engine::user().into())?;
    let kernel = host(Engine::kernel()?.into())?;
    check(kernel.0.len() == 599 && kernel.1 == [0, 1, 599], "the kernel's list")?;
    check(user == kernel, "both engines give the same")
}

/// Variables in data sections, constants and the arena; those of the object hold what its source says.
pub(crate) fn globals() -> Result<(), Failed> {
    let object = object("globals.bpf.o")?;
    let user = object.load(Engine::user())?;
    let values_of = |app: &App| -> Result<Vec<String>, Failed> {
        let names = bpf_arena::typed::variable_names(app.object());
        names.iter().map(|name| Ok(format!("{name} = {}", app.global_value(name)?))).collect()
    };
    let in_user = values_of(&user)?;
    drop(user);
    let in_kernel = values_of(&object.load(Engine::kernel()?)?)?;
    check(in_user.len() > 10 && in_user == in_kernel, format!("{in_user:?}\n{in_kernel:?}"))
}

/// Pages come out in the same order on both engines, with one difference: where several gaps are large enough, the user
/// engine takes the lowest and Linux since 6.13 the smallest.
pub(crate) fn order_of_allocation() -> Result<(), Failed> {
    let pages = |engine: Engine| -> Result<[u32; 2], Failed> {
        let app = object("allocation_order.bpf.o")?.load(engine)?;
        let sequence = app.program("sequence")?.run(&mut ())?.return_value;
        Ok([sequence, app.program("gap_taken")?.run(&mut ())?.return_value])
    };
    check(pages(Engine::user().into())? == [0, 10], "the user engine's order")?;
    let kernel = pages(Engine::kernel()?.into())?;
    check(kernel == [0, 50] || kernel == [0, 10], format!("the kernel's order: {kernel:?}"))
}

/// The host reads and writes arena memory in the kernel, and a touch of a missing page makes it.
pub(crate) fn arena_pages() -> Result<(), Failed> {
    let app = object("linked_list.bpf.o")?.load(Engine::kernel()?)?;
    let arena = app.arena()?;
    check(arena.page_count() == PageCount::new(64) && arena.user_vm_start().get() == 1 << 44, "attributes")?;
    let last = arena.user_vm_start().wrapping_add(63 * 4096);
    check(arena.read_u64(last)? == 0, "a new page is zero")?;
    arena.write_u64(last, 7)?;
    check(arena.read_u64(last)? == 7, "written")?;
    check(arena.read_u64(last.wrapping_add(4096)).is_err(), "the arena ends")?;

    // The first page holds the object's globals, if it has any in the arena; this one has none.
    let first = arena.try_alloc_pages(None, PageCount::new(2))?;
    check(first == arena.user_vm_start(), "the lowest range that fits")?;
    check(arena.try_alloc_pages(Some(first), PageCount::new(1)).is_err(), "taken")?;
    arena.write_u64(first, 9)?;
    arena.free_pages(first, PageCount::new(1));
    check(arena.alloc_pages(Some(first), PageCount::new(1)) == Some(first), "free again")?;
    check(arena.read_u64(first)? == 0, "and zero again")?;
    check(arena.alloc_pages(None, PageCount::new(64)).is_none(), "more than there are")?;
    if sys::bpf::KernelVersion::running() < (sys::bpf::KernelVersion { major: 6, minor: 17 }) {
        return Ok(());
    }
    let reserved = first.wrapping_add(10 * 4096);
    arena.reserve_pages(reserved, PageCount::new(2))?;
    check(arena.alloc_pages(Some(reserved), PageCount::new(1)).is_none(), "reserved")?;
    check(arena.reserve_pages(first, PageCount::new(1)).is_err(), "a page that exists")
}

pub(crate) fn refusal() -> Result<(), Failed> {
    let engine = Engine::kernel()?.only(&["unbounded_index"]);
    let error = object("unverifiable.bpf.o")?.load(engine).err().ok_or("accepted")?;
    let LoadError::Kernel(error) = error else { return Err(format!("{error:?}").into()) };
    let KernelError::Rejected(rejection) = &*error else { return Err(format!("{error:?}").into()) };
    let text = error.to_string();
    check(rejection.log.last_line().is_some_and(|line| text.contains(line)), "the log's last useful line")?;
    check(rejection.log.text().lines().count() > 5, "the whole log")?;
    let line = rejection.line.as_ref().ok_or("no source line")?;
    check(line.source.contains("c->values[req->index]"), &text)?;
    check(text.contains(line.source.trim()), &text)?;
    let (at, shown) =
        (rejection.insn.ok_or("no index")?, rejection.instruction.as_ref().ok_or("no instruction")?);
    check(text.contains(&format!("instruction {at}: {shown}")) && shown.contains("r0 += r1"), &text)
}

pub(crate) fn context_errors() -> Result<(), Failed> {
    let app = object("linked_list.bpf.o")?.load(Engine::kernel()?)?;
    match app.program("insert")?.run(&mut ()) {
        Err(RunError::Kernel { program, source }) => {
            check(program == "insert" && source.errno() == Some(sys::bpf::Errno::INVAL), source)
        }
        other => Err(format!("{other:?}").into()),
    }
}

pub(crate) fn packet_run() -> Result<(), Failed> {
    let app = object("packets.bpf.o")?.load(Engine::kernel()?)?;
    let program = app.program("count_xdp")?.kernel().ok_or("not in the kernel")?;
    let packet: Vec<u8> = (0..100).collect();
    let mut out = [0; 100];
    let mut run = PacketRun { data: &packet, data_out: &mut out, repeat: 5, ..PacketRun::default() };
    let outcome = program.run_packet(&mut run)?;
    check(outcome.return_value == 2 && outcome.data_len == 100, "XDP_PASS")?;
    check(out[..] == packet, "the packet comes back")?;
    check(app.global::<Count>("at_xdp")? == Count { packets: 5, bytes: 500 }, "counted in the arena")?;
    let repeated = app.program("count_tc")?.repeat(&mut (), 3)?;
    check(repeated.duration.is_some(), "the kernel measures")?;
    check(app.global::<Count>("at_tc")?.packets == 3, "repeated by the kernel")
}

pub(crate) fn socket_filter() -> Result<(), Failed> {
    let app = object("packets.bpf.o")?.load(Engine::kernel()?)?;
    let receiver = UdpSocket::bind("127.0.0.1:0")?;
    receiver.set_read_timeout(Some(std::time::Duration::from_secs(10)))?;
    let sender = UdpSocket::bind("127.0.0.1:0")?;
    let exchange = |text: &[u8]| -> Result<(), Failed> {
        sender.send_to(text, receiver.local_addr()?)?;
        let mut buffer = [0; 64];
        let (len, _) = receiver.recv_from(&mut buffer)?;
        check(buffer.get(..len) == Some(text), "the datagram arrives")
    };
    let program = app.program("count_socket")?.kernel().ok_or("not in the kernel")?;
    let attachment = program.attach(AttachTarget::Socket(receiver.as_fd()))?;
    exchange(b"one")?;
    exchange(b"two")?;
    drop(attachment);
    exchange(b"three")?;
    check(app.global::<Count>("at_socket")?.packets == 2, "counted while attached")?;
    let wrong = app.program("count_xdp")?.kernel().ok_or("not in the kernel")?;
    check(wrong.attach(AttachTarget::Socket(receiver.as_fd())).is_err(), "an XDP program is no socket filter")
}

/// Rounds of loading, running, refusing: descriptors, programs, maps and BTF are gone afterwards.
pub(crate) fn nothing_left() -> Result<(), Failed> {
    let rounds = std::env::var("BPF_ARENA_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(50);
    let descriptors = || std::fs::read_dir("/proc/self/fd").map(Iterator::count);
    let (good, bad) = (object("linked_list.bpf.o")?, object("unverifiable.bpf.o")?);
    let round = || -> Result<(), Failed> {
        let app = good.load(Engine::kernel()?)?;
        app.program("insert")?.run(&mut Request { value: 1, count: 3 })?;
        drop(app);
        check(bad.load(Engine::kernel()?).is_err(), "refused")
    };
    round()?;
    let before = descriptors()?;
    let own = own_objects()?;
    for _ in 0..rounds {
        round()?;
    }
    check(descriptors()? == before, "descriptors leak")?;
    // The kernel frees objects after a grace period.
    for _ in 0..100 {
        if own_objects()? <= own {
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    Err(format!("{} programs and maps became {}", own, own_objects()?).into())
}

/// Programs and maps in the system. Other processes have theirs too: a leak shows as growth with the rounds.
fn own_objects() -> Result<usize, Failed> {
    Ok(object_ids(ObjectKind::Prog)?.len() + object_ids(ObjectKind::Map)?.len())
}

/// Without capabilities the kernel engine says which one is missing, and the user engine works.
pub(crate) fn missing_capability() -> Result<(), Failed> {
    let without = WithoutCapabilities::take(&Capability::ALL)?;
    match Engine::kernel() {
        Err(error @ KernelError::MissingCapability { capability: Capability::Bpf }) => {
            check(error.to_string().contains("CAP_BPF"), &error)?;
        }
        other => return Err(format!("{other:?}").into()),
    }
    let app = object("linked_list.bpf.o")?.load(Engine::user())?;
    check(app.program("walk")?.run(&mut ())?.return_value == 0, "the user engine needs nothing")?;
    drop(without);
    Ok(())
}
