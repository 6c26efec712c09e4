//! A key-value server that speaks the Redis protocol and keeps its data in persistent objects.
//!
//! Nothing is loaded when it starts and nothing is written out when it ends: the maps that the commands work on are what lies in
//! the store. A command is answered when it is durable.
//!
//! [`resp`] is the protocol, [`keys`] what lies in objects, [`commands`] the table of commands, [`batch`] runs
//! those that have arrived, [`executor`] is a thread that serves clients.

mod batch;
mod collections;
mod commands;
mod connection;
mod control;
mod executor;
mod generic;
mod keys;
mod lists;
mod pattern;
mod resp;
mod strings;

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use mio::{Poll, Waker};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use twizzler::{Access, Error, NameError, Names, ObjId, Store};

pub use control::Server;
use executor::{Executor, WAKER};
use keys::{Database, SHARDS, Shard};

/// The name under which the database lies in its store.
const DATABASE_NAME: &str = "redis";
/// How long to rest where a client can't be accepted, for want of files for instance.
const REST: Duration = Duration::from_millis(20);

/// Clients at once, at most.
const CLIENTS_MAX: u64 = 10_000;
/// Files that the store and the server itself may need.
const FILES_KEPT: u64 = 64;

/// What a server is to be like.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Port on the loopback interface; 0: any.
    pub port: u16,
    /// Threads that serve clients.
    pub threads: usize,
    /// What a commit survives, in words.
    pub durability: &'static str,
    /// When the program was started.
    pub started: Instant,
}

/// The database in a store; made where there is none.
fn database(store: &Store) -> Result<ObjId, NameError> {
    let guard = store.enter();
    let names = Names::open(&guard)?;
    guard.transact(|tx| {
        let object = match names.lookup_by(tx, DATABASE_NAME) {
            Ok(twizzler::Entry::Object(id)) => {
                let object = tx.open::<Database>(id, Access::Write).map_err(Error::from)?;
                return Ok(tx.space().id_of(object.area()));
            }
            Ok(twizzler::Entry::Directory) => return Err(NameError::IsADirectory),
            Err(NameError::NoSuchName) => names.create::<Database>(tx, DATABASE_NAME)?,
            Err(error) => return Err(error),
        };
        for index in 0..SHARDS {
            let shard = tx.create::<Shard>()?.base();
            let place = object.base().at(Database::shards).index(index).ok_or(Error::Damaged)?;
            tx.link(place, Some(shard))?;
        }
        Ok(tx.space().id_of(object.area()))
    })
}

/// Serves the database in a store until a client says `SHUTDOWN`. `ready` is called when clients can connect.
///
/// # Errors
/// That the store can't be used or the port can't be had.
pub fn serve(store: &Store, settings: Settings, ready: impl FnOnce(&Server)) -> Result<()> {
    let id = database(store).context("the store's database can't be used")?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, settings.port))
        .with_context(|| format!("port {} can't be had; --port gives another", settings.port))?;
    let server = Server {
        address: listener.local_addr()?,
        path: store.path().to_owned(),
        threads: settings.threads,
        durability: settings.durability,
        started: settings.started,
        opened_in: settings.started.elapsed(),
        connections: AtomicU64::new(0),
        held_bytes: AtomicUsize::new(0),
        commands: AtomicU64::new(0),
        transactions: AtomicU64::new(0),
        stopping: AtomicBool::new(false),
    };
    ready(&server);
    thread::scope(|scope| {
        let mut executors = Vec::new();
        for _ in 0..settings.threads {
            let poll = Poll::new()?;
            let waker = Waker::new(poll.registry(), WAKER)?;
            let (sender, arriving) = channel();
            let mut executor = Executor::new(&server, store.space(), id, poll, arriving);
            let server = &server;
            scope.spawn(move || {
                let _stops = Stops(server);
                if let Err(error) = executor.run() {
                    eprintln!("kv-server: a thread can't wait for clients: {error}");
                }
            });
            executors.push((sender, waker));
        }
        accept(&listener, &server, &executors);
        Ok(())
    })
}

/// Stops the server when it goes: however a thread ends, the clients that would be its own are not to wait for ever.
struct Stops<'s>(&'s Server);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.stop();
        // Whoever accepts clients waits for one.
        let _ = TcpStream::connect(self.0.address);
    }
}

/// How many clients there may be, after asking for as many files as may be had.
fn clients_max() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    // Where that is refused, it stays as it was.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    files.saturating_sub(FILES_KEPT).clamp(1, CLIENTS_MAX)
}

/// Hands new clients to the threads, in turns.
fn accept(listener: &TcpListener, server: &Server, executors: &[(Sender<mio::net::TcpStream>, Waker)]) {
    let clients_max = clients_max();
    let mut turn = 0;
    while !server.is_stopping() {
        let handed = listener.accept().and_then(|(mut stream, _): (_, SocketAddr)| {
            if server.connections.load(Ordering::Relaxed) >= clients_max {
                return stream.write_all(b"-ERR max number of clients reached\r\n");
            }
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            turn += 1;
            let (sender, waker) = &executors[turn % executors.len()];
            server.connections.fetch_add(1, Ordering::Relaxed);
            sender.send(mio::net::TcpStream::from_std(stream)).map_err(|_| io::ErrorKind::BrokenPipe)?;
            waker.wake()
        });
        if handed.is_err() {
            thread::sleep(REST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_loses_a_thread_stops() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let server = Server {
            address: listener.local_addr().expect("bound"),
            path: "nowhere".into(),
            threads: 1,
            durability: "nothing",
            started: Instant::now(),
            opened_in: Duration::ZERO,
            connections: AtomicU64::new(0),
            held_bytes: AtomicUsize::new(0),
            commands: AtomicU64::new(0),
            transactions: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
        };
        let poll = Poll::new().expect("a poll");
        let executor = (channel().0, Waker::new(poll.registry(), WAKER).expect("a waker"));
        thread::scope(|scope| {
            let lost = scope.spawn(|| {
                let _stops = Stops(&server);
                panic!("a thread is lost");
            });
            // Ends, though no client comes.
            accept(&listener, &server, &[executor]);
            assert!(lost.join().is_err());
        });
        assert!(server.is_stopping());
    }
}
