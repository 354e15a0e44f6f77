//! A line of places in which each stands at most once.

use std::collections::VecDeque;

/// First in, first out; who is in line already keeps its position.
#[derive(Debug, Default)]
pub(super) struct Line {
    places: VecDeque<usize>,
    is_in: Vec<bool>,
}

impl Line {
    /// Puts `place` at the end, unless it is in line.
    pub(super) fn push(&mut self, place: usize) {
        if self.is_in.len() <= place {
            self.is_in.resize(place + 1, false);
        }
        if let Some(is_in) = self.is_in.get_mut(place)
            && !std::mem::replace(is_in, true)
        {
            self.places.push_back(place);
        }
    }

    /// Takes the first.
    pub(super) fn pop(&mut self) -> Option<usize> {
        let place = self.places.pop_front()?;
        if let Some(is_in) = self.is_in.get_mut(place) {
            *is_in = false;
        }
        Some(place)
    }

    /// The first, who stays.
    pub(super) fn first(&self) -> Option<usize> {
        self.places.front().copied()
    }

    /// How many stand in it.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether nobody does.
    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stands_once_and_may_come_again() {
        let mut line = Line::default();
        [3, 1, 3, 1].into_iter().for_each(|place| line.push(place));
        assert_eq!((line.len(), line.pop()), (2, Some(3)));
        line.push(3);
        assert_eq!((line.pop(), line.pop(), line.pop()), (Some(1), Some(3), None));
        assert!(line.is_empty());
    }
}
