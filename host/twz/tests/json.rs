//! The shape of the JSON is a contract: this test writes it down for every command, and compares.
#![forbid(unsafe_code)]

mod common;

use std::collections::BTreeSet;

use common::Bed;
use serde_json::Value;

/// The paths to all values, each with its type; elements of a list count as one.
fn shape(path: &str, value: &Value, lines: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(name, field)| shape(&format!("{path}.{name}"), field, lines))
        }
        Value::Array(items) if items.is_empty() => drop(lines.insert(format!("{path}[]"))),
        Value::Array(items) => items.iter().for_each(|item| shape(&format!("{path}[]"), item, lines)),
        Value::Null => drop(lines.insert(format!("{path}: null"))),
        Value::Bool(_) => drop(lines.insert(format!("{path}: bool"))),
        Value::Number(_) => drop(lines.insert(format!("{path}: number"))),
        Value::String(_) => drop(lines.insert(format!("{path}: string"))),
    }
}

#[test]
fn schema_is_what_is_written_down() {
    let bed = Bed::new();
    bed.write("f", "content");
    let mut all = String::new();
    for command in [
        &["create", "s"][..],
        &["put", "s", "f", "d/f"],
        &["mkdir", "s", "e"],
        &["ln", "s", "d/f", "e"],
        &["mv", "s", "e/f", "g"],
        &["ls", "s"],
        &["tree", "s"],
        &["stat", "s"],
        &["stat", "s", "g"],
        &["show", "s", "g"],
        &["cat", "s", "g"],
        &["get", "s", "g", "h"],
        &["check", "s"],
        &["gc", "s"],
        &["export", "s", "a"],
        &["import", "s", "a"],
        &["backup", "s", "b"],
        &["rm", "-r", "s", "d", "g"],
        &["repair", "s"],
        &["ls", "nothing"],
    ] {
        let run = bed.run(&[&["--json"], command].concat());
        let json = if run.stdout.is_empty() { run.stderr } else { run.stdout };
        let mut lines = BTreeSet::new();
        shape("", &serde_json::from_str(&json).expect("JSON"), &mut lines);
        all.push_str(&format!("{} -> {}\n", command.join(" "), run.status));
        lines.iter().for_each(|line| all.push_str(&format!("    {line}\n")));
    }
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/schema.txt");
    if std::env::var_os("TWZ_WRITE_SCHEMA").is_some() {
        std::fs::write(&path, &all).expect("writable");
    }
    let written = std::fs::read_to_string(&path).expect("readable");
    assert!(written == all, "the JSON has another shape than tests/schema.txt says; it is now:\n{all}");
}
