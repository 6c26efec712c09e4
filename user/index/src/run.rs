//! The command `index`.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use twizzler_abi::object::BASE_OFFSET;
use twizzler_abi::{Error, ObjId};
use twizzler_command::{Complaint, Streams, advised};
use twizzler_names::{Entry, NameError, Names};
use twizzler_object::{Access, Area, Backend, Guard, Space};

use crate::base::IndexRoot;
use crate::index::{Failure, Index, Refusal, Texts};
use crate::query::{Lines, Stat};
use crate::segment::NAME_BYTES_MAX;
use crate::words::normalise;

/// The name under which the index lies.
pub const INDEX_NAME: &str = "/index";

/// How to use the command.
pub const USAGE: &str = "\
usage: index add NAME...            add texts; each replaces the one of its name
       index rm NAME                remove a text
       index search [--lines] WORD...  texts that have all the words: COUNT<TAB>NAME[<TAB>LINE,...], by name
       index top [N]                the N (10) most frequent words: COUNT<TAB>WORD
       index stat                   the index in numbers
       index drop [NAME]            delete the index with all its objects; or another one, which NAME names
COUNT and LINE are those of the first word. A word is letters and digits; case makes no difference.
";

/// Runs the command with `args`, without its own name. Gives the exit status: 0 done, 1 not done, 2 wrong usage.
pub fn run<B: Backend>(space: &Space<B>, args: &[&str], streams: &mut Streams<'_>) -> u8 {
    twizzler_command::run("index", streams, |streams| command(&space.enter(), args, streams))
}

fn command<B: Backend>(
    guard: &Guard<'_, B>,
    args: &[&str],
    streams: &mut Streams<'_>,
) -> Result<(), Complaint> {
    match args {
        ["add", names @ ..] if !names.is_empty() => add(guard, names, streams),
        ["rm", name] => {
            let refused = |failure| explain(&[name.to_string()], failure);
            let index = open(guard)?.ok_or(Failure::Document(0, Refusal::NotIndexed)).map_err(refused)?;
            index.remove(document_name(name)).map_err(refused)
        }
        ["search", "--lines", words @ ..] if !words.is_empty() => {
            search(guard, words, Lines::Wanted, streams)
        }
        ["search", words @ ..] if !words.is_empty() && words[0] != "--lines" => {
            search(guard, words, Lines::Unwanted, streams)
        }
        ["top"] => top(guard, 10, streams),
        ["top", len] => {
            let len = len
                .parse()
                .map_err(|_| Complaint::of(len, "not a number; `index top 20` prints 20 words"))?;
            top(guard, len, streams)
        }
        ["stat"] => stat(guard, streams),
        ["drop"] => delete(guard, INDEX_NAME, streams),
        ["drop", name] => delete(guard, name, streams),
        ["help" | "--help" | "-h"] => {
            (streams.out)(USAGE.as_bytes());
            Ok(())
        }
        _ => Err(Complaint::Usage(USAGE)),
    }
}

/// The name of the document that is added as `name`: `/a` and `a` are the same object, so they are the same document.
fn document_name(name: &str) -> &str {
    name.strip_prefix('/').unwrap_or(name)
}

/// The index, if there is one.
fn open<'g, B: Backend>(guard: &'g Guard<'g, B>) -> Result<Option<Index<'g, B>>, Complaint> {
    Ok(twizzler_command::open_named::<IndexRoot, B>(guard, INDEX_NAME)?.map(|root| Index::new(guard, root)))
}

/// Deletes an index with its name, whatever it consists of.
fn delete<B: Backend>(guard: &Guard<'_, B>, name: &str, streams: &mut Streams<'_>) -> Result<(), Complaint> {
    let failed = |error| Complaint::error(name, error);
    let missing = || Complaint::of(name, "there is no index; `index add` makes one");
    let names = Names::open(guard).map_err(failed)?;
    let root = twizzler_command::open_named::<IndexRoot, B>(guard, name)?.ok_or_else(missing)?;
    let index = Index::new(guard, root);
    let objects = guard.transact(|tx| {
        let objects = index.delete_in(tx).map_err(|error| Complaint::error(name, error))?;
        match names.delete(tx, name).map_err(failed)? {
            id if id == guard.id_of(root.area()) => Ok(objects + 1),
            // The name stands for something else meanwhile.
            _ => Err(Complaint::error(name, Error::Busy)),
        }
    })?;
    (streams.err)(format!("index: {name} deleted: {objects} objects; the texts stay\n").as_bytes());
    Ok(())
}

fn add<B: Backend>(guard: &Guard<'_, B>, names: &[&str], streams: &mut Streams<'_>) -> Result<(), Complaint> {
    let failed = |error| Complaint::error(INDEX_NAME, error);
    let names: Vec<String> = names.iter().map(|name| document_name(name).to_string()).collect();
    let texts = Files { guard, names: Names::open(guard).map_err(failed)? };
    // The index is made in the transaction that first adds to it.
    let (index, added) = guard.transact(|tx| {
        let root = twizzler_command::open_or_create_named::<IndexRoot, B>(tx, &texts.names, INDEX_NAME)?;
        let index = Index::new(guard, root);
        let added = index.add_in(tx, &names, &texts).map_err(|failure| explain(&names, failure))?;
        Ok::<_, Complaint>((index, added))
    })?;
    index.tidy();
    let replaced = match added.replaced {
        0 => String::new(),
        n => format!(", {n} of them replaced"),
    };
    let (documents, words, bytes) = (added.documents, added.words, added.text_bytes);
    (streams.err)(
        format!("index: {documents} texts added{replaced}: {words} words, {bytes} bytes\n").as_bytes(),
    );
    Ok(())
}

fn search<B: Backend>(
    guard: &Guard<'_, B>,
    words: &[&str],
    lines: Lines,
    streams: &mut Streams<'_>,
) -> Result<(), Complaint> {
    let word = |word: &&str| {
        let not_a_word = || Complaint::of(word, "not a word of letters and digits; give each word alone");
        normalise(word).ok_or_else(not_a_word)
    };
    let words = words.iter().map(word).collect::<Result<Vec<_>, _>>()?;
    let Some(index) = open(guard)? else { return Ok(()) };
    for hit in index.search(&words, lines)? {
        let mut line = format!("{}\t{}", hit.count, hit.name);
        for (i, number) in hit.lines.iter().enumerate() {
            line.push(if i == 0 { '\t' } else { ',' });
            line.push_str(&number.to_string());
        }
        line.push('\n');
        (streams.out)(line.as_bytes());
    }
    Ok(())
}

fn top<B: Backend>(guard: &Guard<'_, B>, len: usize, streams: &mut Streams<'_>) -> Result<(), Complaint> {
    let Some(index) = open(guard)? else { return Ok(()) };
    for (count, word) in index.top(len)? {
        (streams.out)(format!("{count}\t{word}\n").as_bytes());
    }
    Ok(())
}

fn stat<B: Backend>(guard: &Guard<'_, B>, streams: &mut Streams<'_>) -> Result<(), Complaint> {
    let stat = match open(guard)? {
        Some(index) => index.stat()?,
        None => Stat::default(),
    };
    let lines = [
        ("documents", stat.documents),
        ("words", stat.words),
        ("occurrences", stat.occurrences),
        ("text_bytes", stat.text_bytes),
        ("index_bytes", stat.bytes),
        ("segments", stat.segments),
        ("objects", stat.objects),
        ("dead_documents", stat.dead),
    ];
    for (what, number) in lines {
        (streams.out)(format!("{what}\t{number}\n").as_bytes());
    }
    Ok(())
}

fn explain(names: &[String], failure: Failure) -> Complaint {
    let (which, refusal) = match failure {
        Failure::System(error) => return error.into(),
        Failure::Document(which, refusal) => (which, refusal),
    };
    let name = names.get(which).map_or("?", String::as_str);
    let wrong = match refusal {
        Refusal::NotUtf8(bad) => format!("not UTF-8 text: byte {}; convert it first", bad.at),
        Refusal::NameTooLong => format!("the name is too long; an index keeps {NAME_BYTES_MAX} bytes"),
        Refusal::NoSuchName => advised(&NameError::NoSuchName),
        Refusal::BadName => advised(&NameError::BadName),
        Refusal::ADirectory => advised(&NameError::IsADirectory),
        Refusal::NotAText => "an object of a type, not a text; `show` tells the type".to_string(),
        Refusal::NotIndexed => return Complaint::of(name, "not in the index; `index search` tells what is"),
        Refusal::System(error) => advised(&error),
    };
    Complaint::of(name, format!("{wrong}; nothing was added"))
}

/// Texts that lie in named objects.
struct Files<'s, B: Backend> {
    guard: &'s Guard<'s, B>,
    names: Names<'s, B>,
}

impl<'s, B: Backend> Files<'s, B> {
    fn area(&self, id: ObjId) -> Result<Area<'s>, Error> {
        self.guard.open_any(id, Access::Read)
    }
}

impl<B: Backend> Texts for Files<'_, B> {
    fn find(&self, name: &str) -> Result<ObjId, Refusal> {
        // Not by a transaction of its own: the caller's may have locked the names.
        let found = self.names.lookup_by(&self.guard, name).and_then(|entry| match entry {
            Entry::Object(id) => Ok(id),
            Entry::Directory => Err(NameError::IsADirectory),
        });
        let id = found.map_err(|error| match error {
            NameError::NoSuchName | NameError::NotADirectory => Refusal::NoSuchName,
            NameError::IsADirectory => Refusal::ADirectory,
            NameError::System(error) => Refusal::System(error),
            _ => Refusal::BadName,
        })?;
        let stat = self.guard.stat(id).map_err(Refusal::System)?;
        if stat.fingerprint != 0 { Err(Refusal::NotAText) } else { Ok(id) }
    }

    fn len_bytes(&self, id: ObjId) -> Result<u64, Error> {
        Ok(self.guard.len_bytes(self.area(id)?))
    }

    fn read(&self, id: ObjId, at: u64, into: &mut [u8]) -> Result<(), Error> {
        let bytes =
            self.area(id)?.span::<u8>(BASE_OFFSET, at + into.len() as u64).ok_or(Error::OutOfRange)?;
        self.guard.read(bytes, at, into)
    }
}
