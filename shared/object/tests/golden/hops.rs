//! Hops, to be compiled and looked at; see `golden.rs`.

use std::sync::atomic::AtomicU64;

use twizzler_abi::address::Slot;
use twizzler_abi::call::{CreateSpec, ObjectStat};
use twizzler_abi::{Error, ObjId, Rights};
use twizzler_object::{Backend, Cursor, Guard, InvPtr, Ptr, Stored, Waited};

#[derive(Stored)]
#[stored(name = "golden.node", version = 1)]
#[repr(C)]
pub struct Node {
    pub value: u64,
    pub next: InvPtr<Node>,
}

/// Follows a pointer.
#[inline(never)]
pub fn hop<'g>(guard: &'g Guard<'_, Nowhere>, at: Ptr<'g, Node>) -> Result<Option<Ptr<'g, Node>>, Error> {
    guard.follow(at.at(Node::next))
}

/// Goes on to the next node.
#[inline(never)]
pub fn step<'g>(cursor: Cursor<'g, Node, Nowhere>) -> Result<Option<Cursor<'g, Node, Nowhere>>, Error> {
    cursor.follow(Node::next)
}

/// No system at all: what is compiled never asks it, but for what lies out of line.
pub struct Nowhere;

// SAFETY: nothing is ever mapped.
unsafe impl Backend for Nowhere {
    fn create(&self, _: &CreateSpec) -> Result<ObjId, Error> {
        Err(Error::NotSupported)
    }
    fn delete(&self, _: ObjId) -> Result<(), Error> {
        Err(Error::NotSupported)
    }
    fn stat(&self, _: ObjId) -> Result<ObjectStat, Error> {
        Err(Error::NotSupported)
    }
    fn map(&self, _: ObjId, _: Rights) -> Result<Slot, Error> {
        Err(Error::NotSupported)
    }
    unsafe fn unmap(&self, _: Slot) {}
    fn ensure(&self, _: ObjId, _: u64, _: u64) -> Result<(), Error> {
        Err(Error::NotSupported)
    }
    fn translation(&self) -> u64 {
        unreachable!("nobody attaches")
    }
    fn coordination(&self) -> u64 {
        unreachable!("nobody attaches")
    }
    fn thread(&self) -> u64 {
        unreachable!("nobody enters")
    }
    unsafe fn flush(&self, _: u64, _: u64) {}
    fn fence(&self) {}
    fn owner(&self) -> u64 {
        2
    }
    fn is_alive(&self, _: u64) -> bool {
        false
    }
    fn wait(&self, _: &AtomicU64, _: u64, _: u64) -> Waited {
        Waited::Early
    }
    fn wake(&self, _: &AtomicU64) {}
    fn random(&self, _: &mut [u8]) -> Result<(), Error> {
        Err(Error::NotSupported)
    }
}
