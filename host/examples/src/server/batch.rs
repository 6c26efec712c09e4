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

/// Values that one command changes at most: until it is done, nobody else can change what is beside them.
const VALUES_MAX: usize = 10_000;
const TOO_MANY: Fail = Fail::Refused("ERR too many values for one command: 10000 are the most");

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

    fn fail(&mut self, stop: &Stop) {
        self.replies = Replies::default();
        match stop {
            Stop::Refused(text) => self.replies.error(text),
            Stop::System(error) => self.replies.error(&format!("ERR the store says: {error}")),
        }
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

/// How commands see the keys.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Looking,
    Transaction,
}

/// Runs commands from the first one on and fills in their answers, until those are too long. Gives how many have run: one at least. When it
/// returns, what they changed is durable.
pub(super) fn run(
    server: &Server,
    space: &twizzler::Space<HostedBackend>,
    database: ObjId,
    requests: &mut [Request],
) -> usize {
    let by = if requests.iter().any(|request| needs_transaction(&request.command)) {
        By::Transaction
    } else {
        By::Looking
    };
    match (attempt(server, space, database, requests, by), requests) {
        (Ok(done), _) => done,
        // Somebody else holds what is to be changed and was waited for, or nothing can be changed: not again for each of them.
        (Err(Stop::System(error @ (Error::Busy | Error::ReadOnly))), requests) if by == By::Transaction => {
            refuse(server, space, database, requests, error)
        }
        (Err(stop), [request]) => {
            request.fail(&stop);
            1
        }
        // Together they are too much for one transaction, or one of them fails: the others get what they asked for.
        (Err(_), requests) => {
            let (first, second) = requests.split_at_mut(requests.len() / 2);
            let done = run(server, space, database, first);
            if done < first.len() { done } else { done + run(server, space, database, second) }
        }
    }
}

fn attempt(
    server: &Server,
    space: &twizzler::Space<HostedBackend>,
    database: ObjId,
    requests: &mut [Request],
    by: By,
) -> Result<usize, Stop> {
    let guard = space.enter();
    let shards = shards(&guard, database)?;
    let now_ms = now_ms();
    if by == By::Looking {
        return answers(server, &mut Keys::new(View::Look(&guard), &shards, now_ms), requests);
    }
    server.transactions.fetch_add(1, Ordering::Relaxed);
    guard.transact(|tx| answers(server, &mut Keys::new(View::Change(tx), &shards, now_ms), requests))
}

/// Answers what can't be done with an error, and runs the others. Gives how many were answered.
fn refuse(
    server: &Server,
    space: &twizzler::Space<HostedBackend>,
    database: ObjId,
    requests: &mut [Request],
    error: Error,
) -> usize {
    let mut bytes = 0;
    for (done, request) in (0..).zip(requests.iter_mut()) {
        if bytes >= ANSWER_BYTES_MAX {
            return done;
        }
        // Where nothing can be changed, all keys are what they are at one moment.
        let is_refused =
            changes(&request.command) || error != Error::ReadOnly && needs_transaction(&request.command);
        if is_refused {
            request.fail(&Stop::System(error));
        } else if let Err(stop) = attempt(server, space, database, std::slice::from_mut(request), By::Looking)
        {
            request.fail(&stop);
        }
        bytes += request.replies.len();
    }
    requests.len()
}

fn changes(command: Arguments<'_>) -> bool {
    find(command).is_ok_and(|spec| matches!(spec.run, Run::Change(_)))
}

fn needs_transaction(command: Arguments<'_>) -> bool {
    find(command).is_ok_and(|spec| matches!(spec.run, Run::Change(_) | Run::LookAround(_)))
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
        Run::Change(_) if values_changed(arguments) > VALUES_MAX => Err(TOO_MANY),
        Run::Look(run) | Run::LookAround(run) | Run::Change(run) => run(keys, arguments, replies),
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
