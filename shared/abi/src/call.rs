//! Calls into the kernel. ◆
//!
//! Instruction `syscall`: RAX is the number; arguments in RDI, RSI, RDX, R10, R8, R9. On return RAX is 0 or
//! an [`crate::Error`]'s number, RDX a value where the call has one. RCX and R11 are lost. IDs travel as two
//! words, high word first. All pointers are claims that the kernel checks.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::error::Error;
use crate::id::ObjId;
use crate::rights::Rights;
use crate::thread::NAME_BYTES;

macro_rules! numbered {
    ($(#[doc = $doc:literal])+ $vis:vis enum $name:ident: $repr:ident { $($(#[doc = $vdoc:literal])+ $variant:ident = $number:literal,)+ }) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr($repr)]
        $vis enum $name { $($(#[doc = $vdoc])+ $variant = $number,)+ }

        impl $name {
            /// All, with their documentation, for tables.
            pub const ALL: &'static [(Self, &'static str, &'static str)] =
                &[$((Self::$variant, stringify!($variant), concat!($($vdoc,)+)),)+];
        }

        impl TryFrom<u64> for $name {
            type Error = Error;

            fn try_from(number: u64) -> Result<Self, Error> {
                match number { $($number => Ok(Self::$variant),)+ _ => Err(Error::InvalidArgument) }
            }
        }
    };
}

numbered! {
    /// The calls.
    pub enum Call: u64 {
        /// `(spec: *const CreateSpec, id: *mut ObjId)`: makes an object and writes its ID.
        Create = 0x1000,
        /// `(id.hi, id.lo)`: deletes an object. It is gone for everyone when the call returns; its mappings fault.
        Delete = 0x1001,
        /// `(StatOp, id.hi, id.lo, out: *mut ObjectStat)`: describes an object.
        Stat = 0x1002,
        /// `(ControlOp, id.hi, id.lo, a, b)`: changes an object's pages or metadata.
        Control = 0x1003,
        /// Reserved: commits versioned objects. Not built.
        Commit = 0x1004,
        /// `(view.hi, view.lo, first slot, slots)`: forgets what was mapped there, so that the next access reads the view again.
        Invalidate = 0x1005,
        /// `(spec: *const SpawnSpec, id: *mut ObjId)`: starts a thread and writes its object's ID.
        ThreadSpawn = 0x1006,
        /// `(ThreadOp, a, b, c)`: see [`ThreadOp`].
        ThreadControl = 0x1007,
        /// `(ops: *mut SyncOp, count, timeout_ns)`: wakes and waits on words. Timeout `u64::MAX`: none. All wakes are done
        /// first; then, if any wait's word already differs, the call returns; otherwise the thread blocks until a wake
        /// reaches it. RDX: index of the wait that ended the call, or `count` where there was none to wait for.
        ThreadSync = 0x1008,
        /// Reserved: attaches to and detaches from security contexts. Not built.
        Context = 0x1009,
        /// Reserved: gate call. Not built.
        GateCall = 0x100a,
        /// Reserved: gate return. Not built.
        GateReturn = 0x100b,
        /// `(buffer: *mut u8, bytes)`: fills with random bytes, at most 4096.
        Random = 0x100c,
        /// `(ConsoleOp, buffer, bytes)`: RDX: bytes moved, at least one for a read, possibly fewer than asked for.
        Console = 0x100d,
        /// Reserved: acts on a device object. Not built.
        Device = 0x100e,
        /// `(PowerOp, status)`: powers off with a status for the host.
        Power = 0x100f,
    }
}

numbered! {
    /// What `Stat` describes.
    pub enum StatOp: u64 {
        /// The object of that ID, without counting what it stores.
        Object = 0,
        /// The persistent object with the smallest ID greater than that one; [`Error::NoSuchObject`] after the last.
        NextPersistent = 1,
        /// The same among volatile objects.
        NextVolatile = 2,
        /// The object of that ID, with its pages and tables counted: takes as long as it has many.
        Usage = 3,
    }
}

numbered! {
    /// What `Control` does. Offsets and lengths are in bytes and multiples of a page.
    pub enum ControlOp: u64 {
        /// `(offset, bytes)`: makes the pages exist (durably, for persistent objects), so that no access to them can fail for want of memory.
        Populate = 0,
        /// `(offset, bytes)`: gives the pages back; they read as zero afterwards.
        Discard = 1,
        /// `(offset, bytes)`: gives the pages back and makes every access to them a fault. Volatile objects.
        Forbid = 2,
        /// `(fingerprint, was)`: sets the base type's fingerprint, of an object of which it is `was` (0: it has none). Durable, at
        /// once for all, for a persistent one.
        SetType = 3,
        /// `(0, 0)`: does nothing. For measuring a call.
        Nothing = 4,
        /// `(0, 0)`: makes an object a large one, durably where it is persistent. What has it mapped as a small one goes on seeing its first
        /// GiB.
        Promote = 5,
        /// `(0, 0)`: makes a persistent object the root of the persistent names, durably. [`Error::Exists`] while another
        /// is and still exists.
        SetNamesRoot = 6,
    }
}

numbered! {
    /// What `ThreadControl` does. A thread is named by its ID's two words in `a` and `b`.
    pub enum ThreadOp: u64 {
        /// `(code)`: ends this thread.
        Exit = 0,
        /// `()`: lets others run.
        Yield = 1,
        /// `(handler, stack top)`: sets where faults of this thread go; 0: nowhere.
        SetHandler = 2,
        /// `(frame: *const UpcallFrame)`: goes on with the frame's state.
        UpcallReturn = 3,
        /// `(id.hi, id.lo)`: ends another thread, or, given a view, all threads that run in it, those too that are being
        /// started there. They may still have to reach their end when the call returns.
        Kill = 4,
        /// `(id.hi, id.lo, priority)`: 0 to 31.
        SetPriority = 5,
        /// `(address)`: sets the FS base, for thread-local storage.
        SetFsBase = 6,
        /// `(address)`: sets the GS base.
        SetGsBase = 7,
    }
}

numbered! {
    /// What `Console` does.
    pub enum ConsoleOp: u64 {
        /// Reads what was typed; blocks until there is something.
        Read = 0,
        /// Writes output.
        Write = 1,
        /// Writes messages, which the host can keep apart from output.
        WriteError = 2,
    }
}

numbered! {
    /// What `Power` does.
    pub enum PowerOp: u64 {
        /// Powers off.
        Off = 0,
    }
}

/// What `Create` makes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct CreateSpec {
    /// Nonce for the ID, or all zero: the kernel takes a random one.
    pub nonce: [u8; 16],
    /// The owner's key object, or [`ObjId::NONE`].
    pub owner: ObjId,
    /// [`crate::rights::ObjectFlags`].
    pub flags: u32,
    /// [`Rights`] of everyone.
    pub default_rights: u32,
    /// Fingerprint of the base type; 0: untyped.
    pub fingerprint: u64,
}

const _: () = assert!(size_of::<CreateSpec>() == 48);

/// What `Stat` tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ObjectStat {
    /// The object.
    pub id: ObjId,
    /// Its owner's key object.
    pub owner: ObjId,
    /// [`crate::rights::ObjectFlags`].
    pub flags: u32,
    /// [`Rights`] of everyone.
    pub default_rights: u32,
    /// Fingerprint of the base type.
    pub fingerprint: u64,
    /// `len_bytes` of the header.
    pub len_bytes: u64,
    /// Pages that hold data, counting metadata and header. Counted by [`StatOp::Usage`] alone.
    pub pages: u64,
    /// Frames of its tree's tables. Counted by [`StatOp::Usage`] alone.
    pub tables: u64,
    /// Views that map it at the moment.
    pub mappings: u64,
    /// [`crate::rights::SizeClass`].
    pub size_class: u32,
    /// Not 0: in quarantine, and why, as [`Error`]'s number.
    pub quarantine: u32,
}

const _: () = assert!(size_of::<ObjectStat>() == 88);

/// What `ThreadSpawn` starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SpawnSpec {
    /// View to run in, which must grant write; [`ObjId::NONE`]: the caller's.
    pub view: ObjId,
    /// First instruction.
    pub entry: u64,
    /// Stack pointer, 16-byte aligned.
    pub stack_pointer: u64,
    /// Lowest address of the stack, to tell overflows.
    pub stack_low: u64,
    /// RDI at the start.
    pub argument: u64,
    /// RSI at the start.
    pub argument2: u64,
    /// FS base.
    pub fs_base: u64,
    /// Priority, 0 to 31.
    pub priority: u32,
    /// Zero.
    pub reserved: u32,
    /// Name, padded with zeros.
    pub name: [u8; NAME_BYTES],
}

const _: () = assert!(size_of::<SpawnSpec>() == 104);

numbered! {
    /// What one [`SyncOp`] does.
    pub enum SyncKind: u64 {
        /// Waits while the word at `address` equals `value`.
        Wait = 0,
        /// Wakes at most `value` threads that wait on the word at `address`.
        Wake = 1,
    }
}

/// One part of a `ThreadSync`. Words are 8 bytes, aligned, and keyed by object and offset, so threads of
/// different views meet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SyncOp {
    /// [`SyncKind`].
    pub kind: u64,
    /// The word.
    pub address: u64,
    /// See [`SyncKind`].
    pub value: u64,
    /// Written for a wake: how many threads it woke.
    pub result: u64,
}

const _: () = assert!(size_of::<SyncOp>() == 32);

/// Most parts that one `ThreadSync` may have.
pub const SYNC_OPS_MAX: u64 = 64;
/// Most bytes that `Random` fills, and `Console` moves, at once.
pub const TRANSFER_BYTES_MAX: u64 = 4096;

/// Rights that new objects usually grant.
pub const USUAL_RIGHTS: Rights = Rights::READ.union(Rights::WRITE).union(Rights::DELETE);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_fewer_than_20_calls() {
        assert!(Call::ALL.len() < 20);
        assert!(Call::ALL.iter().all(|&(call, ..)| Call::try_from(call as u64) == Ok(call)));
        assert_eq!(Call::try_from(0), Err(Error::InvalidArgument));
    }
}
