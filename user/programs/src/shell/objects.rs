//! Commands about objects and their names.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use twizzler_abi::call::{ObjectStat, StatOp};
use twizzler_abi::rights::ObjectFlags;
use twizzler_abi::{Error, Life, ObjId, Rights};
use twizzler_command::advised;
use twizzler_names::{Entry, NameError};
use twizzler_rt::call;

use super::failure::{Failure, Outcome};
use super::machine::rights_text;
use super::names::{Directory, Last};
use super::output::Output;
use super::{Shell, Style, kinds};
use crate::text::{Table, bytes, columns};

/// Places that `show` shows of an object: its base, and what the pointers in it lead to.
const PLACES_MAX: usize = 16;
/// Columns that a list of names may take.
const LIST_COLUMNS: usize = 80;

impl<'s> Shell<'s> {
    /// The persistent names, if there are any.
    pub(super) fn directory(&self) -> Result<&Directory<'s>, Failure> {
        self.directory.as_ref().map_err(|error| {
            Failure::new(format!("names can't be used: {}; volatile objects go by their IDs", advised(error)))
        })
    }

    /// The object of a name or of an ID.
    pub(super) fn object(&self, text: &str) -> Result<ObjId, Failure> {
        let entry = self.directory().and_then(|directory| directory.lookup(text).map_err(Failure::of(text)));
        match (entry, text.parse()) {
            (Ok(Entry::Object(id)), _) | (_, Ok(id)) => Ok(id),
            (Ok(Entry::Directory), _) => Err(Failure::of(text)(NameError::IsADirectory)),
            (Err(failure), Err(_)) => Err(failure),
        }
    }

    /// The names of each object.
    pub(super) fn names_by_id(&self) -> Result<BTreeMap<ObjId, Vec<String>>, Failure> {
        let mut names: BTreeMap<ObjId, Vec<String>> = BTreeMap::new();
        for (path, entry) in self.directory()?.tree("").map_err(Failure::of("/"))? {
            if let Entry::Object(id) = entry {
                names.entry(id).or_default().push(path);
            }
        }
        Ok(names)
    }

    /// Whether an object has at most one name. Not, where not all names can be read.
    pub(super) fn last_name(&self, id: ObjId) -> Last {
        let is_last = |names: BTreeMap<_, Vec<_>>| names.get(&id).is_none_or(|names| names.len() <= 1);
        if self.names_by_id().is_ok_and(is_last) { Last::Yes } else { Last::No }
    }
}

/// What a name is followed by in lists.
const fn slash(entry: &Entry) -> &'static str {
    match entry {
        Entry::Directory => "/",
        Entry::Object(_) => "",
    }
}

fn last_part(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// What an object is, in one word.
fn kind(stat: &ObjectStat) -> &'static str {
    let flags = ObjectFlags::from_bits_truncate(stat.flags);
    if flags.contains(ObjectFlags::VIEW) {
        "view"
    } else if flags.contains(ObjectFlags::THREAD) {
        "thread"
    } else if stat.quarantine != 0 {
        "damaged"
    } else if stat.fingerprint != 0 {
        "typed"
    } else {
        "file"
    }
}

/// `ls [-a] [-l] [DIRECTORY]`.
pub(super) fn ls(shell: &mut Shell<'_>, arguments: &[&str], output: &mut Output) -> Outcome {
    let mut all = false;
    let mut long = false;
    let mut path = None;
    for argument in arguments {
        match *argument {
            "-a" => all = true,
            "-l" => long = true,
            "-al" | "-la" => (all, long) = (true, true),
            option if option.starts_with('-') => return Err(Failure::Usage),
            other if path.is_none() => path = Some(other),
            _ => return Err(Failure::Usage),
        }
    }
    let path = path.unwrap_or("");
    let directory = shell.directory()?;
    let mut entries = match directory.list(path) {
        Err(NameError::NotADirectory) => {
            [(path.to_string(), directory.lookup(path).map_err(Failure::of(path))?)].into()
        }
        listed => listed.map_err(Failure::of(if path.is_empty() { "/" } else { path }))?,
    };
    entries.retain(|(name, _)| all || !name.starts_with('.'));
    if long {
        output.lines(long_list(&entries));
        return Ok(0);
    }
    let names: Vec<String> = entries.into_iter().map(|(name, entry)| name + slash(&entry)).collect();
    match shell.style {
        Style::Terminal => output.lines(columns(&names, LIST_COLUMNS)),
        Style::Script => output.lines(names),
    }
    Ok(0)
}

fn long_list(entries: &[(String, Entry)]) -> Vec<String> {
    let mut table = Table::new(&["OBJECT", "KIND", ">LENGTH", ">STORED", "NAME"]);
    for (name, entry) in entries {
        let Entry::Object(id) = *entry else {
            let kind = "directory".into();
            table.row([String::new(), kind, String::new(), String::new(), format!("{name}/")]);
            continue;
        };
        let stat = call::stat(StatOp::Usage, id);
        let id = id.to_string();
        let row = match stat {
            Ok(stat) => {
                let stored = bytes((stat.pages + stat.tables) * twizzler_abi::address::PAGE_BYTES);
                [id, kind(&stat).into(), stat.len_bytes.to_string(), stored, name.clone()]
            }
            Err(error) => [id, error.to_string(), String::new(), String::new(), name.clone()],
        };
        table.row(row);
    }
    if table.is_empty() { Vec::new() } else { table.lines() }
}

/// `tree [DIRECTORY]`.
pub(super) fn tree(shell: &mut Shell<'_>, arguments: &[&str], output: &mut Output) -> Outcome {
    let path = match *arguments {
        [] => "",
        [path] => path,
        _ => return Err(Failure::Usage),
    };
    let directory = shell.directory()?;
    let below = directory.tree(path).map_err(Failure::of(if path.is_empty() { "/" } else { path }))?;
    for (path, entry) in &below {
        let depth = path.split('/').count() - 1;
        output.line(format!("{}{}{}", "  ".repeat(depth), last_part(path), slash(entry)));
    }
    Ok(0)
}

/// `show OBJECT...`.
pub(super) fn show(shell: &mut Shell<'_>, arguments: &[&str], output: &mut Output) -> Outcome {
    if arguments.is_empty() {
        return Err(Failure::Usage);
    }
    for (index, name) in arguments.iter().enumerate() {
        let id = shell.object(name)?;
        let stat = call::stat(StatOp::Usage, id).map_err(Failure::of(name))?;
        if index > 0 {
            output.line("");
        }
        describe(shell, &stat, output);
        if stat.fingerprint != 0 {
            values(shell, id, output);
        }
    }
    Ok(0)
}

/// Shows what is in an object whose type somebody has described.
fn values(shell: &Shell<'_>, id: ObjId, output: &mut Output) {
    let Ok(directory) = shell.directory() else { return };
    match directory.dump(id, PLACES_MAX) {
        Ok(None) => {}
        Ok(Some(dump)) => {
            output.line("");
            output.bytes(dump.to_string().as_bytes());
            if dump.truncated {
                output.line("...");
            }
        }
        Err(error) => output.line(format!("its values can't be shown: {}", advised(&error))),
    }
}

fn describe(shell: &Shell<'_>, stat: &ObjectStat, output: &mut Output) {
    let flags = ObjectFlags::from_bits_truncate(stat.flags);
    let life = match flags.life() {
        Life::Persistent => "persistent",
        Life::Volatile => "volatile",
    };
    let size = if stat.size_class == 0 { "small (1 GiB)" } else { "large (512 GiB)" };
    let mut table = Table::new(&["", ""]);
    let mut row = |name: &str, value: String| table.row([name.to_string(), value]);
    row("object", stat.id.to_string());
    if let Some(names) = shell.names_by_id().ok().and_then(|mut names| names.remove(&stat.id)) {
        row(if names.len() == 1 { "name" } else { "names" }, names.join(", "));
    }
    row("kind", format!("{life} {}, {size}", kind(stat)));
    row("rights", rights_text(Rights::from_bits_truncate(stat.default_rights)));
    if stat.fingerprint != 0 {
        let name = shell.directory().ok().and_then(|directory| directory.type_name(stat.id));
        row("type", name.unwrap_or_else(|| format!("fingerprint {:016x}", stat.fingerprint)));
    }
    if !stat.owner.is_none() {
        row("owner", stat.owner.to_string());
    }
    row("length", format!("{} bytes", stat.len_bytes));
    let stored = bytes((stat.pages + stat.tables) * twizzler_abi::address::PAGE_BYTES);
    row("stored", format!("{stored} ({} pages, {} tables)", stat.pages, stat.tables));
    row("mappings", stat.mappings.to_string());
    if let Some(error) = Error::from_number(stat.quarantine) {
        row("quarantine", error.to_string());
    }
    output.lines(table.lines().into_iter().skip(1));
}

/// `create NAME...`.
pub(super) fn create(shell: &mut Shell<'_>, arguments: &[&str], output: &mut Output) -> Outcome {
    if arguments.is_empty() {
        return Err(Failure::Usage);
    }
    for name in arguments {
        let id = shell.directory()?.create(name).map_err(Failure::of(name))?;
        output.line(id.to_string());
    }
    Ok(0)
}

/// `mkdir NAME...`.
pub(super) fn mkdir(shell: &mut Shell<'_>, arguments: &[&str], _: &mut Output) -> Outcome {
    if arguments.is_empty() {
        return Err(Failure::Usage);
    }
    for name in arguments {
        shell.directory()?.make_directory(name).map_err(Failure::of(name))?;
    }
    Ok(0)
}

/// `name ID NAME`.
pub(super) fn name(shell: &mut Shell<'_>, arguments: &[&str], _: &mut Output) -> Outcome {
    let &[id, name] = arguments else { return Err(Failure::Usage) };
    let id = shell.object(id)?;
    let stat = call::stat(StatOp::Object, id).map_err(Failure::of(arguments[0]))?;
    if ObjectFlags::from_bits_truncate(stat.flags).life() == Life::Volatile {
        return Err(Failure::new(
            "the object is volatile, so it can't have a name, which is persistent; use its ID",
        ));
    }
    shell.directory()?.bind(name, id).map_err(Failure::of(name))?;
    Ok(0)
}

/// `mv NAME NEW`: into NEW, where that is a directory.
pub(super) fn mv(shell: &mut Shell<'_>, arguments: &[&str], _: &mut Output) -> Outcome {
    let &[from, to] = arguments else { return Err(Failure::Usage) };
    let directory = shell.directory()?;
    directory.lookup(from).map_err(Failure::of(from))?;
    let to = match directory.lookup(to) {
        Ok(Entry::Directory) => format!("{}/{}", to.trim_end_matches('/'), last_part(from)),
        _ => to.to_string(),
    };
    directory.rename(from, &to).map_err(Failure::of(&to))?;
    Ok(0)
}

/// How far `rm` goes.
#[derive(Clone, Copy, Default)]
struct Reach {
    /// `-r`: directories with all below them.
    deep: bool,
    /// `-f`: objects that own others or are owned, too.
    force: bool,
}

/// `rm [-r] [-f] NAME...`.
pub(super) fn rm(shell: &mut Shell<'_>, arguments: &[&str], _: &mut Output) -> Outcome {
    let mut reach = Reach::default();
    let mut names = arguments;
    while let [option, rest @ ..] = names
        && option.starts_with('-')
    {
        for letter in option[1..].chars() {
            match letter {
                'r' => reach.deep = true,
                'f' => reach.force = true,
                _ => return Err(Failure::Usage),
            }
        }
        names = rest;
    }
    if names.is_empty() {
        return Err(Failure::Usage);
    }
    for name in names {
        if reach.deep {
            check_below(shell, name, reach)?;
        }
        remove(shell, name, reach)?;
    }
    Ok(0)
}

fn remove(shell: &Shell<'_>, name: &str, reach: Reach) -> Result<(), Failure> {
    let directory = shell.directory()?;
    match (directory.lookup(name), name.parse::<ObjId>()) {
        (Ok(Entry::Object(id)), _) => {
            let last = shell.last_name(id);
            if last == Last::Yes {
                check_alone(directory, id, name, reach)?;
            }
            directory.remove(name, last).map_err(Failure::of(name))
        }
        (Ok(Entry::Directory), _) => {
            let listed =
                if reach.deep { directory.list(name).map_err(Failure::of(name))? } else { Vec::new() };
            for (below, _) in listed {
                remove(shell, &format!("{}/{below}", name.trim_end_matches('/')), reach)?;
            }
            directory.remove_directory(name).map_err(Failure::of(name))
        }
        (Err(_), Ok(id)) => {
            check_alone(directory, id, name, reach)?;
            call::delete(id).map_err(Failure::of(name))
        }
        (Err(error), Err(_)) => Err(Failure::of(name)(error)),
    }
}

/// Refuses to delete a directory with an object in it that can't be deleted alone, before anything is deleted.
fn check_below(shell: &Shell<'_>, name: &str, reach: Reach) -> Result<(), Failure> {
    let directory = shell.directory()?;
    let mut objects = Vec::new();
    if directory.lookup(name) == Ok(Entry::Directory) {
        for (path, entry) in directory.tree(name).map_err(Failure::of(name))? {
            if let Entry::Object(id) = entry {
                objects.push((format!("{}/{path}", name.trim_matches('/')), id));
            }
        }
    }
    let alone = |(path, id): &(String, ObjId)| match shell.last_name(*id) {
        Last::Yes => check_alone(directory, *id, path, reach),
        Last::No => Ok(()),
    };
    objects.iter().try_for_each(alone)
}

/// Refuses to delete an object that other objects depend on.
fn check_alone(directory: &Directory<'_>, id: ObjId, name: &str, reach: Reach) -> Result<(), Failure> {
    if id == directory.id() {
        return Err(Failure::new(format!("{name} holds the names of all objects; it can't be deleted")));
    }
    // What can't be described is gone or damaged, and nothing is known of it.
    let fingerprint = call::stat(StatOp::Object, id).map_or(0, |stat| stat.fingerprint);
    match kinds::not_alone(name, fingerprint) {
        Some(why) if !reach.force => Err(Failure::new(why)),
        _ => Ok(()),
    }
}
