//! Host files into and out of an NVM image, while no machine runs on it.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::nvm::Nvm;

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

/// Puts files in.
///
/// # Errors
/// The image is damaged, full, or not ours.
pub fn put(nvm: &Nvm, files: &[Put]) -> Result<()> {
    if files.is_empty() {
        return Ok(());
    }
    bail!("--put into {}: not built yet", nvm.path().display())
}

/// Gets files out.
///
/// # Errors
/// No such name, or the image is damaged or not ours.
pub fn get(nvm: &Nvm, files: &[Get]) -> Result<()> {
    if files.is_empty() {
        return Ok(());
    }
    bail!("--get from {}: not built yet", nvm.path().display())
}

/// What an object's data is.
///
/// # Errors
/// No such name, or the image is damaged or not ours.
pub fn content(nvm: &Nvm, name: &str) -> Result<Vec<u8>> {
    bail!("{name} from {}: not built yet", nvm.path().display())
}

/// Tells whether the image is clean.
///
/// # Errors
/// What is wrong with it.
pub fn check(nvm: &Nvm) -> Result<()> {
    bail!("check of {}: not built yet", nvm.path().display())
}

/// Arguments of `check`.
#[derive(Args, Clone, Debug)]
pub struct CheckArguments {
    /// The NVM file
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
}

/// Checks an NVM file and says what it finds.
///
/// # Errors
/// The file can't be used, or is not clean.
pub fn run_check(arguments: &CheckArguments) -> Result<u8> {
    let path = arguments.file.clone().unwrap_or_else(crate::nvm::default_path);
    if !path.exists() {
        bail!("there is no {}", path.display());
    }
    check(&Nvm::open(&path, None)?)?;
    Ok(0)
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
