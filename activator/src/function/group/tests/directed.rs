//! Revisions that get requests by a tag alone, whatever the shares: each has its cell, which comes, goes and wakes as any other.

use super::*;
use crate::choice::{Directions, Tag};

impl World {
    /// Traffic goes to these revisions, the main one first, and by tags, `r<number>`, to those besides.
    fn direct(&mut self, shares: &[(u8, u32)], tagged: &[u8]) {
        let tag = |number: &u8| {
            let tag = format!("r{number}");
            Tag { revision: revision(*number), host: format!("{tag}-hello.shop").into(), tag: tag.into() }
        };
        let tags = tagged.iter().map(tag).collect();
        self.config.directions = Arc::new(Directions { tags, ..Directions::default() });
        let further = tagged.iter().filter(|number| shares.iter().all(|(share, _)| share != *number));
        let all: Vec<(u8, u32)> = shares.iter().copied().chain(further.map(|number| (*number, 0))).collect();
        self.share(&all);
    }

    /// A request for a tag.
    fn tagged(&self, number: u8) -> Sent {
        let cell = choose_by(self.group.door(), Some(&format!("r{number}")));
        tokio::spawn(async move { cell.admit(1, Instant::now()).await })
    }
}

#[tokio::test(start_paused = true)]
async fn a_tag_leads_to_a_revision_without_a_share_which_wakes_for_it_alone() {
    let mut world = World::new(|config| config.named = true);
    world.show(&[11]).await;
    world.direct(&[(1, 100)], &[2]);
    let plain = admitted(&mut world.crowd(100).await).await;
    assert_eq!(at_pods(&plain), HashMap::from([(11, 100)]), "nothing is drawn for it");
    let need = world.cell(2).look().need(Instant::now());
    assert_eq!(need, Need::Nothing);
    let mut waiting = vec![world.tagged(2)];
    pause(20).await;
    let need = world.cell(2).look().need(Instant::now());
    assert!(matches!(&need, Need::Wake { deployment, .. } if *deployment == revision(2)), "{need:?}");
    assert_eq!((world.cell(1).load(), world.cell(2).load()), ((100, 0), (0, 1)));
    world.show(&[11, 21]).await;
    assert_eq!(at_pods(&admitted(&mut waiting).await), HashMap::from([(21, 1)]));
}

#[tokio::test(start_paused = true)]
async fn a_tag_that_goes_leaves_its_cell_to_what_it_holds_and_one_that_moves_moves_with_its_revision() {
    let mut world = World::new(|config| config.named = true);
    world.show(&[11]).await;
    world.direct(&[(1, 100)], &[2]);
    let mut waiting = vec![world.tagged(2)];
    pause(20).await;
    let second = world.cell(2);
    world.direct(&[(1, 100)], &[3]);
    let mut passed_over = vec![world.tagged(2)];
    pause(1).await;
    assert_eq!(at_pods(&admitted(&mut passed_over).await), HashMap::from([(11, 1)]), "an unknown tag says nothing");
    assert!(Arc::ptr_eq(&second, &world.cell(2)) && second.load() == (0, 1));
    world.direct(&[(2, 100)], &[1]);
    assert!(Arc::ptr_eq(&second, &world.cell(2)), "what was tagged has the traffic, in the cell that it had");
    world.show(&[11, 21]).await;
    let mut both = vec![world.send(), world.tagged(1)];
    pause(1).await;
    assert_eq!(at_pods(&admitted(&mut both).await), HashMap::from([(21, 1), (11, 1)]));
    assert_eq!(at_pods(&admitted(&mut waiting).await), HashMap::from([(21, 1)]));
}

#[tokio::test(start_paused = true)]
async fn a_tag_for_the_only_revision_changes_nothing_about_a_rollout() {
    let mut world = World::new(|_| {});
    world.show(&[11]).await;
    world.direct(&[(1, 100)], &[1]);
    let mut waiting = {
        world.show(&[]).await;
        world.crowd(5).await
    };
    world.direct(&[(2, 100)], &[2]);
    assert_eq!(world.cells().len(), 1);
    assert!(Arc::ptr_eq(world.group.door(), &world.cell(2)), "the cell goes along, with what waits in it");
    world.show(&[21]).await;
    assert_eq!(at_pods(&admitted(&mut waiting).await), HashMap::from([(21, 5)]));
}

/// Shares and tags change at random, requests come and go: no pod ever has two, and none is lost.
#[tokio::test(start_paused = true)]
async fn a_limit_of_one_stays_exact_whatever_becomes_of_the_tags() {
    for seed in 0..50 {
        let mut random = SmallRng::seed_from_u64(seed);
        let mut world = World::new(|config| (config.limit, config.named) = (1, true));
        let all = [11, 21, 22, 31];
        world.show(&all).await;
        let (mut sent, mut held, mut served, mut total) = (Vec::new(), Vec::<Admitted>::new(), 0, 0);
        for _ in 0..150 {
            match random.random_range(0..10) {
                0 | 1 => {
                    let tagged: Vec<u8> = (1..4).filter(|_| random.random_bool(0.5)).collect();
                    let first = random.random_range(0..3);
                    let percent = random.random_range(50..101);
                    let shares = [(1 + first, percent), (1 + (first + random.random_range(1..3)) % 3, 100 - percent)];
                    world.direct(if percent == 100 { &shares[..1] } else { &shares }, &tagged);
                }
                2 => world.update(Instant::now()),
                3..7 => {
                    let number = random.random_range(1..4);
                    sent.push(if random.random_bool(0.5) { world.tagged(number) } else { world.send() });
                    total += 1;
                }
                _ if !held.is_empty() => {
                    held.swap_remove(random.random_range(0..held.len()));
                    served += 1;
                }
                _ => {}
            }
            pause(1).await;
            held.extend(admitted(&mut sent).await);
            let counts = at_pods(&held);
            assert!(counts.values().all(|count| *count == 1), "seed {seed}: {counts:?}");
            let mut revisions = world.revisions();
            revisions.sort();
            revisions.dedup();
            assert_eq!(revisions.len(), world.cells().len(), "seed {seed}: a revision has two cells");
        }
        for _ in 0..2 * total {
            served += std::mem::take(&mut held).len();
            world.update(Instant::now());
            pause(1).await;
            held.extend(admitted(&mut sent).await);
        }
        assert_eq!((served, sent.len()), (total, 0), "seed {seed}");
        assert!(world.group.cells().all(|cell| cell.load() == (0, 0)));
    }
}
