//! Times of expiry as clients write them.

use crate::protocol::limits::RELATIVE_TIME_MAX;
use crate::store::Expiry;

/// Zero is never, a negative time has passed already, one of up to thirty days counts from now, a later one from 1970.
pub(super) fn expiry(exptime: i32, now: u32) -> Expiry {
    match u32::try_from(exptime) {
        Ok(0) => Expiry::Never,
        Ok(time) => Expiry::At(point(time, now)),
        Err(_) => Expiry::At(1),
    }
}

/// The second that a positive time means.
pub(super) fn point(time: u32, now: u32) -> u32 {
    if i64::from(time) > RELATIVE_TIME_MAX { time } else { now.saturating_add(time) }
}

#[cfg(test)]
mod tests {
    use super::expiry;
    use crate::store::Expiry;

    #[test]
    fn relative_absolute_and_past() {
        let now = 1_700_000_000;
        for (exptime, expected) in [
            (0, Expiry::Never),
            (1, Expiry::At(now + 1)),
            (2_592_000, Expiry::At(now + 2_592_000)),
            (2_592_001, Expiry::At(2_592_001)),
            (1_800_000_000, Expiry::At(1_800_000_000)),
            (-1, Expiry::At(1)),
            (i32::MIN, Expiry::At(1)),
        ] {
            assert_eq!(expiry(exptime, now), expected, "{exptime}");
        }
    }
}
