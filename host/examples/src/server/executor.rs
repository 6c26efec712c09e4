//! A thread that serves clients: it waits until some have sent something, runs all of that, and answers.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use twizzler::{HostedBackend, ObjId, Space};

use super::batch::{self, Request};
use super::commands::{After, is_last};
use super::connection::{Connection, State};
use super::control::Server;
use super::resp::cost_bytes;

/// Commands that run together at most, and bytes of them.
const BATCH_COMMANDS_MAX: usize = 4096;
const BATCH_BYTES_MAX: usize = 8 << 20;
/// Values that are changed together at most, where a log makes them durable: each costs about 8 KiB of new nodes, and a transaction that
/// makes more than 256 KiB of them has its objects' files synced, one after the other, in place of the log alone.
const BATCH_VALUES_MAX: usize = 25;
/// Bytes that all clients together may leave waiting; above that, who leaves more than its share is dropped.
const HELD_BYTES_MAX: usize = 512 << 20;
/// How often to look whether the server is to stop.
const TICK: Duration = Duration::from_millis(50);
/// What wakes the thread for new clients.
pub(super) const WAKER: Token = Token(usize::MAX);

/// The thread's state.
pub(super) struct Executor<'s> {
    server: &'s Server,
    space: &'s Space<HostedBackend>,
    database: ObjId,
    poll: Poll,
    arriving: Receiver<TcpStream>,
    connections: BTreeMap<usize, Connection>,
    next: usize,
    /// Whose turn it is.
    turn: usize,
}

impl<'s> Executor<'s> {
    pub(super) fn new(
        server: &'s Server,
        space: &'s Space<HostedBackend>,
        database: ObjId,
        poll: Poll,
        arriving: Receiver<TcpStream>,
    ) -> Self {
        Self { server, space, database, poll, arriving, connections: BTreeMap::new(), next: 0, turn: 0 }
    }

    /// Serves until the server stops.
    pub(super) fn run(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        // Those that have something to do and will not be told of.
        let mut again = BTreeSet::new();
        while !self.server.is_stopping() {
            let wait = if again.is_empty() { TICK } else { Duration::ZERO };
            match self.poll.poll(&mut events, Some(wait)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                result => result?,
            }
            let mut ready = std::mem::take(&mut again);
            ready.extend(events.iter().map(|event| event.token().0));
            ready.extend(self.admit()?);
            for &token in &ready {
                self.keep_or_drop(token, Connection::receive);
            }
            self.serve(&ready);
            for &token in &ready {
                self.keep_or_drop(token, Connection::send);
            }
            ready.retain(|token| self.connections.get(token).is_some_and(Connection::can_go_on));
            again = ready;
        }
        Ok(())
    }

    /// Registers new clients.
    fn admit(&mut self) -> io::Result<Vec<usize>> {
        let mut tokens = Vec::new();
        while let Ok(mut stream) = self.arriving.try_recv() {
            let token = self.next;
            self.next += 1;
            self.poll.registry().register(
                &mut stream,
                Token(token),
                Interest::READABLE | Interest::WRITABLE,
            )?;
            self.connections.insert(token, Connection::new(stream));
            tokens.push(token);
        }
        Ok(tokens)
    }

    /// Takes commands of these clients, one of each in turn, from the one on whose turn it is; and whose they are.
    fn take(&mut self, ready: &BTreeSet<usize>) -> (Vec<Request>, Vec<usize>) {
        let (mut requests, mut of) = (Vec::new(), Vec::new());
        let (mut bytes, mut values) = (0, 0);
        let values_max = if self.space.backend().is_logged() { BATCH_VALUES_MAX } else { usize::MAX };
        let mut turns: VecDeque<usize> =
            ready.range(self.turn..).chain(ready.range(..self.turn)).copied().collect();
        while requests.len() < BATCH_COMMANDS_MAX && bytes < BATCH_BYTES_MAX && values < values_max {
            let Some(token) = turns.pop_front() else { break };
            let Some(command) = self.connections.get_mut(&token).and_then(Connection::next) else { continue };
            // What comes behind the last command isn't run.
            if !is_last(&command) {
                turns.push_back(token);
            }
            bytes += cost_bytes(&command);
            values += batch::values_changed(&command);
            requests.push(Request::new(command));
            of.push(token);
        }
        (requests, of)
    }

    /// Runs what these clients have sent, as much as there is room for.
    fn serve(&mut self, ready: &BTreeSet<usize>) {
        let (mut requests, mut of) = self.take(ready);
        if requests.is_empty() {
            return;
        }
        let done = batch::run(self.server, self.space, self.database, &mut requests);
        self.server.commands.fetch_add(done as u64, Ordering::Relaxed);
        for (request, token) in requests.drain(done..).zip(of.drain(done..)).rev() {
            if let Some(connection) = self.connections.get_mut(&token) {
                connection.postpone(request.command);
            }
        }
        // Next time, the others come first.
        self.turn = of.last().map_or(0, |token| token + 1);
        for (request, token) in requests.iter_mut().zip(of) {
            if let Some(connection) = self.connections.get_mut(&token) {
                connection.answer(&mut request.replies);
                if request.after == After::Close {
                    connection.close();
                }
            }
        }
    }

    /// Does something with a client's connection, and drops it where it is done or broken, or holds too much.
    fn keep_or_drop(&mut self, token: usize, act: impl FnOnce(&mut Connection) -> io::Result<State>) {
        let Some(connection) = self.connections.get_mut(&token) else { return };
        let is_open = matches!(act(connection), Ok(State::Open));
        let (held, noted) = (connection.held_bytes(), connection.noted_bytes);
        connection.noted_bytes = held;
        // Sums wrap, as what is added does where less is held now.
        let all = self.server.held_bytes.fetch_add(held.wrapping_sub(noted), Ordering::Relaxed);
        let share = HELD_BYTES_MAX / self.server.connections.load(Ordering::Relaxed).max(1) as usize;
        let is_too_much = all.wrapping_add(held).wrapping_sub(noted) > HELD_BYTES_MAX && held > share;
        if !is_open || is_too_much {
            let _ = self.poll.registry().deregister(&mut connection.stream);
            self.connections.remove(&token);
            self.server.held_bytes.fetch_sub(held, Ordering::Relaxed);
            self.server.connections.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
