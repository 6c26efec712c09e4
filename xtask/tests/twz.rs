//! A store travels: made on Linux, taken into an image, used on Twizzler, and taken back.
#![forbid(unsafe_code)]

mod support;

use support::Machine;

/// Runs `twz`, which must end well. Gives what it prints.
fn twz(words: &[&str]) -> String {
    match twz::cli::answer(words) {
        Ok(answer) => answer.text,
        Err(failure) => panic!("twz {words:?}: {failure}"),
    }
}

#[test]
fn store_made_on_linux_is_used_on_twizzler_and_taken_back() {
    let machine = Machine::new("travels");
    let path = |name: &str| machine.file(name).display().to_string();
    let (store, archive, back, image) = (path("store"), path("there.twz"), path("back.twz"), path("nvm.img"));
    let text = machine.write("first", "Dear reader\n");
    twz(&["create", &store]);
    twz(&["put", &store, &text, "letters/first"]);
    twz(&["export", &store, &archive]);
    twz(&["create", &image, "--size", "256M"]);
    twz(&["import", &image, &archive]);
    let said = machine.shell(&[
        "cat letters/first",
        "put-text letters/answer Dear writer",
        "kv put ages ada 36",
        "kv get ages ada",
    ]);
    assert_eq!(said, "Dear reader\n36\n");
    assert!(twz(&["check", &image]).ends_with("clean\n"));
    twz(&["export", &image, &back]);
    twz(&["import", &store, &back]);
    let answer = path("answer");
    twz(&["get", &store, "letters/answer", &answer]);
    assert_eq!(std::fs::read_to_string(answer).expect("written"), "Dear writer\n");
    assert!(twz(&["ls", "-l", &store]).contains("kv"), "the table came along, with its type");
    assert!(twz(&["check", &store]).ends_with("clean\n"));
    // And there again, where all is as it was.
    assert!(twz(&["import", &image, &back]).starts_with("0 objects and 0 names are new"));
}
