//! The native programs.
#![no_std]
