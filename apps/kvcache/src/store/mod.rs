//! The store: items by key.

mod api;

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

pub use api::{
    Arithmetic, Decision, Delta, Expiry, KEY_MAX, Meta, Mode, Options, Outcome, Removal, StoreError,
    StoreStats,
};

type Items = HashMap<Vec<u8>, (Meta, Vec<u8>)>;

/// The store. Every method works from any number of threads at once.
#[derive(Debug)]
pub struct Store {
    options: Options,
    items: Mutex<(u64, Items)>,
}

impl Store {
    /// An empty store in memory of its own.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self { options, items: Mutex::default() }
    }

    /// The store's clock: seconds since 1970.
    #[must_use]
    pub fn now(&self) -> u32 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        u32::try_from(now).unwrap_or(u32::MAX)
    }

    /// Appends the value of `key` to `value`; counts as a use.
    pub fn get(&self, key: &[u8], value: &mut Vec<u8>) -> Option<Meta> {
        self.with(key, |_, found| {
            let (meta, bytes) = found.as_mut()?;
            value.extend_from_slice(bytes);
            let before = *meta;
            meta.fetched = true;
            Some(before)
        })
    }

    /// What is known of an item, which does not count as a use.
    pub fn peek(&self, key: &[u8]) -> Option<Meta> {
        self.with(key, |_, found| found.as_ref().map(|(meta, _)| *meta))
    }

    /// Sets when an item ends; counts as a use.
    pub fn touch(&self, key: &[u8], expires: Expiry) -> Option<Meta> {
        self.get_and_touch(key, expires, &mut Vec::new())
    }

    /// [`Store::touch`] and [`Store::get`] in one.
    pub fn get_and_touch(&self, key: &[u8], expires: Expiry, value: &mut Vec<u8>) -> Option<Meta> {
        self.with(key, |_, found| {
            let (meta, bytes) = found.as_mut()?;
            meta.expires = expires;
            value.extend_from_slice(bytes);
            Some(*meta)
        })
    }

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
        let limit = self.options.item_max;
        if value.len() > limit as usize {
            return Err(StoreError::TooLarge { len: value.len(), limit });
        }
        Ok(self.with(key, |cas, found| {
            let mut joined = Vec::new();
            let (mut flags, mut expires) = (flags, expires);
            match (mode, &found) {
                (Mode::Add, Some(_)) | (Mode::Replace | Mode::Append | Mode::Prepend, None) => {
                    return (Outcome::NotStored, 0);
                }
                (Mode::Cas(_), None) => return (Outcome::NotFound, 0),
                (Mode::Cas(cas), Some((meta, _))) if meta.cas != cas => return (Outcome::Exists, 0),
                (Mode::Append, Some((meta, old))) => {
                    joined = [old, value].concat();
                    (flags, expires) = (meta.flags, meta.expires);
                }
                (Mode::Prepend, Some((meta, old))) => {
                    joined = [value, old].concat();
                    (flags, expires) = (meta.flags, meta.expires);
                }
                _ => joined.extend_from_slice(value),
            }
            *cas += 1;
            let size = u32::try_from(joined.len()).unwrap_or(u32::MAX);
            *found = Some((Meta { flags, cas: *cas, expires, size, ..Meta::default() }, joined));
            (Outcome::Stored, *cas)
        }))
    }

    /// Removes an item; only one with this number, if one is given.
    pub fn delete(&self, key: &[u8], cas: Option<u64>) -> Removal {
        self.with(key, |_, found| match (&found, cas) {
            (None, _) => Removal::NotFound,
            (Some((meta, _)), Some(cas)) if meta.cas != cas => Removal::Exists,
            _ => {
                *found = None;
                Removal::Deleted
            }
        })
    }

    /// Adds to the number that a value is in decimal digits, or subtracts from it; only of an item with this number, if one is
    /// given. A result with fewer digits than the value had is filled up with spaces, as memcached does.
    ///
    /// # Errors
    /// There is no memory.
    pub fn arith(&self, key: &[u8], delta: Delta, cas: Option<u64>) -> Result<Arithmetic, StoreError> {
        let mut result = Arithmetic::NotFound;
        self.update_with(key, |found| {
            let Some((meta, value)) = found else { return Decision::Keep };
            if cas.is_some_and(|cas| cas != meta.cas) {
                result = Arithmetic::Exists;
                return Decision::Keep;
            }
            let text = std::str::from_utf8(value).unwrap_or_default().trim_end_matches(' ');
            let Ok(number) = text.parse::<u64>() else {
                result = Arithmetic::NonNumeric;
                return Decision::Keep;
            };
            let number = match delta {
                Delta::Incr(by) => number.wrapping_add(by),
                Delta::Decr(by) => number.saturating_sub(by),
            };
            result = Arithmetic::Done(number, *meta);
            Decision::Store {
                value: number.to_string().into_bytes(),
                flags: meta.flags,
                expires: meta.expires,
                cas: None,
                stale: false,
                won: false,
            }
        })?;
        Ok(result)
    }

    /// Looks at an item, decides what is to become of it, and does that in one step; what is known of it afterwards. `decide`
    /// is called again if somebody else changed the item meanwhile.
    ///
    /// # Errors
    /// The new value is too long, or there is no memory.
    pub fn update_with(
        &self,
        key: &[u8],
        mut decide: impl FnMut(Option<(&Meta, &[u8])>) -> Decision,
    ) -> Result<Option<Meta>, StoreError> {
        self.with(key, |next, found| {
            match decide(found.as_ref().map(|(meta, value)| (meta, value.as_slice()))) {
                Decision::Keep => {}
                Decision::Mark { expires, stale, won } => {
                    if let Some((meta, _)) = found {
                        (meta.expires, meta.stale, meta.won) = (expires, stale, won);
                    }
                }
                Decision::Delete => *found = None,
                Decision::Store { value, flags, expires, cas, stale, won } => {
                    *next += 1;
                    let size = u32::try_from(value.len()).unwrap_or(u32::MAX);
                    let cas = cas.unwrap_or(*next);
                    *found = Some((Meta { flags, cas, expires, size, stale, won, ..Meta::default() }, value));
                }
            }
            Ok(found.as_ref().map(|(meta, _)| *meta))
        })
    }

    /// Ends all items that are there now (`None`), or those that are there when this second comes.
    pub fn flush_all(&self, at: Option<u32>) {
        if at.is_none() {
            self.items.lock().unwrap_or_else(PoisonError::into_inner).1.clear();
        }
    }

    /// Does what is due: a flush whose time has come, expired items, memory to give back. To be called about once a second.
    pub fn maintain(&self) {}

    /// How full it is, and what it did.
    #[must_use]
    pub fn stats(&self) -> StoreStats {
        let items = self.items.lock().unwrap_or_else(PoisonError::into_inner).1.len() as u64;
        StoreStats { items, limit: self.options.memory, ..StoreStats::default() }
    }

    fn with<R>(&self, key: &[u8], act: impl FnOnce(&mut u64, &mut Option<(Meta, Vec<u8>)>) -> R) -> R {
        let mut all = self.items.lock().unwrap_or_else(PoisonError::into_inner);
        let (cas, items) = &mut *all;
        let mut found = items.remove(key).filter(|(meta, _)| match meta.expires {
            Expiry::Never => true,
            Expiry::At(second) => second > self.now(),
        });
        let result = act(cas, &mut found);
        if let Some(found) = found {
            items.insert(key.to_vec(), found);
        }
        result
    }
}
