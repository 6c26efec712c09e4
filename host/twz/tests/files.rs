//! What people do every day, on stores of both kinds.
#![forbid(unsafe_code)]

mod common;

use common::{Bed, KINDS};

#[test]
fn files_go_in_and_come_out_unchanged() {
    for kind in KINDS {
        let bed = Bed::new();
        bed.store(kind, "s");
        let large: Vec<u8> =
            (0..5_000_123_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        bed.write("large", &large);
        bed.write("empty", "");
        bed.ok(&["put", "s", "large"]);
        bed.ok(&["put", "s", "large", "deep/down/copy"]);
        bed.ok(&["put", "s", "empty"]);
        bed.ok(&["get", "s", "large", "out"]);
        bed.ok(&["get", "s", "/deep/down/copy"]);
        bed.ok(&["get", "s", "empty", "nothing"]);
        assert!(bed.read("out") == large && bed.read("copy") == large, "{kind}");
        assert!(bed.read("nothing").is_empty());
        assert_eq!(bed.ok(&["ls", "s"]), "deep/\nempty\nlarge\n", "{kind}");
        assert_eq!(bed.ok(&["tree", "s"]), "deep/\n  down/\n    copy\nempty\nlarge\n", "{kind}");
        assert_eq!(bed.ok(&["ls", "s", "deep/down/"]), "copy\n");
        assert_eq!(bed.ok(&["check", "s"]).lines().last(), Some("clean"), "{kind}");
    }
}

#[test]
fn folders_go_in_and_come_out() {
    for kind in KINDS {
        let bed = Bed::new();
        bed.store(kind, "s");
        bed.write("folder/a", "one");
        bed.write("folder/b/c", "two");
        bed.ok(&["put", "s", "folder"]);
        bed.ok(&["get", "s", "folder", "back"]);
        assert_eq!((bed.read("back/a"), bed.read("back/b/c")), (b"one".to_vec(), b"two".to_vec()));
    }
}

/// As the shell's completion writes them.
#[test]
fn folders_with_a_slash_at_their_end_have_the_same_name() {
    let bed = Bed::new();
    bed.store("directory", "s");
    bed.write("folder/a", "one");
    bed.write("f", "mine");
    bed.ok(&["put", "s", "f", "a"]);
    for folder in ["folder/", "./folder//", "folder/.", "folder/../folder/"] {
        bed.ok(&["put", "s", folder]);
        assert_eq!(bed.ok(&["tree", "s"]), "a\nfolder/\n  a\n", "{folder}");
        assert_eq!(bed.ok(&["cat", "s", "a", "folder/a"]), "mineone");
        bed.ok(&["rm", "-r", "s", "folder"]);
    }
    // The folder's own name, wherever the path leads.
    bed.write("folder/b/c", "two");
    bed.ok(&["put", "s", "folder/b/.."]);
    assert_eq!(bed.ok(&["tree", "s"]), "a\nfolder/\n  a\n  b/\n    c\n");
    bed.fails(2, "a name", &["put", "s", "/"]);
    let odd: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(b"odd\xff");
    std::fs::write(bed.path("").join(odd), "content").expect("a file");
    let put = bed.command(&["put", "s"]).arg(odd).output().expect("twz runs");
    assert_eq!(put.status.code(), Some(2), "{put:?}");
}

#[test]
fn a_name_that_is_a_dash_is_no_pipe() {
    let bed = Bed::new();
    bed.store("directory", "s");
    bed.write("f", "content");
    bed.ok(&["put", "s", "f", "d/-"]);
    assert_eq!(bed.ok(&["get", "s", "d/-"]), "");
    assert_eq!(bed.read("-"), b"content");
}

#[test]
fn who_closes_the_pipe_has_seen_enough() {
    let bed = Bed::new();
    bed.store("directory", "s");
    bed.write("f", "no line ends here");
    bed.write("long", vec![b'x'; 5 << 20]);
    for file in ["f", "long"] {
        bed.ok(&["put", "s", file]);
        for arguments in [&["cat", "s", file][..], &["get", "s", file, "-"]] {
            let (reader, writer) = std::io::pipe().expect("a pipe");
            drop(reader);
            let run = bed.command(arguments).stdout(writer).output().expect("twz runs");
            assert_eq!(run.status.code(), Some(0), "{arguments:?}: {run:?}");
        }
    }
}

#[test]
fn a_file_that_appears_meanwhile_is_not_replaced() {
    let bed = Bed::new();
    let path = bed.path("out");
    let mut out = twz::out::Out::new(&path, false).expect("nothing is there");
    std::io::Write::write_all(out.file(), b"ours").expect("writes");
    bed.write("out", "theirs");
    let failure = out.finish().expect_err("it is taken");
    assert_eq!(failure.status, twz::status::Status::Conflict, "{failure}");
    assert_eq!(bed.read("out"), b"theirs");
    let mut out = twz::out::Out::new(&path, true).expect("is to be replaced");
    std::io::Write::write_all(out.file(), b"ours").expect("writes");
    out.finish().expect("replaces");
    assert_eq!(bed.read("out"), b"ours");
    assert_eq!(std::fs::read_dir(bed.path("")).expect("a folder").count(), 1, "nothing else is left");
}

#[test]
fn a_folder_with_what_can_not_be_put_changes_nothing() {
    let bed = Bed::new();
    bed.store("directory", "s");
    std::fs::create_dir(bed.path("d")).expect("a folder");
    bed.write("d/a", "content");
    let odd = bed.path("d/odd");
    let nothing_was_put = |status: u8, words: &str| {
        bed.fails(i32::from(status), words, &["put", "s", "d"]);
        assert_eq!(bed.ok(&["ls", "s"]), "");
        std::fs::remove_file(&odd).expect("there");
    };
    let _listening = std::os::unix::net::UnixListener::bind(&odd).expect("a socket");
    nothing_was_put(4, "neither a file nor a folder");
    std::os::unix::fs::symlink(".", &odd).expect("a link");
    nothing_was_put(4, "a link to a folder");
    std::os::unix::fs::symlink("a", &odd).expect("a link");
    bed.ok(&["put", "s", "d"]);
    assert_eq!(bed.ok(&["cat", "s", "d/odd"]), "content");
}

#[test]
fn pipes_work_both_ways() {
    let bed = Bed::new();
    bed.store("directory", "s");
    assert_eq!(bed.run_with(&["put", "s", "-", "from/pipe"], b"some text\n").status, 0);
    assert_eq!(bed.ok(&["cat", "s", "from/pipe", "from/pipe"]), "some text\nsome text\n");
    assert_eq!(bed.ok(&["get", "s", "from/pipe", "-"]), "some text\n");
    bed.run_with(&["put", "s", "-"], b"text").failed(2, "a name");
}

#[test]
fn putting_again_replaces_and_gives_the_room_back() {
    for kind in KINDS {
        let bed = Bed::new();
        bed.store(kind, "s");
        let used = |bed: &Bed| bed.json(&["stat", "s"])["objects"].clone();
        bed.write("f", "first");
        bed.ok(&["put", "s", "f"]);
        let before = used(&bed);
        bed.write("f", "second, longer");
        bed.ok(&["put", "s", "f"]);
        assert_eq!(bed.ok(&["cat", "s", "f"]), "second, longer");
        assert_eq!(used(&bed), before, "{kind}");
    }
}

#[test]
fn names_are_changed() {
    for kind in KINDS {
        let bed = Bed::new();
        bed.store(kind, "s");
        bed.write("f", "content");
        bed.ok(&["put", "s", "f"]);
        bed.ok(&["mkdir", "s", "d", "d/e"]);
        bed.ok(&["mkdir", "-p", "s", "d/e", "x/y/z"]);
        bed.ok(&["mv", "s", "f", "d/e"]);
        bed.ok(&["ln", "s", "d/e/f", "again"]);
        assert_eq!(bed.ok(&["tree", "s"]), "again\nd/\n  e/\n    f\nx/\n  y/\n    z/\n");
        bed.ok(&["rm", "-r", "s", "d", "x"]);
        assert_eq!(bed.ok(&["cat", "s", "again"]), "content", "an object lives as long as it has a name");
        bed.ok(&["rm", "s", "again"]);
        assert_eq!(bed.ok(&["ls", "s"]), "");
        assert_eq!(bed.ok(&["gc", "s"]), "something leads to every object\n", "{kind}");
    }
}

#[test]
fn rm_is_all_or_nothing() {
    let bed = Bed::new();
    bed.store("directory", "s");
    bed.write("f", "content");
    bed.ok(&["put", "s", "f"]);
    bed.fails(3, "nothing", &["rm", "s", "f", "nothing"]);
    assert_eq!(bed.ok(&["ls", "s"]), "f\n");
    bed.ok(&["ln", "s", "f", "g"]);
    bed.ok(&["rm", "s", "f", "g", "f"]);
    assert_eq!(bed.ok(&["ls", "s"]), "");
}

#[test]
fn objects_are_described() {
    for kind in KINDS {
        let bed = Bed::new();
        bed.store(kind, "s");
        bed.write("f", "0123456789abcdefXYZ");
        bed.ok(&["put", "s", "f"]);
        bed.ok(&["ln", "s", "f", "g"]);
        let facts = bed.json(&["stat", "s", "f"])["objects"][0].clone();
        assert_eq!((facts["kind"].as_str(), facts["len_bytes"].as_u64()), (Some("file"), Some(19)));
        assert_eq!(facts["names"], serde_json::json!(["f", "g"]));
        let id = facts["id"].as_str().expect("an ID").to_owned();
        assert_eq!(bed.ok(&["cat", "s", &id]), "0123456789abcdefXYZ", "an ID is as good as a name");
        let shown = bed.ok(&["show", "s", "f"]);
        assert!(
            shown.contains(&id) && shown.contains("30 31 32") && shown.contains("0123456789abcdef\n"),
            "{shown}"
        );
        assert!(shown.contains("XYZ"));
        assert!(bed.ok(&["ls", "-l", "s"]).contains(&id));
        let part = bed.json(&["show", "s", "f", "--from", "16", "--bytes", "2"]);
        assert_eq!(part["bytes"], "5859");
    }
}

#[test]
fn what_only_looks_changes_no_image() {
    let bed = Bed::new();
    bed.store("image", "s");
    bed.write("f", "content");
    bed.ok(&["put", "s", "f"]);
    let before = bed.read("s");
    for command in [
        &["ls", "s"][..],
        &["tree", "s"],
        &["stat", "s", "f"],
        &["show", "s", "f"],
        &["cat", "s", "f"],
        &["get", "s", "f", "g"],
        &["check", "s"],
        &["gc", "s"],
        &["export", "s", "a"],
        &["backup", "s", "b"],
    ] {
        bed.ok(command);
        assert!(bed.read("s") == before, "{command:?} has changed the image");
    }
    assert!(bed.read("b") == before);
}

#[test]
fn help_suffices() {
    let bed = Bed::new();
    let help = bed.ok(&["--help"]);
    for word in ["create", "backup", "export", "import", "gc", "Examples", "Exit status"] {
        assert!(help.contains(word), "{word}");
    }
    for command in [
        "create", "ls", "tree", "stat", "show", "cat", "put", "get", "mkdir", "mv", "ln", "rm", "check",
        "repair", "gc", "backup", "export", "import",
    ] {
        let help = bed.ok(&[command, "--help"]);
        assert!(help.contains("Usage: twz") && help.lines().count() > 5, "{command}: {help}");
        assert!(help.contains("Example"), "{command} has no example");
    }
}

#[test]
fn what_is_too_much_for_one_answer_is_refused() {
    let bed = Bed::new();
    bed.store("directory", "s");
    let file = std::fs::File::create(bed.path("f")).expect("a file");
    file.set_len(300 << 20).expect("sparse");
    bed.ok(&["put", "s", "f"]);
    let run = bed.command(&["--json", "cat", "s", "f"]).stdout(std::process::Stdio::null()).output();
    let run = run.expect("twz runs");
    assert!(run.status.code() == Some(6) && String::from_utf8_lossy(&run.stderr).contains("one answer"));
}

#[test]
fn what_does_not_fit_leaves_no_trace() {
    let bed = Bed::new();
    bed.ok(&["create", "s", "--size", "16M"]);
    bed.write("kept", "abc");
    bed.ok(&["put", "s", "kept"]);
    bed.write("large", vec![7; 40 << 20]);
    let free = |bed: &Bed| bed.json(&["stat", "s"])["free_bytes"].as_u64().expect("a number");
    bed.fails(6, "full", &["put", "s", "large", "d/large"]);
    let once = free(&bed);
    bed.fails(6, "full", &["put", "s", "large", "d/large"]);
    assert_eq!(free(&bed), once);
    assert_eq!(bed.ok(&["tree", "s"]), "kept\n");
    assert_eq!(bed.ok(&["cat", "s", "kept"]), "abc");
    assert_eq!(bed.ok(&["check", "s"]).lines().last(), Some("clean"));
}
