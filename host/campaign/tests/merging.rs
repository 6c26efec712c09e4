//! Index commands that merge segments or delete the index, cut off at every point: the answers are those from before or after, and every object
//! is the index's own.

use twizzler_campaign::objects::{SimObjects, memory_bytes};
use twizzler_campaign::session;
use twizzler_crashsim::{Config, Log, Scenario, SimMemory, check_crashes};
use twizzler_index::{Streams, run};
use twizzler_names::{NameError, Names};
use twizzler_object::Space;

/// Texts, added one by one; then commands that make the index merge.
struct Merging {
    texts: Vec<(&'static str, String)>,
    commands: Vec<Vec<&'static str>>,
}

fn index(space: &Space<SimObjects<'_>>, args: &[&str]) -> String {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut streams = Streams {
        out: &mut |bytes| out.extend_from_slice(bytes),
        err: &mut |bytes| err.extend_from_slice(bytes),
    };
    let status = run(space, args, &mut streams);
    format!("{}{}{status}\n", String::from_utf8_lossy(&out), String::from_utf8_lossy(&err))
}

/// What is in the index, and how many objects are not in it.
fn look(memory: &SimMemory) -> Result<String, String> {
    let space = Space::attach(SimObjects::boot(memory)).map_err(|error| error.to_string())?;
    let stat = index(&space, &["stat"]);
    let line = |what: &str| stat.lines().find_map(|line| line.strip_prefix(what)?.strip_prefix('\t'));
    let number = |what| line(what).and_then(|n| n.parse::<usize>().ok()).ok_or_else(|| stat.clone());
    let ids = space.backend().ids();
    let all = ids.into_iter().filter(|id| !session::describes_type(&space, *id)).count();
    let others = all - number("objects")?;
    let mut seen =
        format!("{} documents, {} words, {others} others\n", number("documents")?, number("words")?);
    for query in [&["search", "--lines", "the"][..], &["search", "cat", "w3"], &["top", "99"]] {
        seen += &index(&space, query);
    }
    Ok(seen)
}

impl Scenario for Merging {
    type State = String;

    fn len_bytes(&self) -> u64 {
        memory_bytes(32)
    }

    fn setup(&self, memory: &SimMemory) {
        let space = Space::attach(SimObjects::boot(memory)).expect("attached");
        let guard = space.enter();
        let names = Names::open(&guard).expect("names");
        for (name, text) in &self.texts {
            let made = guard.transact(|tx| {
                let file = names.create_any(tx, name)?;
                tx.write_at(file, 0, text.as_bytes())?;
                tx.set_len_bytes(file, text.len() as u64)?;
                Ok::<_, NameError>(())
            });
            made.expect("made");
        }
        for (name, _) in &self.texts[..3] {
            index(&space, &["add", name]);
        }
    }

    fn run(&self, memory: &SimMemory, log: &mut Log<'_, String>) {
        let rehearsal = SimMemory::of(memory.image());
        for command in &self.commands {
            let program =
                |memory| index(&Space::attach(SimObjects::boot(memory)).expect("attached"), command);
            program(&rehearsal);
            let seen = look(&SimMemory::of(rehearsal.image())).expect("nothing is cut off");
            log.operation(seen, || drop(program(memory)));
        }
    }

    fn recover(&self, memory: &SimMemory) -> Result<String, String> {
        look(memory)
    }
}

fn text(n: usize) -> String {
    format!("the cat w{n}\nthe dog and the w{}\n", n * 2)
}

fn holds(commands: &[&[&'static str]]) {
    let texts = ["a", "b", "c", "d", "e"].into_iter().zip((0..).map(text)).collect();
    let scenario = Merging { texts, commands: commands.iter().map(|command| command.to_vec()).collect() };
    let report = check_crashes(&scenario, &Config::default());
    println!("{}", report.unwrap_or_else(|failure| panic!("{commands:?}: {failure}")));
}

#[test]
fn the_fourth_segment_makes_one_of_all() {
    holds(&[&["add", "d"]]);
}

#[test]
fn replaced_documents_are_left_out() {
    holds(&[&["rm", "b"], &["add", "a", "d"], &["add", "e"]]);
}

#[test]
fn nothing_is_merged_for_an_error() {
    holds(&[&["add", "d", "nothing"], &["rm", "nothing"]]);
}

#[test]
fn an_index_is_deleted_whole() {
    holds(&[&["drop"], &["add", "a"]]);
}
