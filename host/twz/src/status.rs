//! How a command ends: its exit status, and what is said where it fails.

use std::fmt;
use std::io;
use std::path::Path;

use serde::Serialize;
use twizzler::StoreError;
use twizzler_abi::Error;
use twizzler_names::NameError;
use twizzler_store::MountError;

/// Exit status. The numbers and names are a contract: `docs/twz.md`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum Status {
    /// Done.
    Done = 0,
    /// Done, and there is something to look after: damage, or objects that nothing leads to.
    Found = 1,
    /// The command line is wrong.
    Usage = 2,
    /// No such store, name, object or file.
    Missing = 3,
    /// Something is there already, is of another kind, or is in use.
    Conflict = 4,
    /// What lies there is damaged, of another version, or nothing of ours.
    Damaged = 5,
    /// No room.
    Room = 6,
    /// Not allowed: rights, or read-only.
    Denied = 7,
    /// The host could not read or write.
    Io = 8,
}

/// Why a command failed: what was wrong, and what to do about it.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The exit status.
    pub status: Status,
    /// What was wrong.
    pub what: String,
    /// What to do.
    pub advice: Option<String>,
}

impl Failure {
    /// A failure that says `what` was wrong.
    pub fn new(status: Status, what: impl Into<String>) -> Self {
        Self { status, what: what.into(), advice: None }
    }

    /// The same with what to do about it.
    #[must_use]
    pub fn advise(self, advice: impl Into<String>) -> Self {
        Self { advice: Some(advice.into()), ..self }
    }

    /// The host could not do something with a file.
    pub fn io(path: &Path, error: &io::Error) -> Self {
        let what = format!("{}: {}", path.display(), plain(error));
        let status = match error.kind() {
            io::ErrorKind::NotFound => Status::Missing,
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Status::Denied,
            io::ErrorKind::AlreadyExists | io::ErrorKind::IsADirectory | io::ErrorKind::NotADirectory => {
                Status::Conflict
            }
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                Status::Room
            }
            _ => Status::Io,
        };
        let advice = match status {
            Status::Missing => "look at the path: folders on the way are not made",
            Status::Denied => "ask for the right, or copy it to where you have it",
            Status::Conflict => "take another path",
            Status::Room => "make room on that disk, or take another one",
            _ => "the machine's log (`dmesg`) may say more",
        };
        Self::new(status, what).advise(advice)
    }

    /// An image could not be mounted.
    pub fn mount(path: &Path, error: &MountError) -> Self {
        let (status, advice) = match error {
            MountError::NoRoom => (Status::Room, "make room on that disk, or take another one"),
            _ => (Status::Damaged, "nothing was changed; name another file, or restore it from a copy"),
        };
        Self::new(status, format!("{}: {error}", path.display())).advise(advice)
    }

    /// A store in a directory could not be opened or made.
    pub fn store(path: &Path, error: &StoreError) -> Self {
        let shown = path.display();
        let (status, advice) = match error {
            StoreError::Missing { .. } => (Status::Missing, format!("`twz create {shown}` makes one")),
            StoreError::NotADirectory { .. } => (Status::Conflict, "take another path".to_owned()),
            StoreError::NotAStore { .. } => (
                Status::Damaged,
                format!("nothing was changed; `twz create {shown}/NAME` makes a store in it"),
            ),
            StoreError::Exists { .. } => {
                (Status::Conflict, "take another path, or use the store that is there".to_owned())
            }
            StoreError::NotEmpty { .. } => {
                (Status::Conflict, "take another path: a store needs a directory for itself".to_owned())
            }
            StoreError::Newer { .. } => {
                (Status::Damaged, "use the version that made it, or a newer one".to_owned())
            }
            StoreError::Damaged { .. } | StoreError::Lost => {
                let force = format!("`twz repair {shown} --force` gives up what can't be had");
                (Status::Damaged, format!("restore the store from a backup; {force}"))
            }
            StoreError::Network { .. } => (Status::Denied, "put the store on a local disk".to_owned()),
            StoreError::Unsuitable { .. } => {
                let less = "`twz create --survives process-kill` makes one that memory will do for";
                (Status::Denied, format!("put the store on a disk; {less}"))
            }
            StoreError::ReadOnly => (Status::Denied, "make it writable, or copy it elsewhere".to_owned()),
            StoreError::NeedsRecovery => (
                Status::Denied,
                "somebody who may write to it must open it once, with any command".to_owned(),
            ),
            StoreError::InUse { .. } => (Status::Conflict, "wait until the others have ended".to_owned()),
            StoreError::Durability { .. } | StoreError::TooSmall { .. } => {
                (Status::Usage, "say otherwise".to_owned())
            }
            StoreError::System(error) => return system(&shown.to_string(), *error),
            StoreError::Io { path, source, .. } => return Self::io(path, source),
            _ => (Status::Io, "see docs/hosted.md".to_owned()),
        };
        let what = error.to_string();
        let what = if what.contains(&*shown.to_string()) { what } else { format!("{shown}: {what}") };
        Self::new(status, what).advise(advice)
    }

    /// Something could not be done with `what`: a name, an ID or a store.
    pub fn of<E: Into<NameError>>(what: impl fmt::Display) -> impl FnOnce(E) -> Self {
        move |error| named(&what.to_string(), error.into())
    }
}

/// An error of the host without its number.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}

fn named(what: &str, error: NameError) -> Failure {
    let (status, advice) = match error {
        NameError::NoSuchName => (Status::Missing, "`twz ls STORE` lists the names there are"),
        NameError::Exists => (Status::Conflict, "take another name, or `twz rm` what is there"),
        NameError::NotADirectory => (Status::Conflict, "`twz stat STORE NAME` says what it is"),
        NameError::IsADirectory => (Status::Conflict, "name an object in it"),
        NameError::NotEmpty => (Status::Conflict, "`twz rm -r` removes a directory with what is in it"),
        NameError::TooLong => (Status::Usage, "a name has 255 bytes at most, a path 64 names"),
        NameError::BadName => {
            (Status::Usage, "write names separated by single slashes, such as letters/first")
        }
        NameError::IntoItself => (Status::Usage, "move it elsewhere"),
        NameError::Tangled => (
            Status::Damaged,
            "`twz repair --force` makes the names anew, and names all objects in lost+found",
        ),
        NameError::System(error) => return system(what, error),
    };
    Failure::new(status, format!("{what}: {error}")).advise(advice)
}

fn system(what: &str, error: Error) -> Failure {
    let (status, advice) = match error {
        Error::NoSuchObject => (Status::Missing, "`twz check STORE` finds names of objects that are gone"),
        Error::Damaged | Error::Unreadable | Error::WrongType => {
            (Status::Damaged, "`twz check STORE` says more; restore what is lost from a backup")
        }
        Error::OutOfNvm => (
            Status::Room,
            "the store, or the disk that it lies on, is full: remove something, or export to a larger one",
        ),
        Error::OutOfRange => (Status::Room, "an object holds 512 GiB less three pages at most"),
        Error::OutOfMemory => {
            (Status::Room, "this machine has not enough memory, or the process too many mappings")
        }
        Error::AccessDenied => (Status::Denied, "the object does not grant this right to everyone"),
        Error::ReadOnly => (Status::Denied, "the store can't be written"),
        Error::Exists => (Status::Conflict, "it is there already"),
        Error::Busy | Error::TimedOut => {
            (Status::Conflict, "another program uses it: try again when that has ended")
        }
        Error::NotSupported => {
            (Status::Damaged, "it uses a feature that this version does not know: use a newer one")
        }
        _ => (Status::Io, "`twz check STORE` may say more"),
    };
    Failure::new(status, format!("{what}: {error}")).advise(advice)
}

/// Whether an error says that something is damaged: not that the host refused, or has no memory for it, or that a later version is needed.
#[must_use]
pub const fn is_damage(error: Error) -> bool {
    matches!(error, Error::Damaged | Error::Unreadable | Error::WrongType)
}

/// Takes an object that is gone already for one that was deleted.
///
/// # Errors
/// All others.
pub const fn missing(error: Error) -> Result<(), Error> {
    match error {
        Error::NoSuchObject => Ok(()),
        error => Err(error),
    }
}

/// Whether an error says nothing of what was looked at: the host refused, or could not for now.
#[must_use]
pub const fn is_refusal(error: Error) -> bool {
    use Error::{AccessDenied, Busy, OutOfMemory, ReadOnly, TimedOut, TooMany};
    matches!(error, AccessDenied | Busy | OutOfMemory | ReadOnly | TimedOut | TooMany)
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        system("the store", error)
    }
}

impl From<NameError> for Failure {
    fn from(error: NameError) -> Self {
        named("the store", error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        self.advice.as_ref().map_or(Ok(()), |advice| write!(f, "\n  {advice}"))
    }
}

impl std::error::Error for Failure {}
