//! A queue of jobs that several processes work on, and that none of them can lose or spoil by its end.
//!
//! A job is in one of three lists: it *waits*, *runs*, or is *done*. Every step from one to the next is a transaction. A worker that takes
//! a job writes its name on it: the word by which the store knows running programs. When a worker is killed, its word counts as dead at
//! once, and the next worker that looks for something to do takes the job over. There are no time limits, and nothing that watches.

use twizzler::collections::{List, ListNode, ListRoot};
use twizzler::{Access, Backend, Entry, Error, HostedBackend, InvBytes, InvPtr, NameError, Names};
use twizzler::{Ptr, Reader, Store, Stored, Tx};

/// The name of the queue in its store.
const NAME: &str = "jobs";

/// The base of the queue's object.
#[derive(Stored)]
#[stored(name = "example.jobs", version = 1)]
#[repr(C)]
struct Jobs {
    waiting: ListRoot<InvPtr<Job>>,
    running: ListRoot<InvPtr<Job>>,
    done: ListRoot<InvPtr<Job>>,
    /// Jobs that were ever added.
    added: u64,
}

/// A job.
#[derive(Stored)]
#[stored(name = "example.job", version = 1)]
#[repr(C)]
struct Job {
    number: u64,
    /// How often a worker began it.
    begun: u64,
    /// The program that runs it.
    worker: u64,
    /// How it ended.
    status: u64,
    command: InvBytes,
    output: InvBytes,
}

/// Where a job is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Nobody has begun it.
    Waiting,
    /// A worker has it.
    Running,
    /// It has ended.
    Done,
}

/// A job, to look at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shown {
    /// In which order they were added, from 1 on.
    pub number: u64,
    /// Where it is.
    pub state: State,
    /// How often a worker began it: more than once where a worker was killed.
    pub begun: u64,
    /// How it ended, if it has.
    pub status: u64,
    /// What is to be done.
    pub command: String,
    /// What it wrote, if it has ended.
    pub output: Vec<u8>,
}

/// What a worker got to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Next {
    /// This job: its number, and what is to be done.
    Job(u64, String),
    /// Nothing, but others are at work, and may be killed.
    Wait,
    /// Nothing at all.
    Nothing,
}

type Change<'t, 'g> = &'t mut Tx<'g, HostedBackend>;
type JobList<'g> = List<'g, InvPtr<Job>>;

/// The queue; made where there is none.
fn open<'g>(tx: Change<'_, 'g>, names: &Names<'g, HostedBackend>) -> Result<Ptr<'g, Jobs>, NameError> {
    let jobs = match names.lookup_by(tx, NAME) {
        Ok(Entry::Object(id)) => tx.open::<Jobs>(id, Access::Write).map_err(Error::from)?,
        Ok(Entry::Directory) => return Err(NameError::IsADirectory),
        Err(NameError::NoSuchName) => names.create::<Jobs>(tx, NAME)?,
        Err(error) => return Err(error),
    };
    // Whoever looks at the lists goes on to change them.
    tx.lock(jobs.area())?;
    Ok(jobs.base())
}

/// One change of the queue.
fn change<R>(
    store: &Store,
    mut act: impl for<'t, 'g> FnMut(Change<'t, 'g>, Ptr<'g, Jobs>) -> Result<R, Error>,
) -> Result<R, NameError> {
    let guard = store.enter();
    let names = Names::open(&guard)?;
    guard.transact(|tx| {
        let jobs = open(tx, &names)?;
        Ok(act(tx, jobs)?)
    })
}

/// The job of a list's node.
fn job_of<'g>(reader: &impl Reader<'g>, node: Ptr<'g, ListNode<InvPtr<Job>>>) -> Result<Ptr<'g, Job>, Error> {
    reader.follow(node.at(ListNode::<InvPtr<Job>>::value))?.ok_or(Error::Damaged)
}

/// Moves the job of `node` to the end of another list.
fn move_job<'g>(
    tx: Change<'_, 'g>,
    from: JobList<'g>,
    node: Ptr<'g, ListNode<InvPtr<Job>>>,
    to: JobList<'g>,
) -> Result<(), Error> {
    let job = job_of(tx, node)?;
    from.remove_node(tx, node)?;
    let node = to.insert_node(tx, None)?;
    tx.link(node.at(ListNode::<InvPtr<Job>>::value), Some(job))
}

/// Adds jobs. All of them are in the queue when it returns, or none.
///
/// # Errors
/// No room; the store's.
pub fn add(store: &Store, commands: &[String]) -> Result<(), NameError> {
    change(store, |tx, jobs| {
        let waiting = List::new(jobs.at(Jobs::waiting));
        for command in commands {
            let number = tx.edit(jobs.at(Jobs::added), |added| {
                *added += 1;
                *added
            })?;
            let job = tx.alloc::<Job>(jobs.object())?;
            tx.set(job.at(Job::number), number)?;
            let command = tx.alloc_bytes(jobs.object(), command.as_bytes())?;
            tx.link_span(job.at(Job::command), command)?;
            let node = waiting.insert_node(tx, None)?;
            tx.link(node.at(ListNode::<InvPtr<Job>>::value), Some(job))?;
        }
        Ok(())
    })
}

/// Takes a job to run: one whose worker was killed, else the one that has waited longest.
///
/// # Errors
/// The store's.
pub fn take(store: &Store) -> Result<Next, NameError> {
    let me = store.backend().owner();
    change(store, |tx, jobs| {
        let waiting = List::new(jobs.at(Jobs::waiting));
        let running = List::new(jobs.at(Jobs::running));
        let mut abandoned = None;
        for node in running.nodes(tx) {
            let job = job_of(tx, node?)?;
            if !store.backend().is_alive(tx.get(job.at(Job::worker))) {
                abandoned = Some(job);
                break;
            }
        }
        let job = match (abandoned, waiting.front_node(tx)?) {
            (Some(job), _) => job,
            (None, Some(node)) => {
                let job = job_of(tx, node)?;
                move_job(tx, waiting, node, running)?;
                job
            }
            (None, None) if running.is_empty(tx) => return Ok(Next::Nothing),
            (None, None) => return Ok(Next::Wait),
        };
        tx.set(job.at(Job::worker), me)?;
        tx.edit(job.at(Job::begun), |begun| *begun += 1)?;
        let command = tx.follow_span(job.at(Job::command))?;
        let command = String::from_utf8(tx.to_vec(command)).map_err(|_| Error::Damaged)?;
        Ok(Next::Job(tx.get(job.at(Job::number)), command))
    })
}

/// Says how a job ended that this program took.
///
/// # Errors
/// [`Error::NoSuchObject`] where this program does not run that job; no room for the output; the store's.
pub fn finish(store: &Store, number: u64, status: u64, output: &[u8]) -> Result<(), NameError> {
    let me = store.backend().owner();
    change(store, |tx, jobs| {
        let running = List::new(jobs.at(Jobs::running));
        let nodes: Vec<_> = running.nodes(tx).collect::<Result<_, _>>()?;
        for node in nodes {
            let job = job_of(tx, node)?;
            if tx.get(job.at(Job::number)) == number && tx.get(job.at(Job::worker)) == me {
                let output = tx.alloc_bytes(jobs.object(), output)?;
                tx.link_span(job.at(Job::output), output)?;
                tx.set(job.at(Job::status), status)?;
                return move_job(tx, running, node, List::new(jobs.at(Jobs::done)));
            }
        }
        Err(Error::NoSuchObject)
    })
}

/// All jobs: those that are done, run and wait, as they are at one moment.
///
/// # Errors
/// The store's.
pub fn list(store: &Store) -> Result<Vec<Shown>, NameError> {
    change(store, |tx, jobs| {
        let lists =
            [(Jobs::done, State::Done), (Jobs::running, State::Running), (Jobs::waiting, State::Waiting)];
        let mut all = Vec::new();
        for (list, state) in lists {
            for node in List::new(jobs.at(list)).nodes(tx) {
                let job = job_of(tx, node?)?;
                let command = tx.follow_span(job.at(Job::command))?;
                let output = tx.follow_span(job.at(Job::output))?;
                all.push(Shown {
                    number: tx.get(job.at(Job::number)),
                    state,
                    begun: tx.get(job.at(Job::begun)),
                    status: tx.get(job.at(Job::status)),
                    command: String::from_utf8_lossy(&tx.to_vec(command)).into_owned(),
                    output: tx.to_vec(output),
                });
            }
        }
        Ok(all)
    })
}

/// Forgets the jobs that are done, and frees their memory. Gives how many.
///
/// # Errors
/// The store's.
pub fn forget(store: &Store) -> Result<u64, NameError> {
    change(store, |tx, jobs| {
        let done = List::new(jobs.at(Jobs::done));
        let count = done.len(tx);
        while let Some(node) = done.front_node(tx)? {
            let job = job_of(tx, node)?;
            for bytes in [Job::command, Job::output] {
                let bytes = tx.follow_span(job.at(bytes))?;
                tx.free_span(bytes)?;
            }
            done.remove_node(tx, node)?;
            tx.free(job)?;
        }
        Ok(count)
    })
}
