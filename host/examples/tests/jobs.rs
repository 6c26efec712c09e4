//! The job queue: workers are killed while they work, and every job is done, recorded once, and begun again only if its worker was killed.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::{Duration, Instant};

use twizzler_examples::jobs::{Shown, State, list};

fn jobs(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_jobs"));
    command.arg("queue").args(arguments).current_dir(folder);
    command
}

fn done(folder: &Path, arguments: &[&str]) -> String {
    let output = jobs(folder, arguments).output().expect("it runs");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn look(folder: &Path) -> Vec<Shown> {
    let store = twizzler::Store::open(folder.join("queue")).expect("opens");
    let all = list(&store).expect("lists");
    store.close().expect("closes");
    all
}

fn work(folder: &Path) -> Child {
    jobs(folder, &["work"]).spawn().expect("a worker starts")
}

#[test]
fn jobs_run_in_order_and_tell_how_they_ended() {
    let folder = tempfile::tempdir().expect("a folder");
    done(folder.path(), &["add", "echo one", "echo two; exit 3"]);
    done(folder.path(), &["add", "echo three >&2"]);
    assert!(look(folder.path()).iter().all(|job| job.state == State::Waiting));
    done(folder.path(), &["work"]);
    let listed = done(folder.path(), &["list"]);
    assert_eq!(
        listed,
        "1\tdone 0\tbegun 1\techo one\n\tone\n2\tdone 3\tbegun 1\techo two; exit 3\n\ttwo\n3\tdone 0\tbegun 1\techo three >&2\n\tthree\n"
    );
    assert_eq!(done(folder.path(), &["forget"]), "3 forgotten\n");
    assert_eq!(done(folder.path(), &["list"]), "");
    done(folder.path(), &["add", "true"]);
    assert_eq!(look(folder.path())[0].number, 4, "numbers are not used again");
}

#[test]
fn killed_workers_lose_no_job_and_do_none_twice() {
    const JOBS: usize = 40;
    const KILLS: u64 = 12;
    let folder = tempfile::tempdir().expect("a folder");
    let commands: Vec<String> =
        (1..=JOBS).map(|n| format!("echo {n} >> log; sleep 0.05; echo result {n}")).collect();
    let commands: Vec<&str> = ["add"].into_iter().chain(commands.iter().map(String::as_str)).collect();
    done(folder.path(), &commands);

    let mut workers: Vec<Child> = (0..3).map(|_| work(folder.path())).collect();
    for kill in 0..KILLS {
        sleep(Duration::from_millis(40 + kill * 23 % 60));
        let mut killed = workers.remove((kill % 3) as usize);
        killed.kill().expect("a worker can be killed, or has ended");
        killed.wait().expect("it ends");
        workers.push(work(folder.path()));
    }
    for mut worker in workers {
        assert!(worker.wait().expect("it ends").success());
    }

    let all = look(folder.path());
    assert_eq!(all.len(), JOBS);
    let begun_more: u64 = all.iter().map(|job| job.begun - 1).sum();
    assert!(begun_more <= KILLS, "{begun_more} jobs were begun again, after {KILLS} kills");
    let log = std::fs::read_to_string(folder.path().join("log")).expect("written by the jobs");
    let mut ran: BTreeMap<u64, u64> = BTreeMap::new();
    log.lines().for_each(|line| *ran.entry(line.parse().expect("a number")).or_default() += 1);
    for job in &all {
        assert_eq!(job.state, State::Done);
        assert_eq!(String::from_utf8_lossy(&job.output), format!("result {}\n", job.number));
        let ran = ran.get(&job.number).copied().unwrap_or(0);
        assert!((1..=job.begun).contains(&ran), "job {} ran {ran} times, begun {}", job.number, job.begun);
    }
}

#[test]
fn a_job_of_a_killed_worker_is_taken_over_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    done(folder.path(), &["add", "test -e second || { touch second; sleep 5; }"]);
    let mut first = work(folder.path());
    let patience = Instant::now();
    while !folder.path().join("second").exists() {
        assert!(patience.elapsed() < Duration::from_secs(20), "the first worker does not begin");
        sleep(Duration::from_millis(5));
    }
    let mut second = work(folder.path());
    sleep(Duration::from_millis(100));
    assert!(second.try_wait().expect("runs").is_none(), "the second one waits for what the first one does");
    first.kill().expect("it runs");
    first.wait().expect("it ends");
    assert!(second.wait().expect("it ends").success());
    let all = look(folder.path());
    assert_eq!((all[0].state, all[0].begun), (State::Done, 2));
}
