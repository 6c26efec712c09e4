//! An ordered key-value store in persistent objects.
#![no_std]
