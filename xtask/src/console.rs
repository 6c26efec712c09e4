//! What a machine says, collected while it runs.

use std::sync::{Arc, Mutex, PoisonError};

use crate::qemu::Sink;

/// A growing text that a machine's output goes to.
#[derive(Clone, Debug, Default)]
pub struct Console(Arc<Mutex<Vec<u8>>>);

impl Console {
    /// Where the machine writes.
    #[must_use]
    pub fn sink(&self) -> Sink {
        let into = Arc::clone(&self.0);
        Box::new(move |bytes| into.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes))
    }

    /// What it has said so far.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    /// Whether it has said this yet.
    #[must_use]
    pub fn contains(&self, wanted: &str) -> bool {
        let text = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        text.windows(wanted.len()).any(|window| window == wanted.as_bytes())
    }
}
