//! Which of a Function's cells serves which revision. Pure.
//!
//! What always holds: a revision has one cell at most; each revision with traffic has one, be it by a tag or a rule alone; a cell that holds something keeps its revision, but
//! where all requests went to one revision and go to another that has no cell (a plain rollout): then the cell goes along, with whatever waits in it.

use std::sync::Arc;

/// A cell as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seat {
    /// The revision that it serves, or served last.
    pub revision: Option<Arc<str>>,
    /// It gets requests.
    pub serves: bool,
    /// There are requests in it, or there is something to tell of some.
    pub holds: bool,
}

/// What has to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assignment {
    /// The revision of each cell; cells beyond those that there are have to be made.
    pub revisions: Vec<Option<Arc<str>>>,
    /// Where the cell of each revision with traffic is, in the order in which they were given.
    pub serving: Vec<usize>,
}

/// Decides. `cells`: the door first, then the further ones. `wanted`: the revisions that get any requests, each once, the main one first; without any
/// all stays as it is.
pub fn assign(cells: &[Seat], wanted: &[Arc<str>]) -> Assignment {
    let mut revisions: Vec<_> = cells.iter().map(|cell| cell.revision.clone()).collect();
    let mut places: Vec<Option<usize>> =
        wanted.iter().map(|revision| cells.iter().position(|cell| cell.revision.as_ref() == Some(revision))).collect();
    if let ([revision], [None]) = (wanted, places.as_slice())
        && let Some(at) = only_one(cells)
    {
        revisions[at] = Some(revision.clone());
        places[0] = Some(at);
    }
    for at in 0..places.len() {
        if places[at].is_some() {
            continue;
        }
        let place = if !places.contains(&Some(0)) && cells.first().is_some_and(is_free) { 0 } else { revisions.len() };
        if place == revisions.len() {
            revisions.push(None);
        }
        revisions[place] = Some(wanted[at].clone());
        places[at] = Some(place);
    }
    Assignment { revisions, serving: places.into_iter().flatten().collect() }
}

/// The cell that gets all requests.
fn only_one(cells: &[Seat]) -> Option<usize> {
    let mut serving = cells.iter().enumerate().filter(|(_, cell)| cell.serves).map(|(at, _)| at);
    serving.next().filter(|_| serving.next().is_none())
}

/// Whether it may serve another revision: what waits where there was none yet waits for any.
fn is_free(cell: &Seat) -> bool {
    cell.revision.is_none() || !cell.holds
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seat(revision: &str, serves: bool, holds: bool) -> Seat {
        Seat { revision: Some(revision.into()), serves, holds }
    }

    fn wanted(revisions: &[&str]) -> Vec<Arc<str>> {
        revisions.iter().map(|revision| Arc::from(*revision)).collect()
    }

    /// The revisions of all cells, and who serves.
    fn after(cells: &[Seat], revisions: &[&str]) -> (Vec<String>, Vec<usize>) {
        let assigned = assign(cells, &wanted(revisions));
        let names = assigned.revisions.iter().map(|revision| revision.as_deref().unwrap_or("none").to_owned());
        (names.collect(), assigned.serving)
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn the_only_cell_goes_along_with_a_plain_rollout_whatever_it_holds() {
        for holds in [false, true] {
            assert_eq!(after(&[seat("r1", true, holds)], &["r2"]), (names(&["r2"]), vec![0]));
        }
        let new = Seat { revision: None, serves: true, holds: true };
        assert_eq!(after(std::slice::from_ref(&new), &["r1"]), (names(&["r1"]), vec![0]));
        assert_eq!(after(&[new], &["r1", "r2"]), (names(&["r1", "r2"]), vec![0, 1]), "what waits has no revision yet");
    }

    #[test]
    fn a_share_for_another_revision_gets_a_cell_of_its_own() {
        assert_eq!(after(&[seat("r1", true, true)], &["r1", "r2"]), (names(&["r1", "r2"]), vec![0, 1]));
        assert_eq!(after(&[seat("r1", true, true)], &["r2", "r1"]), (names(&["r1", "r2"]), vec![1, 0]));
    }

    #[test]
    fn all_for_a_revision_with_a_cell_stays_in_that_cell_which_goes_along_from_then_on() {
        let cells = [seat("r1", true, true), seat("r2", true, true)];
        assert_eq!(after(&cells, &["r2"]), (names(&["r1", "r2"]), vec![1]));
        let cells = [seat("r1", false, true), seat("r2", true, true)];
        assert_eq!(after(&cells, &["r3"]), (names(&["r1", "r3"]), vec![1]));
        assert_eq!(after(&cells, &["r1"]), (names(&["r1", "r2"]), vec![0]), "it has its cell yet");
    }

    #[test]
    fn an_idle_door_is_preferred_to_a_new_cell_and_one_that_holds_something_left_alone() {
        let idle = [seat("r1", false, false), seat("r2", true, true)];
        assert_eq!(after(&idle, &["r2", "r3"]), (names(&["r3", "r2"]), vec![1, 0]));
        let holding = [seat("r1", false, true), seat("r2", true, true)];
        assert_eq!(after(&holding, &["r2", "r3"]), (names(&["r1", "r2", "r3"]), vec![1, 2]));
    }

    #[test]
    fn several_revisions_that_all_have_no_cell_are_no_plain_rollout() {
        let cells = [seat("r1", true, true)];
        assert_eq!(after(&cells, &["r2", "r3"]), (names(&["r1", "r2", "r3"]), vec![1, 2]));
        let cells = [seat("r1", true, true), seat("r2", true, true)];
        assert_eq!(after(&cells, &["r3"]), (names(&["r1", "r2", "r3"]), vec![2]));
        assert_eq!(after(&cells, &[]), (names(&["r1", "r2"]), vec![]), "no word changes nothing");
    }

    proptest! {
        /// Traffic goes anywhere, tags lead to some besides, requests come and go, cells without any are forgotten: after each step the promises hold.
        #[test]
        fn whatever_the_author_says_the_promises_hold(
            steps in prop::collection::vec(
                (
                    prop::sample::subsequence(vec!["r1", "r2", "r3", "r4", "r5"], 0..4),
                    prop::sample::subsequence(vec!["r1", "r2", "r3", "r4", "r5"], 0..3),
                    prop::collection::vec(any::<bool>(), 8),
                    any::<bool>(),
                ),
                1..40,
            ),
        ) {
            let mut cells = vec![Seat { revision: None, serves: true, holds: false }];
            for (shares, tagged, holds, reversed) in steps {
                for (cell, holds) in cells.iter_mut().zip(&holds) {
                    cell.holds = *holds;
                }
                let mut door = true;
                cells.retain(|cell| std::mem::take(&mut door) || cell.serves || cell.holds);
                let mut shares = wanted(&shares);
                if reversed {
                    shares.reverse();
                }
                // Those with a tag besides come last, as the index lists them; while nobody has the traffic, they get nothing.
                for revision in wanted(&tagged).into_iter() {
                    if !shares.is_empty() && !shares.contains(&revision) {
                        shares.push(revision);
                    }
                }
                let plain = cells.iter().filter(|cell| cell.serves).count() == 1 && shares.len() == 1;
                let Assignment { revisions, serving } = assign(&cells, &shares);
                prop_assert_eq!(serving.len(), shares.len());
                for (revision, at) in shares.iter().zip(&serving) {
                    prop_assert_eq!(revisions[*at].as_ref(), Some(revision), "each share has its cell");
                }
                for (at, revision) in revisions.iter().enumerate() {
                    let others = revisions.iter().skip(at + 1).filter(|other| other.is_some() && *other == revision);
                    prop_assert_eq!(others.count(), 0, "{:?} has several cells", revision);
                }
                let known = |revision: &Arc<str>| cells.iter().any(|cell| cell.revision.as_ref() == Some(revision));
                for (before, after) in cells.iter().zip(&revisions) {
                    let may_change = before.revision.is_none()
                        || !before.holds
                        || (plain && before.serves && !known(&shares[0]));
                    prop_assert!(may_change || before.revision == *after, "{:?} became {:?}", before, after);
                }
                let made = revisions.len() - cells.len();
                prop_assert!(made <= shares.iter().filter(|revision| !known(revision)).count(), "no cell too many");
                if shares.is_empty() {
                    continue;
                }
                cells = revisions
                    .into_iter()
                    .enumerate()
                    .map(|(at, revision)| Seat { revision, serves: serving.contains(&at), holds: false })
                    .collect();
            }
        }
    }
}
