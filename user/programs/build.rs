//! Tells the linker where native programs lie: at the text and data slots of the context band.

fn main() {
    let root = std::env::var("CARGO_MANIFEST_DIR").expect("set by cargo");
    let target = std::env::var("CARGO_CFG_TARGET_OS").expect("set by cargo");
    println!("cargo:rerun-if-changed=program.ld");
    if target == "none" {
        // Position-independent code, so that nothing needs 32-bit addresses, linked to fixed places.
        println!("cargo:rustc-link-arg-bins=--no-pie");
        println!("cargo:rustc-link-arg-bins=--build-id=sha1");
        println!("cargo:rustc-link-arg-bins=--script={root}/program.ld");
    }
}
