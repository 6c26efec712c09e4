//! Page-table entries as the hardware reads them. Intel SDM volume 3, section 4.5.

/// Maps something.
pub const PRESENT: u64 = 1 << 0;
/// Writes are allowed.
pub const WRITE: u64 = 1 << 1;
/// User mode is allowed.
pub const USER: u64 = 1 << 2;
/// Was used. The hardware sets it, by a write to the table, where it is clear.
pub const ACCESSED: u64 = 1 << 5;
/// Was written through. As [`ACCESSED`].
pub const DIRTY: u64 = 1 << 6;
/// In a PDPT or PD: this is a leaf.
pub const LARGE: u64 = 1 << 7;
/// Instructions can't be fetched.
pub const NO_EXECUTE: u64 = 1 << 63;
/// Physical address.
pub const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// Levels, by the number of tables that a walk still goes through: 4 is the PML4, 1 the PT.
pub const TOP_LEVEL: u32 = 4;

/// Bytes that an entry of a table of this level covers.
#[must_use]
pub const fn span_bytes(level: u32) -> u64 {
    1 << (12 + 9 * (level - 1))
}

/// Index of an address's entry in a table of this level.
#[must_use]
pub const fn index(address: u64, level: u32) -> u64 {
    address / span_bytes(level) % 512
}

/// What entries on the way to a page allow, together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Allowed {
    /// Writes.
    pub write: bool,
    /// User mode.
    pub user: bool,
    /// Fetches.
    pub execute: bool,
}

impl Allowed {
    /// Before any entry has said anything.
    pub const ALL: Self = Self { write: true, user: true, execute: true };

    /// What an entry leaves of it.
    #[must_use]
    pub const fn through(self, entry: u64) -> Self {
        Self {
            write: self.write && entry & WRITE != 0,
            user: self.user && entry & USER != 0,
            execute: self.execute && entry & NO_EXECUTE == 0,
        }
    }

    /// Whether it allows all that `other` does.
    #[must_use]
    pub const fn covers(self, other: Self) -> bool {
        (self.write || !other.write) && (self.user || !other.user) && (self.execute || !other.execute)
    }

    /// Whether it allows a user-mode access.
    #[must_use]
    pub const fn allows(self, access: Access) -> bool {
        self.user
            && match access {
                Access::Read => true,
                Access::Write => self.write,
                Access::Fetch => self.execute,
            }
    }
}

/// A user-mode access.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// A load.
    Read,
    /// A store.
    Write,
    /// An instruction fetch.
    Fetch,
}
