//! Which objects processes have mapped, as far as others must know: who turns an object into another type, or another size, wants to be alone.
//!
//! Each mapped object is a lock on one byte of a file, shared, at an offset made of its ID: open file description locks
//! (fcntl(2), `F_OFD_SETLK`), which the host releases when the process ends, however it does. Who wants to be alone takes the lock for
//! itself; then nobody else maps the object.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::OFlags;
use twizzler_abi::{Error, ObjId};

use crate::disk::Disk;
use crate::objects::host;
use crate::segment::GATE;

/// This process's locks.
#[derive(Debug)]
pub(crate) struct Presence {
    /// None: the store can't be written, so nobody turns objects into anything.
    file: Option<File>,
    /// Objects that this process has for itself alone.
    alone: Mutex<HashSet<ObjId>>,
}

/// What a process wants of others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i16)]
pub(crate) enum Claim {
    /// Nothing: it does not use the object.
    Nothing = libc::F_UNLCK as i16,
    /// That they don't turn it into anything else.
    Mapped = libc::F_RDLCK as i16,
    /// That they don't map it.
    Alone = libc::F_WRLCK as i16,
}

impl Presence {
    /// With no locks yet. The file is the gate's, whose own lock is of another kind.
    pub(crate) fn new(disk: &Disk) -> Self {
        Self { file: disk.open_file(GATE, OFlags::RDWR).ok(), alone: Mutex::default() }
    }

    /// This process maps an object.
    pub(crate) fn mapped(&self, id: ObjId) -> Result<(), Error> {
        if self.alone().contains(&id) { Ok(()) } else { self.claim(id, Claim::Mapped) }
    }

    /// This process has an object mapped no more.
    pub(crate) fn unmapped(&self, id: ObjId) {
        if !self.alone().contains(&id) {
            // What can't be given back now goes when the process ends.
            let _ = self.claim(id, Claim::Nothing);
        }
    }

    /// From now on, no other process maps an object.
    pub(crate) fn be_alone(&self, id: ObjId) -> Result<(), Error> {
        self.claim(id, Claim::Alone)?;
        self.alone().insert(id);
        Ok(())
    }

    /// True where no other process has an object mapped that this one has.
    pub(crate) fn is_sole(&self, id: ObjId) -> bool {
        self.file.as_ref().is_some_and(|file| is_free(file, start_of(id)).unwrap_or(false))
    }

    /// Others may map it again.
    pub(crate) fn share(&self, id: ObjId) {
        self.alone().remove(&id);
        self.unmapped(id);
    }

    /// Gives everything back: also where a child that is just being started still has the file.
    pub(crate) fn leave(&self) {
        if let Some(file) = &self.file {
            let _ = lock(file, 0, 0, Claim::Nothing);
        }
    }

    fn alone(&self) -> MutexGuard<'_, HashSet<ObjId>> {
        self.alone.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a lock, or changes or gives back the one that there is.
    fn claim(&self, id: ObjId, claim: Claim) -> Result<(), Error> {
        match &self.file {
            Some(file) => match lock(file, start_of(id), 1, claim) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(Error::Busy),
                // A file system that knows no such locks.
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) && claim != Claim::Alone => Ok(()),
                result => host(result),
            },
            None if claim == Claim::Alone => Err(Error::ReadOnly),
            None => Ok(()),
        }
    }
}

/// An object's number, not 0: where its byte is, and one.
pub(crate) const fn number_of(id: ObjId) -> u64 {
    start_of(id) as u64 + 1
}

/// Where an object's byte is. Other IDs with the same one only make somebody wait for no reason, once in 2^62.
const fn start_of(id: ObjId) -> i64 {
    ((id.hi ^ id.lo) >> 2) as i64
}

const fn request(start: i64, len_bytes: i64, claim: Claim) -> libc::flock {
    libc::flock {
        l_type: claim as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: start,
        l_len: len_bytes,
        l_pid: 0,
    }
}

/// True where nobody else has a lock on a byte.
fn is_free(file: &File, start: i64) -> io::Result<bool> {
    let mut request = request(start, 1, Claim::Alone);
    // SAFETY: the descriptor is open; the call writes to the structure that the pointer is made of.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &raw mut request) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(request.l_type == Claim::Nothing as i16) }
}

fn lock(file: &File, start: i64, len_bytes: i64, claim: Claim) -> io::Result<()> {
    let request = request(start, len_bytes, claim);
    // SAFETY: the file is open, and the request a whole `flock` as `F_OFD_SETLK` asks for; nothing is written to it.
    match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const request) } {
        0 => Ok(()),
        _ => match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::EACCES) => Err(io::ErrorKind::WouldBlock.into()),
            error => Err(error),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_wants_to_be_alone_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("locks");
        let open = || {
            let file = File::options().create(true).truncate(false).read(true).write(true).open(&path);
            Presence { file: Some(file.expect("opens")), alone: Mutex::default() }
        };
        let [one, other] = [open(), open()];
        let id = ObjId::new(5);
        one.mapped(id).expect("mapped");
        assert!(one.is_sole(id));
        other.mapped(id).expect("mapped by both");
        assert!(!one.is_sole(id) && !other.is_sole(id));
        one.unmapped(id);
        assert!(other.is_sole(id));
        other.unmapped(id);
        let [this, that] = [ObjId::new(7 << 70), ObjId::new(5 << 9)];
        assert_eq!((one.mapped(this), other.mapped(this)), (Ok(()), Ok(())));
        assert_eq!(one.be_alone(this), Err(Error::Busy));
        assert_eq!(one.be_alone(that), Ok(()), "another object");
        assert_eq!((one.mapped(that), other.mapped(that)), (Ok(()), Err(Error::Busy)));
        one.unmapped(that);
        assert_eq!(other.mapped(that), Err(Error::Busy), "still alone");
        one.share(that);
        assert_eq!(other.mapped(that), Ok(()));
        other.unmapped(this);
        assert_eq!(one.be_alone(this), Ok(()));
        assert_eq!(other.mapped(this), Err(Error::Busy));
        drop(one);
        assert_eq!(other.be_alone(this), Ok(()), "the locks of who is gone are gone");
        other.leave();
        assert_eq!(open().be_alone(this), Ok(()));
    }
}
