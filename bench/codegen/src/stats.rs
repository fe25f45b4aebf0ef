//! Medians, spreads and geometric means.

use serde::Serialize;

/// Some figures in short. The quarters say how far to trust the median: half of all figures lie between them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    /// The smallest.
    pub(crate) min: f64,
    /// A quarter lies below.
    pub(crate) lower: f64,
    /// Half lies below.
    pub(crate) median: f64,
    /// A quarter lies above.
    pub(crate) upper: f64,
    /// The largest.
    pub(crate) max: f64,
}

impl Spread {
    /// The spread of `figures`; `None` if there are none.
    pub(crate) fn of(figures: &[f64]) -> Option<Self> {
        let mut sorted = figures.to_vec();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().checked_sub(1)?;
        // Quantile number `quarter` of 4, between two figures if it falls there.
        let quantile = |quarter: usize| {
            let (whole, part) = (last * quarter / 4, last * quarter % 4);
            let (low, high) = (sorted.get(whole)?, sorted.get((whole + 1).min(last))?);
            Some(low + (high - low) * QUARTERS.get(part)?)
        };
        Some(Self {
            min: quantile(0)?,
            lower: quantile(1)?,
            median: quantile(2)?,
            upper: quantile(3)?,
            max: quantile(4)?,
        })
    }
}

const QUARTERS: [f64; 4] = [0.0, 0.25, 0.5, 0.75];

/// The geometric mean, the mean for ratios; `None` of nothing.
pub(crate) fn geomean(ratios: impl IntoIterator<Item = f64>) -> Option<f64> {
    let (mut sum, mut count) = (0.0, 0.0);
    for ratio in ratios {
        sum += ratio.ln();
        count += 1.0;
    }
    (count > 0.0).then(|| (sum / count).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_on_figures_or_between_two() {
        let of_five = Spread::of(&[5.0, 1.0, 4.0, 2.0, 3.0]);
        assert_eq!(of_five, Some(Spread { min: 1.0, lower: 2.0, median: 3.0, upper: 4.0, max: 5.0 }));
        let of_two = Spread::of(&[2.0, 1.0]);
        assert_eq!(of_two, Some(Spread { min: 1.0, lower: 1.25, median: 1.5, upper: 1.75, max: 2.0 }));
        assert_eq!(Spread::of(&[7.0]).map(|s| (s.min, s.upper)), Some((7.0, 7.0)));
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn the_geometric_mean_of_a_ratio_and_its_inverse_is_one() {
        assert!(geomean([0.5, 2.0]).is_some_and(|mean| (mean - 1.0).abs() < 1e-12));
        assert_eq!(geomean([]), None);
    }
}
