//! Names: a persistent directory tree of objects.
#![no_std]
