//! Hash of layouts, at compile time.

use super::Stored;

/// Hash of layouts at compile time: FNV-1a, mixed at the end, never 0.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Fingerprint(u64);

impl Fingerprint {
    /// Of a declared name and version.
    #[must_use]
    pub const fn new(name: &str, version: u64) -> Self {
        Self(0xcbf2_9ce4_8422_2325).text(name).word(version)
    }

    /// With a text, and its length.
    #[must_use]
    pub const fn text(self, text: &str) -> Self {
        let bytes = text.as_bytes();
        let mut state = self.word(bytes.len() as u64).0;
        let mut i = 0;
        while i < bytes.len() {
            state = (state ^ bytes[i] as u64).wrapping_mul(0x0100_0000_01b3);
            i += 1;
        }
        Self(state)
    }

    /// With a number.
    #[must_use]
    pub const fn word(self, word: u64) -> Self {
        let bytes = word.to_le_bytes();
        let mut state = self.0;
        let mut i = 0;
        while i < bytes.len() {
            state = (state ^ bytes[i] as u64).wrapping_mul(0x0100_0000_01b3);
            i += 1;
        }
        Self(state)
    }

    /// With a type's name and its own arguments, as a generic type has it among its parameters.
    #[must_use]
    pub const fn argument<T: Stored>(self) -> Self {
        self.text(T::NAME).word(T::ARGUMENTS)
    }

    /// With what a pointer contributes: the declared name of its target, not the fingerprint, since types may point to
    /// themselves.
    #[must_use]
    pub const fn target<T: Stored>(self) -> Self {
        let named = self.text(T::NAME);
        // Types without parameters had their fingerprints before there were others.
        if T::ARGUMENTS == 0 { named } else { named.word(T::ARGUMENTS) }
    }

    /// The result; 0 would mean untyped.
    #[must_use]
    pub const fn finish(self) -> u64 {
        let mixed = (self.0 ^ self.0 >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = mixed ^ mixed >> 29;
        if mixed == 0 { 1 } else { mixed }
    }
}
