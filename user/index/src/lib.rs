//! An inverted index over texts, in persistent objects.
#![no_std]
