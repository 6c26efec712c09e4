//! A doubly linked list.

use alloc::vec::Vec;

use twizzler_abi::Error;

use super::raw::{kept, steady};
use crate::Stored;
use crate::backend::Backend;
use crate::pointer::{InvPtr, Ptr};
use crate::reader::Reader;
use crate::stored::Value;
use crate::tx::Tx;

/// What a list is in an object: put one into a record of your own. All zero is an empty list.
#[derive(Stored)]
#[stored(name = "twizzler.list", version = 1)]
#[repr(C)]
pub struct ListRoot<T> {
    first: InvPtr<ListNode<T>>,
    last: InvPtr<ListNode<T>>,
    len: u64,
}

/// An element, and its neighbours.
#[derive(Stored)]
#[stored(name = "twizzler.list-node", version = 1)]
#[repr(C)]
pub struct ListNode<T> {
    next: InvPtr<ListNode<T>>,
    previous: InvPtr<ListNode<T>>,
    /// The element.
    pub value: T,
}

/// A list whose root lies somewhere in an object. Its nodes are allocated there; those that are known by a [`Ptr`] stay where they are.
pub struct List<'s, T> {
    root: Ptr<'s, ListRoot<T>>,
}

impl<T> Clone for List<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for List<'_, T> {}
impl<T> core::fmt::Debug for List<'_, T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "list at {:?}", self.root)
    }
}

/// A node's place.
type Node<'s, T> = Ptr<'s, ListNode<T>>;

impl<'s, T: Stored> List<'s, T> {
    /// The list of that root.
    #[must_use]
    pub const fn new(root: Ptr<'s, ListRoot<T>>) -> Self {
        Self { root }
    }

    /// Number of elements.
    #[must_use]
    pub fn len(&self, reader: &impl Reader<'s>) -> u64 {
        reader.get(self.root.at(ListRoot::<T>::len))
    }

    /// True without elements.
    #[must_use]
    pub fn is_empty(&self, reader: &impl Reader<'s>) -> bool {
        self.len(reader) == 0
    }

    /// The first node.
    ///
    /// # Errors
    /// As [`Reader::follow`].
    pub fn front_node(&self, reader: &impl Reader<'s>) -> Result<Option<Node<'s, T>>, Error> {
        reader.follow(self.root.at(ListRoot::<T>::first))
    }

    /// The last node.
    ///
    /// # Errors
    /// As [`Reader::follow`].
    pub fn back_node(&self, reader: &impl Reader<'s>) -> Result<Option<Node<'s, T>>, Error> {
        reader.follow(self.root.at(ListRoot::<T>::last))
    }

    /// The node behind a node.
    ///
    /// # Errors
    /// As [`Reader::follow`].
    pub fn next(&self, reader: &impl Reader<'s>, node: Node<'s, T>) -> Result<Option<Node<'s, T>>, Error> {
        reader.follow(node.at(ListNode::<T>::next))
    }

    /// The node before a node.
    ///
    /// # Errors
    /// As [`Reader::follow`].
    pub fn previous(
        &self,
        reader: &impl Reader<'s>,
        node: Node<'s, T>,
    ) -> Result<Option<Node<'s, T>>, Error> {
        reader.follow(node.at(ListNode::<T>::previous))
    }

    /// Puts a node with an element of zeros before `next`, or at the end.
    ///
    /// # Errors
    /// As [`Tx::alloc`].
    pub fn insert_node<B: Backend>(
        &self,
        tx: &mut Tx<'s, B>,
        next: Option<Node<'s, T>>,
    ) -> Result<Node<'s, T>, Error> {
        tx.lock(self.root.object())?;
        let previous = match next {
            Some(next) => self.previous(tx, next)?,
            None => self.back_node(tx)?,
        };
        let node = tx.alloc::<ListNode<T>>(self.root.object())?;
        tx.link(node.at(ListNode::<T>::next), next)?;
        tx.link(node.at(ListNode::<T>::previous), previous)?;
        self.join(tx, previous, Some(node))?;
        self.join(tx, Some(node), next)?;
        tx.set(self.root.at(ListRoot::<T>::len), self.len(tx).wrapping_add(1))?;
        Ok(node)
    }

    /// Takes a node out, and frees it.
    ///
    /// # Errors
    /// [`Error::Damaged`] for a node that is not in the list; what the transaction says.
    pub fn remove_node<B: Backend>(&self, tx: &mut Tx<'s, B>, node: Node<'s, T>) -> Result<(), Error> {
        tx.lock(self.root.object())?;
        let (previous, next) = (self.previous(tx, node)?, self.next(tx, node)?);
        let before = match previous {
            Some(previous) => self.next(tx, previous)?,
            None => self.front_node(tx)?,
        };
        if before != Some(node) {
            return Err(Error::Damaged);
        }
        self.join(tx, previous, next)?;
        tx.set(self.root.at(ListRoot::<T>::len), self.len(tx).wrapping_sub(1))?;
        tx.free(node)
    }

    /// Makes two nodes neighbours; None is an end of the list.
    fn join<B: Backend>(
        &self,
        tx: &mut Tx<'s, B>,
        left: Option<Node<'s, T>>,
        right: Option<Node<'s, T>>,
    ) -> Result<(), Error> {
        let next = left.map_or(self.root.at(ListRoot::<T>::first), |left| left.at(ListNode::<T>::next));
        let previous =
            right.map_or(self.root.at(ListRoot::<T>::last), |right| right.at(ListNode::<T>::previous));
        tx.link(next, right)?;
        tx.link(previous, left)
    }

    /// More nodes than the object can hold are in a cycle.
    const fn nodes_max(&self) -> u64 {
        self.root.object().range_bytes() / size_of::<ListNode<T>>() as u64
    }

    /// All nodes, from the first to the last. An error ends them, and so do more nodes than there can be. What is freed meanwhile keeps its content.
    pub fn nodes<'r, R: Reader<'s>>(
        &self,
        reader: &'r R,
    ) -> impl Iterator<Item = Result<Node<'s, T>, Error>> + use<'r, 's, R, T> {
        let (list, keep) = (*self, kept(reader, self.root.object()));
        let mut next = match &keep {
            Ok(_) => steady(reader, self.root.object(), || self.front_node(reader)),
            Err(error) => Err(*error),
        };
        // Others may put more in meanwhile, if they can: then only as many as fit the object.
        let mut left = match reader.changes(self.root.object()) {
            Some(_) => self.nodes_max(),
            None => self.len(reader).min(self.nodes_max()),
        };
        core::iter::from_fn(move || {
            let _held = &keep;
            let node = core::mem::replace(&mut next, Ok(None)).transpose()?;
            let Ok(node) = node else { return Some(node) };
            if left == 0 {
                return Some(Err(Error::Damaged));
            }
            left -= 1;
            next = steady(reader, list.root.object(), || list.next(reader, node));
            Some(Ok(node))
        })
    }

    /// Takes all elements out.
    ///
    /// # Errors
    /// As [`List::remove_node`].
    pub fn clear<B: Backend>(&self, tx: &mut Tx<'s, B>) -> Result<(), Error> {
        tx.lock(self.root.object())?;
        let mut left = self.len(tx).min(self.nodes_max());
        while let Some(node) = self.front_node(tx)? {
            left = left.checked_sub(1).ok_or(Error::Damaged)?;
            self.remove_node(tx, node)?;
        }
        Ok(())
    }
}

impl<'s, T: Value> List<'s, T> {
    /// Puts an element at the beginning.
    ///
    /// # Errors
    /// As [`Tx::alloc`].
    pub fn push_front<B: Backend>(&self, tx: &mut Tx<'s, B>, value: T) -> Result<Node<'s, T>, Error> {
        tx.lock(self.root.object())?;
        let front = self.front_node(tx)?;
        let node = self.insert_node(tx, front)?;
        tx.set(node.at(ListNode::<T>::value), value)?;
        Ok(node)
    }

    /// Puts an element at the end.
    ///
    /// # Errors
    /// As [`Tx::alloc`].
    pub fn push_back<B: Backend>(&self, tx: &mut Tx<'s, B>, value: T) -> Result<Node<'s, T>, Error> {
        let node = self.insert_node(tx, None)?;
        tx.set(node.at(ListNode::<T>::value), value)?;
        Ok(node)
    }

    /// Takes the first element.
    ///
    /// # Errors
    /// As [`List::remove_node`].
    pub fn pop_front<B: Backend>(&self, tx: &mut Tx<'s, B>) -> Result<Option<T>, Error> {
        tx.lock(self.root.object())?;
        let front = self.front_node(tx)?;
        self.take(tx, front)
    }

    /// Takes the last element.
    ///
    /// # Errors
    /// As [`List::remove_node`].
    pub fn pop_back<B: Backend>(&self, tx: &mut Tx<'s, B>) -> Result<Option<T>, Error> {
        tx.lock(self.root.object())?;
        let back = self.back_node(tx)?;
        self.take(tx, back)
    }

    /// The first element.
    ///
    /// # Errors
    /// As [`Reader::follow`].
    pub fn front(&self, reader: &impl Reader<'s>) -> Result<Option<T>, Error> {
        steady(reader, self.root.object(), || {
            Ok(self.front_node(reader)?.map(|node| reader.get(node.at(ListNode::<T>::value))))
        })
    }

    /// The last element.
    ///
    /// # Errors
    /// As [`Reader::follow`].
    pub fn back(&self, reader: &impl Reader<'s>) -> Result<Option<T>, Error> {
        steady(reader, self.root.object(), || {
            Ok(self.back_node(reader)?.map(|node| reader.get(node.at(ListNode::<T>::value))))
        })
    }

    fn take<B: Backend>(&self, tx: &mut Tx<'s, B>, node: Option<Node<'s, T>>) -> Result<Option<T>, Error> {
        let Some(node) = node else { return Ok(None) };
        let value = tx.get(node.at(ListNode::<T>::value));
        self.remove_node(tx, node)?;
        Ok(Some(value))
    }

    /// Puts elements at the end.
    ///
    /// # Errors
    /// As [`Tx::alloc`].
    pub fn extend<B: Backend>(
        &self,
        tx: &mut Tx<'s, B>,
        values: impl IntoIterator<Item = T>,
    ) -> Result<(), Error> {
        values.into_iter().try_for_each(|value| self.push_back(tx, value).map(drop))
    }

    /// Keeps the elements for which `keep` says so.
    ///
    /// # Errors
    /// As [`List::remove_node`].
    pub fn retain<B: Backend>(
        &self,
        tx: &mut Tx<'s, B>,
        mut keep: impl FnMut(&T) -> bool,
    ) -> Result<(), Error> {
        tx.lock(self.root.object())?;
        let mut gone = Vec::new();
        for node in self.nodes(tx) {
            let node = node?;
            if !keep(&tx.get(node.at(ListNode::<T>::value))) {
                gone.push(node);
            }
        }
        gone.into_iter().try_for_each(|node| self.remove_node(tx, node))
    }

    /// All elements, from the first to the last. An error ends them.
    pub fn iter<'r, R: Reader<'s>>(
        &self,
        reader: &'r R,
    ) -> impl Iterator<Item = Result<T, Error>> + use<'r, 's, R, T> {
        let area = self.root.object();
        self.nodes(reader).map(move |node| {
            let place = node?.at(ListNode::<T>::value);
            steady(reader, area, || Ok(reader.get(place)))
        })
    }
}
