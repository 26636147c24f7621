//! Medians, ratios with confidence intervals, and when two ratios count as equal.

use std::fmt;

use serde_json::{Value, json};

/// Returns the median, or NaN if `values` is empty.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match (values.get(values.len().saturating_sub(1) / 2), values.get(values.len() / 2)) {
        (Some(below), Some(above)) => f64::midpoint(*below, *above),
        _ => f64::NAN,
    }
}

/// The cost divided by the cost of the raw system calls: the median of several samples, and its 95 % confidence
/// interval. The interval follows from the order of the samples, so it assumes no distribution.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ratio {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Ratio {
    pub(crate) fn of(mut samples: Vec<f64>) -> Self {
        samples.sort_by(f64::total_cmp);
        let count = samples.len() as f64;
        let below = ((count - 1.96 * count.sqrt()) / 2.0).floor().max(0.0) as usize;
        let at = |rank: usize| samples.get(rank).copied().unwrap_or(f64::NAN);
        let (low, high) = (at(below), at(samples.len().saturating_sub(1 + below)));
        Ratio { median: median(samples), low, high }
    }

    /// Returns whether the interval overlaps 1 or the interval of `control`, which compares raw calls with raw calls.
    pub(crate) fn is_equal(&self, control: &Self) -> bool {
        let (low, high) = (control.low.min(1.0), control.high.max(1.0));
        self.low <= high && low <= self.high
    }

    pub(crate) fn verdict(&self, control: &Self) -> String {
        if self.is_equal(control) { "equal".to_owned() } else { format!("x {}", times(self.median)) }
    }

    pub(crate) fn json(&self, control: &Self) -> Value {
        json!({ "median": self.median, "low": self.low, "high": self.high, "equal": self.is_equal(control) })
    }
}

/// Formats a ratio that differs from 1, with a third decimal if two would show 1.00.
pub(crate) fn times(ratio: f64) -> String {
    if (ratio - 1.0).abs() < 0.01 { format!("{ratio:.3}") } else { format!("{ratio:.2}") }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ratio { median, low, high } = self;
        write!(f, "{median:.3} ({low:.3} to {high:.3})")
    }
}

#[cfg(test)]
mod tests {
    use super::{Ratio, median};

    #[test]
    fn the_median_of_an_even_number_of_values_is_the_mean_of_the_middle_two() {
        assert_eq!(median(vec![4.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn ratios_are_equal_if_their_intervals_overlap_with_the_control() {
        let control = Ratio { median: 1.01, low: 0.99, high: 1.03 };
        assert!(Ratio { median: 1.05, low: 1.02, high: 1.08 }.is_equal(&control));
        assert!(!Ratio { median: 1.05, low: 1.04, high: 1.08 }.is_equal(&control));
        assert!(!Ratio { median: 0.9, low: 0.88, high: 0.95 }.is_equal(&control));
    }

    #[test]
    fn the_interval_excludes_the_extremes() {
        let ratio = Ratio::of((1..=25).map(f64::from).collect());
        assert_eq!((ratio.low, ratio.median, ratio.high), (8.0, 13.0, 18.0));
    }
}
