//! Windows: placement, accesses, pages, in both modes.

#![allow(unsafe_code, reason = "host code holds raw pointers into the arena; that is what is tested")]
#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

use bpf_arena_sys as sys;
use sys::window::{Mode, SEGV_ON_FAULT, Window, WindowSpec};
use sys::{AtomicOp, Errno, PAGE_SIZE, PageError, Width, WindowError};

const MMAPABLE: u32 = 1 << 10;

fn spec(pages: u32) -> WindowSpec {
    WindowSpec { pages, flags: MMAPABLE, ..WindowSpec::default() }
}

/// Runs a test with userfaultfd and without.
fn both(test: impl Fn(Window)) {
    both_with(100, 0, test);
}

fn both_with(pages: u32, flags: u32, test: impl Fn(Window)) {
    for force_checked in [false, true] {
        let flags = flags | MMAPABLE;
        test(Window::create(WindowSpec { pages, flags, force_checked, ..WindowSpec::default() }).unwrap());
    }
}

fn low(address: u64) -> u32 {
    u32::try_from(address & 0xffff_ffff).unwrap()
}

#[test]
fn the_mode_is_as_asked() {
    assert_eq!(Window::create(spec(1)).unwrap().mode(), Mode::Userfaultfd);
    let checked = Window::create(WindowSpec { force_checked: true, ..spec(1) }).unwrap();
    assert_eq!(checked.mode(), Mode::Checked);
}

#[test]
fn an_arena_never_crosses_4_gib() {
    for pages in [1, 100, 1 << 19, (1 << 20) - 1, 1 << 20] {
        let window = Window::create(spec(pages)).unwrap();
        let (start, last) =
            (window.user_vm_start(), window.user_vm_start() + u64::from(pages) * PAGE_SIZE - 1);
        assert_eq!(start >> 32, last >> 32);
        assert_eq!(window.base(), start & !0xffff_ffff);
        assert_eq!(window.pages(), pages);
        // Where there is room, no page has an address that programs take for NULL.
        let room = (1 << 32) - u64::from(pages) * PAGE_SIZE;
        assert_eq!(start & 0xffff_ffff, room.min(64 << 10), "{pages}");
    }
}

#[test]
fn pages_out_of_range_are_refused() {
    let errno =
        |pages, at| Window::create(WindowSpec { user_vm_start: at, ..spec(pages) }).unwrap_err().errno();
    assert_eq!(errno(0, None), Errno::INVAL);
    assert_eq!(errno((1 << 20) + 1, None), Errno::TOOBIG);
    assert_eq!(errno(2, Some((1 << 44) + 1)), Errno::INVAL);
    assert_eq!(errno(2, Some((1 << 32) - PAGE_SIZE)), Errno::RANGE);
    assert_eq!(errno(2, Some(0_u64.wrapping_sub(PAGE_SIZE))), Errno::RANGE);
}

#[test]
fn a_taken_address_is_a_typed_error() {
    let at = 0x0e00_1000_0000;
    let window = Window::create(WindowSpec { user_vm_start: Some(at), ..spec(10) }).unwrap();
    assert_eq!((window.user_vm_start(), window.base()), (at, at & !0xffff_ffff));
    let again = Window::create(WindowSpec { user_vm_start: Some(at), ..spec(10) });
    assert!(matches!(again, Err(WindowError::AddressTaken { start, .. }) if start == at), "{again:?}");
    let here = Window::attach(window.fd().try_clone_to_owned().unwrap());
    assert!(matches!(here, Err(WindowError::AddressTaken { .. })), "{here:?}");
    drop(window);
    assert!(Window::create(WindowSpec { user_vm_start: Some(at), ..spec(10) }).is_ok());
}

#[test]
fn where_the_whole_window_is_not_free_the_arena_is_mapped_twice() {
    let at = 0x0d00_1000_0000;
    // Something of the host lies in the same 4 GiB.
    let other = Window::create(WindowSpec { user_vm_start: Some(at), ..spec(1) }).unwrap();
    drop(other);
    let hint = core::ptr::with_exposed_provenance_mut(0x0d00_7000_0000);
    let (read, private) = (rustix::mm::ProtFlags::READ, rustix::mm::MapFlags::PRIVATE);
    // SAFETY: nothing is there, and NOREPLACE.
    let host = unsafe {
        rustix::mm::mmap_anonymous(hint, 4096, read, private | rustix::mm::MapFlags::FIXED_NOREPLACE)
    };
    host.unwrap();
    for force_checked in [false, true] {
        let spec = WindowSpec { user_vm_start: Some(at), force_checked, ..spec(10) };
        let window = Window::create(spec).unwrap();
        assert_eq!(window.user_vm_start(), at);
        assert_ne!(window.base(), at & !0xffff_ffff);
        let page = window.alloc_pages(0, 1).unwrap();
        window.store(low(page), 0, Width::B8, 77).unwrap();
        let host = core::ptr::with_exposed_provenance::<u64>(usize::try_from(page).unwrap());
        // SAFETY: the page was allocated.
        assert_eq!(unsafe { host.read_volatile() }, 77);
        window.free_pages(page, 1).unwrap();
        assert_eq!(window.load(low(page), 8, Width::B8).unwrap_err().address, page + 8);
        // SAFETY: a touch populates.
        assert_eq!(unsafe { host.read_volatile() }, 0);
        assert_eq!(window.pages_in_use(), u32::from(!force_checked));
        assert_eq!(window.load(low(page), 0, Width::B8), Ok(0));
        assert_eq!(window.pages_in_use(), 1);
    }
}

/// The price of the checked mode: nothing watches the host's raw pointers.
#[test]
fn without_userfaultfd_raw_touches_populate_whatever_the_flags() {
    let window = Window::create(WindowSpec { flags: SEGV_ON_FAULT, force_checked: true, ..spec(2) }).unwrap();
    let reserved = window.user_vm_start() + 4096;
    window.reserve_pages(reserved, 1).unwrap();
    for address in [window.user_vm_start(), reserved] {
        let host = core::ptr::with_exposed_provenance::<u64>(usize::try_from(address).unwrap());
        // SAFETY: in the mapping, and not watched.
        assert_eq!(unsafe { host.read_volatile() }, 0);
    }
}

#[test]
fn missing_pages_are_values() {
    both(|window| {
        let page = window.alloc_pages(0, 1).unwrap();
        assert_eq!(page, window.user_vm_start());
        let ptr = low(page);
        for width in [Width::B1, Width::B2, Width::B4, Width::B8] {
            window.store(ptr, 16, width, 0x1122_3344_5566_7788).unwrap();
            let mask = u64::MAX >> (64 - 8 * u32::from(width.bytes()));
            assert_eq!(window.load(ptr, 16, width), Ok(0x1122_3344_5566_7788 & mask));
            assert_eq!(window.load_acquire(ptr, 16, width), Ok(0x1122_3344_5566_7788 & mask));
            window.store_release(ptr, 16, width, 0).unwrap();
            assert_eq!(window.load(ptr, 16, Width::B8), Ok(0x1122_3344_5566_7788 & !mask & mask));
            // Every pointer, every offset: next page, before the arena, the ends of the window.
            for (at, offset) in
                [(ptr + 4096, 0), (ptr, -1), (0, 0), (0, i16::MIN), (u32::MAX, i16::MAX), (u32::MAX, 0)]
            {
                let missing = window.load(at, offset, width).unwrap_err();
                let base = window.user_vm_start() & !0xffff_ffff;
                assert_eq!(missing.address, (base + u64::from(at)).wrapping_add_signed(offset.into()));
                assert!(window.store(at, offset, width, 1).is_err());
            }
        }
        // Straddling the end of the page.
        window.store(ptr, 4088, Width::B8, u64::MAX).unwrap();
        assert!(window.load(ptr, 4092, Width::B8).is_err());
        assert!(window.store(ptr, 4092, Width::B8, 0).is_err());
        assert_eq!(window.load(ptr, 4088, Width::B8), Ok(u64::MAX));
        window.free_pages(page, 1).unwrap();
        assert!(window.load(ptr, 0, Width::B8).is_err());
        assert_eq!(window.pages_in_use(), 0);
    });
}

#[test]
fn atomics_do_what_they_say() {
    both(|window| {
        let ptr = low(window.alloc_pages(0, 1).unwrap());
        let (a, b) = (0xf0f0_f0f0_f0f0_f0f0_u64, 0x1234_5678_9abc_def0_u64);
        let low32 = |value: u64| value & 0xffff_ffff;
        let ops: [(AtomicOp, u64); 7] = [
            (AtomicOp::Add, a.wrapping_add(b)),
            (AtomicOp::Or, a | b),
            (AtomicOp::And, a & b),
            (AtomicOp::Xor, a ^ b),
            (AtomicOp::Xchg, b),
            (AtomicOp::CmpXchg { expected: a }, b),
            (AtomicOp::CmpXchg { expected: 3 }, a),
        ];
        for (op, after) in ops {
            window.store(ptr, 8, Width::B8, a).unwrap();
            assert_eq!(window.atomic(ptr, 8, Width::B8, op, b), Ok(a), "{op:?}");
            assert_eq!(window.load(ptr, 8, Width::B8), Ok(after), "{op:?}");
            window.store(ptr, 8, Width::B8, a).unwrap();
            assert_eq!(window.atomic(ptr, 8, Width::B4, op, b), Ok(low32(a)), "{op:?}");
            assert_eq!(window.load(ptr, 8, Width::B8), Ok(low32(after) | (a & !0xffff_ffff)), "{op:?}");
            assert!(window.atomic(ptr, 4096, Width::B8, op, b).is_err());
            assert!(window.atomic(ptr, 4096, Width::B4, op, b).is_err());
        }
    });
}

#[test]
fn bytes_are_copied_up_to_the_missing_page() {
    both(|window| {
        let page = window.alloc_pages(0, 2).unwrap();
        let bytes: Vec<u8> = (0..8192_u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
        window.write_bytes(low(page), &bytes).unwrap();
        let mut back = vec![0; 8192];
        window.read_bytes(low(page), &mut back).unwrap();
        assert_eq!(back, bytes);
        let mut longer = vec![9; 8300];
        let missing = window.read_bytes(low(page), &mut longer).unwrap_err();
        assert_eq!(missing.address, page + 8192);
        assert_eq!((&longer[..8192], &longer[8192..]), (&bytes[..], &[9; 108][..]));
        assert_eq!(window.write_bytes(low(page) + 8000, &[1; 300]).unwrap_err().address, page + 8192);
        assert_eq!(window.load(low(page), 8191, Width::B1), Ok(1));
        // Over the end of the window.
        assert!(window.read_bytes(u32::MAX - 10, &mut vec![0; 1 << 20]).is_err());
        assert!(window.read_bytes(u32::MAX, &mut []).is_ok());
    });
}

#[test]
fn touches_populate_unless_forbidden() {
    both(|window| {
        let at = low(window.user_vm_start()) + 5 * 4096;
        window.populate(at + 77).unwrap();
        assert_eq!(window.load(at, 0, Width::B8), Ok(0));
        assert_eq!((window.pages_in_use(), window.next_page(0), window.next_page(6)), (1, Some(5), None));
        window.populate(at).unwrap();
        assert_eq!(window.pages_in_use(), 1);
        let start = window.user_vm_start();
        window.reserve_pages(start, 5).unwrap();
        assert_eq!(window.populate(low(start)), Err(PageError::NotPopulated));
        assert_eq!(window.populate(low(start) + 100 * 4096), Err(PageError::BadRange));
    });
    both_with(10, SEGV_ON_FAULT, |window| {
        let start = low(window.user_vm_start());
        assert_eq!(window.populate(start), Err(PageError::NotPopulated));
        window.alloc_pages(0, 1).unwrap();
        assert_eq!(window.populate(start), Ok(()));
    });
}
