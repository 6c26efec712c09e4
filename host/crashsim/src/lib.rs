//! The crash simulator: what a power cut may leave, enumerated.
