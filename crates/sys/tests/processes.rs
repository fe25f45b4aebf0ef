//! Arenas among processes, and in processes that are short of something. Each test starts this binary again, with the
//! part to play in an environment variable.
#![allow(unsafe_code, reason = "raw touches, system calls that change the process, inherited descriptors")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failure here is a failed test")]

use std::collections::BTreeSet;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::{Child, Command, ExitCode, Stdio};

use bpf_arena_sys as sys;
use libtest_mimic::{Arguments, Trial};
use sys::window::{Mode, Window, WindowSpec};
use sys::{Errno, PAGE_SIZE, PageError, Width, WindowError};

const PART: &str = "BPF_ARENA_TEST_PART";
const FD: &str = "BPF_ARENA_TEST_FD";

fn main() -> ExitCode {
    let part = std::env::var(PART).unwrap_or_default();
    match part.as_str() {
        "" => {}
        "churn" => churn(),
        "attach" => attach(),
        "attach unwatched" => attach_unwatched(),
        "unprivileged" => unprivileged(),
        "no userfaultfd" => no_userfaultfd(),
        "4 GiB" => four_gib(),
        "million rounds" => a_million_rounds(),
        "file size" => file_size_limit(),
        "addresses" => address_space_limit(),
        "small tmpfs" => small_tmpfs(),
        other => panic!("no part {other}"),
    }
    if !part.is_empty() {
        return ExitCode::SUCCESS;
    }
    let test = |name: &'static str, body: fn()| {
        Trial::test(name, move || {
            body();
            Ok(())
        })
    };
    let alone = |name: &'static str, part: &'static str| {
        Trial::test(name, move || {
            play(part);
            Ok(())
        })
    };
    let tmpfs = alone("a_full_tmpfs_is_an_error_and_no_signal", "small tmpfs");
    let tests = vec![
        Trial::test("a_process_killed_a_hundred_times_leaves_the_other_right", || {
            killed_a_hundred_times();
            Ok(())
        }),
        test("two_processes_see_the_same_pages", two_processes),
        test("one_process_without_userfaultfd_misleads_nobody", one_process_without_userfaultfd),
        alone("a_million_rounds_leave_nothing_behind", "million rounds"),
        alone("an_ordinary_user_has_userfaultfd", "unprivileged"),
        alone("without_userfaultfd_accesses_are_checked", "no userfaultfd"),
        alone("a_sparse_4_gib_arena_is_cheap", "4 GiB"),
        alone("a_file_size_limit_is_an_error_and_no_signal", "file size"),
        alone("an_address_space_limit_is_an_error", "addresses"),
        match can_mount() {
            true => tmpfs,
            false => {
                eprintln!("a_full_tmpfs_is_an_error_and_no_signal: mounting a tmpfs needs CAP_SYS_ADMIN");
                tmpfs.with_ignored_flag(true)
            }
        },
    ];
    libtest_mimic::run(&Arguments::from_args(), tests).exit_code()
}

fn command(part: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env(PART, part);
    command
}

fn play(part: &str) {
    let output = command(part).output().unwrap();
    assert!(output.status.success(), "{:?}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
}

fn arena(pages: u32) -> Window {
    Window::create(WindowSpec { pages, flags: 1 << 10, ..WindowSpec::default() }).unwrap()
}

/// A process that plays a part with an arena it attaches to.
fn with_arena(part: &str, window: &Window) -> Child {
    // A duplicate that is inherited.
    let fd = rustix::io::dup(window.fd()).unwrap();
    let mut command = command(part);
    command.env(FD, fd.as_raw_fd().to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
    command.spawn().unwrap()
}

fn attached() -> Window {
    let number = std::env::var(FD).unwrap().parse().unwrap();
    // SAFETY: the parent left this descriptor open for us, and nobody else uses it.
    Window::attach(unsafe { OwnedFd::from_raw_fd(number) }).unwrap()
}

fn read(address: u64) -> u64 {
    // SAFETY: an address in an arena of this process.
    unsafe { core::ptr::with_exposed_provenance::<u64>(usize::try_from(address).unwrap()).read_volatile() }
}

fn write(address: u64, value: u64) {
    // SAFETY: an address in an arena of this process.
    unsafe {
        core::ptr::with_exposed_provenance_mut::<u64>(usize::try_from(address).unwrap()).write_volatile(value)
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, end: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        u32::try_from(self.0 % u64::from(end)).unwrap()
    }
}

/// Pages the file has beside those of the arena.
fn pages_beside(window: &Window) -> u64 {
    let stat = rustix::fs::fstat(window.fd()).unwrap();
    u64::try_from(stat.st_size).unwrap() / PAGE_SIZE - u64::from(window.pages())
}

/// Pages of the arena that the file has, as the system counts them.
fn pages_in_file(window: &Window) -> u64 {
    let stat = rustix::fs::fstat(window.fd()).unwrap();
    u64::try_from(stat.st_blocks).unwrap() * 512 / PAGE_SIZE - pages_beside(window)
}

/// Allocates, fills, checks and frees for ever.
fn churn() {
    let window = attached();
    let me = u64::from(std::process::id());
    let mut random = Random((me * 0x9e37_79b9) | 1);
    let mut mine: Vec<(u64, u32)> = Vec::new();
    println!("ready");
    loop {
        let count = 1 + random.below(40);
        if random.below(3) > 0
            && let Ok(page) = window.alloc_pages(0, count)
        {
            for n in 0..u64::from(count) {
                assert_eq!(read(page + n * PAGE_SIZE), 0, "a page with old contents");
                write(page + n * PAGE_SIZE, me);
            }
            mine.push((page, count));
        } else if !mine.is_empty() {
            let index = random.below(u32::try_from(mine.len()).unwrap());
            let (page, count) = mine.swap_remove(usize::try_from(index).unwrap());
            for n in 0..u64::from(count) {
                assert_eq!(read(page + n * PAGE_SIZE), me, "a page of ours that somebody else has");
            }
            window.free_pages(page, count).unwrap();
        }
    }
}

/// A list through pages: each holds the address of the next, and a number.
struct List {
    pages: Vec<u64>,
    next_number: u64,
}

impl List {
    fn push(&mut self, window: &Window) {
        let Ok(page) = window.alloc_pages(0, 1) else { return };
        assert_eq!(read(page), 0, "a page with old contents");
        write(page, self.pages.last().copied().unwrap_or(0));
        write(page + 8, self.next_number);
        write(page + 4088, !self.next_number);
        self.next_number += 1;
        self.pages.push(page);
    }

    fn pop(&mut self, window: &Window) {
        if let Some(page) = self.pages.pop() {
            window.free_pages(page, 1).unwrap();
        }
    }

    fn walk(&self) {
        let mut at = self.pages.last().copied().unwrap_or(0);
        let mut count = 0;
        while at != 0 {
            assert_eq!(read(at + 8), !read(at + 4088), "a page of the list was overwritten");
            at = read(at);
            count += 1;
        }
        assert_eq!(count, self.pages.len());
    }
}

fn killed_a_hundred_times() {
    let window = arena(2000);
    let mut list = List { pages: Vec::new(), next_number: 1 };
    let mut random = Random(0x1234_5678_9abc_def1);
    println!("seed {:#x}", random.0);
    for round in 0..100 {
        let mut child = with_arena("churn", &window);
        wait_for_line(&mut child);
        for _ in 0..random.below(60) {
            if random.below(5) < 3 {
                list.push(&window)
            } else {
                list.pop(&window)
            }
            list.walk();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // Takes the lock, and finishes what the dead process was doing.
        list.push(&window);
        list.walk();
        let ours: BTreeSet<u64> = list.pages.iter().copied().collect();
        assert_eq!(u64::from(window.pages_in_use()), pages_in_file(&window), "round {round}");
        // What the child had is nobody's now.
        let mut from = 0;
        while let Some(page) = window.next_page(from) {
            let address = window.user_vm_start() + u64::from(page) * PAGE_SIZE;
            if !ours.contains(&address) {
                window.free_pages(address, 1).unwrap();
            }
            from = page + 1;
        }
        assert_eq!(usize::try_from(window.pages_in_use()).unwrap(), ours.len(), "round {round}");
        assert_eq!(pages_in_file(&window), u64::try_from(ours.len()).unwrap(), "round {round}");
        list.walk();
    }
}

fn wait_for_line(child: &mut Child) {
    use std::io::BufRead;
    let mut line = String::new();
    std::io::BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
}

fn attach() {
    let window = attached();
    let start = window.user_vm_start();
    // The parent's page, at the same address.
    assert_eq!(read(start + 8), 41);
    write(start + 8, 42);
    // Taken pages are taken for all.
    assert_eq!(window.alloc_pages(start, 1), Err(PageError::Taken));
    assert_eq!(window.alloc_pages(0, 2).unwrap(), start + PAGE_SIZE);
    assert_eq!(window.reserve_pages(start + 5 * PAGE_SIZE, 2), Ok(()));
    println!("ready");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    // The parent has freed the first page.
    assert_eq!(
        window.load(u32::try_from(start % (1 << 32)).unwrap(), 8, Width::B8).unwrap_err().address,
        start + 8
    );
}

fn two_processes() {
    let window = arena(100);
    let start = window.alloc_pages(0, 1).unwrap();
    write(start + 8, 41);
    let mut child = with_arena("attach", &window);
    wait_for_line(&mut child);
    assert_eq!(read(start + 8), 42);
    assert_eq!(window.pages_in_use(), 3);
    assert_eq!(window.alloc_pages(start + 6 * PAGE_SIZE, 1), Err(PageError::Taken));
    window.free_pages(start, 1).unwrap();
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}

fn a_million_rounds() {
    let window = arena(1000);
    let before = (descriptors(), mappings());
    for round in 0..1_000_000_u32 {
        let page = window.alloc_pages(0, 1).unwrap();
        if round % 16 == 0 {
            write(page, 1);
        }
        window.free_pages(page, 1).unwrap();
    }
    assert_eq!((window.pages_in_use(), pages_in_file(&window)), (0, 0));
    assert_eq!((descriptors(), mappings()), before);
    let all = window.alloc_pages(0, 1000).unwrap();
    assert_eq!(all, window.user_vm_start());
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn mappings() -> usize {
    std::fs::read_to_string("/proc/self/maps").unwrap().lines().count()
}

fn four_gib() {
    let resident = || {
        let text = std::fs::read_to_string("/proc/self/statm").unwrap();
        text.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * PAGE_SIZE
    };
    let before = (resident(), mappings());
    let window = arena(1 << 20);
    let first = window.alloc_pages(0, 1).unwrap();
    let last = window.alloc_pages(window.user_vm_start() + (1 << 32) - PAGE_SIZE, 1).unwrap();
    write(first, 1);
    write(last + 4088, 2);
    assert_eq!((window.load(0, 0, Width::B8), window.load(u32::MAX - 7, 0, Width::B8)), (Ok(1), Ok(2)));
    assert!(window.load(u32::MAX - 3, 0, Width::B8).is_err());
    let after = (resident(), mappings());
    assert!(after.0 - before.0 < 2 << 20, "{} bytes", after.0 - before.0);
    assert!(after.1 - before.1 <= 5, "{} mappings", after.1 - before.1);
}

fn unprivileged() {
    if rustix::process::geteuid().is_root() {
        // SAFETY: changes the user of this process, which has one thread.
        assert_eq!(unsafe { libc::setgroups(0, core::ptr::null()) }, 0);
        // SAFETY: as above.
        assert_eq!(unsafe { libc::setgid(65534) }, 0);
        // SAFETY: as above.
        assert_eq!(unsafe { libc::setuid(65534) }, 0);
    }
    let window = arena(100);
    let permitted = std::fs::read_to_string("/proc/sys/vm/unprivileged_userfaultfd").is_ok();
    assert!(!permitted || window.mode() == Mode::Userfaultfd);
    exercise(&window);
}

/// Makes the system refuse userfaultfd to this process, as sandboxes do.
fn refuse_userfaultfd() {
    const RET_ALLOW: u32 = 0x7fff_0000;
    const RET_ERRNO: u32 = 0x0005_0000;
    let number = u32::try_from(libc::SYS_userfaultfd).unwrap();
    let eperm = u32::try_from(libc::EPERM).unwrap();
    let op = |code: u32, jt, jf, k| libc::sock_filter { code: u16::try_from(code).unwrap(), jt, jf, k };
    let mut filter = [
        op(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, number),
        op(libc::BPF_RET | libc::BPF_K, 0, 0, RET_ERRNO | eperm),
        op(libc::BPF_RET | libc::BPF_K, 0, 0, RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: 4, filter: filter.as_mut_ptr() };
    // SAFETY: plain numbers.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
    // SAFETY: a valid filter, copied by the call.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_SECCOMP, 2, &raw const program) }, 0);
}

fn no_userfaultfd() {
    refuse_userfaultfd();
    let window = arena(100);
    assert_eq!(window.mode(), Mode::Checked);
    exercise(&window);
}

fn attach_unwatched() {
    refuse_userfaultfd();
    let window = attached();
    assert_eq!(window.mode(), Mode::Checked);
    let start = window.user_vm_start();
    assert_eq!(read(start + 8), 41);
    // Nothing notices this touch; the other process must find the page all the same.
    write(start + 2 * PAGE_SIZE, 43);
    assert_eq!(window.alloc_pages(start, 1), Err(PageError::Taken));
    println!("ready");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
}

fn one_process_without_userfaultfd() {
    let window = arena(100);
    assert_eq!(window.mode(), Mode::Userfaultfd);
    let start = window.alloc_pages(0, 1).unwrap();
    write(start + 8, 41);
    let mut child = with_arena("attach unwatched", &window);
    wait_for_line(&mut child);
    assert_eq!(window.alloc_pages(start + 2 * PAGE_SIZE, 1), Err(PageError::Taken));
    assert_eq!(window.alloc_pages(0, 2), Ok(start + 3 * PAGE_SIZE));
    assert_eq!(window.alloc_pages(0, 1), Ok(start + PAGE_SIZE));
    assert_eq!(window.pages_in_use(), 5);
    assert_eq!(read(start + 2 * PAGE_SIZE), 43);
    window.free_pages(start, 100).unwrap();
    assert_eq!((window.pages_in_use(), pages_in_file(&window)), (0, 0));
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}

/// The same story in any mode.
fn exercise(window: &Window) {
    let low = |address: u64| u32::try_from(address % (1 << 32)).unwrap();
    let page = window.alloc_pages(0, 3).unwrap();
    write(page, 1);
    assert_eq!(window.load(low(page), 0, Width::B8), Ok(1));
    // A touch by host code populates a page that programs then see.
    let touched = page + 10 * PAGE_SIZE;
    assert!(window.load(low(touched), 0, Width::B8).is_err());
    write(touched, 7);
    assert_eq!(window.load(low(touched), 0, Width::B8), Ok(7));
    assert_eq!(window.pages_in_use(), 4);
    // Nor is it handed out, even if no program looked at it.
    write(page + 5 * PAGE_SIZE, 8);
    assert_eq!(window.alloc_pages(0, 3).unwrap(), page + 6 * PAGE_SIZE);
    assert_eq!(window.alloc_pages(page + 5 * PAGE_SIZE, 1), Err(PageError::Taken));
    window.free_pages(page, 100).unwrap();
    assert_eq!(window.pages_in_use(), 0);
    let all = window.alloc_pages(0, 100).unwrap();
    assert!((0..100).all(|n| read(all + n * PAGE_SIZE) == 0));
}

fn file_size_limit() {
    let limit = rustix::process::Rlimit { current: Some(1 << 20), maximum: Some(1 << 20) };
    rustix::process::setrlimit(rustix::process::Resource::Fsize, limit).unwrap();
    let error =
        Window::create(WindowSpec { pages: 1000, flags: 1 << 10, ..WindowSpec::default() }).unwrap_err();
    assert!(matches!(error, WindowError::FileSizeLimit { limit: 0x10_0000, .. }), "{error:?}");
    exercise(&arena(100));
}

fn address_space_limit() {
    let limit = rustix::process::Rlimit { current: Some(1 << 30), maximum: Some(1 << 30) };
    rustix::process::setrlimit(rustix::process::Resource::As, limit).unwrap();
    let error =
        Window::create(WindowSpec { pages: 10, flags: 1 << 10, ..WindowSpec::default() }).unwrap_err();
    assert_eq!(error.errno(), Errno::NOMEM);
}

fn can_mount() -> bool {
    command("small tmpfs").env("ONLY_MOUNT", "1").stderr(Stdio::null()).status().unwrap().success()
}

fn small_tmpfs() {
    // SAFETY: this process gets mounts of its own; it has one thread.
    assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNS) }, 0);
    let (root, none) = (c"/".as_ptr(), core::ptr::null());
    let private = libc::MS_REC | libc::MS_PRIVATE;
    // SAFETY: strings and numbers.
    assert_eq!(unsafe { libc::mount(c"none".as_ptr(), root, none, private, none.cast()) }, 0);
    let folder = tempfile::tempdir().unwrap();
    let path = std::ffi::CString::new(folder.path().to_str().unwrap()).unwrap();
    let kind = c"tmpfs".as_ptr();
    // SAFETY: strings and numbers.
    assert_eq!(unsafe { libc::mount(kind, path.as_ptr(), kind, 0, c"size=1m".as_ptr().cast()) }, 0);
    if std::env::var_os("ONLY_MOUNT").is_none() {
        for force_checked in [false, true] {
            fill(folder.path(), force_checked);
        }
    }
    // SAFETY: a string.
    unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) };
}

/// An arena that is larger than the file system that holds it.
fn fill(folder: &std::path::Path, force_checked: bool) {
    let path = folder.join("arena");
    let file =
        std::fs::File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
    let file = Some(OwnedFd::from(file));
    let window = Window::create(WindowSpec {
        pages: 1000,
        flags: 1 << 10,
        force_checked,
        file,
        ..WindowSpec::default()
    });
    let window = window.unwrap();
    let low = |page: u64| u32::try_from(page % (1 << 32)).unwrap();
    let mut pages = Vec::new();
    let error = loop {
        match window.alloc_pages(0, 1) {
            Ok(page) => pages.push(page),
            Err(error) => break error,
        }
    };
    assert_eq!(error.errno(), Errno::NOSPC);
    assert!((200..256).contains(&pages.len()), "{}", pages.len());
    assert_eq!(usize::try_from(window.pages_in_use()).unwrap(), pages.len());
    // Allocated pages can all be written: their memory is there.
    pages.iter().for_each(|&page| write(page, 1));
    // More than there is, in one piece: nothing is left of the attempt.
    window.free_pages(window.user_vm_start(), 100).unwrap();
    assert_eq!(window.alloc_pages(0, 150).unwrap_err().errno(), Errno::NOSPC);
    assert_eq!(usize::try_from(window.pages_in_use()).unwrap(), pages.len() - 100);
    assert!(window.alloc_pages(0, 100).is_ok());
    // A touch through this API is an error.
    let error = window.populate(low(window.user_vm_start()) + 999 * 4096).unwrap_err();
    assert!(matches!(error.errno(), Errno::NOMEM | Errno::NOSPC | Errno::FAULT), "{error:?}");
    assert_eq!(usize::try_from(window.pages_in_use()).unwrap(), pages.len());
    drop(window);
    std::fs::remove_file(path).unwrap();
}
