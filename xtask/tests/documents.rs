//! Documents that are made from the code say what the code says.
#![forbid(unsafe_code)]

#[test]
fn abi_reference_is_up_to_date() {
    let page = xtask::abi_reference::page().expect("shared/abi is readable");
    let written = std::fs::read_to_string(xtask::abi_reference::path()).expect("docs/abi.md");
    assert!(
        page == written,
        "docs/abi.md is not what shared/abi says. Write it anew with\n    cargo run -- abi"
    );
}

#[test]
fn kernel_stays_small() {
    let lines: usize =
        xtask::loc::count().expect("sources are readable").iter().map(|(_, lines)| lines).sum();
    let (built, reserved) = xtask::loc::calls();
    assert!(lines < xtask::loc::LINES_LIMIT, "{lines} lines run in the kernel");
    assert!(built + reserved < xtask::loc::CALLS_LIMIT, "{built} calls and {reserved} reserved");
}

#[test]
fn readme_is_short() {
    let readme = std::fs::read_to_string(xtask::paths::root().join("README.md")).expect("README.md");
    let lines = readme.lines().count();
    assert!(lines <= 100, "README.md has {lines} lines, and should have at most 100");
}
