//! The on-NVM format: page trees, object table, mount and check.
#![no_std]
