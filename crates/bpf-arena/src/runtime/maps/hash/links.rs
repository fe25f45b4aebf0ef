//! Lists through the headers of elements, and what else an LRU map notes there.
//!
//! ```text
//! +0 the element before     +4 the element behind     +8 kind, CPU in the upper half     +12 mark
//! ```
//!
//! Whoever holds the lock of the list that an element is in may change its header, all but the mark: that is set by lookups
//! without a lock.

use std::sync::atomic::Ordering::Relaxed;

use super::lru::Kind;
use super::table::{Element, Table};

/// Bytes in an element's header that are used here.
pub(super) const HEADER_BYTES: u64 = 16;

/// The numbers in that order.
const BEFORE: usize = 0;
const BEHIND: usize = 1;
const KIND: usize = 2;
const MARK: usize = 3;

/// The headers of a table's elements.
pub(super) struct Links<'t> {
    table: &'t Table,
}

/// A list of elements.
#[derive(Debug, Default)]
pub(super) struct List {
    front: Option<Element>,
    back: Option<Element>,
    len: u32,
}

impl<'t> Links<'t> {
    pub(super) fn of(table: &'t Table) -> Self {
        Self { table }
    }

    pub(super) fn table(&self) -> &'t Table {
        self.table
    }

    /// The element before this one in its list.
    pub(super) fn before(&self, element: Element) -> Option<Element> {
        self.get(element, BEFORE).checked_sub(1).map(Element)
    }

    /// The element behind this one in its list.
    pub(super) fn behind(&self, element: Element) -> Option<Element> {
        self.get(element, BEHIND).checked_sub(1).map(Element)
    }

    /// Where the element is, and whose it is.
    pub(super) fn kind(&self, element: Element) -> (Kind, u32) {
        let word = self.get(element, KIND);
        let kind = match word & 0xffff {
            0 => Kind::Free,
            1 => Kind::Active,
            2 => Kind::Inactive,
            3 => Kind::LocalFree,
            _ => Kind::Pending,
        };
        (kind, word >> 16)
    }

    pub(super) fn set_kind(&self, element: Element, kind: Kind, cpu: u32) {
        let number = match kind {
            Kind::Free => 0,
            Kind::Active => 1,
            Kind::Inactive => 2,
            Kind::LocalFree => 3,
            Kind::Pending => 4,
        };
        self.set(element, KIND, cpu << 16 | number);
    }

    /// Whether it was used since the mark was taken away.
    pub(super) fn is_marked(&self, element: Element) -> bool {
        self.get(element, MARK) != 0
    }

    pub(super) fn set_mark(&self, element: Element, mark: bool) {
        self.set(element, MARK, u32::from(mark));
    }

    /// Sets the mark. It is read first, so that the entries that are used most are not written all the time.
    #[inline]
    pub(super) fn mark(&self, element: Element) {
        if !self.is_marked(element) {
            self.set_mark(element, true);
        }
    }

    #[inline]
    fn get(&self, element: Element, at: usize) -> u32 {
        self.table.header(element, at).map_or(0, |number| number.load(Relaxed))
    }

    #[inline]
    fn set(&self, element: Element, at: usize, value: u32) {
        if let Some(number) = self.table.header(element, at) {
            number.store(value, Relaxed);
        }
    }

    fn set_link(&self, element: Element, at: usize, to: Option<Element>) {
        self.set(element, at, to.map_or(0, |to| to.0 + 1));
    }
}

impl List {
    pub(super) fn len(&self) -> u32 {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.front.is_none()
    }

    pub(super) fn front(&self) -> Option<Element> {
        self.front
    }

    pub(super) fn back(&self) -> Option<Element> {
        self.back
    }

    /// The elements from the last to the first.
    pub(super) fn backwards<'l>(&self, links: &'l Links<'_>) -> impl Iterator<Item = Element> + use<'l> {
        std::iter::successors(self.back, |element| links.before(*element))
    }

    pub(super) fn push_front(&mut self, links: &Links<'_>, element: Element) {
        links.set_link(element, BEFORE, None);
        links.set_link(element, BEHIND, self.front);
        match self.front {
            Some(front) => links.set_link(front, BEFORE, Some(element)),
            None => self.back = Some(element),
        }
        self.front = Some(element);
        self.len += 1;
    }

    pub(super) fn push_back(&mut self, links: &Links<'_>, element: Element) {
        links.set_link(element, BEFORE, self.back);
        links.set_link(element, BEHIND, None);
        match self.back {
            Some(back) => links.set_link(back, BEHIND, Some(element)),
            None => self.front = Some(element),
        }
        self.back = Some(element);
        self.len += 1;
    }

    pub(super) fn pop_front(&mut self, links: &Links<'_>) -> Option<Element> {
        let element = self.front?;
        self.remove(links, element);
        Some(element)
    }

    pub(super) fn pop_back(&mut self, links: &Links<'_>) -> Option<Element> {
        let element = self.back?;
        self.remove(links, element);
        Some(element)
    }

    /// Takes out an element, which is in this list.
    pub(super) fn remove(&mut self, links: &Links<'_>, element: Element) {
        let (before, behind) = (links.before(element), links.behind(element));
        match before {
            Some(before) => links.set_link(before, BEHIND, behind),
            None => self.front = behind,
        }
        match behind {
            Some(behind) => links.set_link(behind, BEFORE, before),
            None => self.back = before,
        }
        self.len = self.len.saturating_sub(1);
    }
}
