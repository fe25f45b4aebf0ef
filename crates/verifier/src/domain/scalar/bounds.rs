//! Unsigned and signed intervals over one width, and what arithmetic does to them.

/// Defines an interval type over one unsigned type and its signed twin.
macro_rules! bounds {
    ($(#[$doc:meta])* $name:ident, $unsigned:ty, $signed:ty) => {
        $(#[$doc])*
        ///
        /// The value, read as unsigned, is in `umin..=umax`; read as signed, in `smin..=smax`. All operations wrap.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) struct $name {
            pub(crate) umin: $unsigned,
            pub(crate) umax: $unsigned,
            pub(crate) smin: $signed,
            pub(crate) smax: $signed,
        }

        #[allow(dead_code, reason = "not every width needs all of it")]
        impl $name {
            /// Every value.
            pub(crate) const UNKNOWN: Self =
                Self { umin: 0, umax: <$unsigned>::MAX, smin: <$signed>::MIN, smax: <$signed>::MAX };

            /// One value.
            pub(crate) const fn constant(value: $unsigned) -> Self {
                let signed = value.cast_signed();
                Self { umin: value, umax: value, smin: signed, smax: signed }
            }

            /// Unsigned bounds alone.
            pub(crate) fn unsigned(umin: $unsigned, umax: $unsigned) -> Self {
                Self { umin, umax, ..Self::UNKNOWN }.deduce()
            }

            /// Signed bounds alone.
            pub(crate) fn signed(smin: $signed, smax: $signed) -> Self {
                Self { smin, smax, ..Self::UNKNOWN }.deduce()
            }

            #[cfg(test)]
            pub(crate) const fn contains(&self, value: $unsigned) -> bool {
                let signed = value.cast_signed();
                self.umin <= value && value <= self.umax && self.smin <= signed && signed <= self.smax
            }

            /// Whether every member of `inner` is a member of `self`.
            pub(crate) const fn includes(&self, inner: &Self) -> bool {
                self.umin <= inner.umin && inner.umax <= self.umax && self.smin <= inner.smin && inner.smax <= self.smax
            }

            /// Whether no value fits.
            pub(crate) const fn is_empty(&self) -> bool {
                self.umin > self.umax || self.smin > self.smax
            }

            /// The values in both.
            pub(crate) fn meet(self, other: Self) -> Self {
                Self {
                    umin: self.umin.max(other.umin),
                    umax: self.umax.min(other.umax),
                    smin: self.smin.max(other.smin),
                    smax: self.smax.min(other.smax),
                }
            }

            /// Whether no value can be in both.
            pub(crate) fn is_apart_from(self, other: Self) -> bool {
                self.umin > other.umax || self.umax < other.umin || self.smin > other.smax || self.smax < other.smin
            }

            /// Takes a value off the ends. One that is the only one left gives an empty or wrapped interval.
            pub(crate) fn exclude(&mut self, value: $unsigned) {
                if self.umin == value {
                    self.umin = self.umin.wrapping_add(1);
                }
                if self.umax == value {
                    self.umax = self.umax.wrapping_sub(1);
                }
                if self.smin == value.cast_signed() {
                    self.smin = self.smin.wrapping_add(1);
                }
                if self.smax == value.cast_signed() {
                    self.smax = self.smax.wrapping_sub(1);
                }
            }

            /// Lets each reading sharpen the other.
            ///
            /// An interval that does not cross the boundary of the other reading is one there, too. One that does is
            /// two pieces; if the other reading excludes one of them, the remaining piece bounds both.
            #[must_use]
            pub(crate) fn deduce(mut self) -> Self {
                if self.umin.cast_signed() <= self.umax.cast_signed() {
                    self.smin = self.smin.max(self.umin.cast_signed());
                    self.smax = self.smax.min(self.umax.cast_signed());
                }
                if self.smin.cast_unsigned() <= self.smax.cast_unsigned() {
                    self.umin = self.umin.max(self.smin.cast_unsigned());
                    self.umax = self.umax.min(self.smax.cast_unsigned());
                } else if self.umax < self.smin.cast_unsigned() {
                    // No negative value fits the unsigned bounds.
                    self.smin = self.umin.cast_signed();
                    self.umax = self.umax.min(self.smax.cast_unsigned());
                } else if self.umin > self.smax.cast_unsigned() {
                    // No positive value does.
                    self.smax = self.umax.cast_signed();
                    self.umin = self.umin.max(self.smin.cast_unsigned());
                }
                self
            }

            /// What the known bits say.
            #[must_use]
            pub(crate) fn within_bits(self, value: $unsigned, mask: $unsigned) -> Self {
                let sign = 1 << (<$unsigned>::BITS - 1);
                self.meet(Self {
                    umin: value,
                    umax: value | mask,
                    smin: (value | mask & sign).cast_signed(),
                    smax: (value | mask & !sign).cast_signed(),
                })
            }

            /// Signed bounds of a number whose unsigned bounds alone are known: the same, unless the interval crosses
            /// from positive to negative.
            fn signed_like_unsigned(mut self) -> Self {
                (self.smin, self.smax) = (self.umin.cast_signed(), self.umax.cast_signed());
                if self.smin > self.smax {
                    (self.smin, self.smax) = (<$signed>::MIN, <$signed>::MAX);
                }
                self
            }

            pub(crate) fn add(self, other: Self) -> Self {
                let (umin, under) = self.umin.overflowing_add(other.umin);
                let (umax, over) = self.umax.overflowing_add(other.umax);
                let mut sum = Self::UNKNOWN;
                // Both ends wrap or neither does: the interval stays one piece.
                if under == over {
                    (sum.umin, sum.umax) = (umin, umax);
                }
                if let (Some(smin), Some(smax)) =
                    (self.smin.checked_add(other.smin), self.smax.checked_add(other.smax))
                {
                    (sum.smin, sum.smax) = (smin, smax);
                }
                sum
            }

            pub(crate) fn sub(self, other: Self) -> Self {
                let (umin, under) = self.umin.overflowing_sub(other.umax);
                let (umax, over) = self.umax.overflowing_sub(other.umin);
                let mut difference = Self::UNKNOWN;
                if under == over {
                    (difference.umin, difference.umax) = (umin, umax);
                }
                if let (Some(smin), Some(smax)) =
                    (self.smin.checked_sub(other.smax), self.smax.checked_sub(other.smin))
                {
                    (difference.smin, difference.smax) = (smin, smax);
                }
                difference
            }

            /// The sum for an offset in memory, which is not followed past a wrap of either end.
            pub(crate) fn add_exact(self, other: Self) -> Self {
                let mut sum = self.add(other);
                if self.umax.checked_add(other.umax).is_none() {
                    (sum.umin, sum.umax) = (0, <$unsigned>::MAX);
                }
                sum
            }

            /// The difference for an offset in memory.
            pub(crate) fn sub_exact(self, other: Self) -> Self {
                let mut difference = self.sub(other);
                if self.umin < other.umax {
                    (difference.umin, difference.umax) = (0, <$unsigned>::MAX);
                }
                difference
            }

            pub(crate) fn mul(self, other: Self) -> Self {
                let mut product = Self::UNKNOWN;
                if let Some(umax) = self.umax.checked_mul(other.umax) {
                    (product.umin, product.umax) = (self.umin.wrapping_mul(other.umin), umax);
                }
                let corners = [
                    self.smin.checked_mul(other.smin),
                    self.smin.checked_mul(other.smax),
                    self.smax.checked_mul(other.smin),
                    self.smax.checked_mul(other.smax),
                ];
                if let [Some(a), Some(b), Some(c), Some(d)] = corners {
                    (product.smin, product.smax) = (a.min(b).min(c).min(d), a.max(b).max(c).max(d));
                }
                product
            }

            /// Bounds of `x & y`, whose known bits are `value` and whose unknown ones `mask`.
            pub(crate) fn and(self, other: Self, value: $unsigned, _mask: $unsigned) -> Self {
                let umax = self.umax.min(other.umax);
                Self { umin: value, umax, ..Self::UNKNOWN }.signed_like_unsigned()
            }

            /// Bounds of `x | y`.
            pub(crate) fn or(self, other: Self, value: $unsigned, mask: $unsigned) -> Self {
                let umin = self.umin.max(other.umin);
                Self { umin, umax: value | mask, ..Self::UNKNOWN }.signed_like_unsigned()
            }

            /// Bounds of `x ^ y`.
            pub(crate) fn xor(self, _other: Self, value: $unsigned, mask: $unsigned) -> Self {
                Self { umin: value, umax: value | mask, ..Self::UNKNOWN }.signed_like_unsigned()
            }

            /// Shift left by a known count. Nothing is known if it is the width or more, or if a bit may be lost.
            pub(crate) fn lsh(self, count: u32) -> Self {
                let room = (<$unsigned>::BITS - 1).checked_sub(count).map(|bits| 1 << bits);
                match room {
                    Some(room) if self.umax <= room => {
                        Self { umin: self.umin << count, umax: self.umax << count, ..Self::UNKNOWN }
                    }
                    _ => Self::UNKNOWN,
                }
            }

            /// Shift right by a known count, which is below the width.
            pub(crate) fn rsh(self, count: u32) -> Self {
                Self { umin: self.umin >> count, umax: self.umax >> count, ..Self::UNKNOWN }
            }

            /// Arithmetic shift right by a known count, which is below the width.
            pub(crate) fn arsh(self, count: u32) -> Self {
                Self { smin: self.smin >> count, smax: self.smax >> count, ..Self::UNKNOWN }
            }
        }
    };
}

bounds! {
    /// What is known of a 64-bit value.
    Bounds64, u64, i64
}

bounds! {
    /// What is known of the low half of a value.
    Bounds32, u32, i32
}

#[cfg(test)]
mod tests {
    // The same code at eight bits, where every interval and member can be tried.
    bounds! {
        /// Eight bits, for the tests.
        Bounds8, u8, i8
    }

    fn samples() -> Vec<Bounds8> {
        let edges: Vec<u8> = vec![0, 1, 2, 5, 63, 126, 127, 128, 129, 200, 254, 255];
        let mut all = Vec::new();
        for &a in &edges {
            for &b in &edges {
                if a <= b {
                    all.push(Bounds8::unsigned(a, b));
                }
                if a.cast_signed() <= b.cast_signed() {
                    all.push(Bounds8::signed(a.cast_signed(), b.cast_signed()));
                }
            }
        }
        all.dedup();
        all
    }

    fn members(b: Bounds8) -> Vec<u8> {
        (0..=255).filter(|&x| b.contains(x)).collect()
    }

    /// The ends and a spread of the members: enough to catch a wrong bound.
    fn few(b: Bounds8) -> Vec<u8> {
        let all = members(b);
        let step = (all.len() / 9).max(1);
        all.iter().step_by(step).chain(all.last()).copied().collect()
    }

    #[test]
    fn binary_operations_are_sound() {
        type Op = (&'static str, fn(Bounds8, Bounds8) -> Bounds8, fn(u8, u8) -> u8);
        let ops: [Op; 8] = [
            ("add", Bounds8::add, u8::wrapping_add),
            ("sub", Bounds8::sub, u8::wrapping_sub),
            ("add exact", Bounds8::add_exact, u8::wrapping_add),
            ("sub exact", Bounds8::sub_exact, u8::wrapping_sub),
            ("mul", Bounds8::mul, u8::wrapping_mul),
            ("and", |a, b| a.and(b, 0, 255), |x, y| x & y),
            ("or", |a, b| a.or(b, 0, 255), |x, y| x | y),
            ("xor", |a, b| a.xor(b, 0, 255), |x, y| x ^ y),
        ];
        let samples = samples();
        for (name, abstract_op, op) in ops {
            for &a in &samples {
                for &b in &samples {
                    let result = abstract_op(a, b);
                    for x in few(a) {
                        for y in few(b) {
                            assert!(result.contains(op(x, y)), "{name} {a:?} {b:?} = {result:?}: {x} {y}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn shifts_are_sound() {
        for a in samples() {
            for count in 0..8 {
                for x in members(a) {
                    assert!(a.lsh(count).contains(x << count), "{a:?} {count} {x}");
                    assert!(a.rsh(count).contains(x >> count));
                    assert!(a.arsh(count).contains((x.cast_signed() >> count).cast_unsigned()));
                }
            }
        }
    }

    #[test]
    fn deduction_keeps_every_member() {
        let samples = samples();
        for &a in &samples {
            for &b in &samples {
                let met = Bounds8 { smin: b.smin, smax: b.smax, ..a };
                if members(met).is_empty() {
                    continue;
                }
                let deduced = met.deduce();
                assert_eq!(members(met), members(deduced), "{met:?} {deduced:?}");
            }
        }
    }
}
