//! Writing.

use std::sync::atomic::Ordering;

use super::api::{Decision, Expiry, KEY_MAX, Meta, Mode, Outcome, Removal, StoreError};
use super::hash::low;
use super::item::{self, Head};
use super::read::Found;
use super::table::Entry;
use super::{Store, header, offset};
use crate::layout::{Header, Item, value_offset};

/// Attempts of an update that depends on what was there, before it gives up: others changed the item each time.
const ATTEMPTS: u32 = 1_000_000;

/// What became of an item that was to be linked.
enum Published {
    Done,
    /// What was there is not what was asked for.
    Refused,
    NoMemory,
}

/// What is to be stored, and how it is marked.
#[derive(Clone, Copy)]
struct Fresh<'a> {
    flags: u32,
    expires: Expiry,
    cas: Option<u64>,
    state: u8,
    value: [&'a [u8]; 2],
}

impl Store {
    /// Stores a value; gives the item's new number with the outcome.
    ///
    /// # Errors
    /// Key or value are too long, or there is no memory.
    pub fn put(
        &self,
        mode: Mode,
        key: &[u8],
        flags: u32,
        expires: Expiry,
        value: &[u8],
    ) -> Result<(Outcome, u64), StoreError> {
        let hash = self.check_key(key)?;
        self.check_size(value.len())?;
        if let Mode::Append | Mode::Prepend = mode {
            return self.join(mode, key, hash, value);
        }
        let refused = |found: Option<&Head>| match (mode, found) {
            (Mode::Add, Some(_)) | (Mode::Replace, None) => Some(Outcome::NotStored),
            (Mode::Cas(_), None) => Some(Outcome::NotFound),
            (Mode::Cas(cas), Some(head)) if head.cas != cas => Some(Outcome::Exists),
            _ => None,
        };
        if mode != Mode::Set
            && let Some(outcome) = refused(self.read(key, None).as_ref().map(|found| &found.head))
        {
            return Ok((outcome, 0));
        }
        let fresh = Fresh { flags, expires, cas: None, state: 0, value: [value, &[]] };
        let (place, head) = self.prepare(key, hash, &fresh)?;
        let mut outcome = Outcome::Stored;
        let published = self.publish(key, hash, (place, &head), |found| {
            outcome = refused(found).unwrap_or(Outcome::Stored);
            outcome == Outcome::Stored
        });
        match published {
            Published::Done => Ok((Outcome::Stored, head.cas)),
            Published::Refused => Ok((outcome, 0)),
            Published::NoMemory => Err(StoreError::OutOfMemory),
        }
    }

    /// Sets when an item ends; counts as a use. What is known of it then.
    pub fn touch(&self, key: &[u8], expires: Expiry) -> Option<Meta> {
        let _stripe = self.table.lock(low(self.hash(key)));
        let found = self.find_live(key)?;
        self.touch_found(&found, expires)
    }

    /// [`Store::touch`] and [`Store::get`] in one.
    pub fn get_and_touch(&self, key: &[u8], expires: Expiry, value: &mut Vec<u8>) -> Option<Meta> {
        let hash = self.hash(key);
        let _stripe = self.table.lock(low(hash));
        let found = self.read_locked(key, hash, Some(value))?;
        self.touch_found(&found, expires)
    }

    fn touch_found(&self, found: &Found, expires: Expiry) -> Option<Meta> {
        self.mem.set_u32(found.place().wrapping_add(offset(Item::expires)), item::seconds(expires));
        Some(Meta { expires, ..self.used(found) })
    }

    /// Removes an item; only one with this number, if one is given.
    pub fn delete(&self, key: &[u8], cas: Option<u64>) -> Removal {
        let stripe = self.table.lock(low(self.hash(key)));
        let Some(found) = self.find_live(key) else { return Removal::NotFound };
        if cas.is_some_and(|cas| cas != found.head.cas) {
            return Removal::Exists;
        }
        self.unlink(&found);
        drop(stripe);
        self.heap.free(found.place());
        Removal::Deleted
    }

    /// Looks at an item, decides what is to become of it, and does that in one step; what is known of it afterwards. `decide`
    /// is called again if somebody else changed the item meanwhile.
    ///
    /// # Errors
    /// Key or value are too long, or there is no memory.
    pub fn update_with(
        &self,
        key: &[u8],
        mut decide: impl FnMut(Option<(&Meta, &[u8])>) -> Decision,
    ) -> Result<Option<Meta>, StoreError> {
        let hash = self.check_key(key)?;
        let mut value = Vec::new();
        for _ in 0..ATTEMPTS {
            value.clear();
            let found = self.read(key, Some(&mut value));
            let meta = found.map(|found| {
                found.head.meta(self.mem.u32(crate::layout::touch_place(found.place())), self.epoch)
            });
            let version = found.map(|found| found.head.version);
            let decision = decide(meta.as_ref().map(|meta| (meta, value.as_slice())));
            match decision {
                Decision::Keep => return Ok(meta),
                Decision::Mark { expires, stale, won } => {
                    let Some(meta) = meta else { return Ok(None) };
                    if self.mark(key, hash, version, (expires, item::state(stale, won))) {
                        return Ok(Some(Meta { expires, stale, won, ..meta }));
                    }
                }
                Decision::Delete => {
                    let Some(version) = version else { return Ok(None) };
                    if self.remove_version(key, hash, version) {
                        return Ok(None);
                    }
                }
                Decision::Store { value, flags, expires, cas, stale, won } => {
                    self.check_size(value.len())?;
                    let state = item::state(stale, won);
                    let fresh = Fresh { flags, expires, cas, state, value: [&value, &[]] };
                    if let Some(head) = self.exchange(key, hash, version, &fresh)? {
                        return Ok(Some(head.meta(head.stored, self.epoch)));
                    }
                }
            }
        }
        Err(StoreError::OutOfMemory)
    }

    /// Ends all items that are there now (`None`), or those that are there when this second comes.
    pub fn flush_all(&self, at: Option<u32>) {
        let later = at.filter(|at| *at > self.now());
        self.mem.set_u32(header(Header::flush_at), later.unwrap_or(0));
        if later.is_none() {
            self.flush_now();
        }
    }

    pub(super) fn flush_now(&self) {
        let last = self.mem.add(header(Header::versions), 1);
        self.mem.release(header(Header::flushed), last);
    }

    /// Takes an item out of the table, under the stripe's lock. Its slot is to be freed by the caller.
    pub(super) fn unlink(&self, found: &Found) {
        self.table.replace(found.entry, 0);
        item::retire(&self.mem, found.place());
        self.counts.items.fetch_sub(1, Ordering::Relaxed);
        self.counts.bytes.fetch_sub(found.head.bytes().into(), Ordering::Relaxed);
    }

    fn find_live(&self, key: &[u8]) -> Option<Found> {
        self.find_locked(key, self.hash(key)).filter(|found| self.is_live(&found.head))
    }

    /// Appends or prepends.
    fn join(&self, mode: Mode, key: &[u8], hash: u64, value: &[u8]) -> Result<(Outcome, u64), StoreError> {
        let mut old = Vec::new();
        for _ in 0..ATTEMPTS {
            old.clear();
            let Some(Found { head, .. }) = self.read(key, Some(&mut old)) else {
                return Ok((Outcome::NotStored, 0));
            };
            self.check_size(old.len() + value.len())?;
            let value = if mode == Mode::Append { [&old, value] } else { [value, &old] };
            let expires = if head.expires == 0 { Expiry::Never } else { Expiry::At(head.expires) };
            let fresh = Fresh { flags: head.flags, expires, cas: None, state: 0, value };
            if let Some(head) = self.exchange(key, hash, Some(head.version), &fresh)? {
                return Ok((Outcome::Stored, head.cas));
            }
        }
        Err(StoreError::OutOfMemory)
    }

    /// Stores in the place of this version, or of nothing; `None` if something else is there.
    fn exchange(
        &self,
        key: &[u8],
        hash: u64,
        version: Option<u64>,
        fresh: &Fresh<'_>,
    ) -> Result<Option<Head>, StoreError> {
        let (place, head) = self.prepare(key, hash, fresh)?;
        match self.publish(key, hash, (place, &head), |found| found.map(|head| head.version) == version) {
            Published::Done => Ok(Some(head)),
            Published::Refused => Ok(None),
            Published::NoMemory => Err(StoreError::OutOfMemory),
        }
    }

    /// Writes an item that nothing leads to.
    fn prepare(&self, key: &[u8], hash: u64, fresh: &Fresh<'_>) -> Result<(u32, Head), StoreError> {
        let [first, second] = fresh.value;
        let size = u32::try_from(first.len() + second.len()).unwrap_or(u32::MAX);
        let key_size = u8::try_from(key.len()).unwrap_or(u8::MAX);
        let place = self.reserve(value_offset(key_size).saturating_add(size))?;
        let version = self.mem.add(header(Header::versions), 1);
        let head = Head {
            version,
            cas: fresh.cas.unwrap_or(version),
            flags: fresh.flags,
            expires: item::seconds(fresh.expires),
            size,
            hash: low(hash),
            stored: self.second(),
            key_size,
            state: fresh.state,
        };
        item::write(&self.mem, place, &head, key, fresh.value);
        Ok((place, head))
    }

    /// Has the table lead to an item, if what is there for the key now (ended items are not) passes the check. Otherwise
    /// the item's slot is freed.
    fn publish(
        &self,
        key: &[u8],
        hash: u64,
        (place, head): (u32, &Head),
        check: impl FnOnce(Option<&Head>) -> bool,
    ) -> Published {
        let stripe = self.table.lock(low(hash));
        let old = self.find_locked(key, hash);
        let live = old.as_ref().map(|found| &found.head).filter(|head| self.is_live(head));
        let allowed = check(live);
        let word = Entry::of(hash, place);
        let mut evicted = None;
        let linked = allowed
            && match &old {
                Some(found) => {
                    self.table.replace(found.entry, word);
                    item::retire(&self.mem, found.place());
                    self.counts.bytes.fetch_sub(found.head.bytes().into(), Ordering::Relaxed);
                    true
                }
                None => {
                    let inserted = self.table.insert(&self.heap, hash, word) || {
                        evicted = self.evict_neighbour(low(hash));
                        evicted.is_some() && self.table.insert(&self.heap, hash, word)
                    };
                    self.counts.items.fetch_add(u64::from(inserted), Ordering::Relaxed);
                    inserted
                }
            };
        if !linked {
            item::retire(&self.mem, place);
        }
        drop(stripe);
        evicted.into_iter().for_each(|place| self.heap.free(place));
        if !linked {
            self.heap.free(place);
            return if allowed { Published::NoMemory } else { Published::Refused };
        }
        if let Some(found) = old {
            self.heap.free(found.place());
        }
        self.counts.bytes.fetch_add(head.bytes().into(), Ordering::Relaxed);
        self.counts.stored.fetch_add(1, Ordering::Relaxed);
        if !self.table.grow(&self.heap, self.counts.items.load(Ordering::Relaxed)) && self.options.evict {
            // The next item makes use of it.
            self.empty_a_slab();
        }
        Published::Done
    }

    /// Makes room in a full bucket where there is no memory for a longer one; the slot is to be freed. The caller holds the
    /// stripe's lock.
    fn evict_neighbour(&self, hash: u32) -> Option<u32> {
        let entry =
            self.table.entries(self.table.extent().bucket(hash)).next().filter(|_| self.options.evict)?;
        self.unlink(&Found { entry, head: Head::load(&self.mem, entry.place()) });
        self.counts.evictions.fetch_add(1, Ordering::Relaxed);
        Some(entry.place())
    }

    /// Changes what can be changed in place, if this version is still there. Whether it was.
    fn mark(&self, key: &[u8], hash: u64, version: Option<u64>, (expires, state): (Expiry, u8)) -> bool {
        let _stripe = self.table.lock(low(hash));
        match self.find_live(key).filter(|found| Some(found.head.version) == version) {
            Some(found) => {
                self.mem.set_u32(found.place().wrapping_add(offset(Item::expires)), item::seconds(expires));
                self.mem.set_u8(found.place().wrapping_add(offset(Item::state)), state);
                true
            }
            None => false,
        }
    }

    fn remove_version(&self, key: &[u8], hash: u64, version: u64) -> bool {
        let stripe = self.table.lock(low(hash));
        let Some(found) = self.find_live(key).filter(|found| found.head.version == version) else {
            return false;
        };
        self.unlink(&found);
        drop(stripe);
        self.heap.free(found.place());
        true
    }

    fn check_key(&self, key: &[u8]) -> Result<u64, StoreError> {
        match key.len() {
            1..=KEY_MAX => Ok(self.hash(key)),
            len => Err(StoreError::Key { len }),
        }
    }

    fn check_size(&self, len: usize) -> Result<(), StoreError> {
        let limit = self.options.item_max;
        if len <= limit as usize { Ok(()) } else { Err(StoreError::TooLarge { len, limit }) }
    }
}
