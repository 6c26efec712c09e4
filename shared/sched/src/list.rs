//! Doubly linked lists over indices: links lie in a slice that many lists share.

/// No index.
const NONE: u32 = u32::MAX;

/// Links of one element, which is in one list at most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    prev: u32,
    next: u32,
}

impl Link {
    pub(crate) const UNLINKED: Self = Self { prev: NONE, next: NONE };
}

/// What elements of a list are made of: something with a link.
pub(crate) trait Linked {
    fn link(&mut self) -> &mut Link;
    fn next(&self) -> u32;
}

/// First and last element.
#[derive(Clone, Copy, Debug)]
pub(crate) struct List {
    head: u32,
    tail: u32,
}

impl List {
    pub(crate) const EMPTY: Self = Self { head: NONE, tail: NONE };

    pub(crate) fn is_empty(&self) -> bool {
        self.head == NONE
    }

    pub(crate) fn first(&self) -> Option<u32> {
        (self.head != NONE).then_some(self.head)
    }

    pub(crate) fn push_back<T: Linked>(&mut self, elements: &mut [T], index: u32) {
        *elements[index as usize].link() = Link { prev: self.tail, next: NONE };
        match self.tail {
            NONE => self.head = index,
            tail => elements[tail as usize].link().next = index,
        }
        self.tail = index;
    }

    pub(crate) fn push_front<T: Linked>(&mut self, elements: &mut [T], index: u32) {
        *elements[index as usize].link() = Link { prev: NONE, next: self.head };
        match self.head {
            NONE => self.tail = index,
            head => elements[head as usize].link().prev = index,
        }
        self.head = index;
    }

    pub(crate) fn remove<T: Linked>(&mut self, elements: &mut [T], index: u32) {
        let Link { prev, next } = core::mem::replace(elements[index as usize].link(), Link::UNLINKED);
        match prev {
            NONE => self.head = next,
            prev => elements[prev as usize].link().next = next,
        }
        match next {
            NONE => self.tail = prev,
            next => elements[next as usize].link().prev = prev,
        }
    }

    /// The element after `index`.
    pub(crate) fn after<T: Linked>(elements: &[T], index: u32) -> Option<u32> {
        let next = elements[index as usize].next();
        (next != NONE).then_some(next)
    }
}

impl Linked for Link {
    fn link(&mut self) -> &mut Link {
        self
    }

    fn next(&self) -> u32 {
        self.next
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;
    use std::vec::Vec;

    proptest! {
        #[test]
        fn behaves_like_a_deque(steps in proptest::collection::vec((0u8..3, 0u32..16), 0..200)) {
            let mut links = [Link::UNLINKED; 16];
            let (mut list, mut model) = (List::EMPTY, VecDeque::new());
            for (what, index) in steps {
                let there = model.contains(&index);
                match what {
                    0 if !there => { list.push_back(&mut links, index); model.push_back(index) }
                    1 if !there => { list.push_front(&mut links, index); model.push_front(index) }
                    2 if there => { list.remove(&mut links, index); model.retain(|&other| other != index) }
                    _ => {}
                }
                let mut seen = Vec::new();
                let mut at = list.first();
                while let Some(index) = at {
                    seen.push(index);
                    at = List::after(&links, index);
                }
                prop_assert_eq!(seen, model.iter().copied().collect::<Vec<_>>());
                prop_assert_eq!(list.is_empty(), model.is_empty());
            }
        }
    }
}
