//! Measures the index on the host: `cargo run --release -p twizzler-index --example measure -- FILE...`
//!
//! Adds the files' texts as one command, then each search is done by a new space, as a new program would: prints MB/s, and what of
//! the index a search reads.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Instant;

use twizzler_abi::{Error, ObjId};
use twizzler_image::MemoryBackend;
use twizzler_index::{Index, IndexRoot, Lines, Refusal, Texts, normalise};
use twizzler_object::{Access, Space};

struct Files(BTreeMap<String, Vec<u8>>, Cell<u64>);

impl Files {
    fn text(&self, id: ObjId) -> &[u8] {
        self.0.values().nth(id.lo as usize).expect("an ID that find gave")
    }
}

impl Texts for Files {
    fn find(&self, name: &str) -> Result<ObjId, Refusal> {
        let place = self.0.keys().position(|n| n == name).ok_or(Refusal::NoSuchName)?;
        Ok(ObjId { hi: 1, lo: place as u64 })
    }
    fn len_bytes(&self, id: ObjId) -> Result<u64, Error> {
        Ok(self.text(id).len() as u64)
    }
    fn read(&self, id: ObjId, at: u64, into: &mut [u8]) -> Result<(), Error> {
        into.copy_from_slice(&self.text(id)[at as usize..][..into.len()]);
        self.1.set(self.1.get() + into.len() as u64);
        Ok(())
    }
}

fn main() {
    let mut files = Files(BTreeMap::new(), Cell::new(0));
    for name in std::env::args().skip(1) {
        match std::fs::read(&name) {
            Ok(text) if std::str::from_utf8(&text).is_ok() => drop(files.0.insert(name, text)),
            Ok(_) => eprintln!("{name}: not UTF-8, left out"),
            Err(error) => eprintln!("{name}: {error}"),
        }
    }
    let backend = MemoryBackend::new();
    let space = Space::attach(&backend).expect("attached");
    let root =
        space.transact(|tx| Ok::<_, Error>(space.id_of(tx.create::<IndexRoot>()?.area()))).expect("made");
    let names: Vec<String> = files.0.keys().cloned().collect();
    let (lines, fences) = (backend.flushed_lines(), backend.fences());
    let start = Instant::now();
    let guard = space.enter();
    let index = Index::new(&guard, guard.open(root, Access::Write).expect("open"));
    let added = index.add(&names, &files).expect("added");
    let seconds = start.elapsed().as_secs_f64();
    let mb = added.text_bytes as f64 / 1e6;
    println!("add     {mb:.1} MB in {seconds:.3} s: {:.1} MB/s; {} words", mb / seconds, added.words);
    println!(
        "        {} lines flushed, {} fences",
        backend.flushed_lines() - lines,
        backend.fences() - fences
    );
    println!("stat    {:?}", index.stat().expect("stat"));
    drop(guard);
    drop(space);
    for words in [vec!["the"], vec!["kernel"], vec!["license", "warranty"], vec!["zebra"]] {
        let start = Instant::now();
        let space = Space::attach(&backend).expect("attached");
        let guard = space.enter();
        let index = Index::new(&guard, guard.open(root, Access::Write).expect("open"));
        let wanted: Vec<_> = words.iter().filter_map(|w| normalise(w)).collect();
        let hits = index.search(&wanted, Lines::Unwanted).expect("search");
        println!(
            "search  {words:?}: {} documents in {:.1} us",
            hits.len(),
            start.elapsed().as_secs_f64() * 1e6
        );
    }
    let space = Space::attach(&backend).expect("attached");
    let guard = space.enter();
    let index = Index::new(&guard, guard.open(root, Access::Write).expect("open"));
    let start = Instant::now();
    let top = index.top(5).expect("top");
    println!("top 5   {top:?} in {:.1} ms", start.elapsed().as_secs_f64() * 1e3);
}
