//! The main job, end to end: texts go in, the power is cut, the machine boots again, and searches answer
//! from the objects as they lie in NVM; against counts that the host makes in the simplest way.
#![forbid(unsafe_code)]

mod support;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use support::Machine;
use twz::size::Bytes;
use xtask::corpus;
use xtask::naive::Counts;

#[test]
fn searches_answer_from_nvm_after_a_power_cut() {
    let machine = Machine::new("work").within(240);
    let texts = corpus::texts(Bytes(2 << 20)).expect("this host has texts");
    let puts: Vec<String> = texts
        .iter()
        .flat_map(|text| ["--put".into(), format!("{}={}", text.path.display(), text.name)])
        .collect();
    let puts: Vec<&str> = puts.iter().map(String::as_str).collect();
    let names: Vec<&str> = texts.iter().map(|text| text.name.as_str()).collect();

    // Add all, hear that it is done, and cut the power: the machine is killed while it stands at its next command.
    let mut command = machine.command(&puts);
    for group in names.chunks(50) {
        command.args(["-c", &format!("index add {}", group.join(" "))]);
    }
    command.args(["-c", "echo added", "-c", "index top 100000", "-c", "index top 100000"]);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("xtask starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let first = lines.next().map(|line| line.expect("text"));
    child.kill().expect("runs");
    child.wait().expect("ends");
    assert_eq!(first.as_deref(), Some("added"));

    let counts = Counts::new(&texts);
    let all: BTreeSet<usize> = (0..texts.len()).collect();
    let words = counts.words();
    let mut queries: Vec<Vec<&str>> =
        vec![vec!["the"], vec!["license", "copyright"], vec!["nosuchwordanywhere"]];
    queries.extend(words.iter().step_by(words.len() / 20).map(|&word| vec![word]));
    for query in &queries {
        let answer = machine.shell(&[&format!("index search {}", query.join(" "))]);
        assert_eq!(answer, counts.search(query, &all), "{query:?}");
    }
    assert_eq!(machine.shell(&["index top 50"]), counts.top(50, &all));
}

#[test]
fn key_value_store_keeps_its_word() {
    let machine = Machine::new("kv");
    machine.shell(&["kv put s b 2", "kv put s a 1", "kv put s c 3", "kv del s b"]);
    assert_eq!(machine.shell(&["kv scan s"]), "a\t1\nc\t3\n");
    assert_eq!(machine.shell(&["kv get s c"]), "3\n");
    let run = machine.run(&["-c", "kv get s b"]);
    assert_eq!((run.status, run.stdout.as_str()), (1, ""), "{run}");
    let lines: String = (0..2000).map(|key| format!("key{key:05}\tvalue {key}\n")).collect();
    let file = machine.write("lines", &lines);
    let run = machine.run(&["--put", &file, "-c", "kv load big lines"]);
    assert_eq!(run.status, 0, "{run}");
    assert!(machine.shell(&["kv scan big"]) == lines, "scan shows something else than what was loaded");
    assert_eq!(machine.shell(&["kv scan big key00010 key00012"]), "key00010\tvalue 10\nkey00011\tvalue 11\n");
}

#[test]
fn index_refuses_what_is_no_text() {
    let machine = Machine::new("refuses");
    let binary = machine.write("binary", [0xff, 0xfe, 0x00, 0x80]);
    let empty = machine.write("empty", "");
    let run = machine.run(&["--put", &binary, "--put", &empty, "-c", "index add binary"]);
    assert_eq!((run.status, run.stdout.as_str()), (1, ""), "{run}");
    assert!(run.stderr.contains("not UTF-8"), "{run}");
    let run = machine.run(&["-c", "index add nothing"]);
    assert_eq!(run.status, 1, "{run}");
    assert!(run.stderr.contains("nothing"), "{run}");
    assert_eq!(machine.shell(&["index add empty", "index search word"]), "");
}
