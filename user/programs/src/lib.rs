//! The native programs.
#![no_std]
#![forbid(unsafe_code)]
