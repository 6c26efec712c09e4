//! Whether what an object holds is what a program takes it for.
//!
//! Looked at where a program gets at an object: when it is opened as a type, and when a pointer into it is followed for the first time. Then all named
//! types that the type consists of or leads to are compared with the object's base and [type list](super::held), and so are those that the
//! program has got at objects by before: what is found once lies in a row of the translation table, where other pointers find it unchecked, and
//! these lead from objects that were opened as types which lead to theirs.
//!
//! A type that the table doesn't have is no disagreement: values that were not allocated are in no table, such as what a base consists of, nor are
//! those of older stores.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::mem::offset_of;
use core::sync::atomic::{AtomicU64, Ordering};

use twizzler_abi::Error;
use twizzler_abi::address::Slot;
use twizzler_abi::object::{HEADER_OFFSET, Header};
use twizzler_abi::pointer::PointerBits;

use super::difference::Difference;
use super::held::{Follow, HeldType, held_types, named_in, type_key};
use super::table::TypeTable;
use crate::backend::Backend;
use crate::error::{OpenError, TypeName};
use crate::guard::Guard;
use crate::memory;
use crate::pointer::{Area, InvPtr, Ptr};
use crate::row::{HELD, READ_AS};
use crate::space::{Space, area_of, header_place};
use crate::stored::{Stored, TypeInfo, TypeOf, type_of};
use crate::volatile::Lock;

/// Types by which a program has got at objects, and what they lead to.
#[derive(Debug, Default)]
pub(crate) struct KnownTypes {
    types: Lock<BTreeMap<(u64, u64), TypeInfo>>,
    /// Counts additions.
    generation: AtomicU64,
}

impl KnownTypes {
    /// What a row says where all this was compared for a type.
    #[inline]
    pub(crate) fn stamp(&self, fingerprint: u64) -> u64 {
        // Relaxed: whoever got at an object by a type before, in another thread, has told this one, or the row, or neither.
        fingerprint ^ self.generation.load(Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

impl<B: Backend> Space<B> {
    /// The type list of a mapped object: which types were allocated in it, in which versions.
    ///
    /// # Errors
    /// [`Error::Damaged`] for one that leads out of the object.
    pub fn types_held(&self, area: Area<'_>) -> Result<Vec<HeldType>, Error> {
        held_types(|offset, buffer| {
            let bytes = area.span_from::<u8>(HEADER_OFFSET, offset, buffer.len() as u64);
            memory::read(bytes.ok_or(Error::Damaged)?, buffer);
            Ok(())
        })
    }

    /// True where the type list of an object is known to have a type.
    #[inline]
    pub(crate) fn is_known_held(&self, area: Area<'_>, fingerprint: u64) -> bool {
        Slot::of(area.start()).is_some_and(|slot| self.row(slot, HELD + (fingerprint & 3)) == fingerprint)
    }

    pub(crate) fn know_held(&self, area: Area<'_>, fingerprint: u64) {
        if let Some(slot) = Slot::of(area.start()) {
            self.set_row(slot, HELD + (fingerprint & 3), fingerprint);
        }
    }

    /// Compares what an object holds with what a program's type leads to, unless that was done.
    ///
    /// # Errors
    /// What the program has, and what the object holds instead.
    #[inline]
    pub(crate) fn agree(&self, slot: Slot, fingerprint: u64, of: TypeOf) -> Result<(), Disagreement> {
        if self.row(slot, READ_AS + (fingerprint & 3)) == self.known.stamp(fingerprint) {
            return Ok(());
        }
        self.agree_slowly(slot, of)
    }

    #[cold]
    fn agree_slowly(&self, slot: Slot, of: TypeOf) -> Result<(), Disagreement> {
        let root = of();
        let of_root: BTreeMap<(u64, u64), TypeInfo> = named_in(root, Follow::Pointers)
            .into_values()
            .map(|info| ((type_key(info.name, info.arguments), info.fingerprint), info))
            .collect();
        let mut known = self.known.types.lock(self.backend());
        let before = known.len();
        known.extend(&of_root);
        if known.len() > before {
            self.known.generation.fetch_add(1, Ordering::Relaxed);
        }
        let stamp = self.known.stamp(root.fingerprint);
        // Where it can't be read, neither can what was to be.
        let area = area_of(slot);
        let mut types_held = self.types_held(area).unwrap_or_default();
        let base_key: u64 = memory::load(header_place(area, offset_of!(Header, type_key)));
        if let Ok(fingerprint) = self.fingerprint(area) {
            types_held.push(HeldType { key: base_key, fingerprint });
        }
        for held in types_held {
            let entry = (held.key, held.fingerprint);
            for types in [&of_root, &*known] {
                let others = types.range((held.key, 0)..=(held.key, u64::MAX)).next();
                if let Some((_, &wanted)) = others
                    && !types.contains_key(&entry)
                {
                    return Err(Disagreement { wanted, held });
                }
            }
        }
        self.set_row(slot, READ_AS + (root.fingerprint & 3), stamp);
        Ok(())
    }

    /// A disagreement in words.
    #[cold]
    pub(crate) fn held_differently(&self, area: Area<'_>, found: Disagreement) -> OpenError {
        let Disagreement { wanted, held } = found;
        let guard = self.enter();
        // Whoever described the base had this version of what it leads to, or somebody described the type itself.
        let tables = [self.fingerprint(area).unwrap_or(0), held.fingerprint];
        let described = tables.into_iter().find_map(|fingerprint| {
            let table = guard.describe(fingerprint).ok().flatten()?;
            table.get(held.fingerprint).is_some().then_some(table)
        });
        let difference = described.map_or(Difference::Unknown, |found| {
            Difference::of_types(
                (&TypeTable::of_info(wanted), wanted.fingerprint),
                (&found, held.fingerprint),
            )
        });
        OpenError::HoldsOther { wanted: TypeName::of(wanted.name), difference }
    }
}

/// A program's type, and the other version of it that an object holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Disagreement {
    wanted: TypeInfo,
    held: HeldType,
}

impl From<Disagreement> for Error {
    fn from(_: Disagreement) -> Self {
        Self::WrongType
    }
}

impl<B: Backend> Guard<'_, B> {
    /// Why [`Guard::follow`] fails at this pointer, in words that name the types: an [`Error::WrongType`] doesn't. None: it doesn't fail.
    pub fn explain<'g, T: Stored>(&'g self, place: Ptr<'g, InvPtr<T>>) -> Option<OpenError> {
        let error = self.follow(place).err()?;
        let why = || self.why_wrong(place.object(), PointerBits(memory::load(place.bits())), type_of::<T>);
        match error {
            Error::WrongType => Some(why().unwrap_or(error.into())),
            error => Some(error.into()),
        }
    }

    /// The types of a pointer that leads to a wrong one. None: it doesn't, any more.
    fn why_wrong(&self, from: Area<'_>, bits: PointerBits, of: TypeOf) -> Option<OpenError> {
        let (target, _, expected) = self.space().target(from, bits.index()).ok()?;
        let to = self.open_any(target, crate::space::Access::Read).ok()?;
        let slot = Slot::of(to.start())?;
        if let Err(found) = self.agree(slot, of().fingerprint, of) {
            return Some(self.held_differently(to, found));
        }
        let found = self.describe(self.fingerprint(to).ok()?).ok().flatten();
        let wanted = self.describe(expected).ok().flatten();
        let difference = match (&wanted, &found) {
            (Some(wanted), Some(found)) => Difference::between(wanted, found),
            _ => Difference::Unknown,
        };
        let wanted = wanted.map_or(TypeName::UNKNOWN, |wanted| TypeName::of(&wanted.name_of(wanted.root())));
        Some(OpenError::LeadsToOther { wanted, found: self.type_name(to), difference })
    }
}
