//! Notes that several processes share: the program of the tutorial.
#![forbid(unsafe_code)]

use std::error::Error;
use std::thread::sleep;
use std::time::Duration;

use twizzler::{Access, HostedBackend, InvBytes, InvPtr, NameError, Names};
use twizzler::{Ptr, Reader, Store, Stored, Tx};

/// The first thing in the object of the notes.
#[derive(Stored)]
#[stored(name = "tutorial.notes", version = 1)]
#[repr(C)]
struct Notes {
    newest: InvPtr<Note>,
    count: u64,
}

/// A note.
#[derive(Stored)]
#[stored(name = "tutorial.note", version = 1)]
#[repr(C)]
struct Note {
    before: InvPtr<Note>,
    author: InvPtr<Person>,
    text: InvBytes,
}

/// The first thing in the object of the people.
#[derive(Stored)]
#[stored(name = "tutorial.people", version = 1)]
#[repr(C)]
struct People {
    newest: InvPtr<Person>,
}

/// Somebody who writes notes.
#[derive(Stored)]
#[stored(name = "tutorial.person", version = 1)]
#[repr(C)]
struct Person {
    before: InvPtr<Person>,
    name: InvBytes,
    notes: u64,
}

/// Who has that name; a new person where nobody has.
fn person<'g>(
    tx: &mut Tx<'g, HostedBackend>,
    people: Ptr<'g, People>,
    name: &str,
) -> Result<Ptr<'g, Person>, twizzler::Error> {
    let first = tx.follow(people.at(People::newest))?;
    let mut next = first;
    while let Some(person) = next {
        let its_name = tx.follow_span(person.at(Person::name))?;
        if tx.to_vec(its_name) == name.as_bytes() {
            return Ok(person);
        }
        next = tx.follow(person.at(Person::before))?;
    }
    let person = tx.alloc::<Person>(people.object())?;
    let name = tx.alloc_bytes(people.object(), name.as_bytes())?;
    tx.link_span(person.at(Person::name), name)?;
    tx.link(person.at(Person::before), first)?;
    tx.link(people.at(People::newest), Some(person))?;
    Ok(person)
}

/// Writes a note.
fn write(store: &Store, author: &str, text: &str) -> Result<(), NameError> {
    let guard = store.enter();
    let names = Names::open(&guard)?;
    guard.transact(|tx| {
        let (notes, people) = open(tx, &names)?;
        tx.lock(notes.object())?;
        tx.lock(people.object())?;
        let author = person(tx, people, author)?;
        tx.set(author.at(Person::notes), tx.get(author.at(Person::notes)) + 1)?;

        let note = tx.alloc::<Note>(notes.object())?;
        let text = tx.alloc_bytes(notes.object(), text.as_bytes())?;
        tx.link_span(note.at(Note::text), text)?;
        tx.link(note.at(Note::author), Some(author))?;
        let before = tx.follow(notes.at(Notes::newest))?;
        tx.link(note.at(Note::before), before)?;
        tx.link(notes.at(Notes::newest), Some(note))?;
        tx.set(notes.at(Notes::count), tx.get(notes.at(Notes::count)) + 1)?;
        Ok(())
    })
}

/// The two objects, by their names; made where they aren't there yet.
fn open<'g>(
    tx: &mut Tx<'g, HostedBackend>,
    names: &Names<'g, HostedBackend>,
) -> Result<(Ptr<'g, Notes>, Ptr<'g, People>), NameError> {
    Ok((object(tx, names, "notes")?, object(tx, names, "people")?))
}

fn object<'g, T: Stored>(
    tx: &mut Tx<'g, HostedBackend>,
    names: &Names<'g, HostedBackend>,
    name: &str,
) -> Result<Ptr<'g, T>, NameError> {
    match names.lookup_by(tx, name) {
        Ok(twizzler::Entry::Object(id)) => {
            let object = tx.open::<T>(id, Access::Write).map_err(twizzler::Error::from)?;
            Ok(object.base())
        }
        Ok(twizzler::Entry::Directory) => Err(NameError::IsADirectory),
        Err(NameError::NoSuchName) => Ok(names.create::<T>(tx, name)?.base()),
        Err(error) => Err(error),
    }
}

/// A note as a line: who wrote it, how many notes that is, and the text.
fn line<'g>(reader: &impl Reader<'g>, note: Ptr<'g, Note>) -> Result<String, twizzler::Error> {
    let damaged = twizzler::Error::Damaged;
    let author = reader.follow(note.at(Note::author))?.ok_or(damaged)?;
    let name = reader.follow_span(author.at(Person::name))?;
    let name = String::from_utf8_lossy(&reader.to_vec(name)).into_owned();
    let text = reader.follow_span(note.at(Note::text))?;
    let text = String::from_utf8_lossy(&reader.to_vec(text)).into_owned();
    let notes = reader.get(author.at(Person::notes));
    Ok(format!("{name} ({notes}): {text}"))
}

/// Prints all notes, the newest first.
fn read(store: &Store) -> Result<(), NameError> {
    let guard = store.enter();
    let names = Names::open(&guard)?;
    let lines = guard.transact(|tx| {
        let (notes, _) = open(tx, &names)?;
        let mut lines = Vec::new();
        let mut next = tx.follow(notes.at(Notes::newest))?;
        while let Some(note) = next {
            lines.push(line(tx, note)?);
            next = tx.follow(note.at(Note::before))?;
        }
        Ok::<_, NameError>(lines)
    })?;
    lines.iter().for_each(|line| println!("{line}"));
    Ok(())
}

/// Waits until there are so many notes, whoever writes them.
fn wait(store: &Store, count: u64) -> Result<(), NameError> {
    loop {
        let guard = store.enter();
        let names = Names::open(&guard)?;
        let there = guard.transact(|tx| {
            let (notes, _) = open(tx, &names)?;
            Ok::<_, NameError>(tx.get(notes.at(Notes::count)))
        })?;
        if there >= count {
            return Ok(());
        }
        drop(guard);
        sleep(Duration::from_millis(10));
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let store = Store::open_or_create("store")?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["write", author, text] => write(&store, author, text)?,
        ["read"] => read(&store)?,
        ["wait", count] => wait(&store, count.parse()?)?,
        _ => return Err("usage: notes write AUTHOR TEXT | read | wait COUNT".into()),
    }
    store.close()?;
    Ok(())
}
