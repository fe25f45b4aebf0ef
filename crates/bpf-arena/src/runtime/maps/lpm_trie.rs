//! `BPF_MAP_TYPE_LPM_TRIE`: values by prefixes of bits, found by the longest prefix that a key begins with.
//!
//! The rules are those of the kernel's trie: a key is a length in bits and bytes in network order; what a key holds behind
//! its prefix is kept and given back, and matters to nothing else; keys are enumerated the more specific ones first.
//!
//! Nodes are slots of two blocks, one with the tree, which only this module touches, one with the values, which programs hold
//! addresses of. Writers take a lock. Readers do not: they walk the tree and walk it again if a writer was at work
//! meanwhile. A replaced or removed node's slot is used again after [`QUARANTINE`] others, so that a program which still
//! holds the address of its value sees that value for a while.

use std::any::Any;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bpf_object::MapSpec;
use isa::Size;

use super::{MapCore, UserMap, memory};
use crate::access::{Block, BlockTable, Place};
use crate::backend::{BatchRead, LoadedMap, batch};
use crate::cpu::CpuSlot;
use crate::error::MapError;
use crate::map::{BPF_EXIST, BPF_NOEXIST};

/// Bytes of the length that a key begins with.
const LENGTH_BYTES: usize = 4;

/// Most bytes of a key behind its length.
const MAX_DATA: usize = 256;

/// Slots that stay unused after their nodes are gone before the first of them is used again.
const QUARANTINE: usize = 64;

/// Walks of a reader that writers disturbed before it waits for them.
const UNDISTURBED_TRIES: u32 = 64;

/// Bytes of a node before its key data: two children, the prefix length and whether the node is an entry.
const NODE_HEADER: usize = 16;

/// Number of a slot; 0 is no node.
type Slot = u32;

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

/// A key, copied once.
struct Key {
    prefix: u32,
    data: [u8; MAX_DATA],
    size: usize,
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

    /// The value with the longest prefix of the key.
    fn find(&self, key: &Key) -> Option<Place<'_>> {
        for _ in 0..UNDISTURBED_TRIES {
            let before = self.version.load(Ordering::Acquire);
            if before.is_multiple_of(2) {
                let found = self.walk(key);
                fence(Ordering::Acquire);
                if self.version.load(Ordering::Relaxed) == before {
                    return self.value(found?);
                }
            }
            std::hint::spin_loop();
        }
        let _writer = self.lock();
        self.value(self.walk(key)?)
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
        let found = self.key_of(key).and_then(|key| self.find(&key));
        found.ok_or(MapError::NotFound)?.read(value);
        Ok(())
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
        self.find(&self.key(key)?).map(|value| value.address())
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

impl Key {
    fn bytes(&self) -> &[u8] {
        self.data.get(..self.size).unwrap_or_default()
    }

    /// The bit at an index, the first byte's highest being number 0.
    fn bit(&self, index: u32) -> bool {
        let byte = self.data.get(index as usize / 8).copied().unwrap_or(0);
        byte & (0x80 >> (index % 8)) != 0
    }
}

// Offsets of a node's members.
const LEFT: usize = 0;
const RIGHT: usize = 4;
const PREFIX: usize = 8;
const IS_ENTRY: usize = 12;

/// A node of the tree.
#[derive(Clone, Copy)]
struct Node<'m> {
    place: Place<'m>,
    data_size: usize,
}

impl<'m> Node<'m> {
    fn member(&self, offset: usize) -> u32 {
        self.place.at(offset).map_or(0, |place| low32(place.load(Size::W, Ordering::Acquire)))
    }

    fn set(&self, offset: usize, value: u32) {
        if let Some(place) = self.place.at(offset) {
            place.store(Size::W, u64::from(value), Ordering::Release);
        }
    }

    fn prefix(&self) -> u32 {
        self.member(PREFIX)
    }

    /// Whether it has a value, and does not only join two others.
    fn is_entry(&self) -> bool {
        self.member(IS_ENTRY) != 0
    }

    fn child(&self, side: bool) -> Slot {
        self.member(if side { RIGHT } else { LEFT })
    }

    /// Its key's bytes.
    fn data(&self) -> Option<Place<'m>> {
        self.place.sub(NODE_HEADER, self.data_size)
    }

    fn bit(&self, index: u32) -> bool {
        let byte = self.data().and_then(|data| data.at(index as usize / 8));
        byte.is_some_and(|byte| byte.load(Size::B, Ordering::Relaxed) & (0x80 >> (index % 8)) != 0)
    }

    /// How many bits its prefix and the key's have in common.
    fn common(&self, key: &Key) -> u32 {
        let limit = self.prefix().min(key.prefix);
        let Some(data) = self.place.at(NODE_HEADER) else { return 0 };
        let mut bits = 0;
        // Node data is padded with zeroes to whole words, as the key's array is.
        for word in key.data.chunks_exact(8) {
            if bits >= limit {
                break;
            }
            let ours =
                data.at(bits as usize / 8).map_or(0, |at| at.load(Size::DW, Ordering::Relaxed)).swap_bytes();
            let theirs = <[u8; 8]>::try_from(word).map_or(0, u64::from_be_bytes);
            let same = (ours ^ theirs).leading_zeros();
            bits += same;
            if same < 64 {
                break;
            }
        }
        bits.min(limit)
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

/// The low half of what was loaded.
#[allow(clippy::cast_possible_truncation, reason = "the low half is meant")]
fn low32(value: u64) -> u32 {
    value as u32
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "small numbers")]
mod tests {
    use std::collections::BTreeMap;

    use bpf_object::MapType;

    use super::*;

    fn trie(data: u32, max_entries: u32) -> LpmTrie {
        let sizes =
            MapSpec { key_size: 4 + data, value_size: 4, max_entries, ..MapSpec::new("t", MapType::LpmTrie) };
        LpmTrie::create(sizes).unwrap()
    }

    fn key(prefix: u32, data: &[u8]) -> Vec<u8> {
        [&prefix.to_le_bytes(), data].concat()
    }

    fn look(trie: &LpmTrie, key: &[u8]) -> Option<u32> {
        let mut value = [0; 4];
        trie.lookup(key, &mut value, 0).ok().map(|()| u32::from_le_bytes(value))
    }

    fn put(trie: &LpmTrie, key: &[u8], value: u32, flags: u64) -> Result<(), MapError> {
        trie.update(key, &value.to_le_bytes(), flags)
    }

    fn keys(trie: &LpmTrie) -> Vec<Vec<u8>> {
        let mut keys: Vec<Vec<u8>> = Vec::new();
        let mut next = vec![0; trie.core.spec.key_size as usize];
        while trie.next_key(keys.last().map(Vec::as_slice), &mut next).is_ok() {
            keys.push(next.clone());
        }
        keys
    }

    #[test]
    fn the_longest_prefix_wins() {
        let trie = trie(4, 8);
        put(&trie, &key(16, &[192, 168, 0, 0]), 1, 0).unwrap();
        put(&trie, &key(24, &[192, 168, 0, 0]), 2, 0).unwrap();
        put(&trie, &key(24, &[192, 168, 128, 0]), 3, 0).unwrap();
        put(&trie, &key(24, &[192, 168, 1, 0]), 4, 0).unwrap();
        assert_eq!(look(&trie, &key(32, &[192, 168, 1, 7])), Some(4));
        assert_eq!(look(&trie, &key(32, &[192, 168, 0, 7])), Some(2));
        assert_eq!(look(&trie, &key(32, &[192, 168, 3, 7])), Some(1));
        assert_eq!(look(&trie, &key(32, &[192, 169, 3, 7])), None);
        assert_eq!(look(&trie, &key(33, &[192, 168, 3, 7])), None);
        let expected = [
            (24, [192, 168, 0, 0]),
            (24, [192, 168, 1, 0]),
            (24, [192, 168, 128, 0]),
            (16, [192, 168, 0, 0]),
        ];
        assert_eq!(keys(&trie), expected.map(|(prefix, data)| key(prefix, &data)));
    }

    #[test]
    fn flags_sizes_and_a_full_trie() {
        let trie = trie(1, 2);
        assert_eq!(put(&trie, &key(9, &[0]), 0, 0), Err(MapError::Invalid));
        assert_eq!(put(&trie, &key(8, &[0]), 0, 3), Err(MapError::Invalid));
        assert_eq!(put(&trie, &key(8, &[0]), 0, BPF_EXIST), Err(MapError::NotFound));
        assert_eq!(put(&trie, &key(8, &[0]), 0, BPF_NOEXIST), Ok(()));
        assert_eq!(put(&trie, &key(8, &[0]), 5, BPF_NOEXIST), Err(MapError::Exists));
        assert_eq!(put(&trie, &key(8, &[0]), 6, BPF_EXIST), Ok(()));
        assert_eq!(put(&trie, &key(8, &[1]), 7, 0), Ok(()));
        assert_eq!(put(&trie, &key(8, &[2]), 8, 0), Err(MapError::NoSpace));
        // What joins the two is no entry, so that it cannot be replaced either.
        assert_eq!(put(&trie, &key(7, &[0]), 8, 0), Err(MapError::NoSpace));
        assert_eq!(put(&trie, &key(8, &[0]), 9, 0), Ok(()));
        assert_eq!(trie.delete(&key(7, &[0])), Err(MapError::NotFound));
        assert_eq!(trie.delete(&key(9, &[0])), Err(MapError::Invalid));
        assert_eq!(trie.delete(&key(8, &[0])), Ok(()));
        assert_eq!(trie.delete(&key(8, &[0])), Err(MapError::NotFound));
        assert_eq!(look(&trie, &key(8, &[1])), Some(7));
    }

    /// Random operations beside a list of prefixes that is searched from end to end.
    #[test]
    fn random_operations_beside_a_plain_list() {
        let mut random = fastrand::Rng::with_seed(7);
        for size in [1usize, 2, 4, 9, 16] {
            let trie = trie(size as u32, 40);
            let mut list: BTreeMap<(u32, Vec<u8>), (Vec<u8>, u32)> = BTreeMap::new();
            for round in 0..4000 {
                let prefix = random.u32(0..=size as u32 * 8);
                let data: Vec<u8> = (0..size).map(|_| random.choice([0, 1, 0x80, 0xff]).unwrap()).collect();
                let masked = mask(prefix, &data);
                match random.u8(0..3) {
                    0 => {
                        let full = list.len() == 40 && !list.contains_key(&(prefix, masked.clone()));
                        let expected = if full { Err(MapError::NoSpace) } else { Ok(()) };
                        assert_eq!(put(&trie, &key(prefix, &data), round, 0), expected);
                        if !full {
                            list.insert((prefix, masked), (data, round));
                        }
                    }
                    1 => {
                        let removed = list.remove(&(prefix, masked)).map(drop);
                        assert_eq!(trie.delete(&key(prefix, &data)), removed.ok_or(MapError::NotFound));
                    }
                    _ => {
                        let longest = (0..=prefix).rev().find_map(|p| list.get(&(p, mask(p, &data))));
                        assert_eq!(look(&trie, &key(prefix, &data)), longest.map(|(_, value)| *value));
                    }
                }
                if round % 100 == 0 {
                    let mut found = keys(&trie);
                    found.sort();
                    let mut all: Vec<_> = list.iter().map(|((p, _), (data, _))| key(*p, data)).collect();
                    all.sort();
                    assert_eq!(found, all);
                }
            }
        }
    }

    fn mask(prefix: u32, data: &[u8]) -> Vec<u8> {
        let keep = |(at, byte): (usize, &u8)| {
            let bits = (prefix as usize).saturating_sub(at * 8).min(8) as u32;
            byte & !(0xffu32 >> bits) as u8
        };
        data.iter().enumerate().map(keep).collect()
    }

    #[test]
    fn readers_are_right_while_writers_work() {
        let trie = trie(4, 64);
        put(&trie, &key(8, &[10, 0, 0, 0]), 1, 0).unwrap();
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        // Whatever else comes and goes, some prefix of it is always there, with its own value.
                        let found = look(&trie, &key(32, &[10, 1, 2, 3])).unwrap();
                        assert!([1, 2, 3].contains(&found), "{found}");
                    }
                });
            }
            for round in 0..20_000u32 {
                let value = 2 + round % 2;
                put(
                    &trie,
                    &key(8 + 8 * (round % 4), &[10, 1, 2, 3]),
                    if round % 4 == 0 { 1 } else { value },
                    0,
                )
                .unwrap();
                put(&trie, &key(16, &[10, (round % 7) as u8 + 2, 0, 0]), 9, 0).unwrap();
                if round % 3 == 0 {
                    let _ = trie.delete(&key(24, &[10, 1, 2, 3]));
                    let _ = trie.delete(&key(16, &[10, (round % 5) as u8 + 2, 0, 0]));
                }
            }
            done.store(true, Ordering::Relaxed);
        });
    }
}
