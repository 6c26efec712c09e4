//! Every kind of error: its exit status, what it says, and that nothing has changed.
#![forbid(unsafe_code)]

mod common;

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, symlink};
use std::process::Command;

use common::{Bed, KINDS, content};
use twizzler_abi::ObjId;
use twizzler_abi::id::IdInputs;
use twizzler_abi::rights::ObjectFlags;

#[test]
fn what_is_not_there_is_missing() {
    let bed = Bed::new();
    bed.fails(3, "there is no store s", &["ls", "s"]);
    bed.fails(3, "twz create", &["put", "s", "f"]);
    for kind in KINDS {
        bed.store(kind, kind);
        for command in ["cat", "stat", "show", "rm", "get"] {
            bed.fails(3, "nothing", &[command, kind, "nothing"]);
        }
        bed.fails(3, "f: no such file", &["put", kind, "f"]);
        bed.fails(3, "no such object", &["stat", kind, "00000000000000000000000000000001"]);
        bed.fails(3, "a/b: no such name", &["mkdir", kind, "a/b"]);
        bed.fails(3, "no such", &["mv", kind, "a", "b"]);
        bed.fails(3, "no such", &["ln", kind, "a", "b"]);
        bed.fails(3, "no such", &["export", kind, "archive", "a"]);
        bed.fails(3, "no such file", &["import", kind, "archive"]);
    }
}

#[test]
fn what_is_the_stores_own_is_not_removed() {
    let bed = Bed::new();
    bed.write("f", "content");
    let own = |nonce: &[u8; 16]| {
        let default_rights = twizzler_abi::call::USUAL_RIGHTS;
        let flags = ObjectFlags::PERSISTENT;
        ObjId::derive(&IdInputs { nonce: *nonce, owner: ObjId::NONE, flags, default_rights }).to_string()
    };
    let names = own(b"twizzler names\0\0");
    // A directory has no lanes: its transactions are in a log.
    let of_images = [own(b"twizzler lanes\0\0"), own(b"twizzler lane 00")];
    for kind in KINDS {
        bed.store(kind, kind);
        bed.ok(&["put", kind, "f"]);
        for id in of_images.iter().filter(|_| kind == "image").chain([&names]) {
            bed.fails(4, "is the store's own", &["rm", kind, id]);
            bed.fails(4, "is the store's own", &["rm", kind, id, "--force"]);
            bed.ok(&["ln", kind, id, "own"]);
            bed.ok(&["rm", kind, "own"]);
        }
        assert_eq!(bed.ok(&["ls", kind]), "f\n", "{kind}");
        bed.ok(&["check", kind]);
    }
}

#[test]
fn wrong_command_lines_are_refused() {
    let bed = Bed::new();
    bed.store("image", "s");
    for (what, command) in [
        ("Usage", &["no-such-command"][..]),
        ("Usage", &["ls"]),
        ("lots", &["create", "x", "--size", "lots"]),
        ("8 MiB", &["create", "x", "--size", "1M"]),
        ("2 MiB", &["create", "x", "--size", "9M"]),
        ("single slashes", &["mkdir", "s", "a//b"]),
        ("single slashes", &["mkdir", "s", ".."]),
        ("255 bytes", &["mkdir", "s", &"x".repeat(256)]),
        ("root directory", &["rm", "-r", "s", "/"]),
        ("can't both go", &["--json", "get", "s", "f", "-"]),
        ("can't both go", &["--json", "export", "s", "-"]),
    ] {
        bed.fails(2, what, command);
    }
    assert!(!bed.path("x").exists());
}

#[test]
fn what_is_taken_is_not_overwritten() {
    for kind in KINDS {
        let bed = Bed::new();
        bed.store(kind, "s");
        bed.write("f", "content");
        bed.ok(&["put", "s", "f"]);
        bed.ok(&["mkdir", "s", "d"]);
        bed.fails(4, "s", &["create", "s", "--size", "64M"]);
        bed.fails(4, "s", &["create", "s"]);
        bed.fails(4, "f", &["mkdir", "s", "f"]);
        bed.fails(4, "f/g", &["put", "s", "f", "f/g"]);
        bed.fails(4, "f exists already", &["get", "s", "f"]);
        bed.fails(4, "directory", &["cat", "s", "d"]);
        bed.ok(&["put", "s", "f", "d"]);
        bed.fails(4, "not empty", &["rm", "s", "d"]);
        bed.fails(4, "exists already", &["backup", "s", "f"]);
        bed.fails(4, "exists already", &["export", "s", "f"]);
        bed.fails(2, "itself", &["mv", "s", "d", "d/e"]);
        assert_eq!(bed.read("f"), b"content");
    }
}

#[test]
fn foreign_files_and_folders_are_refused_and_not_touched() {
    let bed = Bed::new();
    bed.write("text", "no image at all\n".repeat(1_000_000));
    bed.write("short", "x");
    bed.write("folder/file", "something");
    fs::create_dir(bed.path("empty")).expect("a folder");
    let before = content(&bed.path(""));
    for command in ["ls", "tree", "stat", "check", "repair", "gc"] {
        bed.fails(5, "not a Twizzler store", &[command, "text"]);
        bed.fails(5, "too small", &[command, "short"]);
        bed.fails(5, "not a store", &[command, "folder"]);
        bed.fails(5, "not a store", &[command, "empty"]);
    }
    bed.fails(5, "text", &["create", "text"]);
    bed.fails(4, "folder", &["create", "folder"]);
    assert!(content(&bed.path("")) == before, "something was written to what is not ours");
    bed.store("directory", "s");
    bed.fails(5, "is not an archive", &["import", "s", "text"]);
}

#[test]
fn zeros_are_an_image_to_be() {
    let bed = Bed::new();
    let file = fs::File::create(bed.path("z")).expect("a file");
    file.set_len(64 << 20).expect("sparse");
    bed.fails(3, "holds no store", &["ls", "z"]);
    bed.ok(&["create", "z"]);
    bed.ok(&["mkdir", "z", "d"]);
    bed.fails(4, "store already", &["create", "z"]);
    assert_eq!(bed.ok(&["ls", "z"]), "d/\n");
}

#[test]
fn damaged_and_newer_superblocks_say_so() {
    let bed = Bed::new();
    bed.store("image", "i");
    bed.store("directory", "d");
    let image = fs::File::options().write(true).open(bed.path("i")).expect("writable");
    image.write_all_at(&[0xff; 4], 252).expect("write");
    bed.ok(&["ls", "i"]);
    let run = bed.run(&["check", "i"]);
    assert_eq!(run.status, 1, "{run:?}");
    assert!(run.stdout.contains("superblock") && run.stdout.contains("not clean"), "{run:?}");
    assert!(bed.ok(&["repair", "i"]).contains("written anew"));
    bed.ok(&["check", "i"]);
    image.write_all_at(&[0xff; 4], 252).expect("write");
    image.write_all_at(&[0xff; 4], 256 * 4096 + 252).expect("write");
    bed.fails(5, "restore", &["ls", "i"]);
    let described = bed.path("d").join("store");
    let mut bytes = fs::read(&described).expect("readable");
    bytes[100] ^= 1;
    fs::write(&described, &bytes).expect("writable");
    bed.fails(5, "checksum", &["ls", "d"]);
    bytes[8] = 9;
    fs::write(&described, &bytes).expect("writable");
    bed.fails(5, "later version", &["ls", "d"]);
}

#[test]
fn image_in_use_is_refused() {
    let bed = Bed::new();
    bed.store("image", "i");
    let file = fs::File::open(bed.path("i")).expect("readable");
    file.lock().expect("locks");
    bed.fails(4, "in use", &["ls", "i"]);
    bed.fails(4, "in use", &["mkdir", "i", "d"]);
    file.unlock().expect("unlocks");
    file.lock_shared().expect("locks");
    bed.ok(&["ls", "i"]);
    bed.fails(4, "in use", &["mkdir", "i", "d"]);
}

#[test]
fn directory_in_use_by_others_serves_what_can_be_shared() {
    let bed = Bed::new();
    bed.store("directory", "d");
    let store = twizzler::Store::open(bed.path("d")).expect("opens");
    bed.ok(&["mkdir", "d", "sub"]);
    bed.ok(&["ls", "d"]);
    bed.fails(4, "in use", &["repair", "d"]);
    bed.fails(4, "in use", &["gc", "d", "--delete"]);
    assert!(
        twizzler::Names::open(&store.enter()).and_then(|names| names.list("")).expect("names").len() == 1
    );
    store.close().expect("closes");
    bed.ok(&["repair", "d"]);
}

#[test]
fn full_image_is_an_error_and_loses_nothing() {
    let bed = Bed::new();
    bed.ok(&["create", "i", "--size", "8M"]);
    bed.write("small", "content");
    bed.write("large", vec![7; 20 << 20]);
    bed.ok(&["put", "i", "small"]);
    bed.fails(6, "full", &["put", "i", "large"]);
    assert_eq!(bed.ok(&["ls", "i"]), "small\n");
    assert_eq!(bed.ok(&["check", "i"]).lines().last(), Some("clean"));
}

#[test]
fn object_over_its_range_is_refused() {
    let bed = Bed::new();
    bed.store("directory", "d");
    fs::File::create(bed.path("huge")).and_then(|file| file.set_len(1 << 39)).expect("sparse");
    bed.fails(6, "longer", &["put", "d", "huge"]);
    assert_eq!(bed.ok(&["ls", "d"]), "");
}

#[test]
fn errors_are_json_too() {
    let bed = Bed::new();
    let run = bed.run(&["--json", "ls", "nothing"]);
    assert_eq!((run.status, run.stdout.as_str()), (3, ""));
    let json: serde_json::Value = serde_json::from_str(&run.stderr).expect("JSON");
    assert_eq!((json["status"].as_str(), json["error"]["kind"].as_str()), (Some("missing"), Some("missing")));
    assert!(json["error"]["what"].as_str().is_some_and(|what| what.contains("nothing")));
}

/// Runs `twz` as somebody without rights, from a folder of its own that everybody can reach.
fn as_nobody(folder: &std::path::Path, arguments: &[&str]) -> (i32, String, String) {
    let twz = folder.join("twz");
    let is_root = Command::new("id").arg("-u").output().expect("id").stdout == b"0\n";
    let mut command = Command::new(if is_root { std::path::Path::new("setpriv") } else { &twz });
    if is_root {
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&twz);
    }
    let output = command.args(arguments).current_dir(folder).output().expect("twz starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

fn set_mode(path: &std::path::Path, file: u32, folder: u32) {
    use std::os::unix::fs::PermissionsExt;
    let about = fs::symlink_metadata(path).expect("it is there");
    for entry in if about.is_dir() { fs::read_dir(path).expect("a folder").collect() } else { Vec::new() } {
        set_mode(&entry.expect("an entry").path(), file, folder);
    }
    let mode = if about.is_dir() { folder } else { file };
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("ours");
}

#[test]
fn who_may_not_write_can_look_and_is_told_so() {
    use std::os::unix::fs::PermissionsExt;
    let outer = tempfile::tempdir().expect("a folder");
    let folder = outer.path();
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).expect("ours");
    // By another program: a test beside this one starts programs, which would hold the copy open for writing.
    let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_twz")).arg(folder.join("twz")).status();
    assert!(copied.expect("cp runs").success());
    let twz = |arguments: &[&str]| {
        let ended = Command::new(folder.join("twz")).args(arguments).current_dir(folder).output();
        assert!(ended.expect("twz starts").status.success(), "{arguments:?}");
    };
    fs::write(folder.join("f"), "content").expect("writes");
    twz(&["create", "directory"]);
    twz(&["create", "image", "--size", "64M"]);
    for store in KINDS {
        twz(&["put", store, "f"]);
        set_mode(&folder.join(store), 0o444, 0o555);
        for (command, said) in [
            (&["ls", store][..], "f\n"),
            (&["cat", store, "f"], "content"),
            (&["check", store], "clean\n"),
            (&["gc", store], "something leads to every object\n"),
        ] {
            let (status, out, err) = as_nobody(folder, command);
            assert!(status == 0 && out.ends_with(said), "{command:?}: {status} {out}{err}");
        }
        let out = std::env::temp_dir().join(format!("twz-nobody-{}", std::process::id()));
        let (status, _, err) = as_nobody(folder, &["backup", store, out.to_str().expect("UTF-8")]);
        let _ = if out.is_dir() { fs::remove_dir_all(&out) } else { fs::remove_file(&out) };
        assert_eq!(status, 0, "{err}");
        for command in [&["put", store, "f", "g"][..], &["rm", store, "f"], &["gc", "--delete", store]] {
            let (status, out, err) = as_nobody(folder, command);
            assert!(
                status == 7 && out.is_empty() && err.lines().count() == 2,
                "{command:?}: {status} {out}{err}"
            );
        }
        set_mode(&folder.join(store), 0o000, 0o000);
        let (status, _, err) = as_nobody(folder, &["ls", store]);
        assert!(status == 7 && err.contains("permission denied"), "{err}");
        set_mode(&folder.join(store), 0o644, 0o755);
    }
}

#[test]
fn wrong_command_lines_are_json_too() {
    let bed = Bed::new();
    for words in [&["ls", "s", "--json", "--bogus"][..], &["--json", "ls"], &["--json", "nonsense"]] {
        let run = bed.run(words);
        assert_eq!((run.status, run.stdout.as_str()), (2, ""), "{words:?}");
        let json: serde_json::Value = serde_json::from_str(&run.stderr).expect("JSON");
        assert_eq!(json["error"]["kind"].as_str(), Some("usage"), "{words:?}");
    }
}

#[test]
fn what_the_host_refuses_is_not_damage() {
    let bed = Bed::new();
    bed.store("directory", "s");
    bed.write("f", "content");
    bed.ok(&["put", "s", "f"]);
    let before = bed.ok(&["tree", "s"]);
    for command in ["check", "repair", "repair --force"] {
        assert_eq!(bed.limited("-v 200000", &format!("{command} s")), Some(6), "{command}");
        assert_eq!(bed.ok(&["tree", "s"]), before, "{command}");
    }
    assert_eq!(bed.ok(&["cat", "s", "f"]), "content");
    assert_eq!(bed.ok(&["check", "s"]).lines().last(), Some("clean"));
}

/// An object that somebody may not read says nothing of what it leads to; but it is not damaged.
#[test]
fn what_may_not_be_read_is_denied() {
    use std::os::unix::fs::PermissionsExt;
    let outer = tempfile::tempdir().expect("a folder");
    let folder = outer.path();
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).expect("ours");
    let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_twz")).arg(folder.join("twz")).status();
    assert!(copied.expect("cp runs").success());
    fs::write(folder.join("f"), "content").expect("writes");
    for arguments in [&["create", "s"][..], &["put", "s", "f"]] {
        let ended = Command::new(folder.join("twz")).args(arguments).current_dir(folder).output();
        assert!(ended.expect("twz starts").status.success(), "{arguments:?}");
    }
    let stat =
        Command::new(folder.join("twz")).args(["--json", "stat", "s", "f"]).current_dir(folder).output();
    let stat: serde_json::Value = serde_json::from_slice(&stat.expect("twz starts").stdout).expect("JSON");
    let object = folder.join("s/objects").join(stat["answer"]["objects"][0]["id"].as_str().expect("an ID"));
    set_mode(&folder.join("s"), 0o444, 0o555);
    assert_eq!(as_nobody(folder, &["export", "s", "-"]).0, 0);
    set_mode(&object, 0, 0);
    let (status, out, err) = as_nobody(folder, &["export", "s", "-"]);
    assert!(status == 7 && err.contains("not grant"), "{status} {out}{err}");
    set_mode(&folder.join("s"), 0o644, 0o755);
}

#[test]
fn only_regular_files_are_replaced() {
    let bed = Bed::new();
    bed.store("directory", "s");
    bed.write("f", "content");
    bed.ok(&["put", "s", "f"]);
    bed.write("old", "old");
    symlink("old", bed.path("link")).expect("a link");
    bed.ok(&["get", "s", "f", "link", "--force"]);
    assert_eq!(bed.read("old"), b"content");
    assert!(bed.path("link").symlink_metadata().expect("there").is_symlink());
    let made = Command::new("mkfifo").arg(bed.path("fifo")).status().expect("mkfifo starts");
    assert!(made.success());
    for words in [&["get", "s", "f", "fifo", "--force"][..], &["export", "s", "fifo", "--force"]] {
        bed.fails(4, "no regular file", words);
        assert!(!bed.path("fifo").metadata().expect("there").is_file());
    }
}

#[test]
fn a_limit_on_file_sizes_is_an_error() {
    let bed = Bed::new();
    bed.store("directory", "s");
    bed.write("f", vec![7; 4 << 20]);
    for command in ["create t", "create i --size 64M", "put s f"] {
        assert_eq!(bed.limited("-f 1000", command), Some(6), "{command}");
    }
    assert_eq!(bed.ok(&["check", "s"]).lines().last(), Some("clean"));
    let full = File::options().write(true).open("/dev/full").expect("Linux has it");
    let status = bed.command(&["--json", "ls", "s"]).stdout(full).status().expect("twz starts");
    assert_eq!(status.code(), Some(6));
}
