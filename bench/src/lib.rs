//! What the system is measured with.
