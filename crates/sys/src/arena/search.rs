//! Which pages an allocation gets: pure logic over words of 64 pages.

/// Pages that are taken, in words of 64, with the pages past the end of the arena counted as taken.
pub(crate) trait TakenWords {
    /// Number of words.
    fn words(&self) -> usize;

    /// Bit `n` is set if page `64 * word + n` is taken.
    fn taken(&self, word: usize) -> u64;

    /// The first word from `word` on that may have a free page; words before it have none.
    fn next_with_space(&self, word: usize) -> usize {
        word
    }
}

/// The lowest page from which on `count` pages are free.
pub(crate) fn lowest_fit(pages: &impl TakenWords, count: u32) -> Option<u32> {
    let mut run = Run { start: 0, len: 0, wanted: count };
    let mut word = 0;
    while word < pages.words() {
        if run.len == 0 {
            word = pages.next_with_space(word);
            if word >= pages.words() {
                return None;
            }
        }
        let first = u32::try_from(word).ok()?.checked_mul(64)?;
        if run.add_word(first, pages.taken(word)) {
            return Some(run.start);
        }
        word += 1;
    }
    None
}

/// The words that `[start, start + count)` touches, each with the bits of its pages.
pub(crate) fn masks(start: u32, count: u32) -> impl Iterator<Item = (usize, u64)> {
    let end = u64::from(start) + u64::from(count);
    let words = if count == 0 { 0..0 } else { u64::from(start) / 64..end.div_ceil(64) };
    words.map(move |word| {
        let low = u64::from(start).saturating_sub(word * 64);
        let high = (end - word * 64).min(64);
        let mask = (u64::MAX << low) & (u64::MAX >> (64 - high));
        (super::to_usize(word), mask)
    })
}

/// Free pages in a row, growing.
struct Run {
    start: u32,
    len: u32,
    wanted: u32,
}

impl Run {
    /// Goes through a word whose first page is `first`; whether the run is long enough.
    fn add_word(&mut self, first: u32, taken: u64) -> bool {
        let mut bit = 0;
        while bit < 64 {
            let rest = taken >> bit;
            let free = rest.trailing_zeros().min(64 - bit);
            if free > 0 {
                if self.len == 0 {
                    self.start = first + bit;
                }
                self.len += free;
                if self.len >= self.wanted {
                    return true;
                }
                bit += free;
            }
            if bit < 64 {
                self.len = 0;
                bit += (taken >> bit).trailing_ones();
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Words(Vec<u64>);

    impl TakenWords for Words {
        fn words(&self) -> usize {
            self.0.len()
        }
        fn taken(&self, word: usize) -> u64 {
            self.0[word]
        }
    }

    /// The obvious way, page by page.
    fn model(words: &[u64], count: u32) -> Option<u32> {
        let taken = |page: u32| words[page as usize / 64] >> (page % 64) & 1 == 1;
        let pages = u32::try_from(words.len() * 64).unwrap();
        (0..pages).find(|&start| start + count <= pages && (start..start + count).all(|page| !taken(page)))
    }

    #[test]
    fn agrees_with_the_obvious_way_on_random_maps() {
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random
        };
        for round in 0..3000 {
            let dense = round % 3;
            let words: Vec<u64> = (0..next() % 6)
                .map(|_| match dense {
                    0 => next() & next() & next(),
                    1 => next() | next() | next(),
                    _ => [0, u64::MAX, next() << 40, next() >> 40][usize::try_from(next() % 4).unwrap()],
                })
                .collect();
            let count = u32::try_from(1 + next() % 150).unwrap();
            assert_eq!(lowest_fit(&Words(words.clone()), count), model(&words, count), "{words:x?} {count}");
        }
    }

    #[test]
    fn masks_cover_exactly_the_range() {
        for (start, count) in
            [(0, 1), (63, 1), (63, 2), (0, 64), (1, 64), (5, 200), (64, 128), (1 << 19, 1 << 19)]
        {
            let mut covered = 0;
            for (word, mask) in masks(start, count) {
                for bit in 0..64 {
                    let page = u32::try_from(word).unwrap() * 64 + bit;
                    let inside = (start..start + count).contains(&page);
                    assert_eq!(mask >> bit & 1 == 1, inside, "{start} {count} {page}");
                    covered += u32::from(inside);
                }
            }
            assert_eq!(covered, count);
        }
        assert_eq!(masks(7, 0).count(), 0);
    }
}
