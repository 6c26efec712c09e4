//! Long runs from the command line: `campaign store|sessions|mmu|all [SEED [SECONDS]]`.
#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use twizzler_campaign::runs::{Kind, campaign};

const USAGE: &str = "usage: campaign store|sessions|mmu|all [SEED [SECONDS]]";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let Some((kinds, seed, seconds)) = parse(&args) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let time = Duration::from_secs(seconds / kinds.len() as u64);
    for kind in kinds {
        match campaign(kind, seed, time) {
            Ok(summary) => println!("{summary}"),
            Err(what) => {
                eprintln!("{what}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

fn parse(args: &[&str]) -> Option<(Vec<Kind>, u64, u64)> {
    let (name, rest) = args.split_first()?;
    let kinds = match *name {
        "all" => Kind::ALL.iter().map(|(_, kind)| *kind).collect(),
        name => vec![Kind::named(name)?],
    };
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(1, |since| since.as_secs());
    match rest {
        [] => Some((kinds, now, 60)),
        [seed] => Some((kinds, seed.parse().ok()?, 60)),
        [seed, seconds] => Some((kinds, seed.parse().ok()?, seconds.parse().ok()?)),
        _ => None,
    }
}
