//! The measuring itself, as short as can be, without the peers.
#![forbid(unsafe_code)]

use std::fs;
use std::process::Command;

#[test]
fn figures_become_a_page_with_plots() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let (disk, into) = (folder.path().join("disk"), folder.path().join("docs"));
    fs::create_dir_all(into.join("bench")).expect("a folder can be made");
    let ended = Command::new(env!("CARGO_BIN_EXE_twizzler-bench-hosted"))
        .args(["hop", "tx", "--quick", "--disk"])
        .arg(&disk)
        .arg("--into")
        .arg(&into)
        .output()
        .expect("the program starts");
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));

    let page = fs::read_to_string(into.join("bench-hosted.md")).expect("a page");
    for part in ["## Following a pointer", "| local, L1 | ns |", "| Twizzler |", "a quick run"] {
        assert!(page.contains(part), "no {part} on the page:\n{page}");
    }
    let json = fs::read_to_string(into.join("bench/hosted.json")).expect("the figures");
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let contests = json["sections"]["tx"]["contests"].as_array().expect("contests");
    assert!(contests.iter().all(|contest| contest["rows"][0]["median"].as_f64() > Some(0.0)));
    let plot = fs::read_to_string(into.join("bench/hosted-hop.svg")).expect("a plot");
    assert!(plot.starts_with("<svg") && plot.contains("invariant pointer"));
}
