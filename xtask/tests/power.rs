//! A short power-cut campaign; `cargo run -- powercut` is the long one.
#![forbid(unsafe_code)]

mod support;

use support::{Run, xtask};

#[test]
fn nothing_acknowledged_is_lost_in_power_cuts() {
    let output = xtask(&["powercut", "--rounds", "6", "--text", "3M"]).output().expect("xtask starts");
    let run = Run::of(output, xtask::paths::state().join("powercut/kernel.log"));
    assert_eq!(run.status, 0, "{run}");
    assert!(run.stdout.contains("nothing of them lost"), "{run}");
}
