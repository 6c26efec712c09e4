//! Writing an archive.

use std::io::{self, Write};

use zerocopy::IntoBytes;

use super::{Head, Tag, check};

/// Writes records, and in the end their hash.
#[derive(Debug)]
pub struct Writer<W> {
    to: W,
    hasher: blake3::Hasher,
    len_bytes: u64,
}

impl<W: Write> Writer<W> {
    /// Begins an archive.
    ///
    /// # Errors
    /// The host's.
    pub fn new(to: W, head: &Head) -> io::Result<Self> {
        let mut writer = Self { to, hasher: blake3::Hasher::new(), len_bytes: 0 };
        writer.put(head.as_bytes())?;
        Ok(writer)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.len_bytes += bytes.len() as u64;
        self.to.write_all(bytes)
    }

    /// Writes a record.
    ///
    /// # Errors
    /// The host's.
    pub fn record(&mut self, tag: Tag, body: &[u8]) -> io::Result<()> {
        self.put(&(tag as u32).to_le_bytes())?;
        self.put(&check(tag as u32, body).to_le_bytes())?;
        self.put(&(body.len() as u64).to_le_bytes())?;
        self.put(body)
    }

    /// Writes the hash. Gives what was written to, and how many bytes went there.
    ///
    /// # Errors
    /// The host's.
    pub fn finish(mut self) -> io::Result<(W, u64)> {
        let hash = *self.hasher.finalize().as_bytes();
        self.record(Tag::End, &hash)?;
        self.to.flush()?;
        Ok((self.to, self.len_bytes))
    }
}
