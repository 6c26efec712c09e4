//! A disk that may lose what was not synced.
//!
//! The [`Recorder`] sees every step that a store takes on its files, and looks before each at what was stored to mapped objects meanwhile.
//! From this history follows what a power cut at any moment may leave: of each sector (512 bytes) the content as of the last sync of its
//! file, or any later one; of the names those as of the last sync of their directory, and as many of the later changes, in order, as got there.

pub(crate) mod cuts;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use twizzler::{Observer, Step};

pub(crate) const SECTOR: usize = 512;
type Sector = Box<[u8; SECTOR]>;
type FileNo = usize;

/// Something that happened.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// Sectors of a file changed: by a call, or by stores to mapped memory.
    Changed {
        file: FileNo,
        sectors: Vec<(u64, Sector)>,
        mapped: bool,
    },
    /// The same, durable once it is over.
    ChangedDurably {
        file: FileNo,
        sectors: Vec<(u64, Sector)>,
    },
    Length {
        file: FileNo,
        bytes: u64,
    },
    /// A name now stands for a file, or for none.
    Names {
        directory: String,
        changes: Vec<(String, Option<FileNo>)>,
    },
    SyncFile {
        file: FileNo,
        path: String,
    },
    SyncDirectory {
        directory: String,
    },
    SyncAll,
    /// The program says where it is.
    Mark(u64),
}

#[derive(Debug, Default)]
struct Seen {
    events: Vec<Event>,
    names: BTreeMap<String, FileNo>,
    /// Content as the program sees it.
    content: HashMap<FileNo, BTreeMap<u64, Sector>>,
    lengths: HashMap<FileNo, u64>,
    files: usize,
    /// Steps still to go before one fails, and which kind does.
    fail: Option<(usize, Fail)>,
}

impl Seen {
    /// A file ends there, or behind it.
    fn lengthen(&mut self, file: FileNo, bytes: u64) {
        let length = self.lengths.entry(file).or_default();
        if *length < bytes {
            *length = bytes;
            self.events.push(Event::Length { file, bytes });
        }
    }
}

/// Which steps fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fail {
    Write,
    SyncObject,
    SyncDirectory(&'static str),
    Allocate,
}

/// Writes down what a store does to its disk.
#[derive(Debug)]
pub(crate) struct Recorder {
    root: PathBuf,
    seen: Mutex<Seen>,
}

impl Recorder {
    /// For the store that is or will be at `root`. What is there already counts as durable.
    pub(crate) fn new(root: &Path) -> Self {
        let recorder = Self { root: root.to_owned(), seen: Mutex::default() };
        let mut seen = recorder.seen.lock().expect("alone");
        for path in paths(root) {
            let no = seen.files;
            seen.files += 1;
            let bytes = fs::metadata(root.join(&path)).expect("there").len();
            seen.names.insert(path.clone(), no);
            seen.lengthen(no, bytes);
            let changes = vec![(path.clone(), Some(no))];
            seen.events.push(Event::Names { directory: directory_of(&path), changes });
        }
        recorder.look_at(&mut seen, |_| true);
        seen.events.push(Event::SyncAll);
        drop(seen);
        recorder
    }

    /// The program says where it is.
    pub(crate) fn mark(&self, mark: u64) {
        let mut seen = self.seen.lock().expect("alone");
        self.look(&mut seen);
        seen.events.push(Event::Mark(mark));
    }

    /// From now on, the `after`th step of that kind fails, and all after it.
    pub(crate) fn fail(&self, after: usize, what: Fail) {
        self.seen.lock().expect("alone").fail = Some((after, what));
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        self.seen.lock().expect("alone").events.clone()
    }

    /// Notes what mapped memory has become. Other files change by calls alone, and one may be going on.
    fn look(&self, seen: &mut Seen) {
        self.look_at(seen, is_mapped);
    }

    fn look_at(&self, seen: &mut Seen, is_wanted: impl Fn(&str) -> bool) {
        let names = seen.names.iter().filter(|(path, _)| is_wanted(path));
        let names: Vec<_> = names.map(|(path, no)| (path.clone(), *no)).collect();
        for (path, file) in names {
            let Ok(now) = sectors_of(&self.root.join(&path)) else { continue };
            let before = seen.content.entry(file).or_default();
            let gone = before.keys().filter(|at| !now.contains_key(at)).copied().collect::<Vec<_>>();
            let mut changed: Vec<(u64, Sector)> = now
                .iter()
                .filter(|(at, sector)| before.get(at) != Some(sector))
                .map(|(at, s)| (*at, s.clone()))
                .collect();
            changed.extend(gone.into_iter().map(|at| (at, Box::new([0; SECTOR]))));
            if !changed.is_empty() {
                *before = now;
                seen.events.push(Event::Changed { file, sectors: changed, mapped: is_mapped(&path) });
            }
        }
    }

    fn change(&self, seen: &mut Seen, file: FileNo, at: u64, bytes: &[u8]) -> Vec<(u64, Sector)> {
        let content = seen.content.entry(file).or_default();
        let mut changed = BTreeSet::new();
        for (i, &byte) in bytes.iter().enumerate() {
            let place = at + i as u64;
            let sector = place / SECTOR as u64;
            content.entry(sector).or_insert_with(|| Box::new([0; SECTOR]))
                [(place % SECTOR as u64) as usize] = byte;
            changed.insert(sector);
        }
        changed.into_iter().map(|sector| (sector, content[&sector].clone())).collect()
    }
}

impl Observer for Recorder {
    fn before(&self, step: Step<'_>) -> io::Result<()> {
        let mut seen = self.seen.lock().expect("alone");
        let seen = &mut *seen;
        self.look(seen);
        if let Some((left, what)) = &mut seen.fail {
            let hit = match (&step, *what) {
                (Step::WriteDurably(..), Fail::Write) => true,
                (Step::SyncFile(path), Fail::SyncObject) => path.starts_with("objects/"),
                (Step::SyncDirectory(path), Fail::SyncDirectory(wanted)) => *path == wanted,
                (Step::Allocate(..), Fail::Allocate) => true,
                _ => false,
            };
            if hit {
                if *left == 0 {
                    let full = *what == Fail::Allocate;
                    return Err(io::Error::from_raw_os_error(if full { 28 } else { 5 }));
                }
                *left -= 1;
            }
        }
        let event = match step {
            Step::Create(path) => {
                let no = seen.files;
                seen.files += 1;
                names(seen, path, vec![(path.to_owned(), Some(no))])
            }
            Step::SetLen(path, bytes) => {
                let file = seen.names[path];
                seen.lengths.insert(file, bytes);
                Event::Length { file, bytes }
            }
            Step::Allocate(..) => return Ok(()),
            Step::Write(path, at, bytes) => {
                let file = seen.names[path];
                seen.lengthen(file, at + bytes.len() as u64);
                let sectors = self.change(seen, file, at, bytes);
                Event::Changed { file, sectors, mapped: false }
            }
            Step::WriteDurably(path, at, bytes) => {
                let file = seen.names[path];
                seen.lengthen(file, at + bytes.len() as u64);
                let sectors = self.change(seen, file, at, bytes);
                Event::ChangedDurably { file, sectors }
            }
            Step::SyncFile(path) => Event::SyncFile { file: seen.names[path], path: path.to_owned() },
            Step::SyncDirectory(path) => Event::SyncDirectory { directory: path.to_owned() },
            Step::SyncAll => Event::SyncAll,
            Step::Rename(from, to) => {
                let Some(&file) = seen.names.get(from) else { return Ok(()) };
                names(seen, to, vec![(from.to_owned(), None), (to.to_owned(), Some(file))])
            }
            Step::Remove(path) => {
                if !seen.names.contains_key(path) {
                    return Ok(());
                }
                names(seen, path, vec![(path.to_owned(), None)])
            }
            other => panic!("the model doesn't know {other:?}"),
        };
        seen.events.push(event);
        Ok(())
    }
}

fn names(seen: &mut Seen, path: &str, changes: Vec<(String, Option<FileNo>)>) -> Event {
    for (name, file) in &changes {
        match file {
            Some(file) => seen.names.insert(name.clone(), *file),
            None => seen.names.remove(name),
        };
    }
    Event::Names { directory: directory_of(path), changes }
}

fn is_mapped(path: &str) -> bool {
    path.starts_with("objects/") || path.starts_with("new/")
}

fn directory_of(path: &str) -> String {
    path.rsplit_once('/').map_or(".", |(directory, _)| directory).to_owned()
}

/// All files of a store.
fn paths(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for directory in ["", "objects/", "new/"] {
        for entry in fs::read_dir(root.join(directory)).into_iter().flatten().flatten() {
            if entry.file_type().expect("known").is_file() {
                found.push(format!("{directory}{}", entry.file_name().to_str().expect("ASCII")));
            }
        }
    }
    found
}

/// What of a file isn't zero.
fn sectors_of(path: &Path) -> io::Result<BTreeMap<u64, Sector>> {
    use rustix::fs::{SeekFrom, seek};
    let file = File::open(path)?;
    let end = file.metadata()?.len();
    let mut sectors = BTreeMap::new();
    let mut at = 0;
    while let Ok(data) = seek(&file, SeekFrom::Data(at)) {
        let hole = seek(&file, SeekFrom::Hole(data))?.min(end);
        let mut bytes = vec![0; (hole - data) as usize];
        file.read_exact_at(&mut bytes, data)?;
        for (i, chunk) in bytes.chunks(SECTOR).enumerate() {
            if chunk.iter().any(|&byte| byte != 0) {
                let mut sector = Box::new([0; SECTOR]);
                sector[..chunk.len()].copy_from_slice(chunk);
                sectors.insert(data / SECTOR as u64 + i as u64, sector);
            }
        }
        at = hole;
    }
    Ok(sectors)
}

/// A generator of choices; one seed replays a run.
#[derive(Clone, Debug)]
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % bound.max(1)
    }
}

/// How the disk chooses between what may have got there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Choice {
    /// Nothing that was not synced.
    Least,
    /// Everything.
    Most,
    /// Anything.
    Random,
    /// Everything stored to mapped memory, but nothing else: the host wrote dirty pages back.
    MappedOnly,
}

/// What may be of one file.
#[derive(Default)]
struct OneFile {
    durable: BTreeMap<u64, Sector>,
    /// Later contents, in order, and if they came by mapped memory.
    later: BTreeMap<u64, Vec<(Sector, bool)>>,
    length: u64,
    later_length: Option<u64>,
}

impl OneFile {
    fn sync(&mut self) {
        for (at, versions) in std::mem::take(&mut self.later) {
            self.durable.insert(at, versions.into_iter().next_back().expect("never empty").0);
        }
        self.length = self.later_length.take().unwrap_or(self.length);
    }
}

/// A name, and the file that it leads to from then on.
type NameChange = (String, Option<FileNo>);

/// Makes in `to` what a power cut before event number `end` may leave; the event before it, if it is a durable write, may be cut off itself
/// where `torn`.
pub(crate) fn cut(events: &[Event], end: usize, torn: bool, choice: Choice, rng: &mut Rng, to: &Path) {
    let mut files: HashMap<FileNo, OneFile> = HashMap::new();
    let mut durable_names: BTreeMap<String, FileNo> = BTreeMap::new();
    let mut later_names: Vec<(&str, &[NameChange])> = Vec::new();
    let apply = |names: &mut BTreeMap<String, FileNo>, changes: &[NameChange]| {
        for (name, file) in changes {
            match file {
                Some(file) => names.insert(name.clone(), *file),
                None => names.remove(name),
            };
        }
    };
    for (number, event) in events[..end].iter().enumerate() {
        match event {
            Event::Changed { file, sectors, mapped } => {
                let file = files.entry(*file).or_default();
                for (at, sector) in sectors {
                    file.later.entry(*at).or_default().push((sector.clone(), *mapped));
                }
            }
            Event::ChangedDurably { file, sectors } => {
                let file = files.entry(*file).or_default();
                for (at, sector) in sectors {
                    if torn && number + 1 == end {
                        file.later.entry(*at).or_default().push((sector.clone(), false));
                    } else {
                        file.later.remove(at);
                        file.durable.insert(*at, sector.clone());
                    }
                }
            }
            Event::Length { file, bytes } => files.entry(*file).or_default().later_length = Some(*bytes),
            Event::Names { directory, changes } => later_names.push((directory, changes)),
            Event::SyncFile { file, .. } => files.entry(*file).or_default().sync(),
            Event::SyncDirectory { directory } => {
                later_names.retain(|(of, changes)| {
                    if *of == directory.as_str() {
                        apply(&mut durable_names, changes);
                    }
                    *of != directory.as_str()
                });
            }
            Event::SyncAll => {
                files.values_mut().for_each(OneFile::sync);
                later_names.drain(..).for_each(|(_, changes)| apply(&mut durable_names, changes));
            }
            Event::Mark(_) => {}
        }
    }
    let kept = match choice {
        Choice::Least | Choice::MappedOnly => 0,
        Choice::Most => later_names.len(),
        Choice::Random => rng.below(later_names.len() + 1),
    };
    later_names[..kept].iter().for_each(|(_, changes)| apply(&mut durable_names, changes));

    for directory in ["objects", "new"] {
        fs::create_dir_all(to.join(directory)).expect("made");
    }
    for (name, file) in durable_names {
        let one = files.entry(file).or_default();
        let out = File::create(to.join(&name)).expect("made");
        let length = match (choice, one.later_length) {
            (Choice::Least | Choice::MappedOnly, _) | (_, None) => one.length,
            (Choice::Most, Some(later)) => later,
            (Choice::Random, Some(later)) => [one.length, later][rng.below(2)],
        };
        let mut content = one.durable.clone();
        for (at, versions) in &one.later {
            let number = match choice {
                Choice::Least => 0,
                Choice::Most => versions.len(),
                Choice::Random => rng.below(versions.len() + 1),
                Choice::MappedOnly => versions.iter().rposition(|version| version.1).map_or(0, |at| at + 1),
            };
            if number > 0 {
                content.insert(*at, versions[number - 1].0.clone());
            }
        }
        for (at, sector) in content {
            out.write_all_at(&*sector, at * SECTOR as u64).expect("room");
        }
        out.set_len(length).expect("room");
    }
}
