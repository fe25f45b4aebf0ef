//! Words of a command line.

use super::limits::TOKENS_MAX;

/// The words of `line`: what stands between spaces. Nothing else separates.
pub fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    line.split(|byte| *byte == b' ').filter(|word| !word.is_empty())
}

/// The first word, and what stands behind it.
pub(super) fn first_word(line: &[u8]) -> (&[u8], &[u8]) {
    let start = line.iter().position(|byte| *byte != b' ').unwrap_or(line.len());
    let line = line.get(start..).unwrap_or_default();
    let end = line.iter().position(|byte| *byte == b' ').unwrap_or(line.len());
    line.split_at_checked(end).unwrap_or((line, &[]))
}

/// The words of a command, in a place of their own; those past the limit are not seen.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tokens<'a> {
    list: [&'a [u8]; TOKENS_MAX],
    count: usize,
}

impl<'a> Tokens<'a> {
    pub(super) fn new(line: &'a [u8]) -> Self {
        let mut tokens = Self { list: [&[]; TOKENS_MAX], count: 0 };
        for (place, word) in tokens.list.iter_mut().zip(words(line)) {
            *place = word;
            tokens.count += 1;
        }
        tokens
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// The word at `index`, empty if there are fewer.
    pub(super) fn at(&self, index: usize) -> &'a [u8] {
        self.list.get(index).copied().unwrap_or_default()
    }

    pub(super) fn ends_in_noreply(&self) -> bool {
        self.count.checked_sub(1).is_some_and(|last| self.at(last) == b"noreply")
    }
}
