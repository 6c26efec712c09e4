//! Descriptions of types, which lie in the store beside the objects: who has an object can show what is in it, without the
//! program that made it.
//!
//! A [`TypeTable`] describes a type and all that it leads to. It proves itself: each description gives the fingerprint by
//! which it is known. It lies in a *type object*, whose ID follows from the fingerprint ([`type_object`]); whoever first makes an object of
//! a type makes that too. Which types lie in an object's heap, says its own table ([`HeldType`]). [`dump`] reads an object by its table. Everything here takes whatever bytes it is given:
//! wrong ones are an error, or show as what they are.

mod agreement;
mod codec;
mod difference;
mod dump;
mod held;
mod object;
mod publish;
mod show;
mod table;
#[cfg(test)]
mod tests;

pub(crate) use agreement::KnownTypes;
pub use difference::Difference;
pub use dump::{Dump, Place, Shown, Source, Target, dump};
pub(crate) use held::{HELD_TOGETHER, read_types};
pub use held::{HeldType, held_types, type_key};
pub(crate) use publish::Described;

pub use object::{TYPE_OBJECT_FINGERPRINT, type_object, type_object_spec};
pub use table::{CollectionDescription, FieldDescription, Form, Kind, TypeDescription, TypeTable};

pub use crate::stored::{Collected, FieldShape, Plain, Shape, TypeInfo, TypeOf, type_of};
