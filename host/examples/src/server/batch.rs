//! Commands that are run together.
//!
//! All commands that have arrived at a thread, from whatever clients, run in one transaction: it is durable once for all
//! of them, and nobody is answered before. That is how Redis writes its log, and it gives each client what it would
//! have if its commands had run alone, one after the other.

use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use twizzler::{Access, Error, Guard, HostedBackend, ObjId, Ptr};

use super::commands::{After, Arguments, Run, find};
use super::control::Server;
use super::keys::{Database, Fail, Keys, SHARDS, Shard, View};
use super::resp::{Command, Replies};

/// Bytes of answers that end a batch: what is still to come runs in the next one, when they have been sent.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// A command of a client, and the answer.
pub(super) struct Request {
    pub(super) command: Command,
    pub(super) replies: Replies,
    pub(super) after: After,
}

impl Request {
    pub(super) fn new(command: Command) -> Self {
        Self { command, replies: Replies::default(), after: After::Stay }
    }
}

/// The parts of a database.
fn shards<'g>(guard: &'g Guard<'g, HostedBackend>, id: ObjId) -> Result<Vec<Ptr<'g, Shard>>, Error> {
    let base = guard.open::<Database>(id, Access::Write).map_err(Error::from)?.base();
    let shard = |index| {
        let place = base.at(Database::shards).index(index).ok_or(Error::Damaged)?;
        guard.follow(place)?.ok_or(Error::Damaged)
    };
    (0..SHARDS).map(shard).collect()
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// Runs commands from the first one on and fills in their answers, until those are too long. Gives how many have run: one at least. When it
/// returns, what they changed is durable.
pub(super) fn run(
    server: &Server,
    space: &twizzler::Space<HostedBackend>,
    database: ObjId,
    requests: &mut [Request],
) -> usize {
    let guard = space.enter();
    let changes = requests.iter().any(|request| changes(&request.command));
    let result = shards(&guard, database).map_err(Stop::System).and_then(|shards| {
        let now_ms = now_ms();
        if !changes {
            let mut keys = Keys::new(View::Look(&guard), &shards, now_ms);
            return answers(server, &mut keys, requests);
        }
        server.transactions.fetch_add(1, Ordering::Relaxed);
        guard.transact(|tx| {
            let mut keys = Keys::new(View::Change(tx), &shards, now_ms);
            answers(server, &mut keys, requests)
        })
    });
    match (result, requests) {
        (Ok(done), _) => done,
        (Err(stop), [request]) => {
            request.replies = Replies::default();
            match stop {
                Stop::Refused(text) => request.replies.error(text),
                Stop::System(error) => request.replies.error(&format!("ERR the store says: {error}")),
            }
            1
        }
        // Together they are too much for one transaction, or one of them fails: the others get what they asked for.
        (Err(_), requests) => {
            drop(guard);
            let (first, second) = requests.split_at_mut(requests.len() / 2);
            let done = run(server, space, database, first);
            if done < first.len() { done } else { done + run(server, space, database, second) }
        }
    }
}

fn changes(command: Arguments<'_>) -> bool {
    find(command).is_ok_and(|spec| matches!(spec.run, Run::Change(_)))
}

/// How many values a command changes, roughly.
pub(super) fn values_changed(command: Arguments<'_>) -> usize {
    if changes(command) { command.len().saturating_sub(1).div_ceil(2) } else { 0 }
}

/// Why whatever was done is to be undone.
enum Stop {
    /// A command was refused when it had changed something.
    Refused(&'static str),
    /// The system says no.
    System(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::System(error)
    }
}

/// Runs commands until their answers are too long. Gives how many have run.
fn answers(server: &Server, keys: &mut Keys<'_, '_>, requests: &mut [Request]) -> Result<usize, Stop> {
    let mut bytes = 0;
    for (done, request) in (1..).zip(requests.iter_mut()) {
        answer(server, keys, request)?;
        bytes += request.replies.len();
        if bytes >= ANSWER_BYTES_MAX {
            return Ok(done);
        }
    }
    Ok(requests.len())
}

/// Runs one command.
fn answer(server: &Server, keys: &mut Keys<'_, '_>, request: &mut Request) -> Result<(), Stop> {
    // The transaction may run again.
    request.replies = Replies::default();
    let (arguments, replies) = (request.command.as_slice(), &mut request.replies);
    let spec = match find(arguments) {
        Ok(spec) => spec,
        Err(text) => {
            replies.error(&text);
            return Ok(());
        }
    };
    keys.take_changed();
    let done = match spec.run {
        Run::Look(run) | Run::Change(run) => run(keys, arguments, replies),
        Run::Control(run) => {
            request.after = run(server, arguments, replies);
            Ok(())
        }
    };
    match done {
        Ok(()) => Ok(()),
        Err(Fail::Refused(text)) if keys.take_changed() => Err(Stop::Refused(text)),
        Err(Fail::Refused(text)) => {
            *replies = Replies::default();
            replies.error(text);
            Ok(())
        }
        Err(Fail::System(error)) => Err(Stop::System(error)),
    }
}
