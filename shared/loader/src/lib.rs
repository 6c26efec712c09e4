//! Reads ELF programs and plans how they are mapped.
#![no_std]
