//! Scheduling and waiting decisions, without a machine.
#![no_std]
