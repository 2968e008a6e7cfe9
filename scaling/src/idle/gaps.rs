//! How long one Function stays idle: for each stretch of a logarithmic scale, how often it was still idle at the stretch's beginning and
//! how often a request ended the gap within.
//!
//! The base is the histogram of idle times of Shahrad et al., "Serverless in the Wild" (USENIX ATC'20): one for each Function, bounded,
//! fed by every gap. Beyond it: (1) a logarithmic scale from one second to three days, so that seconds and days cost the same space;
//! (2) hazards with their own exposure instead of counts (Kaplan and Meier, "Nonparametric estimation from incomplete observations",
//! JASA 1958), so that many short gaps do not push out what is known of long ones, and a gap that was only seen from some moment on
//! counts from there; (3) a place and a spread within each stretch, so that a timer is known to a fraction of a second; (4) older gaps
//! count less, and (5) where little is known, a prior with the broad shape of production gaps.
//!
//! What always holds: bounded in size; `ended <= at_risk <= FULL`.

/// Stretches: three to each doubling, from one second to 72 hours.
pub(crate) const BINS: usize = 54;
/// What one gap counts.
pub(crate) const ONE: u16 = 64;
/// What exposure tends to: so many of the newest gaps count, weighted by age.
const MEMORY: u16 = 64;
/// The most that exposure can be.
pub(crate) const FULL: u16 = ONE * MEMORY;
/// Mean absolute deviation of a uniform distribution, in 65536ths of its width.
const UNIFORM: u16 = 16_384;
/// So much must have ended within a stretch before its place and spread are believed: two gaps, the older of which counts a little less.
const TRUSTED: u16 = 2 * ONE - ONE / 8;
/// What the prior counts, in gaps.
const PRIOR: f64 = 1.0;
/// How many of its mean absolute deviations a gap is expected around its place.
const DEVIATIONS: u64 = 3;
/// Milliseconds around its place that a gap is expected at the least.
const SLACK_MILLIS: u64 = 250;
/// Of the gaps expected in a stretch, so many are expected anywhere in it, the rest around its place.
const ANYWHERE: f64 = 0.5;

/// The beginning of a stretch in ms; that of `BINS` is the end of the last.
pub(crate) fn edge(bin: usize) -> u64 {
    let third: u64 = [1_000_000, 1_259_921, 1_587_401][bin % 3];
    (third << (bin / 3)) / 1000
}

/// The stretch that a gap lies in; `BINS` if it is longer than all, `None` if it is shorter.
pub(crate) fn bin_of(millis: u64) -> Option<usize> {
    (0..=BINS).rev().find(|bin| edge(*bin) <= millis)
}

/// One stretch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bin {
    /// Gaps that were not over at its beginning, weighted by age, in [`ONE`]ths.
    pub(crate) at_risk: u16,
    /// Those of them that ended in it.
    pub(crate) ended: u16,
    /// Where in it they ended on average, in 65536ths of its width.
    pub(crate) place: u16,
    /// How far from there, on average, in the same unit.
    pub(crate) spread: u16,
}

impl Bin {
    fn survive(&mut self) {
        self.at_risk = self.at_risk - self.at_risk.div_ceil(MEMORY) + ONE;
        self.ended -= self.ended.div_ceil(MEMORY);
        if self.ended == 0 {
            (self.place, self.spread) = (0, 0);
        }
    }

    fn end(&mut self, place: u16) {
        let known = self.ended >= ONE / 2;
        self.survive();
        let gaps = self.ended.div_ceil(ONE).saturating_add(1);
        self.ended += ONE;
        if !known {
            (self.place, self.spread) = (place, UNIFORM);
            return;
        }
        let off = i32::from(place) - i32::from(self.place);
        self.place = approach(self.place, place, gaps.min(8));
        let off = u16::try_from(off.unsigned_abs()).unwrap_or(u16::MAX);
        // Two gaps that agree say more than that the first could have been anywhere.
        let second = self.ended < TRUSTED + ONE / 2;
        self.spread = if second { off.saturating_add(UNIFORM / 8) } else { approach(self.spread, off, 3) };
    }
}

/// A value moved by one part of so many towards another.
fn approach(value: u16, towards: u16, parts: u16) -> u16 {
    let moved = i32::from(value) + (i32::from(towards) - i32::from(value)) / i32::from(parts);
    u16::try_from(moved).unwrap_or(value)
}

/// Within one stretch, where the next request is expected.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Expected {
    /// The chance that the gap ends within the stretch, if it was not over before.
    pub(crate) chance: f64,
    /// From and until when most of it is expected, in ms, and how much of it. `None`: anywhere.
    pub(crate) around: Option<(u64, u64, f64)>,
    /// Whether enough gaps ended here to start a pod for the next.
    pub(crate) trusted: bool,
}

/// The idle gaps of one Function, from one kind of beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gaps(pub(crate) [Bin; BINS]);

impl Default for Gaps {
    fn default() -> Self {
        Self([Bin::default(); BINS])
    }
}

impl Gaps {
    /// Learns of a gap that was `millis` long and could have ended from `from` on.
    pub(crate) fn observe(&mut self, from: u64, millis: u64) {
        let last = bin_of(millis);
        for (index, bin) in self.0.iter_mut().enumerate() {
            let (begin, end) = (edge(index), edge(index + 1));
            if last == Some(index) {
                bin.end(place(millis, begin, end));
            } else if begin >= from && end <= millis {
                bin.survive();
            }
        }
    }

    /// What is expected within a stretch.
    pub(crate) fn expected(&self, index: usize) -> Expected {
        let bin = self.0[index];
        let gaps = |count: u16| f64::from(count) / f64::from(ONE);
        let chance = (gaps(bin.ended) + PRIOR * prior(index)) / (gaps(bin.at_risk) + PRIOR);
        let trusted = bin.ended >= TRUSTED;
        let (begin, end) = (edge(index), edge(index + 1));
        let width = end - begin;
        let scaled = |part: u64| part * width / 65_536;
        let reach = scaled(u64::from(bin.spread) * DEVIATIONS) + SLACK_MILLIS;
        let middle = begin + scaled(u64::from(bin.place));
        let (from, until) = (middle.saturating_sub(reach).max(begin), (middle + reach).min(end));
        let narrow = trusted && (until - from) * 2 < width;
        Expected {
            chance,
            around: narrow.then_some((from, until, 1.0 - ANYWHERE / (gaps(bin.ended) + ANYWHERE))),
            trusted,
        }
    }

    /// Gaps known to have ended after `from` ms, weighted by age.
    pub(crate) fn known(&self, from: u64) -> u32 {
        let ended =
            self.0.iter().enumerate().filter(|(index, _)| edge(index + 1) > from).map(|(_, bin)| u32::from(bin.ended));
        (ended.sum::<u32>() + u32::from(ONE) / 2) / u32::from(ONE)
    }

    /// How surprising a gap is that could have ended from `from` on: minus the binary logarithm of its density per second.
    pub(crate) fn surprise(&self, from: u64, millis: u64) -> f64 {
        let mut bits = 0.0;
        for index in 0..BINS {
            let (begin, end) = (edge(index), edge(index + 1));
            if end <= from {
                continue;
            }
            let Expected { chance, around, .. } = self.expected(index);
            if end <= millis {
                bits -= (1.0 - chance).log2();
                continue;
            }
            let seconds = |from: u64, until: u64| (until - from) as f64 / 1000.0;
            let density = match around {
                None => 1.0 / seconds(begin, end),
                Some((from, until, share)) => {
                    let inside = (from..until).contains(&millis);
                    (1.0 - share) / seconds(begin, end) + if inside { share / seconds(from, until) } else { 0.0 }
                }
            };
            return bits - (chance * density).log2();
        }
        bits
    }
}

/// The chance that a gap ends within a stretch where nothing is known of the Function: small below half a minute, largest from four minutes to two
/// hours, where most timers are. Rounded from the first gaps of one half of a production trace (`docs/idle-policy.md`).
fn prior(index: usize) -> f64 {
    match edge(index) {
        0..30_000 => 0.017,
        250_000..8_000_000 => 0.09,
        _ => 0.035,
    }
}

/// Where between two edges a moment lies, in 65536ths.
fn place(millis: u64, begin: u64, end: u64) -> u16 {
    u16::try_from((millis - begin) * 65_536 / (end - begin)).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    #[test]
    fn the_scale_goes_from_a_second_to_three_days() {
        assert_eq!((edge(0), edge(3), edge(BINS)), (1_000, 2_000, 262_144_000));
        assert!((0..BINS).all(|bin| edge(bin) < edge(bin + 1)));
        for (millis, bin) in [(999, None), (1_000, Some(0)), (1_999, Some(2)), (2_000, Some(3)), (u64::MAX, Some(BINS))]
        {
            assert_eq!(bin_of(millis), bin, "{millis} ms");
        }
    }

    #[test]
    fn without_gaps_the_prior_decides() {
        let gaps = Gaps::default();
        assert_eq!(gaps.known(0), 0);
        for bin in 0..BINS {
            let expected = gaps.expected(bin);
            assert_eq!((expected.chance, expected.around, expected.trusted), (prior(bin), None, false));
        }
        assert!(prior(30) > prior(20) && prior(20) > prior(10) && prior(30) > prior(50));
    }

    #[test]
    fn a_timer_is_known_to_a_fraction_of_a_second() {
        let mut gaps = Gaps::default();
        for gap in
            [299_900, 300_100, 300_000, 299_950, 300_050, 300_000, 300_100, 299_900, 300_000, 300_000, 300_000, 300_000]
        {
            gaps.observe(2_000, gap);
        }
        let expected = gaps.expected(bin_of(300_000).unwrap());
        let (from, until, share) = expected.around.unwrap();
        assert!((298_500..299_900).contains(&from) && (300_100..301_500).contains(&until), "{from} {until}");
        assert!(expected.chance > 0.9 && share > 0.9 && expected.trusted);
        assert!(gaps.expected(bin_of(100_000).unwrap()).chance < 0.01);
        assert!(gaps.surprise(2_000, 300_000) + 8.0 < gaps.surprise(2_000, 250_000));
        assert_eq!((gaps.known(0), gaps.known(400_000)), (11, 0));
    }

    #[test]
    fn two_gaps_that_agree_are_a_habit_and_one_is_none() {
        let bin = bin_of(300_000).unwrap();
        let near = |found: f64, exact: f64| assert!((found - exact).abs() < 1e-5, "{found} {exact}");
        let mut gaps = Gaps::default();
        gaps.observe(2_000, 300_000);
        let once = gaps.expected(bin);
        near(once.chance, 1.09 / 2.0);
        assert_eq!((once.trusted, once.around), (false, None));
        gaps.observe(2_000, 300_000);
        // The older counts 63 of 64. The stretch is 66.539 s long.
        let (ended, twice) = (127.0 / 64.0, gaps.expected(bin));
        near(twice.chance, (ended + 0.09) / (ended + 1.0));
        let (from, until, share) = twice.around.unwrap();
        assert_eq!((from, until, twice.trusted), (293_511, 306_487, true));
        near(share, 1.0 - 0.5 / (ended + 0.5));
        let (anywhere, around) = ((1.0 - share) / 66.539, share / 12.976);
        near(gaps.surprise(256_000, 300_000), -(twice.chance * (anywhere + around)).log2());
        near(gaps.surprise(256_000, 290_000), -(twice.chance * anywhere).log2());
        assert_eq!([0, edge(bin + 1) - 1, edge(bin + 1)].map(|from| gaps.known(from)), [2, 2, 0]);
    }

    #[test]
    fn a_surprise_adds_up_over_the_stretches_before() {
        let (gaps, near) = (Gaps::default(), |found: f64, exact: f64| (found - exact).abs() < 1e-9);
        let first = gaps.surprise(2_000, 2_100);
        assert!(near(first, -(0.017 / 0.519_f64).log2()), "{first}");
        let second = gaps.surprise(2_000, 2_600);
        assert!(near(second, -0.983_f64.log2() - (0.017 / 0.655_f64).log2()), "{second}");
    }

    #[test]
    fn where_gaps_end_is_averaged_and_they_count_less_with_age() {
        let mut bin = Bin::default();
        for (place, at_risk, place_then, spread) in [
            (30_000, 64, 30_000, UNIFORM),
            (34_000, 127, 32_000, 6_048),
            (38_000, 189, 34_000, 6_032),
            (34_000, 250, 34_000, 4_022),
        ] {
            bin.end(place);
            assert_eq!(bin, Bin { at_risk, ended: at_risk, place: place_then, spread });
        }
        for _ in 0..110 {
            bin.survive();
        }
        assert!((1..ONE / 2).contains(&bin.ended), "{bin:?}");
        bin.end(10_000);
        assert_eq!((bin.place, bin.spread), (10_000, UNIFORM), "what was long ago says nothing about where");
        for (ended, spread) in [(89, 4_000 + UNIFORM / 8), (90, 5_334)] {
            let mut bin = Bin { at_risk: 200, ended, place: 30_000, spread: 6_000 };
            bin.end(34_000);
            assert_eq!(bin.spread, spread, "a second gap and a third, when {ended} were left of those before");
        }
    }

    #[test]
    fn what_would_be_expected_in_half_of_its_stretch_is_expected_anywhere() {
        // From 20,158 to 25,398 ms; 1,309 ms to either side of the middle, and 1,310.
        for (spread, around) in [(4_416, Some((21_469, 24_087))), (4_420, None)] {
            let mut gaps = Gaps::default();
            gaps.0[13] = Bin { at_risk: 128, ended: 128, place: 32_768, spread };
            let expected = gaps.expected(13);
            assert_eq!((expected.trusted, expected.around.map(|(from, until, _)| (from, until))), (true, around));
        }
    }

    #[test]
    fn what_scatters_is_expected_anywhere_in_its_stretch() {
        let mut gaps = Gaps::default();
        let bin = bin_of(300_000).unwrap();
        for share in [0, 9, 2, 7, 5, 1, 8, 3] {
            gaps.observe(2_000, edge(bin) + (edge(bin + 1) - edge(bin)) * share / 10);
        }
        assert_eq!(gaps.expected(bin).around, None);
        assert!(gaps.surprise(2_000, 300_000) < gaps.surprise(2_000, 900_000));
    }

    #[test]
    fn many_short_gaps_do_not_push_out_what_is_known_of_long_ones() {
        let mut gaps = Gaps::default();
        for _ in 0..8 {
            gaps.observe(2_000, 900_000);
        }
        let before = gaps.expected(bin_of(900_000).unwrap());
        for _ in 0..10_000 {
            gaps.observe(2_000, 3_000);
        }
        assert_eq!(gaps.expected(bin_of(900_000).unwrap()), before);
        assert!(gaps.expected(bin_of(3_000).unwrap()).chance > 0.9);
    }

    #[test]
    fn what_is_new_counts_more() {
        let mut gaps = Gaps::default();
        for _ in 0..64 {
            gaps.observe(2_000, 900_000);
        }
        for _ in 0..64 {
            gaps.observe(2_000, 3_600_000);
        }
        assert!(gaps.expected(bin_of(900_000).unwrap()).chance < 0.4);
        assert!(gaps.expected(bin_of(3_600_000).unwrap()).chance > 0.9);
    }

    #[test]
    fn a_gap_beyond_the_scale_is_one_that_no_stretch_ended() {
        let mut gaps = Gaps::default();
        gaps.observe(2_000, u64::MAX);
        assert_eq!(gaps.known(0), 0);
        assert!(gaps.0[3..].iter().all(|bin| bin.at_risk == ONE));
        assert!(gaps.surprise(2_000, u64::MAX) > 0.0);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn it_counts_what_a_naive_estimate_over_all_gaps_does(
            observed in vec((2_000_u64..100_000, 0_u64..400_000_000), 0..200),
        ) {
            let mut gaps = Gaps::default();
            for (from, longer) in &observed {
                gaps.observe(*from, from + longer);
            }
            for index in 0..BINS {
                let (begin, end) = (edge(index), edge(index + 1));
                // Of each gap that could end in the stretch, whether it did, and by its age how much it counts.
                let hits: Vec<bool> = observed
                    .iter()
                    .map(|(from, longer)| (*from, from + longer))
                    .filter(|(from, gap)| (begin..end).contains(gap) || (begin >= *from && end <= *gap))
                    .map(|(_, gap)| gap < end)
                    .collect();
                let weigh = |age: usize| (1.0 - 1.0 / f64::from(MEMORY)).powi(i32::try_from(age).unwrap());
                let at_risk: f64 = (0..hits.len()).map(weigh).sum();
                let ended: f64 = hits.iter().rev().enumerate().filter(|(_, hit)| **hit).map(|(age, _)| weigh(age)).sum();
                let bin = gaps.0[index];
                prop_assert!(bin.ended <= bin.at_risk && bin.at_risk <= FULL);
                // Whole units are taken away, so it forgets a little faster.
                let near = |counted: u16, exact: f64| (f64::from(counted) / f64::from(ONE) - exact).abs() <= 1.0 + exact * 0.1;
                prop_assert!(near(bin.at_risk, at_risk), "{index}: {bin:?} {at_risk}");
                prop_assert!(near(bin.ended, ended), "{index}: {bin:?} {ended}");
                let expected = gaps.expected(index);
                prop_assert!(expected.chance > 0.0 && expected.chance < 1.0);
                if let Some((from, until, share)) = expected.around {
                    prop_assert!(begin <= from && from < until && until <= end && share > 0.0 && share < 1.0);
                }
            }
        }
    }
}
