//! The programming model: typed objects, invariant pointers, transactions, allocation, collections.
#![no_std]
