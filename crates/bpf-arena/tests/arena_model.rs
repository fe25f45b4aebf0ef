//! Random allocations, frees, reservations and touches, against a model: a set of pages and the rules in one line each.
#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

use std::collections::BTreeSet;

use bpf_arena::arena::{Arena, ArenaOptions, ArenaSpec, PageCount, UserAddr};
use proptest::prelude::*;
use sys::PAGE_SIZE;

const PAGES: u32 = 150;

#[derive(Clone, Debug)]
enum Step {
    Alloc { at: Option<u32>, count: u32 },
    Free { at: u32, count: u32 },
    Reserve { at: u32, count: u32 },
    Touch { at: u32 },
}

fn step() -> impl Strategy<Value = Step> {
    let page = 0..PAGES + 10;
    let count = prop_oneof![4 => 0..4_u32, 2 => 0..70_u32, 1 => Just(PAGES), 1 => Just(u32::MAX)];
    prop_oneof![
        4 => (prop::option::weighted(0.3, page.clone()), count.clone()).prop_map(|(at, count)| Step::Alloc { at, count }),
        4 => (page.clone(), count.clone()).prop_map(|(at, count)| Step::Free { at, count }),
        1 => (page.clone(), count).prop_map(|(at, count)| Step::Reserve { at, count }),
        2 => page.prop_map(|at| Step::Touch { at }),
    ]
}

#[derive(Default)]
struct Model {
    present: BTreeSet<u32>,
    reserved: BTreeSet<u32>,
}

impl Model {
    fn free(&self, at: u32, count: u32) -> bool {
        let fits = at.checked_add(count).is_some_and(|end| end <= PAGES);
        fits && (at..at + count).all(|page| !self.present.contains(&page) && !self.reserved.contains(&page))
    }

    fn alloc(&mut self, at: Option<u32>, count: u32) -> Option<u32> {
        if count == 0 {
            return None;
        }
        let at = match at {
            Some(at) => self.free(at, count).then_some(at)?,
            None => (0..PAGES).find(|&at| self.free(at, count))?,
        };
        self.present.extend(at..at + count);
        Some(at)
    }
}

fn run(steps: &[Step], force_checked: bool) -> Result<(), TestCaseError> {
    let mut options = ArenaOptions::default();
    options.force_checked = force_checked;
    let arena = Arena::create_with(&ArenaSpec::new(PageCount::new(PAGES)), options).unwrap();
    let address = |page: u32| arena.user_vm_start().wrapping_add(u64::from(page) * PAGE_SIZE);
    let number = |at: UserAddr| u32::try_from((at.get() - arena.user_vm_start().get()) / PAGE_SIZE).unwrap();
    let mut model = Model::default();
    for step in steps {
        match *step {
            Step::Alloc { at, count } => {
                let got = arena.alloc_pages(at.map(address), PageCount::new(count)).map(number);
                prop_assert_eq!(got, model.alloc(at, count));
                for page in got.into_iter().flat_map(|at| at..at + count) {
                    let mut bytes = [1; 4096];
                    arena.read_bytes(address(page), &mut bytes).unwrap();
                    prop_assert!(bytes.iter().all(|&byte| byte == 0), "page {page} has old contents");
                    arena.write_bytes(address(page), &[0xaa; 4096]).unwrap();
                }
            }
            Step::Free { at, count } => {
                arena.free_pages(address(at), PageCount::new(count));
                let range = at..at.saturating_add(count);
                model.present.retain(|page| !range.contains(page));
                model.reserved.retain(|page| !range.contains(page));
            }
            Step::Reserve { at, count } => {
                let done = arena.reserve_pages(address(at), PageCount::new(count)).is_ok();
                let can = model.free(at, count);
                prop_assert_eq!(done, can, "reserve {} {}", at, count);
                if can {
                    model.reserved.extend(at..at + count);
                }
            }
            Step::Touch { at } => {
                let done = arena.write_u64(address(at).wrapping_add(8), 7).is_ok();
                let can = at < PAGES && !model.reserved.contains(&at);
                prop_assert_eq!(done, can, "touch {}", at);
                if can {
                    model.present.insert(at);
                }
            }
        }
        let present: BTreeSet<u32> = arena.page_addrs().map(number).collect();
        prop_assert_eq!(&present, &model.present);
        prop_assert_eq!(usize::try_from(arena.pages_in_use().get()).unwrap(), model.present.len());
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn behaves_as_the_model(steps in prop::collection::vec(step(), 1..60)) {
        run(&steps, false)?;
        run(&steps, true)?;
    }
}
