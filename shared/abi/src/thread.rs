//! Thread objects and upcalls.
//!
//! A thread is an object of kind [`crate::rights::ObjectFlags::THREAD`]. The kernel writes its state;
//! others may read it. While a thread is not running, this state describes it wholly.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::error::Error;
use crate::id::ObjId;

/// General registers, instruction pointer and flags: all of a thread's integer state.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
#[allow(missing_docs, reason = "the fields are the machine's registers")]
pub struct Registers {
    pub rax: u64,
    pub rbx: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub rbp: u64,
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r11: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
    pub rip: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub fs_base: u64,
    pub gs_base: u64,
}

const _: () = assert!(size_of::<Registers>() == 160);

/// What a thread is doing. Numbers of [`ThreadState::status`]; other threads may wait on that word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum Status {
    /// On a CPU, or ready to be.
    Runnable = 1,
    /// Waits in a call.
    Blocked = 2,
    /// Ended; `exit_code` and `fault` say how.
    Ended = 3,
}

impl TryFrom<u64> for Status {
    type Error = Error;

    fn try_from(number: u64) -> Result<Self, Error> {
        match number {
            1 => Ok(Self::Runnable),
            2 => Ok(Self::Blocked),
            3 => Ok(Self::Ended),
            _ => Err(Error::InvalidArgument),
        }
    }
}

macro_rules! faults {
    ($($(#[doc = $doc:literal])+ $name:ident = $number:literal, $text:literal;)+) => {
        /// Why a thread was stopped.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u32)]
        #[non_exhaustive]
        pub enum FaultKind { $($(#[doc = $doc])+ $name = $number,)+ }

        impl FaultKind {
            /// One line that says what happened.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }
        }

        impl TryFrom<u32> for FaultKind {
            type Error = Error;

            fn try_from(number: u32) -> Result<Self, Error> {
                match number { $($number => Ok(Self::$name),)+ _ => Err(Error::InvalidArgument) }
            }
        }
    };
}

faults! {
    /// Access to an object's null page.
    NullPage = 1, "null page";
    /// The slot's view entry is empty.
    NotMapped = 2, "nothing is mapped there";
    /// The view entry names an object that doesn't exist.
    NoSuchObject = 3, "no such object";
    /// The mapping or the object lacks the right.
    NoRight = 4, "no right";
    /// Beyond the object's range, or in a forbidden page.
    OutOfRange = 5, "out of range";
    /// Below the stack's last page.
    StackOverflow = 6, "stack overflow";
    /// No DRAM for the page.
    OutOfMemory = 7, "out of memory";
    /// No NVM for the page.
    OutOfNvm = 8, "out of NVM";
    /// The object's metadata or tree fails its checks.
    Damaged = 9, "damaged object";
    /// The media can't be read there.
    Unreadable = 10, "unreadable media";
    /// The view entry makes no sense.
    BadView = 11, "bad view entry";
    /// An instruction that doesn't exist or isn't allowed.
    IllegalInstruction = 12, "illegal instruction";
    /// Division by zero or overflow.
    Arithmetic = 13, "arithmetic error";
    /// A breakpoint or debug trap.
    Breakpoint = 14, "breakpoint";
    /// A general protection fault: non-canonical address, privileged instruction, bad selector.
    Protection = 15, "protection fault";
    /// Floating point or SIMD exception.
    FloatingPoint = 16, "floating-point error";
    /// Ended by another thread.
    Killed = 17, "killed";
}

/// A fault's particulars.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct FaultInfo {
    /// [`FaultKind`], or 0: none.
    pub kind: u32,
    /// Bit 0: it was a store. Bit 1: an instruction fetch.
    pub access: u32,
    /// The address that was accessed, where there is one.
    pub address: u64,
    /// The object that is mapped there, or that the view entry names.
    pub object: ObjId,
}

const _: () = assert!(size_of::<FaultInfo>() == 32);

/// Access bit of [`FaultInfo`]: a store.
pub const ACCESS_WRITE: u32 = 1;
/// Access bit of [`FaultInfo`]: an instruction fetch.
pub const ACCESS_FETCH: u32 = 2;

/// Bytes of a thread's name.
pub const NAME_BYTES: usize = 32;

/// State of a thread, at the base of its object.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ThreadState {
    /// [`Status`]. Changes are woken for, so that others can wait for the end.
    pub status: u64,
    /// Code given to exit; meaningful when ended without fault.
    pub exit_code: u64,
    /// What ended the thread, if a fault did.
    pub fault: FaultInfo,
    /// Registers when last off the CPU, or when it ended.
    pub registers: Registers,
    /// The thread's own ID.
    pub id: ObjId,
    /// The view it runs in.
    pub view: ObjId,
    /// Time on CPUs so far, in nanoseconds.
    pub cpu_time_ns: u64,
    /// CPU that ran it last.
    pub cpu: u32,
    /// Priority: 0 lowest, 31 highest; 16 ordinary.
    pub priority: u32,
    /// Lowest address of the stack, to tell overflows; 0: unknown.
    pub stack_low: u64,
    /// Upcall handler; 0: none.
    pub handler: u64,
    /// Stack of the handler: highest address.
    pub handler_stack: u64,
    /// Name, padded with zeros.
    pub name: [u8; NAME_BYTES],
}

const _: () = assert!(size_of::<ThreadState>() == 312);

/// What an upcall handler finds: RDI points to it, on the handler's stack. The x87/SSE/AVX state
/// (XSAVE, standard format) lies at `vector_state`. The handler changes what it wants and returns with
/// [`crate::call::ThreadOp::UpcallReturn`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct UpcallFrame {
    /// What happened.
    pub fault: FaultInfo,
    /// The interrupted registers.
    pub registers: Registers,
    /// Address of the XSAVE area, 64-byte aligned.
    pub vector_state: u64,
    /// Its bytes.
    pub vector_state_bytes: u64,
}

const _: () = assert!(size_of::<UpcallFrame>() == 208);
