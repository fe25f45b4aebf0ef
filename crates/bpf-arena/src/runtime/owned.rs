//! What a program has been given and must give back: references to objects.
//!
//! Verification sees to it that programs give back what they own, on every way to their end. A run that is ended in the midst of
//! its program has not come to its end; so the run knows what that is.

use std::cell::RefCell;

use super::{Invocation, objects};

/// The objects that a program owns now, by address; one that it owns several references to comes as often.
#[derive(Debug, Default)]
pub(crate) struct Owned(RefCell<Vec<u64>>);

impl Owned {
    /// The program gets a reference: nothing, if it is NULL.
    pub(crate) fn gain(&self, address: u64) {
        if address != 0 {
            self.0.borrow_mut().push(address);
        }
    }

    /// The program gives a reference away.
    pub(crate) fn lose(&self, address: u64) {
        let mut owned = self.0.borrow_mut();
        if let Some(at) = owned.iter().rposition(|known| *known == address) {
            owned.swap_remove(at);
        }
    }

    fn take(&self) -> Vec<u64> {
        self.0.take()
    }
}

impl Invocation<'_> {
    /// Gives back what the program still owns, because it does not come to its end any more.
    pub(crate) fn release_owned(&mut self) {
        for address in self.owned.take() {
            if !objects::release(address)
                && let Some(image) = self.image.options.world.find(address)
            {
                self.image.options.world.release(&image);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_owned_until_it_is_given_away() {
        let owned = Owned::default();
        [16, 0, 32, 16].into_iter().for_each(|address| owned.gain(address));
        owned.lose(16);
        owned.lose(48);
        let mut left = owned.take();
        left.sort_unstable();
        assert_eq!(left, [16, 32]);
        assert!(owned.take().is_empty());
    }
}
