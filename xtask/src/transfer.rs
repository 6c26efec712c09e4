//! Host files into and out of an NVM image, while no machine runs on it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use twizzler_image::ImageBackend;
use twz::files::{self, Typed};
use twz::open::{For, Lock, Opened, format_image, open_image};
use twz::paths::clean;
use twz::status::Status;

use crate::nvm::Nvm;
use crate::progress;

/// A host file and the name that it gets in the NVM.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Put {
    /// The host file.
    pub file: PathBuf,
    /// Its name in the NVM.
    pub name: String,
}

/// A name in the NVM and the host file that its object's data goes to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Get {
    /// The name in the NVM.
    pub name: String,
    /// The host file.
    pub file: PathBuf,
}

impl FromStr for Put {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (file, name) = match text.rsplit_once('=') {
            // A file may have = in its name.
            Some((file, name)) if !Path::new(text).is_file() => (file, name.to_owned()),
            _ => (text, Path::new(text).file_name().unwrap_or_default().to_string_lossy().into_owned()),
        };
        if file.is_empty() || name.is_empty() {
            return Err(format!("{text:?} names no host file and name: write HOSTFILE or HOSTFILE=NAME"));
        }
        Ok(Self { file: file.into(), name })
    }
}

impl FromStr for Get {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((name, file)) if !name.is_empty() && !file.is_empty() => {
                Ok(Self { name: name.to_owned(), file: file.into() })
            }
            _ => Err(format!("{text:?} names no object and host file: write NAME=HOSTFILE")),
        }
    }
}

impl Put {
    /// Tells whether the host file can be put.
    ///
    /// # Errors
    /// It does not exist, can't be read, or is no file.
    pub fn check(&self) -> Result<()> {
        let shown = self.file.display();
        let metadata = self.file.metadata().with_context(|| format!("--put: can't find {shown}"))?;
        if !metadata.is_file() {
            bail!("--put: {shown} is no file; directories are put file by file");
        }
        std::fs::File::open(&self.file).with_context(|| format!("--put: can't read {shown}"))?;
        Ok(())
    }
}

impl Get {
    /// Tells whether the host file's directory is there.
    ///
    /// # Errors
    /// It is not.
    pub fn check(&self) -> Result<()> {
        let folder = match self.file.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        if !folder.is_dir() {
            bail!("--get: there is no directory {}: create it first", folder.display());
        }
        if self.file.is_dir() {
            bail!("--get: {} is a directory: name a file", self.file.display());
        }
        Ok(())
    }
}

/// Puts files in. All of it happens, or none of the last file.
///
/// # Errors
/// The image is damaged, full, or not ours.
pub fn put(nvm: &Nvm, files: &[Put]) -> Result<()> {
    if files.is_empty() {
        return Ok(());
    }
    let bar = progress::bar(files.len() as u64, "Putting files into the NVM");
    let store = open(nvm)?;
    for Put { file, name } in files {
        let mut from = File::open(file).with_context(|| format!("--put: can't read {}", file.display()))?;
        files::put(&store, clean(name), &mut from, file, Typed::Refuse).context("--put")?;
        bar.inc(1);
    }
    store.close().context("--put: can't write the NVM file")?;
    bar.finish_and_clear();
    Ok(())
}

/// Gets files out. Nothing is left behind in a host file that can't be had whole.
///
/// # Errors
/// No such name, or the image is damaged or not ours.
pub fn get(nvm: &Nvm, files: &[Get]) -> Result<()> {
    if files.is_empty() {
        return Ok(());
    }
    let store = open(nvm)?;
    for Get { name, file } in files {
        let data = content(&store, name).context("--get")?;
        std::fs::write(file, data).with_context(|| format!("--get: can't write {}", file.display()))?;
    }
    store.close().context("--get: can't write the NVM file")
}

/// The data of named objects.
///
/// # Errors
/// No such name, or the image is damaged or not ours.
pub fn contents(nvm: &Nvm, names: &[&str]) -> Result<Vec<Vec<u8>>> {
    let store = open(nvm)?;
    names.iter().map(|name| content(&store, name)).collect()
}

fn content(store: &Opened<ImageBackend>, name: &str) -> Result<Vec<u8>> {
    let (id, len_bytes) = files::find(store, name, Typed::Accept)?;
    let mut data = Vec::new();
    files::read(store, id, len_bytes, |part| {
        data.extend_from_slice(part);
        Ok(())
    })?;
    Ok(data)
}

/// Opens the store in an NVM file; makes one where the file is new.
///
/// # Errors
/// The image is damaged or not ours.
pub fn open(nvm: &Nvm) -> Result<Opened<ImageBackend>> {
    let path = nvm.path();
    let opened = match open_image(path, For::Changing, Lock::Held) {
        Err(failure) if failure.status == Status::Missing => {
            format_image(path, Lock::Held).and_then(|()| open_image(path, For::Changing, Lock::Held))
        }
        opened => opened,
    };
    opened.with_context(|| format!("can't use the NVM file {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_default_to_the_files_own() {
        let put: Put = "/no/such/a.txt".parse().expect("well formed");
        assert_eq!((put.file.as_path(), put.name.as_str()), (Path::new("/no/such/a.txt"), "a.txt"));
        let put: Put = "/no/such/a.txt=texts/b".parse().expect("well formed");
        assert_eq!((put.file.as_path(), put.name.as_str()), (Path::new("/no/such/a.txt"), "texts/b"));
        assert!("=b".parse::<Put>().is_err());
        assert!("a".parse::<Get>().is_err());
        let get: Get = "b=/tmp/c".parse().expect("well formed");
        assert_eq!((get.name.as_str(), get.file.as_path()), ("b", Path::new("/tmp/c")));
    }
}
