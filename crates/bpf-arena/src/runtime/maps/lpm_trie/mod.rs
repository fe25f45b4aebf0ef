//! `BPF_MAP_TYPE_LPM_TRIE`: values by prefixes of bits, found by the longest prefix that a key begins with.
//!
//! The rules are those of the kernel's trie: a key is a length in bits and bytes in network order; what a key holds behind
//! its prefix is kept and given back, and matters to nothing else; keys are enumerated the more specific ones first.
//!
//! Nodes are slots of two blocks, one with the tree, which only this module touches, one with the values, which programs hold
//! addresses of. Writers take a lock. Readers do not: they walk the tree and walk it again if a writer was at work
//! meanwhile. A replaced or removed node's slot is used again after [`QUARANTINE`] others, so that a program which still
//! holds the address of its value sees that value for a while.

mod node;
#[cfg(test)]
mod tests;

use std::any::Any;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bpf_object::MapSpec;
use isa::Size;

use self::node::{IS_ENTRY, Key, LEFT, MAX_DATA, NODE_HEADER, Node, PREFIX, RIGHT, Slot, low32};
use super::{MapCore, UserMap, memory};
use crate::access::{Block, BlockTable, Place};
use crate::backend::{BatchRead, LoadedMap, batch};
use crate::cpu::CpuSlot;
use crate::error::MapError;
use crate::map::{BPF_EXIST, BPF_NOEXIST};

/// Bytes of the length that a key begins with.
const LENGTH_BYTES: usize = 4;

/// Slots that stay unused after their nodes are gone before the first of them is used again.
const QUARANTINE: usize = 64;

/// Walks of a reader that writers disturbed before it waits for them.
const UNDISTURBED_TRIES: u32 = 64;

/// A trie.
pub(super) struct LpmTrie {
    core: MapCore,
    /// Bytes of a key behind its length.
    data_size: usize,
    nodes: Block,
    node_stride: u64,
    values: Arc<Block>,
    value_stride: u64,
    root: AtomicU32,
    /// Odd while a writer is at work.
    version: AtomicU64,
    writer: Mutex<Slots>,
}

/// Which slots are in use.
#[derive(Debug)]
struct Slots {
    /// Entries of the map.
    entries: u32,
    /// Slots that were never used begin here.
    fresh: Slot,
    /// Slot after the last.
    end: Slot,
    /// Slots whose nodes are gone, oldest first.
    free: VecDeque<Slot>,
}

/// Where a link to a node is kept.
#[derive(Clone, Copy)]
enum Link {
    Root,
    Child(Slot, bool),
}

impl LpmTrie {
    /// Creates an empty one. The attributes have been checked.
    pub(super) fn create(spec: MapSpec) -> Result<Self, MapError> {
        let data_size = (spec.key_size as usize).saturating_sub(LENGTH_BYTES).min(MAX_DATA);
        let node_stride = (NODE_HEADER + data_size.next_multiple_of(8)) as u64;
        let value_stride = u64::from(spec.value_size).next_multiple_of(8);
        // Each entry can need a node that only joins two others.
        let slots = 2 * u64::from(spec.max_entries) + QUARANTINE as u64 + 1;
        let slots = memory::affordable(slots, node_stride.max(value_stride)).min(u64::from(u32::MAX));
        let nodes = memory::reserve(slots * node_stride)?;
        let values = Arc::new(memory::reserve(slots * value_stride)?);
        let end = u32::try_from(slots).unwrap_or(u32::MAX);
        Ok(Self {
            core: MapCore::new(spec),
            data_size,
            nodes,
            node_stride,
            values,
            value_stride,
            root: AtomicU32::new(0),
            version: AtomicU64::new(0),
            writer: Mutex::new(Slots { entries: 0, fresh: 1, end, free: VecDeque::new() }),
        })
    }

    /// The key in these bytes; `None` if it is longer than the trie's keys can be.
    fn key(&self, place: Place<'_>) -> Option<Key> {
        let mut key = Key {
            prefix: low32(place.load(Size::W, Ordering::Relaxed)),
            data: [0; MAX_DATA],
            size: self.data_size,
        };
        if let (Some(rest), Some(data)) = (place.at(LENGTH_BYTES), key.data.get_mut(..self.data_size)) {
            rest.read(data);
        }
        (key.prefix <= self.max_prefix()).then_some(key)
    }

    /// The same for a key that the host gave.
    fn key_of(&self, key: &[u8]) -> Option<Key> {
        self.key(Place::over(&mut key.to_vec()))
    }

    fn max_prefix(&self) -> u32 {
        u32::try_from(self.data_size * 8).unwrap_or(u32::MAX)
    }

    /// What `look` makes of the value with the longest prefix of the key, while no writer was at work. It may be called several
    /// times, with values that are being replaced; what it gives counts only once they were not.
    fn find<'m, T>(&'m self, key: &Key, mut look: impl FnMut(Place<'m>) -> T) -> Option<T> {
        for _ in 0..UNDISTURBED_TRIES {
            let before = self.version.load(Ordering::Acquire);
            if before.is_multiple_of(2) {
                let found = self.walk(key).and_then(|slot| self.value(slot)).map(&mut look);
                fence(Ordering::Acquire);
                if self.version.load(Ordering::Relaxed) == before {
                    return found;
                }
            }
            std::hint::spin_loop();
        }
        let _writer = self.lock();
        self.value(self.walk(key)?).map(look)
    }

    /// The entry with the longest prefix of the key, as far as writers let it be seen.
    fn walk(&self, key: &Key) -> Option<Slot> {
        let mut found = None;
        let mut slot = self.root.load(Ordering::Acquire);
        // A walk that writers disturb could go in circles; an undisturbed one goes deeper with each step.
        for _ in 0..=self.max_prefix() {
            let Some(node) = self.node(slot) else { break };
            if node.common(key) < node.prefix() {
                break;
            }
            if node.is_entry() {
                found = Some(slot);
            }
            if node.prefix() >= self.max_prefix() {
                break;
            }
            slot = node.child(key.bit(node.prefix()));
        }
        found
    }

    /// Sets the value of a key.
    fn insert(&self, key: &Key, value: Place<'_>, flags: u64) -> Result<(), MapError> {
        if flags > BPF_EXIST {
            return Err(MapError::Invalid);
        }
        let mut slots = self.lock();
        let (link, at) = self.descend(key);
        let node = self.node(at);
        let common = node.map_or(0, |node| node.common(key));
        let replaced = node.filter(|node| node.prefix() == common);
        match replaced.filter(Node::is_entry) {
            Some(_) if flags == BPF_NOEXIST => return Err(MapError::Exists),
            Some(_) => {}
            None if flags == BPF_EXIST => return Err(MapError::NotFound),
            None if slots.entries == self.core.spec.max_entries => return Err(MapError::NoSpace),
            None => {}
        }
        let is_new = replaced.is_none_or(|node| !node.is_entry());
        let joins = node.is_some() && replaced.is_none() && common != key.prefix;
        let (new, joint) = slots.take(joins).ok_or(MapError::NoMemory { bytes: self.value_stride })?;
        slots.entries += u32::from(is_new);
        let _change = self.change();
        self.fill(new, key, true);
        if let Some(place) = self.value(new) {
            place.copy_from(value);
        }
        match (node, replaced, joint) {
            (Some(_), Some(old), _) => {
                self.set_children(new, [old.child(false), old.child(true)]);
                self.set_link(link, new);
                slots.free.push_back(at);
            }
            (Some(below), None, Some(joint)) => {
                let side = key.bit(common);
                self.fill_joint(joint, &below, common);
                self.set_children(joint, if side { [at, new] } else { [new, at] });
                self.set_link(link, joint);
            }
            (Some(below), None, None) => {
                self.set_children(new, if below.bit(common) { [0, at] } else { [at, 0] });
                self.set_link(link, new);
            }
            (None, ..) => self.set_link(link, new),
        }
        Ok(())
    }

    /// Removes the entry with exactly this prefix.
    fn remove(&self, key: &Key) -> Result<(), MapError> {
        let mut slots = self.lock();
        let mut above = None;
        let (mut link, mut at) = (Link::Root, self.root.load(Ordering::Relaxed));
        let node = loop {
            let node = self.node(at).ok_or(MapError::NotFound)?;
            if node.common(key) != node.prefix() || node.prefix() == key.prefix {
                break node;
            }
            above = Some((link, at));
            let side = key.bit(node.prefix());
            (link, at) = (Link::Child(at, side), node.child(side));
        };
        if node.prefix() != key.prefix || node.common(key) != key.prefix || !node.is_entry() {
            return Err(MapError::NotFound);
        }
        slots.entries -= 1;
        let _change = self.change();
        match (node.child(false), node.child(true), above) {
            // It still joins the two below it.
            (left, right, _) if left != 0 && right != 0 => {
                node.set(IS_ENTRY, 0);
                return Ok(());
            }
            // A node that joins two has only one left: that one takes its place.
            (0, 0, Some((upper, parent))) if self.node(parent).is_some_and(|parent| !parent.is_entry()) => {
                let Link::Child(_, side) = link else { return Ok(()) };
                let other = self.node(parent).map_or(0, |parent| parent.child(!side));
                self.set_link(upper, other);
                slots.free.push_back(parent);
            }
            (left, right, _) => self.set_link(link, left | right),
        }
        slots.free.push_back(at);
        Ok(())
    }

    /// The entry after this key's, the first one if no entry has it or there is no key: the more specific ones come first,
    /// as the kernel enumerates them.
    fn next(&self, key: Option<&Key>) -> Option<Slot> {
        let root = self.root.load(Ordering::Relaxed);
        let path = key.map_or_else(Vec::new, |key| self.path(key));
        let Some(mut below) = path.last().copied() else { return self.first_below(root) };
        for parent in path.iter().rev().skip(1) {
            let node = self.node(*parent)?;
            if node.child(false) == below && node.child(true) != 0 {
                return self.first_below(node.child(true));
            }
            if node.is_entry() {
                return Some(*parent);
            }
            below = *parent;
        }
        None
    }

    /// The nodes from the root to the key's entry; empty if it has none.
    fn path(&self, key: &Key) -> Vec<Slot> {
        let mut path = Vec::new();
        let mut at = self.root.load(Ordering::Relaxed);
        while let Some(node) = self.node(at) {
            path.push(at);
            let common = node.common(key);
            if common != node.prefix() {
                break;
            }
            if node.prefix() == key.prefix {
                return if node.is_entry() { path } else { Vec::new() };
            }
            at = node.child(key.bit(node.prefix()));
        }
        Vec::new()
    }

    /// The entry that is enumerated first among those at and below a node.
    fn first_below(&self, mut at: Slot) -> Option<Slot> {
        let mut first = None;
        while let Some(node) = self.node(at) {
            if node.is_entry() {
                first = Some(at);
            }
            at = match node.child(false) {
                0 => node.child(true),
                left => left,
            };
        }
        first
    }

    /// Where a new node for the key has its place: the link, and the node that is there now.
    fn descend(&self, key: &Key) -> (Link, Slot) {
        let (mut link, mut at) = (Link::Root, self.root.load(Ordering::Relaxed));
        while let Some(node) = self.node(at) {
            let prefix = node.prefix();
            if node.common(key) != prefix || prefix == key.prefix || prefix == self.max_prefix() {
                break;
            }
            let side = key.bit(prefix);
            (link, at) = (Link::Child(at, side), node.child(side));
        }
        (link, at)
    }

    fn fill(&self, slot: Slot, key: &Key, is_entry: bool) {
        let Some(node) = self.node(slot) else { return };
        self.set_children(slot, [0, 0]);
        node.set(PREFIX, key.prefix);
        node.set(IS_ENTRY, u32::from(is_entry));
        if let Some(data) = node.data() {
            data.write(key.bytes());
        }
    }

    /// A node that only joins two: it has the first `prefix` bits in common with `like`.
    fn fill_joint(&self, slot: Slot, like: &Node<'_>, prefix: u32) {
        let mut key = Key { prefix, data: [0; MAX_DATA], size: self.data_size };
        if let (Some(from), Some(to)) = (like.data(), key.data.get_mut(..self.data_size)) {
            from.read(to);
        }
        self.fill(slot, &key, false);
    }

    fn set_children(&self, slot: Slot, children: [Slot; 2]) {
        let [left, right] = children;
        if let Some(node) = self.node(slot) {
            node.set(LEFT, left);
            node.set(RIGHT, right);
        }
    }

    fn set_link(&self, link: Link, to: Slot) {
        match link {
            Link::Root => self.root.store(to, Ordering::Release),
            Link::Child(parent, side) => {
                if let Some(node) = self.node(parent) {
                    node.set(if side { RIGHT } else { LEFT }, to);
                }
            }
        }
    }

    fn node(&self, slot: Slot) -> Option<Node<'_>> {
        if slot == 0 {
            return None;
        }
        let place = self.nodes.place(u64::from(slot) * self.node_stride, self.node_stride)?;
        Some(Node { place, data_size: self.data_size })
    }

    fn value(&self, slot: Slot) -> Option<Place<'_>> {
        self.values.place(u64::from(slot) * self.value_stride, u64::from(self.core.spec.value_size))
    }

    fn lock(&self) -> MutexGuard<'_, Slots> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has readers know that what they see may change, until it is dropped. The caller holds the lock.
    fn change(&self) -> Change<'_> {
        let version = self.version.load(Ordering::Relaxed);
        self.version.store(version.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        Change { version: &self.version }
    }
}

impl LoadedMap for LpmTrie {
    fn spec(&self) -> &MapSpec {
        &self.core.spec
    }

    fn lookup(&self, key: &[u8], value: &mut [u8], _: u64) -> Result<(), MapError> {
        let found = self.key_of(key).and_then(|key| self.find(&key, |place| place.read(value)));
        found.ok_or(MapError::NotFound)
    }

    fn update(&self, key: &[u8], value: &[u8], flags: u64) -> Result<(), MapError> {
        let key = self.key_of(key).ok_or(MapError::Invalid)?;
        self.insert(&key, Place::over(&mut value.to_vec()), flags)
    }

    fn delete(&self, key: &[u8]) -> Result<(), MapError> {
        self.remove(&self.key_of(key).ok_or(MapError::Invalid)?)
    }

    fn next_key(&self, key: Option<&[u8]>, next: &mut [u8]) -> Result<(), MapError> {
        let key = key.and_then(|key| self.key_of(key));
        let _writer = self.lock();
        let node = self.next(key.as_ref()).and_then(|slot| self.node(slot)).ok_or(MapError::NotFound)?;
        let (length, data) = next.split_at_mut_checked(LENGTH_BYTES).ok_or(MapError::Invalid)?;
        length.copy_from_slice(&node.prefix().to_le_bytes());
        if let Some(from) = node.data() {
            from.read(data);
        }
        Ok(())
    }

    fn lookup_batch(&self, batch: &mut BatchRead<'_>) -> (usize, Result<(), MapError>) {
        if batch.delete {
            return (0, Err(MapError::NoOperation));
        }
        batch::lookup_each(self, batch)
    }

    fn update_batch(&self, keys: &[u8], values: &[u8], flags: u64) -> (usize, Result<(), MapError>) {
        batch::update_each(self, keys, values, flags)
    }

    fn delete_batch(&self, keys: &[u8], _: u64) -> (usize, Result<(), MapError>) {
        batch::delete_each(self, keys)
    }
}

impl UserMap for LpmTrie {
    fn core(&self) -> &MapCore {
        &self.core
    }

    fn add_memory(&self, table: &mut BlockTable) {
        table.insert(Arc::clone(&self.values), true);
    }

    fn lookup_elem(&self, _: &CpuSlot, key: Place<'_>) -> Option<u64> {
        self.find(&self.key(key)?, |value| value.address())
    }

    fn update_elem(&self, _: &CpuSlot, key: Place<'_>, value: Place<'_>, flags: u64) -> Result<(), MapError> {
        self.insert(&self.key(key).ok_or(MapError::Invalid)?, value, flags)
    }

    fn delete_elem(&self, _: &CpuSlot, key: Place<'_>) -> Result<(), MapError> {
        self.remove(&self.key(key).ok_or(MapError::Invalid)?)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Slots {
    /// A slot that is not in use, or two.
    fn take(&mut self, both: bool) -> Option<(Slot, Option<Slot>)> {
        let one = self.take_one()?;
        if !both {
            return Some((one, None));
        }
        let other = self.take_one();
        if other.is_none() {
            self.free.push_front(one);
        }
        Some((one, Some(other?)))
    }

    fn take_one(&mut self) -> Option<Slot> {
        if self.free.len() <= QUARANTINE && self.fresh < self.end {
            self.fresh += 1;
            return Some(self.fresh - 1);
        }
        self.free.pop_front()
    }
}

/// A writer at work.
struct Change<'m> {
    version: &'m AtomicU64,
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        let version = self.version.load(Ordering::Relaxed);
        self.version.store(version.wrapping_add(1), Ordering::Release);
    }
}
