//! What programs see of "the kernel": the objects they have been given pointers to.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use isa::Size;

use super::object::Image;
use super::tasks::KnownTask;
use crate::access::Block;

/// The objects that programs of one engine know. One lock, taken where a program is handed an object, gives one back or
/// follows a pointer into one.
#[derive(Debug, Default)]
pub(crate) struct World {
    // Invariant: the key is the address of the image's block.
    known: Mutex<BTreeMap<u64, Known>>,
    /// Threads that are tasks, by their numbers.
    threads: Mutex<BTreeMap<i32, KnownTask>>,
}

/// An object that programs may have a pointer to.
#[derive(Debug)]
struct Known {
    image: Arc<Image>,
    /// References that programs hold.
    references: u64,
    /// It was also handed out without reference: it stays.
    lasting: bool,
    /// What its pointers lead to, each with a reference.
    holds: Vec<Arc<Image>>,
}

impl World {
    /// Makes an object known, and those its pointers lead to. With `acquired`, the program holds a reference to it.
    pub(crate) fn hand_out(&self, image: &Arc<Image>, acquired: bool) {
        let mut known = self.known();
        let mut waiting = vec![(Arc::clone(image), acquired)];
        while let Some((image, acquired)) = waiting.pop() {
            let address = image.block().address();
            let targets = image.targets();
            let entry = known.entry(address).or_insert_with(|| Known {
                image,
                references: 0,
                lasting: false,
                holds: Vec::new(),
            });
            entry.references += u64::from(acquired);
            entry.lasting |= !acquired;
            // It may have got more pointers since it was handed out last.
            for target in targets.into_iter().skip(entry.holds.len()) {
                entry.holds.push(Arc::clone(&target));
                waiting.push((target, true));
            }
        }
    }

    /// Takes back a reference; `false` if no program holds one.
    pub(crate) fn release(&self, image: &Arc<Image>) -> bool {
        let mut known = self.known();
        let mut waiting = vec![Arc::clone(image)];
        let mut held = true;
        while let Some(image) = waiting.pop() {
            let address = image.block().address();
            let Some(entry) = known.get_mut(&address).filter(|entry| entry.references > 0) else {
                held = false;
                continue;
            };
            entry.references -= 1;
            if entry.references == 0 && !entry.lasting {
                waiting.extend(known.remove(&address).into_iter().flat_map(|entry| entry.holds));
            }
        }
        held
    }

    /// Makes a thread known as a task, until it ends.
    pub(super) fn add_thread(&self, task: KnownTask) {
        self.hand_out(&task.image, false);
        self.threads().insert(task.pid, task);
    }

    /// A thread has ended. Programs that hold a reference to it keep that.
    pub(super) fn remove_thread(&self, task: &KnownTask) {
        self.threads().remove(&task.pid);
        let mut known = self.known();
        let address = task.image.block().address();
        if let Some(entry) = known.get_mut(&address) {
            entry.lasting = false;
            if entry.references == 0 {
                known.remove(&address);
            }
        }
    }

    /// The next thread by its number that `wanted` picks.
    pub(super) fn thread_after(&self, pid: i32, wanted: impl Fn(&KnownTask) -> bool) -> Option<KnownTask> {
        let threads = self.threads();
        let mut above = threads.range(pid.checked_add(1)?..).map(|(_, task)| task);
        above.find(|task| wanted(task)).cloned()
    }

    fn threads(&self) -> MutexGuard<'_, BTreeMap<i32, KnownTask>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The object at this address.
    pub(crate) fn find(&self, address: u64) -> Option<Arc<Image>> {
        self.known().get(&address).map(|entry| Arc::clone(&entry.image))
    }

    /// A load from whatever object the address lies in; `None` if there is none.
    pub(crate) fn load(&self, address: u64, size: Size) -> Option<u64> {
        let mut bytes = [0; 8];
        let wanted = bytes.get_mut(..usize::from(size.bytes()))?;
        self.read(address, wanted).then(|| u64::from_le_bytes(bytes))
    }

    /// Copies bytes of whatever object they lie in; `false` if they lie in none.
    pub(crate) fn read(&self, address: u64, bytes: &mut [u8]) -> bool {
        let known = self.known();
        let Some((start, entry)) = known.range(..=address).next_back() else { return false };
        let place = entry.image.block().place(address - start, bytes.len() as u64);
        place.inspect(|place| place.read(bytes)).is_some()
    }

    /// The memory of the object that an address lies in.
    pub(crate) fn block(&self, address: u64) -> Option<Arc<Block>> {
        let known = self.known();
        let (start, entry) = known.range(..=address).next_back()?;
        let block = entry.image.block();
        (address - start < block.len() as u64).then(|| Arc::clone(block))
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<u64, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Object;
    use super::*;

    #[test]
    fn objects_are_readable_while_they_are_held() {
        let world = World::default();
        let object = Object::with_value([7_u32, 8]).unwrap();
        let load = || world.load(object.address() + 4, Size::W);
        assert_eq!(load(), None, "nobody has a pointer to it");
        world.hand_out(object.image(), true);
        world.hand_out(object.image(), true);
        assert_eq!(load(), Some(8));
        assert_eq!(world.load(object.address() + 4, Size::DW), None, "ends behind the object");
        object.write([7, 9]);
        assert_eq!(load(), Some(9));
        assert!(world.release(object.image()));
        assert_eq!(load(), Some(9));
        assert!(world.release(object.image()));
        assert_eq!(load(), None);
        assert!(!world.release(object.image()));
        world.hand_out(object.image(), false);
        world.hand_out(object.image(), true);
        assert!(world.release(object.image()));
        assert_eq!(load(), Some(9), "handed out for good");
    }
}
