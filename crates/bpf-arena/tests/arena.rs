//! What an arena does, line by line: creating, mapping, populating, the host's side. Each test runs with page faults in
//! hardware and with checked accesses.
#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

use bpf_arena::arena::{
    Arena, ArenaError, ArenaOffset, ArenaOptions, ArenaSpec, ElementOp, PageCount, SpecError, UserAddr,
};
use bpf_object::{BPF_F_MMAPABLE, BPF_F_NO_USER_CONV, BPF_F_SEGV_ON_FAULT};
use sys::{AtomicOp, Errno, PAGE_SIZE, PageError};

const PAGE: PageCount = PageCount::new(1);

fn spec(pages: u32) -> ArenaSpec {
    ArenaSpec::new(PageCount::new(pages))
}

fn both(spec: ArenaSpec, test: impl Fn(&Arena)) {
    for force_checked in [false, true] {
        let mut options = ArenaOptions::default();
        options.force_checked = force_checked;
        test(&Arena::create_with(&spec, options).unwrap());
    }
}

fn page(arena: &Arena, number: u64) -> UserAddr {
    arena.user_vm_start().wrapping_add(number * PAGE_SIZE)
}

fn alloc(arena: &Arena, at: Option<u64>, count: u32) -> Option<u64> {
    let got = arena.alloc_pages(at.map(|at| page(arena, at)), PageCount::new(count))?;
    Some((got.get() - arena.user_vm_start().get()) / PAGE_SIZE)
}

#[test]
fn creation_is_refused_with_the_kernels_errno() {
    let good = spec(10);
    assert!(Arena::create(&good).is_ok());
    let refused = |spec: ArenaSpec| match Arena::create(&spec) {
        Err(ArenaError::Spec(error)) => (error, error.errno()),
        other => panic!("{other:?}"),
    };
    let cases = [
        (ArenaSpec { key_size: 4, ..good }, SpecError::KeySize { key_size: 4 }, Errno::INVAL),
        (ArenaSpec { value_size: 8, ..good }, SpecError::ValueSize { value_size: 8 }, Errno::INVAL),
        (ArenaSpec { max_entries: 0, ..good }, SpecError::NoPages, Errno::INVAL),
        (ArenaSpec { map_flags: 0, ..good }, SpecError::NotMmapable, Errno::INVAL),
        (ArenaSpec { map_flags: BPF_F_SEGV_ON_FAULT, ..good }, SpecError::NotMmapable, Errno::INVAL),
        (
            ArenaSpec { map_flags: BPF_F_MMAPABLE | 1, ..good },
            SpecError::UnknownFlags { flags: 1 },
            Errno::INVAL,
        ),
        (ArenaSpec { map_extra: 4097, ..good }, SpecError::Unaligned { map_extra: 4097 }, Errno::INVAL),
        (spec((1 << 20) + 1), SpecError::TooBig { pages: PageCount::new((1 << 20) + 1) }, Errno::TOOBIG),
        (spec(u32::MAX), SpecError::TooBig { pages: PageCount::new(u32::MAX) }, Errno::TOOBIG),
        (
            ArenaSpec { map_extra: 0x1_ffff_f000, ..good },
            SpecError::CrossesBoundary { map_extra: 0x1_ffff_f000 },
            Errno::RANGE,
        ),
        (
            ArenaSpec { map_extra: 0xffff_ffff_ffff_f000, ..good },
            SpecError::CrossesBoundary { map_extra: 0xffff_ffff_ffff_f000 },
            Errno::RANGE,
        ),
    ];
    for (spec, error, errno) in cases {
        assert_eq!(refused(spec), (error, errno));
    }
    // The first rule decides where several are broken.
    assert_eq!(refused(ArenaSpec { map_extra: 4097, ..spec(u32::MAX) }).1, Errno::INVAL);
    // 4 GiB exactly, and all flags there are.
    assert!(Arena::create(&spec(1 << 20)).is_ok());
    let flags = BPF_F_MMAPABLE | BPF_F_SEGV_ON_FAULT | BPF_F_NO_USER_CONV;
    assert!(Arena::create(&ArenaSpec { map_flags: flags, ..good }).is_ok());
}

#[test]
fn the_address_is_map_extra_or_chosen_within_one_4_gib_window() {
    let at = 0x0c00_2000_0000;
    let arena = Arena::create(&ArenaSpec { map_extra: at, ..spec(10) }).unwrap();
    assert_eq!(arena.user_vm_start().get(), at);
    assert_eq!(arena.user_vm_high(), at & !0xffff_ffff);
    let again = Arena::create(&ArenaSpec { map_extra: at, ..spec(10) }).unwrap_err();
    assert_eq!(again.errno(), Errno::BUSY);
    for pages in [1, 1000, 1 << 20] {
        let arena = Arena::create(&spec(pages)).unwrap();
        let start = arena.user_vm_start().get();
        assert_eq!(start >> 32, (start + arena.page_count().bytes() - 1) >> 32);
    }
}

#[test]
fn a_second_mapping_in_the_same_process_is_ebusy() {
    let arena = Arena::create(&spec(10)).unwrap();
    let fd = arena.fd().try_clone_to_owned().unwrap();
    assert_eq!(Arena::attach(fd).unwrap_err().errno(), Errno::BUSY);
}

#[test]
fn what_is_no_arena_cannot_be_attached() {
    let file = tempfile::tempfile().unwrap();
    assert!(Arena::attach(file.into()).is_err());
}

#[test]
fn element_operations_fail() {
    let arena = Arena::create(&spec(1)).unwrap();
    let errno = |operation| arena.element(operation).unwrap_err().errno();
    assert_eq!(errno(ElementOp::Lookup), Errno::INVAL);
    let others = [
        ElementOp::Update,
        ElementOp::Delete,
        ElementOp::NextKey,
        ElementOp::Push,
        ElementOp::Pop,
        ElementOp::Peek,
    ];
    assert!(others.into_iter().all(|operation| errno(operation) == Errno::OPNOTSUPP));
}

#[test]
fn mappings_are_shared_and_never_executable() {
    let arena = Arena::create(&spec(10)).unwrap();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let start = format!("{:x}-", arena.user_vm_start().get());
    let line = maps.lines().find(|line| line.starts_with(&start)).unwrap();
    assert!(line.contains(" rw-s "), "{line}");
}

#[test]
fn pages_come_out_in_sequence_and_gaps_are_filled_first() {
    both(spec(100), |arena| {
        assert_eq!(alloc(arena, None, 1), Some(0));
        assert_eq!(alloc(arena, None, 3), Some(1));
        assert_eq!(alloc(arena, None, 2), Some(4));
        arena.free_pages(page(arena, 1), PageCount::new(2));
        assert_eq!(alloc(arena, None, 3), Some(6));
        assert_eq!(alloc(arena, None, 1), Some(1));
        assert_eq!(alloc(arena, None, 1), Some(2));
        assert_eq!(alloc(arena, None, 1), Some(9));
        assert_eq!(arena.pages_in_use(), PageCount::new(10));
    });
}

#[test]
fn allocation_gives_null_where_the_kernel_does() {
    both(spec(10), |arena| {
        assert_eq!(alloc(arena, None, 0), None);
        assert_eq!(alloc(arena, None, 11), None);
        assert_eq!(alloc(arena, Some(9), 2), None);
        assert_eq!(alloc(arena, Some(10), 1), None);
        assert_eq!(arena.alloc_pages(Some(page(arena, 1).wrapping_add(8)), PAGE), None);
        assert_eq!(arena.alloc_pages(Some(UserAddr::new(page(arena, 0).get() - PAGE_SIZE)), PAGE), None);
        assert_eq!(alloc(arena, Some(4), 2), Some(4));
        assert_eq!(alloc(arena, Some(5), 1), None);
        assert_eq!(alloc(arena, Some(3), 2), None);
        assert_eq!(alloc(arena, Some(9), 1), Some(9));
        assert_eq!(alloc(arena, None, 5), None);
        assert_eq!(alloc(arena, None, 4), Some(0));
        assert_eq!(alloc(arena, None, 3), Some(6));
        assert_eq!(alloc(arena, None, 1), None);
        assert_eq!(arena.pages_in_use(), PageCount::new(10));
        // The low 32 bits of an address are what counts.
        arena.free_pages(page(arena, 2), PAGE);
        let other_half = page(arena, 2).wrapping_add(7 << 32);
        assert_eq!(arena.alloc_pages(Some(other_half), PAGE), Some(page(arena, 2)));
    });
}

#[test]
fn freeing_is_lenient() {
    both(spec(10), |arena| {
        let start = arena.user_vm_start();
        alloc(arena, None, 10).unwrap();
        arena.free_pages(page(arena, 3), PageCount::new(0));
        assert_eq!(arena.pages_in_use(), PageCount::new(10));
        // Rounded down, high bits ignored, clamped to the end, twice.
        arena.free_pages(UserAddr::new(page(arena, 3).get() + 100).wrapping_add(1 << 32), PAGE);
        assert_eq!(arena.page_addrs().count(), 9);
        assert!(!arena.page_addrs().any(|at| at == page(arena, 3)));
        arena.free_pages(page(arena, 3), PAGE);
        arena.free_pages(page(arena, 8), PageCount::new(u32::MAX));
        assert_eq!(arena.pages_in_use(), PageCount::new(7));
        // Outside the arena.
        arena.free_pages(start.wrapping_add(arena.page_count().bytes()), PageCount::new(5));
        arena.free_pages(UserAddr::new(8), PAGE);
        assert_eq!(arena.pages_in_use(), PageCount::new(7));
        // Freed pages come back zeroed.
        arena.write_u64(page(arena, 0), 5).unwrap();
        arena.free_pages(start, PAGE);
        assert_eq!(alloc(arena, None, 1), Some(0));
        assert_eq!(arena.read_u64(start).unwrap(), 0);
    });
}

#[test]
fn reserved_pages_are_neither_allocated_nor_populated() {
    both(spec(10), |arena| {
        let reserve = |at, count| {
            arena.reserve_pages(page(arena, at), PageCount::new(count)).map_err(|error| error.errno())
        };
        assert_eq!(alloc(arena, Some(2), 1), Some(2));
        assert_eq!(reserve(0, 3), Err(Errno::BUSY));
        assert_eq!(reserve(0, 2), Ok(()));
        assert_eq!(reserve(1, 1), Err(Errno::BUSY));
        assert_eq!(reserve(9, 2), Err(Errno::INVAL));
        assert_eq!(reserve(10, 1), Err(Errno::INVAL));
        assert_eq!(alloc(arena, Some(1), 1), None);
        assert_eq!(alloc(arena, None, 1), Some(3));
        assert!(matches!(arena.read_u64(page(arena, 0)), Err(ArenaError::Missing { .. })));
        assert!(matches!(arena.write_u8(page(arena, 1), 1), Err(ArenaError::Missing { .. })));
        assert_eq!(arena.pages_in_use(), PageCount::new(2));
        arena.free_pages(page(arena, 0), PAGE);
        assert_eq!(alloc(arena, None, 1), Some(0));
        assert_eq!(alloc(arena, None, 1), Some(4));
    });
}

#[test]
fn a_host_touch_populates_a_zeroed_page() {
    both(spec(10), |arena| {
        assert_eq!(arena.pages_in_use(), PageCount::new(0));
        assert_eq!(arena.read_u32(page(arena, 4)).unwrap(), 0);
        arena.write_u16(page(arena, 6).wrapping_add(4094), 7).unwrap();
        assert_eq!(arena.page_addrs().collect::<Vec<_>>(), [page(arena, 4), page(arena, 6)]);
        // Straddling two pages, the first there already.
        arena.write_u64(page(arena, 6).wrapping_add(4092), u64::MAX).unwrap();
        assert_eq!(arena.read_u64(page(arena, 6).wrapping_add(4092)).unwrap(), u64::MAX);
        assert_eq!(arena.pages_in_use(), PageCount::new(3));
        // Over many pages.
        arena.write_bytes(page(arena, 0), &vec![3; 3 * 4096]).unwrap();
        assert_eq!(arena.pages_in_use(), PageCount::new(6));
        // Allocation goes around.
        assert_eq!(alloc(arena, None, 2), Some(8));
    });
}

#[test]
fn with_segv_on_fault_a_host_touch_is_an_error() {
    both(ArenaSpec { map_flags: BPF_F_MMAPABLE | BPF_F_SEGV_ON_FAULT, ..spec(10) }, |arena| {
        let missing = arena.read_u8(page(arena, 4)).unwrap_err();
        assert!(matches!(missing, ArenaError::Missing { at } if at == page(arena, 4)), "{missing:?}");
        assert_eq!(missing.errno(), Errno::FAULT);
        assert!(arena.write_bytes(page(arena, 4), &[1]).is_err());
        assert_eq!(alloc(arena, Some(4), 1), Some(4));
        arena.write_u64(page(arena, 4).wrapping_add(4088), 1).unwrap();
        // The second half of it lies in a missing page.
        assert!(arena.write_u64(page(arena, 4).wrapping_add(4092), 1).is_err());
        assert_eq!(arena.pages_in_use(), PAGE);
    });
}

#[test]
fn pointers_from_the_arena_are_checked() {
    both(spec(10), |arena| {
        let end = page(arena, 10);
        for at in [0, 8, u64::MAX, u64::MAX - 7, end.get(), end.get() - 7, arena.user_vm_start().get() - 1] {
            let at = UserAddr::new(at);
            let error = arena.read_u64(at).unwrap_err();
            assert!(matches!(error, ArenaError::OutOfBounds { bytes: 8, .. }), "{at} {error:?}");
            assert!(arena.write_u64(at, 1).is_err());
            assert!(arena.atomic_u64(at, AtomicOp::Add, 1).is_err());
        }
        assert!(arena.read_bytes(page(arena, 9), &mut vec![0; 4097]).is_err());
        assert!(arena.read_bytes(page(arena, 9), &mut vec![0; 4096]).is_ok());
        assert_eq!(arena.pages_in_use(), PAGE);
    });
}

#[test]
fn values_of_all_widths_and_atomics() {
    both(spec(2), |arena| {
        let at = page(arena, 0).wrapping_add(64);
        arena.write_u64(at, 0x1122_3344_5566_7788).unwrap();
        assert_eq!(arena.read_u8(at).unwrap(), 0x88);
        assert_eq!(arena.read_u16(at).unwrap(), 0x7788);
        assert_eq!(arena.read_u32(at.wrapping_add(2)).unwrap(), 0x3344_5566);
        assert_eq!(arena.atomic_u32(at, AtomicOp::Xor, 0xff).unwrap(), 0x5566_7788);
        assert_eq!(arena.atomic_u64(at, AtomicOp::Xchg, 9).unwrap(), 0x1122_3344_5566_7777);
        assert_eq!(arena.atomic_u64(at, AtomicOp::CmpXchg { expected: 9 }, 10).unwrap(), 9);
        assert_eq!(arena.load_acquire_u64(at).unwrap(), 10);
        arena.store_release_u32(at, 11).unwrap();
        assert_eq!(arena.load_acquire_u32(at).unwrap(), 11);
        let askew = arena.atomic_u32(at.wrapping_add(2), AtomicOp::Add, 1).unwrap_err();
        assert!(matches!(askew, ArenaError::Misaligned { width: 4, .. }));
    });
}

#[test]
fn the_limit_bounds_all_ways_to_get_pages() {
    both(spec(100), |arena| {
        arena.set_limit(PageCount::new(5));
        assert_eq!(alloc(arena, None, 6), None);
        assert_eq!(alloc(arena, None, 4), Some(0));
        arena.write_u8(page(arena, 50), 1).unwrap();
        let error = arena.read_u8(page(arena, 51)).unwrap_err();
        assert!(matches!(error, ArenaError::Pages(PageError::Limit { limit: 5 })), "{error:?}");
        assert_eq!(error.errno(), Errno::NOMEM);
        assert_eq!(arena.try_alloc_pages(None, PAGE).unwrap_err().errno(), Errno::NOMEM);
        assert_eq!(arena.pages_in_use(), PageCount::new(5));
        arena.free_pages(page(arena, 0), PAGE);
        assert_eq!(alloc(arena, None, 1), Some(0));
        arena.set_limit(PageCount::new(u32::MAX));
        assert_eq!(arena.limit(), PageCount::new(100));
    });
}

#[test]
fn addresses_and_offsets_translate() {
    let arena = Arena::create(&spec(10)).unwrap();
    let at = page(&arena, 3).wrapping_add(5);
    assert_eq!(arena.offset_of(at), Some(ArenaOffset::new(3 * PAGE_SIZE + 5)));
    assert_eq!(arena.addr_of(ArenaOffset::new(3 * PAGE_SIZE + 5)), Some(at));
    assert_eq!(arena.offset_of(page(&arena, 10)), None);
    assert_eq!(arena.addr_of(ArenaOffset::new(10 * PAGE_SIZE)), None);
    assert_eq!(arena.user_addr(at.low32()), at);
    assert!(arena.user_addr(0).is_null());
    let flags = BPF_F_MMAPABLE | BPF_F_NO_USER_CONV;
    assert_eq!(Arena::create(&ArenaSpec { map_flags: flags, ..spec(1) }).unwrap().user_vm_high(), 0);
}

#[test]
fn a_snapshot_has_every_page() {
    both(spec(10), |arena| {
        arena.write_u64(page(arena, 2), 5).unwrap();
        arena.write_u8(page(arena, 7).wrapping_add(4095), 6).unwrap();
        let snapshot = arena.snapshot().unwrap();
        let [(first, two), (second, seven)] = snapshot.as_slice() else { panic!("{}", snapshot.len()) };
        assert_eq!((*first, *second), (page(arena, 2), page(arena, 7)));
        assert_eq!((two.first(), seven.last(), two.len()), (Some(&5), Some(&6), 4096));
    });
}

#[test]
fn writers_at_the_same_time_lose_nothing() {
    both(spec(10), |arena| {
        let at = page(arena, 1);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1000).for_each(|_| drop(arena.atomic_u64(at, AtomicOp::Add, 1))));
            }
        });
        assert_eq!(arena.read_u64(at).unwrap(), 4000);
    });
}

/// An arena in a file with a name is there for whoever opens the file next.
#[test]
fn files_with_names_are_taken_over() {
    let file = tempfile::tempfile_in("/dev/shm").unwrap();
    let spec = ArenaSpec { map_extra: 0x3000_0000_0000, ..spec(10) };
    let mut options = ArenaOptions::default();
    options.file = Some(file.try_clone().unwrap().into());
    let arena = Arena::create_with(&spec, options).unwrap();
    arena.write_u64(page(&arena, 3), 77).unwrap();
    drop(arena);
    assert!(Arena::attach(file.try_clone().unwrap().into()).is_err(), "it could be shrunk");
    let arena = Arena::attach_file(file.try_clone().unwrap().into()).unwrap();
    assert_eq!(arena.user_vm_start().get(), spec.map_extra);
    assert_eq!((arena.read_u64(page(&arena, 3)).unwrap(), arena.pages_in_use().get()), (77, 1));
    file.set_len(4096).unwrap();
    assert!(Arena::attach_file(file.into()).is_err(), "this is no arena");
}
