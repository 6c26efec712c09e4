//! Cuts the power at every event of a history, and in recoveries from that.

use std::path::Path;
use std::sync::Arc;

use twizzler::Options;

use super::{Choice, Event, Recorder, Rng, cut};

/// Opens what a cut has left, and compares: given the marks before the cut, and what to say where something is wrong.
pub(crate) type Look<'a> = &'a dyn Fn(&Path, &[u64], &str) -> Result<(), String>;

/// How the stores are opened.
pub(crate) fn options() -> Options {
    Options::new().log_bytes(1 << 20)
}

/// Where the images lie: in memory, where there is such a place.
pub(crate) fn place_for_images() -> tempfile::TempDir {
    let shm = Path::new("/dev/shm");
    if shm.is_dir() { tempfile::tempdir_in(shm) } else { tempfile::tempdir() }.expect("room")
}

fn first_mark(events: &[Event]) -> usize {
    events.iter().position(|event| matches!(event, Event::Mark(_))).expect("marked")
}

/// Cuts at every event from the first mark on; gives the first failure, or how many images there were.
pub(crate) fn check(events: &[Event], nested: bool, seed: u64, look: Look<'_>) -> Result<u64, String> {
    let mut images = 0;
    let mut rng = Rng(seed);
    let mut marks = Vec::new();
    for end in first_mark(events)..=events.len() {
        if let Some(&Event::Mark(mark)) = events.get(end.wrapping_sub(1)) {
            marks.push(mark);
        }
        for choice in [Choice::Least, Choice::Most, Choice::MappedOnly, Choice::Random, Choice::Random] {
            let keep = place_for_images();
            cut(events, end, true, choice, &mut rng, keep.path());
            images += 1;
            let what = format!("seed {seed}, event {end} of {}, {choice:?}", events.len());
            if nested && images % 23 == 0 {
                images +=
                    check_nested(keep.path(), &mut rng, &what, 2, &|path, what| look(path, &marks, what))?;
            }
            look(keep.path(), &marks, &what)?;
        }
    }
    Ok(images)
}

/// Cuts recovery itself, at every event, and recovery from that.
fn check_nested(
    path: &Path,
    rng: &mut Rng,
    what: &str,
    depth: u32,
    look: &dyn Fn(&Path, &str) -> Result<(), String>,
) -> Result<u64, String> {
    let copy = place_for_images();
    copy_store(path, copy.path());
    let recorder = Arc::new(Recorder::new(copy.path()));
    recorder.mark(0);
    let opened = options().observer(recorder.clone()).open_backend(copy.path());
    drop(opened.map_err(|error| format!("{what}: {error}"))?);
    let events = recorder.events();
    let mut images = 0;
    for end in first_mark(&events)..=events.len() {
        for choice in [Choice::Random, Choice::MappedOnly] {
            let keep = place_for_images();
            cut(&events, end, true, choice, rng, keep.path());
            images += 1;
            let what = format!("{what}; in recovery at {end} of {}", events.len());
            if depth > 1 && images % 29 == 0 {
                images += check_nested(keep.path(), rng, &what, depth - 1, look)?;
            }
            look(keep.path(), &what)?;
        }
    }
    Ok(images)
}

fn copy_store(from: &Path, to: &Path) {
    for directory in ["", "objects", "new"] {
        std::fs::create_dir_all(to.join(directory)).expect("made");
        for entry in std::fs::read_dir(from.join(directory)).expect("there").flatten() {
            if entry.file_type().expect("known").is_file() {
                let copied = std::process::Command::new("cp")
                    .arg("--sparse=always")
                    .arg(entry.path())
                    .arg(to.join(directory).join(entry.file_name()))
                    .status();
                assert!(copied.expect("cp runs").success());
            }
        }
    }
}
