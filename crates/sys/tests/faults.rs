//! Faults of host code, of generated code, and of others.
#![allow(unsafe_code, reason = "raw touches, machine code and signal handlers are what is tested")]
#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

mod support;

use std::os::unix::process::ExitStatusExt;

use bpf_arena_sys as sys;
use support::{in_child, must_succeed_in_child};
use sys::fault::{CodeRegion, FaultSite, Leaves, Recorder};
use sys::window::{SEGV_ON_FAULT, Window, WindowSpec};
use sys::{PAGE_SIZE, code::CodeMemory};

fn window(flags: u32) -> Window {
    Window::create(WindowSpec { pages: 64, flags: flags | 1 << 10, ..WindowSpec::default() }).unwrap()
}

fn pointer(address: u64) -> *mut u64 {
    core::ptr::with_exposed_provenance_mut(usize::try_from(address).unwrap())
}

fn read(address: u64) -> u64 {
    // SAFETY: an address of an arena (or one at which the process is meant to die).
    unsafe { pointer(address).read_volatile() }
}

fn write(address: u64, value: u64) {
    // SAFETY: an address of an arena (or one at which the process is meant to die).
    unsafe { pointer(address).write_volatile(value) }
}

#[test]
fn a_host_touch_populates() {
    let window = window(0);
    let start = window.user_vm_start();
    assert_eq!(read(start + 5 * PAGE_SIZE), 0);
    write(start + 7 * PAGE_SIZE + 8, 9);
    assert_eq!((window.pages_in_use(), window.next_page(0), window.next_page(6)), (2, Some(5), Some(7)));
    // Straddling two pages, both missing.
    // SAFETY: in the arena.
    unsafe { pointer(start + 11 * PAGE_SIZE - 3).cast::<u64>().write_unaligned(u64::MAX) };
    assert_eq!(window.pages_in_use(), 4);
    // Allocations go around populated pages.
    assert_eq!(window.alloc_pages(0, 6).unwrap(), start + 12 * PAGE_SIZE);
    window.free_pages(start, 64).unwrap();
    assert_eq!(window.pages_in_use(), 0);
    assert_eq!(read(start + 7 * PAGE_SIZE + 8), 0);
}

#[test]
fn many_threads_touch_allocate_and_free_at_once() {
    let window = window(0);
    let start = window.user_vm_start();
    (0..4).for_each(|thread| write(start + thread * PAGE_SIZE, 0));
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let window = &window;
            scope.spawn(move || {
                for round in 0..500 {
                    // A page of its own that nobody frees, touched, and pages allocated and freed among all.
                    write(start + thread * PAGE_SIZE, round);
                    let page = window.alloc_pages(0, 3).unwrap();
                    for n in 0..3 {
                        assert_eq!(read(page + n * PAGE_SIZE), 0, "not zeroed");
                        write(page + n * PAGE_SIZE, thread << 32 | round);
                    }
                    for n in 0..3 {
                        assert_eq!(read(page + n * PAGE_SIZE), thread << 32 | round, "handed out twice");
                    }
                    window.free_pages(page, 3).unwrap();
                    assert_eq!(read(start + thread * PAGE_SIZE), round);
                }
            });
        }
    });
    assert_eq!(window.pages_in_use(), 4);
}

#[test]
fn touching_pages_that_are_being_freed_leaves_nothing_unmarked() {
    let window = window(0);
    let start = window.user_vm_start();
    let stop = &std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(move || {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    for n in 0..8 {
                        write(start + n * PAGE_SIZE, 1);
                    }
                }
            });
        }
        let window = &window;
        scope.spawn(move || {
            for _ in 0..2000 {
                window.free_pages(start, 8).unwrap();
                if let Ok(page) = window.alloc_pages(0, 1) {
                    // Among the first eight the others write at once.
                    assert!(page < start + 8 * PAGE_SIZE || read(page + 8) == 0);
                }
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        });
    });
    // Whatever is there now is marked: a page that is not can be told by its contents after it is allocated.
    let in_use = window.pages_in_use();
    for _ in in_use..64 {
        let page = window.alloc_pages(0, 1).unwrap();
        assert_eq!(read(page), 0);
        write(page, 2);
    }
    assert_eq!(window.pages_in_use(), 64);
    assert!(window.alloc_pages(0, 1).is_err());
}

#[test]
fn a_touch_with_segv_on_fault_is_sigsegv() {
    let status = in_child("a_touch_with_segv_on_fault_is_sigsegv", || {
        let window = window(SEGV_ON_FAULT);
        let page = window.alloc_pages(0, 1).unwrap();
        write(page, 1);
        read(page + PAGE_SIZE);
    });
    assert_eq!(status.signal(), Some(libc::SIGSEGV));
}

#[test]
fn a_touch_of_a_reserved_page_is_sigsegv() {
    let status = in_child("a_touch_of_a_reserved_page_is_sigsegv", || {
        let window = window(0);
        let start = window.user_vm_start();
        window.reserve_pages(start + PAGE_SIZE, 1).unwrap();
        write(start, 1);
        read(start + PAGE_SIZE);
    });
    assert_eq!(status.signal(), Some(libc::SIGSEGV));
}

#[test]
fn a_touch_beside_the_arena_is_sigsegv() {
    let status = in_child("a_touch_beside_the_arena_is_sigsegv", || {
        let window = window(0);
        read(window.user_vm_start() + 64 * PAGE_SIZE);
    });
    assert_eq!(status.signal(), Some(libc::SIGSEGV));
}

#[test]
fn other_faults_and_sent_signals_kill_as_before() {
    for (case, signal) in [("null", 11), ("file", 7), ("kill-bus", 7), ("kill-segv", 11)] {
        let name = "other_faults_and_sent_signals_kill_as_before";
        if support::is_child() {
            // Instead of Rust's own handlers, which let the first signal that is sent pass.
            // SAFETY: sets default actions.
            unsafe { libc::signal(libc::SIGBUS, libc::SIG_DFL) };
            // SAFETY: as above.
            unsafe { libc::signal(libc::SIGSEGV, libc::SIG_DFL) };
            let _window = window(0);
            let myself = std::process::id().cast_signed();
            match std::env::var("CASE").unwrap().as_str() {
                "null" => drop(read(8)),
                "file" => drop(read(past_the_end_of_a_file())),
                // SAFETY: sends a signal to this process.
                "kill-bus" => drop(unsafe { libc::kill(myself, libc::SIGBUS) }),
                // SAFETY: as above.
                _ => drop(unsafe { libc::kill(myself, libc::SIGSEGV) }),
            }
            std::thread::sleep(std::time::Duration::from_secs(5));
            std::process::exit(0);
        }
        let status = support::child(name).env("CASE", case).output().unwrap().status;
        assert_eq!(status.signal(), Some(signal), "{case}: {status:?}");
    }
}

/// The address of a mapped page that its file does not have.
fn past_the_end_of_a_file() -> u64 {
    let file = tempfile::tempfile().unwrap();
    let prot = rustix::mm::ProtFlags::READ;
    let shared = rustix::mm::MapFlags::SHARED;
    // SAFETY: no address is asked for.
    let at = unsafe { rustix::mm::mmap(core::ptr::null_mut(), 4096, prot, shared, &file, 0) };
    at.unwrap().expose_provenance() as u64
}

/// A handler of the host's own, which exits with 42 if it is told about the address in `EXPECTED`.
static EXPECTED: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);

unsafe extern "C" fn host_handler(signal: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: installed with SA_SIGINFO.
    let info = unsafe { &*info };
    // SAFETY: a fault.
    let address = unsafe { info.si_addr() } as u64;
    let expected = EXPECTED.load(std::sync::atomic::Ordering::Relaxed);
    let right = signal == libc::SIGSEGV && info.si_signo == signal && address == expected;
    // SAFETY: ends the process.
    unsafe { libc::_exit(if right { 42 } else { 43 }) }
}

#[test]
fn the_handler_that_was_there_before_gets_what_is_not_ours() {
    let name = "the_handler_that_was_there_before_gets_what_is_not_ours";
    for case in ["null", "segv-on-fault", "reserved"] {
        if support::is_child() {
            // SAFETY: all zeros is a valid action.
            let mut action: libc::sigaction = unsafe { core::mem::zeroed() };
            action.sa_sigaction = host_handler as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO;
            // SAFETY: a handler of the right type.
            unsafe { libc::sigaction(libc::SIGSEGV, &raw const action, core::ptr::null_mut()) };
            let case = std::env::var("CASE").unwrap();
            let window = window(if case == "segv-on-fault" { SEGV_ON_FAULT } else { 0 });
            let start = window.user_vm_start();
            window.reserve_pages(start, 1).unwrap();
            let address = if case == "null" { 16 } else { start + 24 };
            EXPECTED.store(address, std::sync::atomic::Ordering::Relaxed);
            read(address);
            std::process::exit(0);
        }
        let status = support::child(name).env("CASE", case).output().unwrap().status;
        assert_eq!(status.code(), Some(42), "{case}: {status:?}");
    }
}

#[test]
fn an_ignored_signal_that_is_sent_stays_ignored() {
    must_succeed_in_child("an_ignored_signal_that_is_sent_stays_ignored", || {
        // SAFETY: ignores a signal.
        unsafe { libc::signal(libc::SIGBUS, libc::SIG_IGN) };
        let window = window(0);
        // SAFETY: sends a signal to this thread.
        unsafe { libc::raise(libc::SIGBUS) };
        write(window.user_vm_start(), 1);
    });
}

#[test]
fn a_forked_child_does_not_have_the_arena() {
    let status = in_child("a_forked_child_does_not_have_the_arena", || {
        let window = window(0);
        let page = window.alloc_pages(0, 1).unwrap();
        // SAFETY: the child only touches memory and dies.
        let child = unsafe { libc::fork() };
        if child == 0 {
            read(page);
            // SAFETY: ends the child.
            unsafe { libc::_exit(0) };
        }
        let mut status = 0;
        // SAFETY: waits for the child made above.
        unsafe { libc::waitpid(child, &raw mut status, 0) };
        std::process::exit(if libc::WIFSIGNALED(status) { libc::WTERMSIG(status) } else { 99 });
    });
    assert_eq!(status.code(), Some(libc::SIGSEGV));
}

mod generated {
    use super::*;

    /// Two functions of an address, the first of which loads from it, in machine code.
    struct Functions {
        code: &'static [u8],
        /// Where the second begins, which calls the first.
        outer: u64,
        /// Where that call returns to.
        returns_to: u64,
        site: FaultSite,
        /// The register that has the address at the site.
        address: u8,
    }

    /// inner(address): `push rbp; mov rbp, rsp; mov rax, -1; mov rax, [rdi]; mov edx, 5; pop rbp; ret`, and at 0x20
    /// outer(address): `push rbp; mov rbp, rsp; call inner; pop rbp; ret`.
    #[cfg(target_arch = "x86_64")]
    const FUNCTIONS: Functions = Functions {
        code: &[
            0x55, 0x48, 0x89, 0xe5, 0x48, 0xc7, 0xc0, 0xff, 0xff, 0xff, 0xff, 0x48, 0x8b, 0x07, 0xba, 0x05,
            0x00, 0x00, 0x00, 0x5d, 0xc3, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90,
            0x55, 0x48, 0x89, 0xe5, 0xe8, 0xd7, 0xff, 0xff, 0xff, 0x5d, 0xc3,
        ],
        outer: 0x20,
        returns_to: 0x29,
        site: FaultSite { offset: 11, resume: 14, leaves: Leaves::Zero(0), tag: 77, probe: false },
        address: 7,
    };

    /// inner(address): `stp x29, x30, [sp, #-16]!; mov x29, sp; mov x1, x0; mov x0, #-1; ldr x0, [x1]; mov w2, #5;
    /// ldp x29, x30, [sp], #16; ret`, and at 0x20
    /// outer(address): `stp x29, x30, [sp, #-16]!; mov x29, sp; bl inner; ldp x29, x30, [sp], #16; ret`.
    #[cfg(target_arch = "aarch64")]
    const FUNCTIONS: Functions = Functions {
        code: &[
            0xfd, 0x7b, 0xbf, 0xa9, 0xfd, 0x03, 0x00, 0x91, 0xe1, 0x03, 0x00, 0xaa, 0x00, 0x00, 0x80, 0x92,
            0x20, 0x00, 0x40, 0xf9, 0xa2, 0x00, 0x80, 0x52, 0xfd, 0x7b, 0xc1, 0xa8, 0xc0, 0x03, 0x5f, 0xd6,
            0xfd, 0x7b, 0xbf, 0xa9, 0xfd, 0x03, 0x00, 0x91, 0xf6, 0xff, 0xff, 0x97, 0xfd, 0x7b, 0xc1, 0xa8,
            0xc0, 0x03, 0x5f, 0xd6,
        ],
        outer: 0x20,
        returns_to: 0x2c,
        site: FaultSite { offset: 16, resume: 20, leaves: Leaves::Zero(0), tag: 77, probe: false },
        address: 1,
    };

    const CODE: &[u8] = FUNCTIONS.code;
    const SITE: FaultSite = FUNCTIONS.site;

    fn call(region: &CodeRegion, offset: u64, address: u64) -> u64 {
        let entry = usize::try_from(region.start() + offset).unwrap();
        // SAFETY: the code above is two functions of this type.
        let function = unsafe { core::mem::transmute::<usize, extern "C" fn(u64) -> u64>(entry) };
        function(address)
    }

    #[test]
    fn a_load_from_a_missing_page_gives_0_and_is_noted() {
        let window = window(0);
        let page = window.alloc_pages(0, 1).unwrap();
        write(page + 8, 123);
        let region = CodeRegion::register(CodeMemory::new(CODE).unwrap(), vec![SITE]).unwrap();
        let mut recorder = Recorder::new(2);
        let results = recorder.during(|| {
            [page + 8, page + PAGE_SIZE, window.base(), window.base() - 8, page + 4095]
                .map(|address| call(&region, FUNCTIONS.outer, address))
        });
        assert_eq!(results, [123, 0, 0, 0, 0]);
        assert_eq!(recorder.count(), 4);
        let [first, second] = recorder.records() else { panic!() };
        assert_eq!(
            (first.address, first.pc, first.tag),
            (page + PAGE_SIZE, region.start() + u64::from(SITE.offset), 77)
        );
        assert_eq!(first.returns(), [region.start() + FUNCTIONS.returns_to]);
        assert_eq!(second.address, window.base());
        // Nobody is listening: nothing is noted, execution goes on all the same.
        assert_eq!(call(&region, 0, page + PAGE_SIZE), 0);
        // No page came to exist by any of it.
        assert_eq!(window.pages_in_use(), 1);
    }

    #[test]
    fn the_result_can_be_another_register() {
        let window = window(0);
        // In the guard, which faults on every system; all 32 low bits of its address are not zero.
        let missing = window.base() - 8;
        for (half, expected) in [(false, missing), (true, missing & 0xffff_ffff)] {
            let leaves = Leaves::Copy { from: FUNCTIONS.address, to: 0, half };
            let site = FaultSite { leaves, ..SITE };
            let region = CodeRegion::register(CodeMemory::new(CODE).unwrap(), vec![site]).unwrap();
            assert_eq!(call(&region, FUNCTIONS.outer, missing), expected);
        }
    }

    #[test]
    fn threads_note_their_own_faults() {
        let window = window(0);
        let region = CodeRegion::register(CodeMemory::new(CODE).unwrap(), vec![SITE]).unwrap();
        std::thread::scope(|scope| {
            for thread in 0..4_u64 {
                let (region, window) = (&region, &window);
                scope.spawn(move || {
                    let mut recorder = Recorder::new(8);
                    recorder.during(|| {
                        for _ in 0..=thread * 100 {
                            assert_eq!(call(region, 0, window.user_vm_start() + thread * 8), 0);
                        }
                    });
                    assert_eq!(recorder.count(), thread * 100 + 1);
                    let same = |r: &sys::fault::Record| r.address == window.user_vm_start() + thread * 8;
                    assert!(recorder.records().iter().all(same));
                });
            }
        });
    }

    #[test]
    fn code_that_faults_elsewhere_is_not_continued() {
        let status = in_child("generated::code_that_faults_elsewhere_is_not_continued", || {
            let window = window(0);
            let region = CodeRegion::register(CodeMemory::new(CODE).unwrap(), vec![]).unwrap();
            call(&region, 0, window.user_vm_start());
        });
        assert_eq!(status.signal(), Some(libc::SIGBUS));
    }

    #[test]
    fn an_address_outside_every_arena_is_not_continued() {
        let status = in_child("generated::an_address_outside_every_arena_is_not_continued", || {
            let _window = window(0);
            let region = CodeRegion::register(CodeMemory::new(CODE).unwrap(), vec![SITE]).unwrap();
            call(&region, 0, 64);
        });
        assert_eq!(status.signal(), Some(libc::SIGSEGV));
    }

    #[test]
    fn sites_must_lie_in_the_code() {
        let end = u32::try_from(CODE.len()).unwrap();
        for site in [
            FaultSite { offset: end, ..SITE },
            FaultSite { resume: end, ..SITE },
            FaultSite { leaves: Leaves::Zero(31), ..SITE },
            FaultSite { leaves: Leaves::Copy { from: 31, to: 0, half: false }, ..SITE },
        ] {
            let memory = CodeMemory::new(CODE).unwrap();
            assert!(CodeRegion::register(memory, vec![site]).is_err());
        }
    }
}
