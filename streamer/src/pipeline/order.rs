//! Things that come in any order are given out by number.

use std::collections::VecDeque;

/// Holds what came early.
#[derive(Debug)]
pub struct InOrder<T> {
    next: u64,
    /// `waiting[n]` has the number `next + n`.
    waiting: VecDeque<Option<T>>,
}

impl<T> InOrder<T> {
    pub fn new() -> Self {
        InOrder {
            next: 0,
            waiting: VecDeque::new(),
        }
    }

    /// Numbers count from 0, each comes once.
    pub fn insert(&mut self, number: u64, item: T) {
        let place = (number - self.next) as usize;
        if self.waiting.len() <= place {
            self.waiting.resize_with(place + 1, || None);
        }
        self.waiting[place] = Some(item);
    }

    /// The next in order, if it came.
    pub fn next_ready(&mut self) -> Option<T> {
        let item = self.waiting.front_mut()?.take()?;
        self.waiting.pop_front();
        self.next += 1;
        Some(item)
    }

    /// Whether something came whose predecessor did not.
    pub fn has_gap(&self) -> bool {
        !self.waiting.is_empty()
    }
}

impl<T> Default for InOrder<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_order_of_arrival_leaves_in_order(mut numbers in Just((0u64..60).collect::<Vec<_>>()).prop_shuffle()) {
            let mut order = InOrder::new();
            let mut out = Vec::new();
            for number in numbers.drain(..) {
                order.insert(number, number);
                while let Some(ready) = order.next_ready() {
                    out.push(ready);
                }
            }
            prop_assert_eq!(out, (0u64..60).collect::<Vec<_>>());
            prop_assert!(!order.has_gap());
        }
    }

    #[test]
    fn a_gap_shows() {
        let mut order = InOrder::new();
        order.insert(1, ());
        assert!(order.next_ready().is_none());
        assert!(order.has_gap());
    }
}
