//! The requests of one Function that wait for a slot: first come, first served, bounded by count and bytes. Pure.
//!
//! Places are numbered by arrival. A request that goes back (its pod refused the connection) keeps its number and so its place.

use std::collections::BTreeMap;

/// A request's number in order of arrival.
pub type Seq = u64;

/// Why a request may not wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// Too many wait.
    #[error("{0} requests wait already")]
    Count(usize),
    /// Too many bytes wait.
    #[error("{0} bytes wait already")]
    Bytes(u64),
}

/// Waiting requests, each with whatever it takes to answer it.
#[derive(Debug)]
pub struct Queue<W> {
    waiting: BTreeMap<Seq, (W, u64)>,
    bytes: u64,
}

impl<W> Default for Queue<W> {
    fn default() -> Self {
        Self { waiting: BTreeMap::new(), bytes: 0 }
    }
}

impl<W> Queue<W> {
    /// Puts a request in its place.
    ///
    /// # Errors
    /// A bound would be passed. A single request of more than `max_bytes` is let into an empty queue.
    pub fn push(
        &mut self,
        seq: Seq,
        waiter: W,
        bytes: u64,
        max_count: usize,
        max_bytes: u64,
    ) -> Result<(), QueueError> {
        if self.waiting.len() >= max_count {
            return Err(QueueError::Count(self.waiting.len()));
        }
        if !self.waiting.is_empty() && self.bytes.saturating_add(bytes) > max_bytes {
            return Err(QueueError::Bytes(self.bytes));
        }
        if let Some((_, old)) = self.waiting.insert(seq, (waiter, bytes)) {
            self.bytes -= old;
        }
        self.bytes += bytes;
        Ok(())
    }

    /// Takes the one that has waited longest.
    pub fn pop(&mut self) -> Option<(Seq, W)> {
        let (seq, (waiter, bytes)) = self.waiting.pop_first()?;
        self.bytes -= bytes;
        Some((seq, waiter))
    }

    /// Takes one out of its place; `None` where it has left already.
    pub fn remove(&mut self, seq: Seq) -> Option<W> {
        let (waiter, bytes) = self.waiting.remove(&seq)?;
        self.bytes -= bytes;
        Some(waiter)
    }

    /// The number of the one that has waited longest.
    pub fn first(&self) -> Option<Seq> {
        self.waiting.first_key_value().map(|(seq, _)| *seq)
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Bytes of those that wait.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Op {
        Push(u64),
        Pop,
        Remove(usize),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            3 => (0u64..50).prop_map(Op::Push),
            1 => Just(Op::Pop),
            1 => (0usize..20).prop_map(Op::Remove),
        ]
    }

    proptest! {
        #[test]
        fn behaves_like_a_plain_list(ops in prop::collection::vec(op(), 0..200)) {
            let (max_count, max_bytes) = (10, 200);
            let mut queue = Queue::default();
            let mut model: Vec<(u64, u64)> = Vec::new();
            let mut next = 0;
            for op in ops {
                match op {
                    Op::Push(bytes) => {
                        next += 1;
                        let total: u64 = model.iter().map(|(_, b)| b).sum();
                        let fits = model.len() < max_count && (model.is_empty() || total + bytes <= max_bytes);
                        prop_assert_eq!(queue.push(next, next, bytes, max_count, max_bytes).is_ok(), fits);
                        if fits {
                            model.push((next, bytes));
                        }
                    }
                    Op::Pop => {
                        let expected = (!model.is_empty()).then(|| model.remove(0).0);
                        prop_assert_eq!(queue.pop().map(|(seq, _)| seq), expected);
                    }
                    Op::Remove(at) => {
                        if at < model.len() {
                            let (seq, _) = model.remove(at);
                            prop_assert_eq!(queue.remove(seq), Some(seq));
                        }
                        prop_assert_eq!(queue.remove(u64::MAX), None);
                    }
                }
                prop_assert_eq!(queue.len(), model.len());
                prop_assert_eq!(queue.first(), model.first().map(|(seq, _)| *seq));
                prop_assert_eq!(queue.bytes(), model.iter().map(|(_, b)| b).sum::<u64>());
            }
        }
    }

    #[test]
    fn one_that_comes_back_keeps_its_place() {
        let mut queue = Queue::default();
        queue.push(2, 'b', 0, 10, 10).unwrap();
        queue.push(1, 'a', 0, 10, 10).unwrap();
        assert_eq!(queue.pop(), Some((1, 'a')));
    }
}
