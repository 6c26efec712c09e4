//! Runtime of native programs.
#![no_std]
