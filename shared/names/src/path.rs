//! Paths, checked.

use alloc::vec::Vec;

use crate::error::NameError;

/// Bytes of a name at most.
pub const NAME_BYTES_MAX: usize = 255;
/// Names of a path at most.
pub const PATH_NAMES_MAX: usize = 64;

/// The names of a path.
pub(crate) fn names(path: &str) -> Result<Vec<&str>, NameError> {
    let path = path.strip_prefix('/').unwrap_or(path);
    if path.is_empty() {
        return Ok(Vec::new());
    }
    let names: Vec<&str> = path.split('/').collect();
    if names.len() > PATH_NAMES_MAX || names.iter().any(|name| name.len() > NAME_BYTES_MAX) {
        return Err(NameError::TooLong);
    }
    if !names.iter().all(|name| is_name(name)) {
        return Err(NameError::BadName);
    }
    Ok(names)
}

/// Whether something in a directory can be called so.
pub(crate) fn is_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && !name.chars().any(|c| c == '/' || c.is_control())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;

    #[test]
    fn paths_are_names() {
        assert_eq!(names(""), Ok(Vec::new()));
        assert_eq!(names("/"), Ok(Vec::new()));
        assert_eq!(names("/a/bé"), Ok(alloc::vec!["a", "bé"]));
        assert_eq!(names("a/bé"), names("/a/bé"));
    }

    #[test]
    fn bad_paths_are_refused() {
        for bad in ["//", "a//b", "a/", "./a", "a/..", "a\nb", "\0"] {
            assert_eq!(names(bad), Err(NameError::BadName), "{bad:?}");
        }
        assert_eq!(names(&String::from_iter(['a'; 256])), Err(NameError::TooLong));
        assert_eq!(names(&["a"; 65].join("/")), Err(NameError::TooLong));
        assert!(names(&["a"; 64].join("/")).is_ok());
    }
}
