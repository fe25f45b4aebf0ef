//! The classic commands.

use super::counters::Counter;
use super::expiry::{expiry, point};
use super::{Executor, Flow, complaint_of, say};
use crate::protocol::command::{Get, Storage, Verb};
use crate::protocol::{Complaint, number, render};
use crate::store::{Decision, Expiry, Meta, Mode, Outcome, Removal, StoreError};

/// A buffer for values larger than this is given back.
const KEEP: usize = 64 << 10;

/// A retrieval that stopped half way, with the keys that are left.
#[derive(Debug, PartialEq, Eq)]
pub struct Unfinished {
    keys: Vec<u8>,
    done: usize,
    with_cas: bool,
    touch: Option<i32>,
}

/// What became of adding to a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sum {
    /// It is now this.
    Done(u64),
    /// It was created as this.
    Created(u64),
    /// There is none.
    NotFound,
    /// The value is no number.
    NotNumeric,
    /// It has another version.
    Exists,
}

/// The same, and what else is known of the counter.
#[derive(Debug, Clone, Copy)]
pub(super) struct Summed {
    pub(super) sum: Sum,
    /// When it was to expire before.
    pub(super) expired: Expiry,
    /// The counter as it is now.
    pub(super) after: Option<Meta>,
}

/// What to add to a counter, and under which conditions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Addition {
    pub(super) up: bool,
    pub(super) delta: u64,
    /// Only with this version.
    pub(super) cas: Option<u64>,
    /// When it is to expire from now on.
    pub(super) ttl: Option<Expiry>,
    /// What to create if there is none.
    pub(super) initial: Option<(u64, Expiry)>,
}

impl Executor<'_> {
    pub(super) fn get(&mut self, mut get: Get<'_>, out: &mut Vec<u8>, limit: usize) -> Flow {
        if self.get_some(&mut get, out, limit) {
            return Flow::Continue;
        }
        Flow::More(Unfinished { keys: get.keys.to_vec(), done: 0, with_cas: get.with_cas, touch: get.touch })
    }

    /// Goes on with a retrieval. Whether it is finished.
    pub fn resume(&mut self, unfinished: &mut Unfinished, out: &mut Vec<u8>, limit: usize) -> bool {
        let keys = unfinished.keys.get(unfinished.done..).unwrap_or_default();
        let mut get = Get { keys, with_cas: unfinished.with_cas, touch: unfinished.touch };
        let finished = self.get_some(&mut get, out, limit);
        let left = get.keys.len();
        unfinished.done = unfinished.keys.len() - left;
        finished
    }

    /// Looks keys up, and takes them off the list, until the answer is long enough.
    fn get_some(&mut self, get: &mut Get<'_>, out: &mut Vec<u8>, limit: usize) -> bool {
        let touch = get.touch.map(|exptime| expiry(exptime, self.shared.store.now()));
        while let Some(key) = get.next_key() {
            self.value.clear();
            let found = match touch {
                None => self.shared.store.get(key, &mut self.value),
                Some(expires) => self.shared.store.get_and_touch(key, expires, &mut self.value),
            };
            self.count_get(found.is_some(), touch.is_some());
            if let Some(meta) = found {
                let cas = get.with_cas.then_some(meta.cas);
                render::value(out, key, meta.flags, &self.value, cas);
            }
            if out.len() >= limit {
                return false;
            }
        }
        self.value.shrink_to(KEEP);
        out.extend_from_slice(render::END);
        true
    }

    /// Uses an item for nothing but to have used it.
    pub(super) fn mark_as_fetched(&mut self, key: &[u8]) {
        self.value.clear();
        self.shared.store.get(key, &mut self.value);
    }

    pub(super) fn count_get(&self, found: bool, touched: bool) {
        let [all, kind] = match (touched, found) {
            (false, true) => [Counter::GetCommands, Counter::GetHits],
            (false, false) => [Counter::GetCommands, Counter::GetMisses],
            (true, true) => [Counter::TouchCommands, Counter::TouchHits],
            (true, false) => [Counter::TouchCommands, Counter::TouchMisses],
        };
        self.counters.count(all);
        self.counters.count(kind);
    }

    pub(super) fn storage(&mut self, storage: &Storage<'_>, value: &[u8], out: &mut Vec<u8>) {
        let Storage { verb, key, flags, exptime, quiet, .. } = *storage;
        let expires = expiry(exptime, self.shared.store.now());
        let text = match self.put(verb, key, flags, expires, value) {
            Ok((outcome, _)) => outcome_text(outcome),
            Err(complaint) => complaint.text(),
        };
        say(text, quiet, out);
    }

    /// Stores, counts, and says in words of the protocol why not.
    pub(super) fn put(
        &mut self,
        verb: Verb,
        key: &[u8],
        flags: u32,
        expires: Expiry,
        value: &[u8],
    ) -> Result<(Outcome, u64), Complaint> {
        self.counters.count(Counter::SetCommands);
        let result = self.shared.store.put(mode(verb), key, flags, expires, value);
        match result {
            Ok((outcome, _)) if matches!(verb, Verb::Cas(_)) => self.count_cas(outcome),
            // Joined it would be too large, or there is no memory: the old value stays.
            Err(StoreError::TooLarge { .. } | StoreError::OutOfMemory)
                if matches!(verb, Verb::Append | Verb::Prepend) =>
            {
                return Ok((Outcome::NotStored, 0));
            }
            Err(StoreError::TooLarge { .. }) => self.counters.count(Counter::StoreTooLarge),
            Err(StoreError::OutOfMemory) => self.counters.count(Counter::StoreNoMemory),
            _ => {}
        }
        if result.is_err() && verb == Verb::Set {
            // What could not be replaced is not what the client believes to be there.
            self.shared.store.delete(key, None);
        }
        result.map_err(complaint_of)
    }

    pub(super) fn count_cas(&self, outcome: Outcome) {
        self.counters.count(match outcome {
            Outcome::Stored => Counter::CasHits,
            Outcome::NotFound => Counter::CasMisses,
            Outcome::Exists | Outcome::NotStored => Counter::CasBadValue,
        });
    }

    pub(super) fn delete(&mut self, key: &[u8], quiet: bool, out: &mut Vec<u8>) {
        let removed = self.shared.store.delete(key, None) == Removal::Deleted;
        self.counters.count(if removed { Counter::DeleteHits } else { Counter::DeleteMisses });
        say(if removed { "DELETED" } else { "NOT_FOUND" }, quiet, out);
    }

    pub(super) fn touch(&mut self, key: &[u8], exptime: i32, quiet: bool, out: &mut Vec<u8>) {
        let found = self.shared.store.touch(key, expiry(exptime, self.shared.store.now())).is_some();
        self.count_get(found, true);
        say(if found { "TOUCHED" } else { "NOT_FOUND" }, quiet, out);
    }

    pub(super) fn flush_all(&mut self, exptime: i32, quiet: bool, out: &mut Vec<u8>) {
        self.counters.count(Counter::FlushCommands);
        let delay = u32::try_from(exptime).ok().filter(|delay| *delay > 0);
        self.shared.store.flush_all(delay.map(|delay| point(delay, self.shared.store.now())));
        say("OK", quiet, out);
    }

    pub(super) fn arithmetic(&mut self, key: &[u8], delta: u64, up: bool, quiet: bool, out: &mut Vec<u8>) {
        let addition = Addition { up, delta, cas: None, ttl: None, initial: None };
        let text = match self.sum(key, addition).map(|summed| summed.sum) {
            Ok(Sum::Done(value) | Sum::Created(value)) => {
                if !quiet {
                    render::number_line(out, value);
                }
                return;
            }
            Ok(Sum::NotFound | Sum::Exists) => "NOT_FOUND",
            Ok(Sum::NotNumeric) => Complaint::NotNumeric.text(),
            Err(_) => Complaint::NoMemoryForSum.text(),
        };
        say(text, quiet, out);
    }

    /// Adds to a counter, in one step.
    pub(super) fn sum(&mut self, key: &[u8], addition: Addition) -> Result<Summed, StoreError> {
        let mut sum = Sum::NotFound;
        let mut fetched = false;
        let mut expired = Expiry::Never;
        let after = self.shared.store.update_with(key, |found| {
            let (result, decision) = add(found, addition);
            sum = result;
            expired = found.map_or(Expiry::Never, |(meta, _)| meta.expires);
            // Written over the old value, it counts as read if that was.
            fetched = found.is_some_and(|(meta, value)| meta.fetched && kept_length(value, &decision));
            decision
        })?;
        if fetched {
            self.mark_as_fetched(key);
        }
        let hit = matches!(sum, Sum::Done(_));
        let counter = match (addition.up, hit, sum) {
            (true, true, _) => Some(Counter::IncrHits),
            (false, true, _) => Some(Counter::DecrHits),
            (true, false, Sum::NotFound) => Some(Counter::IncrMisses),
            (false, false, Sum::NotFound) => Some(Counter::DecrMisses),
            _ => None,
        };
        if let Some(counter) = counter {
            self.counters.count(counter);
        }
        Ok(Summed { sum, expired, after })
    }
}

fn kept_length(before: &[u8], decision: &Decision) -> bool {
    matches!(decision, Decision::Store { value, .. } if value.len() == before.len())
}

fn add(found: Option<(&Meta, &[u8])>, addition: Addition) -> (Sum, Decision) {
    let store = |value: Vec<u8>, flags, expires, stale, won| Decision::Store {
        value,
        flags,
        expires,
        cas: None,
        stale,
        won,
    };
    let Some((meta, value)) = found else {
        return match addition.initial {
            None => (Sum::NotFound, Decision::Keep),
            Some((initial, expires)) => {
                (Sum::Created(initial), store(initial.to_string().into_bytes(), 0, expires, false, false))
            }
        };
    };
    if value.is_empty() {
        return (Sum::NotNumeric, Decision::Keep);
    }
    if addition.cas.is_some_and(|cas| cas != 0 && cas != meta.cas) {
        return (Sum::Exists, Decision::Keep);
    }
    let Some(number) = number::unsigned(value) else { return (Sum::NotNumeric, Decision::Keep) };
    let number =
        if addition.up { number.wrapping_add(addition.delta) } else { number.saturating_sub(addition.delta) };
    let mut text = number.to_string().into_bytes();
    // A number that needs less room than the old value is written over it, and the rest filled with spaces.
    let in_place = text.len() <= value.len();
    if in_place {
        text.resize(value.len(), b' ');
    }
    let expires = addition.ttl.unwrap_or(meta.expires);
    (Sum::Done(number), store(text, meta.flags, expires, in_place && meta.stale, in_place && meta.won))
}

pub(super) fn mode(verb: Verb) -> Mode {
    match verb {
        Verb::Set => Mode::Set,
        Verb::Add => Mode::Add,
        Verb::Replace => Mode::Replace,
        Verb::Append => Mode::Append,
        Verb::Prepend => Mode::Prepend,
        Verb::Cas(cas) => Mode::Cas(cas),
    }
}

fn outcome_text(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Stored => "STORED",
        Outcome::NotStored => "NOT_STORED",
        Outcome::Exists => "EXISTS",
        Outcome::NotFound => "NOT_FOUND",
    }
}
