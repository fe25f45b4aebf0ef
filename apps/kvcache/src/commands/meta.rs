//! The meta commands.

use super::classic::{Addition, Sum, Summed};
use super::counters::Counter;
use super::expiry::expiry;
use super::{Executor, say};
use crate::protocol::command::Verb;
use crate::protocol::limits::ITEM_OVERHEAD;
use crate::protocol::meta::{Meta as Request, MetaSet};
use crate::protocol::{Complaint, render};
use crate::store::{Decision, Expiry, Meta, Outcome, Removal};

/// What answering a hit changed of the item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Marks {
    expires: Expiry,
    won: bool,
}

impl Executor<'_> {
    pub(super) fn meta_get(&mut self, request: &Request<'_>, out: &mut Vec<u8>) {
        let flags = request.flags;
        let only_looks = flags.vivify.is_none() && flags.ttl.is_none() && flags.recache.is_none();
        let found = if only_looks { self.look(request, out) } else { self.look_and_mark(request, None, out) };
        self.count_get(found, flags.ttl.is_some());
        if !found && !flags.quiet {
            out.extend_from_slice(b"EN");
            echo(request, out);
        }
    }

    /// A retrieval that changes nothing, unless it finds something stale: then somebody is to be told.
    fn look(&mut self, request: &Request<'_>, out: &mut Vec<u8>) -> bool {
        self.value.clear();
        let store = &self.shared.store;
        let found = if !request.flags.no_bump {
            store.get(&request.key, &mut self.value)
        } else if request.flags.value {
            return self.look_and_mark(request, None, out);
        } else {
            store.peek(&request.key)
        };
        let Some(meta) = found else { return false };
        if meta.stale && !meta.won {
            return self.look_and_mark(request, Some(&meta), out);
        }
        hit(request, &meta, &self.value, None, store.now(), out);
        true
    }

    /// `before`: what was known of the item before this very command used it.
    fn look_and_mark(&mut self, request: &Request<'_>, before: Option<&Meta>, out: &mut Vec<u8>) -> bool {
        let store = &self.shared.store;
        let now = store.now();
        let start = out.len();
        let mut created = false;
        let mut end = Expiry::Never;
        let result = store.update_with(&request.key, |found| {
            out.truncate(start);
            created = false;
            let Some((meta, value)) = found else {
                let Some(exptime) = request.flags.vivify else { return Decision::Keep };
                created = true;
                end = expiry(exptime, now);
                // Only for its effects: the answer needs the item's version, which it does not have yet.
                let Marks { expires, won } = hit(request, &Meta::default(), &[], Some(end), now, out);
                out.truncate(start);
                return Decision::Store {
                    value: Vec::new(),
                    flags: 0,
                    expires,
                    cas: None,
                    stale: false,
                    won,
                };
            };
            let (fetched, last_access) =
                before.map_or((meta.fetched, meta.last_access), |meta| (meta.fetched, meta.last_access));
            let meta = &Meta { fetched, last_access, ..*meta };
            let marks = hit(request, meta, value, None, now, out);
            if marks == (Marks { expires: meta.expires, won: meta.won }) {
                return Decision::Keep;
            }
            Decision::Mark { expires: marks.expires, stale: meta.stale, won: marks.won }
        });
        let Ok(Some(after)) = result else { return false };
        if created {
            let fresh = Meta { expires: Expiry::Never, won: false, ..after };
            hit(request, &fresh, &[], Some(end), now, out);
        }
        if !request.flags.no_bump {
            self.mark_as_fetched(&request.key);
        }
        true
    }

    pub(super) fn meta_set(&mut self, set: &MetaSet<'_>, value: &[u8], out: &mut Vec<u8>) {
        let request = &set.meta;
        let flags = request.flags;
        let now = self.shared.store.now();
        let expires = expiry(flags.ttl.unwrap_or(0), now);
        let accepts_old = flags.stale && matches!(set.verb, Verb::Cas(_));
        let joins = matches!(set.verb, Verb::Append | Verb::Prepend) && flags.cas.is_some_and(|cas| cas != 0);
        let result = if accepts_old || joins {
            Ok(self.put_with_version(set, expires, value))
        } else {
            let result = self.put(set.verb, &request.key, flags.client_flags, expires, value);
            if result.is_err() {
                self.shared.store.delete(&request.key, None);
            }
            result
        };
        let (outcome, cas) = match result {
            Ok(result) => result,
            Err(complaint) => return say(complaint.text(), false, out),
        };
        if outcome == Outcome::Stored && flags.quiet {
            return;
        }
        out.extend_from_slice(match outcome {
            Outcome::Stored => b"HD",
            Outcome::NotStored => b"NS",
            Outcome::Exists => b"EX",
            Outcome::NotFound => b"NF",
        });
        for word in request.words() {
            match word.first() {
                Some(b'O') => render::meta_word(out, word),
                Some(b'k') => render::meta_key(out, &request.key, flags.binary),
                Some(b'c') => {
                    let cas = if outcome == Outcome::Stored { cas } else { 0 };
                    render::meta_number(out, b'c', cas);
                }
                _ => {}
            }
        }
        out.extend_from_slice(b"\r\n");
    }

    /// Stores depending on the version in ways that the store has no mode for: an older version is accepted and marked as
    /// stale, or the value is joined to one with this version.
    fn put_with_version(&mut self, set: &MetaSet<'_>, expires: Expiry, value: &[u8]) -> (Outcome, u64) {
        self.counters.count(Counter::SetCommands);
        let flags = set.meta.flags;
        let wanted = flags.cas.unwrap_or(0);
        let mut outcome = Outcome::NotStored;
        let result = self.shared.store.update_with(&set.meta.key, |found| {
            let (result, decision) = match (set.verb, found) {
                (Verb::Append | Verb::Prepend, None) => (Outcome::NotStored, Decision::Keep),
                (_, None) => (Outcome::NotFound, Decision::Keep),
                (Verb::Append | Verb::Prepend, Some((meta, old))) if meta.cas == wanted => {
                    let joined =
                        if set.verb == Verb::Append { [old, value].concat() } else { [value, old].concat() };
                    (Outcome::Stored, fresh(joined, meta.flags, meta.expires))
                }
                (Verb::Cas(_), Some((meta, _))) if meta.cas == wanted => {
                    (Outcome::Stored, fresh(value.to_vec(), flags.client_flags, expires))
                }
                (Verb::Cas(_), Some((meta, _))) if wanted != 0 && wanted < meta.cas => {
                    let (stale, won) = (true, meta.won);
                    let (value, flags, expires) = (value.to_vec(), flags.client_flags, meta.expires);
                    (Outcome::Stored, Decision::Store { value, flags, expires, cas: None, stale, won })
                }
                _ => (Outcome::Exists, Decision::Keep),
            };
            outcome = result;
            decision
        });
        let (outcome, cas) = match result {
            Ok(meta) => (outcome, meta.map_or(0, |meta| meta.cas)),
            Err(_) => (Outcome::NotStored, 0),
        };
        if matches!(set.verb, Verb::Cas(_)) {
            self.count_cas(outcome);
        }
        (outcome, cas)
    }

    pub(super) fn meta_delete(&mut self, request: &Request<'_>, out: &mut Vec<u8>) {
        let flags = request.flags;
        let removal = if flags.stale {
            self.invalidate(request)
        } else {
            self.shared.store.delete(&request.key, flags.cas)
        };
        match removal {
            Removal::Deleted if flags.stale => {}
            Removal::Deleted => self.counters.count(Counter::DeleteHits),
            Removal::NotFound | Removal::Exists => self.counters.count(Counter::DeleteMisses),
        }
        if removal == Removal::Deleted && flags.quiet {
            return;
        }
        out.extend_from_slice(match removal {
            Removal::Deleted => b"HD",
            Removal::NotFound => b"NF",
            Removal::Exists => b"EX",
        });
        echo(request, out);
    }

    /// Marks an item as stale instead of removing it: it gets a new version, and the next to ask is told to renew it.
    fn invalidate(&mut self, request: &Request<'_>) -> Removal {
        let flags = request.flags;
        let now = self.shared.store.now();
        let mut removal = Removal::NotFound;
        let mut fetched = false;
        let result = self.shared.store.update_with(&request.key, |found| {
            let Some((meta, value)) = found else {
                removal = Removal::NotFound;
                return Decision::Keep;
            };
            if flags.cas.is_some_and(|cas| cas != meta.cas) {
                removal = Removal::Exists;
                return Decision::Keep;
            }
            removal = Removal::Deleted;
            fetched = meta.fetched;
            let expires = flags.ttl.map_or(meta.expires, |ttl| expiry(ttl, now));
            let (value, flags) = (value.to_vec(), meta.flags);
            Decision::Store { value, flags, expires, cas: None, stale: true, won: false }
        });
        if result.is_err() {
            // No memory for its new self: what is gone is not stale.
            return self.shared.store.delete(&request.key, flags.cas);
        }
        if removal == Removal::Deleted && fetched {
            self.mark_as_fetched(&request.key);
        }
        removal
    }

    pub(super) fn meta_arithmetic(&mut self, request: &Request<'_>, out: &mut Vec<u8>) {
        let flags = request.flags;
        let now = self.shared.store.now();
        let time_of = |word: &[u8], created: bool| match word.first() {
            Some(b'T') => flags.ttl.map(|ttl| expiry(ttl, now)),
            Some(b'N') if created => flags.vivify.map(|exptime| expiry(exptime, now)),
            _ => None,
        };
        let created_until = request.words().filter_map(|word| time_of(word, true)).last();
        let addition = Addition {
            up: matches!(flags.mode, None | Some(b'I' | b'+')),
            delta: flags.delta.unwrap_or(1),
            cas: flags.cas,
            ttl: flags.ttl.map(|ttl| expiry(ttl, now)),
            initial: flags.vivify.map(|_| (flags.initial, created_until.unwrap_or(Expiry::Never))),
        };
        let (summed, value, after) = match self.sum(&request.key, addition) {
            Ok(Summed { sum: Sum::Done(_), .. }) if flags.quiet => return,
            Ok(summed @ Summed { sum: Sum::Done(value) | Sum::Created(value), after: Some(after), .. }) => {
                (summed, value, after)
            }
            Ok(Summed { sum: Sum::NotNumeric, .. }) => return say(Complaint::NotNumeric.text(), false, out),
            Ok(Summed { sum, .. }) => {
                out.extend_from_slice(if sum == Sum::Exists { b"EX" } else { b"NF" });
                return echo(request, out);
            }
            Err(_) if addition.initial.is_some() => return say(Complaint::NoMemoryForNew.text(), false, out),
            Err(_) => return say(Complaint::NoMemoryForSum.text(), false, out),
        };
        let created = matches!(summed.sum, Sum::Created(_));
        let mut expires = summed.expired;
        let digits = value.to_string();
        status(flags.value.then_some(digits.len()), out);
        for word in request.words() {
            expires = time_of(word, created).unwrap_or(expires);
            match word.first() {
                Some(b'c') => render::meta_number(out, b'c', after.cas),
                Some(b't') => time_left(expires, now, out),
                _ => echo_word(request, word, out),
            }
        }
        out.extend_from_slice(b"\r\n");
        if flags.value {
            render::line(out, &digits);
        }
    }

    pub(super) fn meta_debug(&mut self, request: &Request<'_>, out: &mut Vec<u8>) {
        self.counters.count(Counter::MetaCommands);
        let store = &self.shared.store;
        let Some(meta) = store.peek(&request.key) else { return render::line(out, "EN") };
        let now = store.now();
        out.extend_from_slice(b"ME ");
        if request.flags.binary {
            render::base64_key(out, &request.key);
        } else {
            out.extend_from_slice(&request.key);
        }
        let left = match meta.expires {
            Expiry::Never => "-1".to_owned(),
            Expiry::At(at) => at.saturating_sub(now).to_string(),
        };
        let fetched = if meta.fetched { "yes" } else { "no" };
        let size = ITEM_OVERHEAD + request.key.len() + usize::try_from(meta.size).unwrap_or(usize::MAX);
        let idle = now.saturating_sub(meta.last_access);
        render::line(
            out,
            &format!(" exp={left} la={idle} cas={} fetch={fetched} cls=1 size={size}", meta.cas),
        );
    }
}

fn fresh(value: Vec<u8>, flags: u32, expires: Expiry) -> Decision {
    Decision::Store { value, flags, expires, cas: None, stale: false, won: false }
}

/// The answer to an `mg` that found something, and what it makes of the item. Flags are taken in the order in which they were
/// written: `t T30` shows the old time, `T30 t` the new one. `created`: when the item that the command itself created expires.
fn hit(
    request: &Request<'_>,
    meta: &Meta,
    value: &[u8],
    created: Option<Expiry>,
    now: u32,
    out: &mut Vec<u8>,
) -> Marks {
    let flags = request.flags;
    let size = usize::try_from(meta.size).unwrap_or(usize::MAX);
    status(flags.value.then_some(size), out);
    let mut expires = meta.expires;
    let mut wins = meta.stale && !meta.won;
    for word in request.words() {
        match word.first() {
            Some(b'T') => expires = expiry(flags.ttl.unwrap_or(0), now),
            Some(b'N') => {
                if let Some(end) = created {
                    expires = end;
                    wins = true;
                }
            }
            Some(b'R') => {
                let limit = expiry(flags.recache.unwrap_or(0), now);
                wins |= created.is_none() && !meta.won && sooner(expires, limit);
            }
            Some(b's') => render::meta_number(out, b's', meta.size.into()),
            Some(b't') => time_left(expires, now, out),
            Some(b'c') => render::meta_number(out, b'c', meta.cas),
            Some(b'f') => render::meta_number(out, b'f', meta.flags.into()),
            Some(b'l') => render::meta_number(out, b'l', now.saturating_sub(meta.last_access).into()),
            Some(b'h') => render::meta_number(out, b'h', meta.fetched.into()),
            _ => echo_word(request, word, out),
        }
    }
    for (letter, stands) in [(b"Z", meta.won), (b"X", meta.stale), (b"W", wins)] {
        if stands {
            render::meta_word(out, letter);
        }
    }
    out.extend_from_slice(b"\r\n");
    if flags.value {
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    }
    Marks { expires, won: meta.won || wins }
}

/// `HD`, or `VA` and the length of the value that follows.
fn status(value: Option<usize>, out: &mut Vec<u8>) {
    match value {
        None => out.extend_from_slice(b"HD"),
        Some(length) => {
            out.extend_from_slice(b"VA ");
            render::number(out, u64::try_from(length).unwrap_or(u64::MAX));
        }
    }
}

/// Whether what expires at `expires` does so before `limit`, in memcached's arithmetic, where never is zero.
fn sooner(expires: Expiry, limit: Expiry) -> bool {
    match (expires, limit) {
        (Expiry::At(end), Expiry::At(limit)) => end < limit,
        _ => false,
    }
}

fn time_left(expires: Expiry, now: u32, out: &mut Vec<u8>) {
    match expires {
        Expiry::Never => render::meta_word(out, b"t-1"),
        Expiry::At(at) => render::meta_number(out, b't', at.wrapping_sub(now).into()),
    }
}

/// The end of an answer that knows nothing of an item: what the client sent to recognise it by.
fn echo(request: &Request<'_>, out: &mut Vec<u8>) {
    for word in request.words() {
        echo_word(request, word, out);
    }
    out.extend_from_slice(b"\r\n");
}

fn echo_word(request: &Request<'_>, word: &[u8], out: &mut Vec<u8>) {
    match word.first() {
        Some(b'O') => render::meta_word(out, word),
        Some(b'k') => render::meta_key(out, &request.key, request.flags.binary),
        _ => {}
    }
}
