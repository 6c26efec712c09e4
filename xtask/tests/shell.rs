//! What people see at the shell when something is wrong, and what deleting leaves.
#![forbid(unsafe_code)]

mod support;

use support::Machine;

/// Status of what is no program (`docs/running.md`).
const NO_PROGRAM: i32 = 58;

/// Commands that fail, and what each says: what was wrong and what to do.
const WRONG: &[(&str, &str)] = &[
    ("cat nosuch", "cat: nosuch: no such name; `ls` and `tree` list the names"),
    ("cat dir", "cat: dir: is a directory; name what is in it: `ls` lists that"),
    (
        "cat store",
        "cat: store holds a key-value store, not a file; `kv scan store` writes its entries, `kv load` reads such lines",
    ),
    ("cp store copy", "cp: store holds a key-value store, not a file; `kv scan store` writes its entries"),
    ("echo x > index", "index: index holds an index, not a file; `index help` tells how to use it"),
    ("rm index", "rm: index holds an index; `index drop index` deletes it with all its objects"),
    ("rm -r /", "rm: index holds an index"),
    ("rm dir", "rm: dir: directory is not empty; `rm -r` removes it with all that is in it"),
    ("mkdir text", "mkdir: text: name exists already; choose another, or `rm` that one first"),
    ("run text", "run: text: not an ELF program; only programs that were built for Twizzler can be run"),
    ("text", "text: text: not an ELF program"),
    ("run nosuch", "run: there is no program `nosuch`; `help` lists those of the system, `ls` the names"),
    ("nosuch", "nosuch: no such command; try `help`"),
    ("help nosuch", "help: there is no command `nosuch`; `help` lists all"),
    (
        "help kv",
        "help: `kv` is a program that keeps keys and values in order; `kv --help` tells how to use it",
    ),
    ("echo 'open", "shell: ' is not closed; quote or escape it to use it as text"),
    ("kv get nosuch key", "kv: nosuch: no such store; `kv put` and `kv load` make one, `ls` lists the names"),
    (
        "kv get text key",
        "kv: text: wrong type: it holds bytes, not twizzler.kv of this version; give another name",
    ),
    ("kv get store nosuch", "kv: nosuch: no such key; `kv scan STORE` lists the keys"),
    ("index add nosuch", "index: nosuch: no such name; `ls` and `tree` list the names; nothing was added"),
    ("index rm nosuch", "index: nosuch: not in the index; `index search` tells what is"),
    (
        "index drop text",
        "index: text: wrong type: it holds bytes, not twz.index.root of this version; give another name",
    ),
];

#[test]
fn messages_say_what_was_wrong_and_what_to_do() {
    let machine = Machine::new("messages").within(120);
    machine.shell(&[
        "echo some words > text",
        "mkdir dir",
        "echo more words > dir/more",
        "kv put store key value",
        "index add text dir/more",
    ]);
    let arguments: Vec<&str> =
        WRONG.iter().flat_map(|(command, _)| ["-c", command, "-c", "echo $?"]).collect();
    let run = machine.run(&arguments);
    let statuses: Vec<&str> = run.stdout.lines().collect();
    assert_eq!(statuses.len(), WRONG.len(), "{run}");
    for ((command, says), status) in WRONG.iter().zip(statuses) {
        assert_ne!(status, "0", "`{command}` did not fail\n{run}");
        assert!(run.stderr.contains(says), "`{command}` does not say {says:?}\n{run}");
    }
    assert_eq!(machine.shell(&["index search words", "kv get store key"]), "1\tdir/more\n1\ttext\nvalue\n");
}

#[test]
fn deleting_leaves_no_object_behind() {
    let machine = Machine::new("deleting").within(120);
    let objects = || {
        let nvm = machine.shell(&["nvm"]);
        let line = nvm.lines().find(|line| line.starts_with("persistent objects")).expect("nvm counts them");
        line.split_whitespace().next_back().expect("a number").parse::<u32>().expect("a number")
    };
    // Descriptions of types are shared and stay, so they are made first.
    machine.shell(&["echo some words > text", "kv put other key value", "index add text", "index drop"]);
    let before = objects();
    machine.shell(&["index add text", "index add text", "kv put store key value"]);
    assert!(objects() > before);
    machine.shell(&["index drop", "rm store"]);
    assert_eq!(objects(), before);
    assert_eq!(machine.shell(&["ls"]), "other\ntext\n");
}

#[test]
fn a_program_that_was_put_runs_by_its_name() {
    let machine = Machine::new("put");
    machine.shell(&["echo built"]);
    let folder = xtask::paths::target().join("bare/user/x86_64-unknown-none/release");
    let program = folder.join("vector").display().to_string();
    let run = machine.run(&["--put", &format!("{program}=mine"), "-c", "mine"]);
    assert_eq!(run.status, 0, "{run}");
    assert!(run.stdout.starts_with("vector: "), "{run}");
    // It has stayed; its length is the file's; another name runs it as well.
    let run = machine.run(&["-c", "mv mine other", "-c", "run other && cp other third && third"]);
    assert_eq!((run.status, run.stdout.lines().count()), (0, 2), "{run}");
    // What is cut short is refused.
    let mut cut = std::fs::read(&program).expect("built");
    cut.truncate(cut.len() / 2);
    let cut = machine.write("cut", cut);
    let run = machine.run(&["--put", &cut, "-c", "cut"]);
    assert_eq!(run.status, NO_PROGRAM, "{run}");
    assert!(run.stderr.contains("cut: the program's file is truncated"), "{run}");
}
