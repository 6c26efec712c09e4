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

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use mio::{Poll, Waker};
use twizzler::{Access, Error, NameError, Names, ObjId, Store};

pub use control::Server;
use executor::{Executor, WAKER};
use keys::{Database, SHARDS, Shard};

/// The name under which the database lies in its store.
const DATABASE_NAME: &str = "redis";
/// How long to rest where a client can't be accepted, for want of files for instance.
const REST: Duration = Duration::from_millis(20);

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
            let address = server.address;
            let server = &server;
            scope.spawn(move || {
                if let Err(error) = executor.run() {
                    eprintln!("kv-server: a thread can't wait for clients: {error}");
                    server.stop();
                }
                // Whoever accepts clients waits for one.
                let _ = std::net::TcpStream::connect(address);
            });
            executors.push((sender, waker));
        }
        accept(&listener, &server, &executors);
        Ok(())
    })
}

/// Hands new clients to the threads, in turns.
fn accept(listener: &TcpListener, server: &Server, executors: &[(Sender<mio::net::TcpStream>, Waker)]) {
    let mut turn = 0;
    while !server.is_stopping() {
        let handed = listener.accept().and_then(|(stream, _): (_, SocketAddr)| {
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            let (sender, waker) = &executors[turn % executors.len()];
            sender.send(mio::net::TcpStream::from_std(stream)).map_err(|_| io::ErrorKind::BrokenPipe)?;
            waker.wake()
        });
        match handed {
            Ok(()) => turn += 1,
            Err(_) => thread::sleep(REST),
        }
    }
}
