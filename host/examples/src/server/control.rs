//! Commands about the server and the connection.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::commands::{After, Arguments, COMMANDS, Run};
use super::pattern::matches;
use super::resp::Replies;

/// What all threads of the server share.
#[derive(Debug)]
pub struct Server {
    pub(super) address: SocketAddr,
    pub(super) path: PathBuf,
    pub(super) threads: usize,
    /// What a commit survives.
    pub(super) durability: &'static str,
    pub(super) started: Instant,
    /// How long it took from the start to the first possible answer.
    pub(super) opened_in: Duration,
    pub(super) connections: AtomicU64,
    /// Bytes that wait for clients, or for more of a command, in all connections.
    pub(super) held_bytes: AtomicUsize,
    pub(super) commands: AtomicU64,
    pub(super) transactions: AtomicU64,
    pub(super) stopping: AtomicBool,
}

impl Server {
    /// True from the moment on that somebody asked it to stop.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Asks it to stop: the threads end when they have answered what they were asked.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }
}

impl std::fmt::Display for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ms = self.opened_in.as_secs_f64() * 1e3;
        write!(f, "{} ready on {} after {ms:.1} ms", self.path.display(), self.address)
    }
}

pub(super) fn ping(_: &Server, a: Arguments<'_>, replies: &mut Replies) -> After {
    match a {
        [_, text] => replies.bulk(text),
        [_] => replies.status("PONG"),
        _ => replies.error("ERR wrong number of arguments for 'ping' command"),
    }
    After::Stay
}

pub(super) fn echo(_: &Server, a: Arguments<'_>, replies: &mut Replies) -> After {
    replies.bulk(&a[1]);
    After::Stay
}

pub(super) fn quit(_: &Server, _: Arguments<'_>, replies: &mut Replies) -> After {
    replies.status("OK");
    After::Close
}

/// Closes the connection without an answer, as Redis does.
pub(super) fn shutdown(server: &Server, _: Arguments<'_>, _: &mut Replies) -> After {
    server.stop();
    After::Close
}

pub(super) fn select(_: &Server, a: Arguments<'_>, replies: &mut Replies) -> After {
    if a[1] == b"0" {
        replies.status("OK");
    } else {
        replies.error("ERR DB index is out of range: there is one database, 0");
    }
    After::Stay
}

/// Clients tell who they are; nobody here wants to know.
pub(super) fn client(_: &Server, a: Arguments<'_>, replies: &mut Replies) -> After {
    match a[1].to_ascii_uppercase().as_slice() {
        b"SETNAME" | b"SETINFO" => replies.status("OK"),
        b"GETNAME" => replies.bulk_or_nil(None),
        _ => replies.error("ERR unknown subcommand of CLIENT: SETNAME, SETINFO and GETNAME are there"),
    }
    After::Stay
}

/// `COMMAND`: name, arity and flags of each; `COMMAND COUNT`; `COMMAND DOCS`, which knows none.
pub(super) fn command(_: &Server, a: Arguments<'_>, replies: &mut Replies) -> After {
    match a.get(1).map(|word| word.to_ascii_uppercase()).as_deref() {
        None => {
            replies.array(COMMANDS.len());
            for spec in COMMANDS {
                replies.array(6);
                replies.bulk(spec.name.to_ascii_lowercase().as_bytes());
                replies.integer(spec.arity.into());
                replies.array(1);
                replies.status(match spec.run {
                    Run::Look(_) | Run::LookAround(_) => "readonly",
                    Run::Change(_) => "write",
                    Run::Control(_) => "fast",
                });
                (0..3).for_each(|_| replies.integer(0));
            }
        }
        Some(b"COUNT") => replies.integer(COMMANDS.len() as i64),
        Some(b"DOCS" | b"INFO") => replies.array(0),
        Some(_) => replies.error("ERR unknown subcommand of COMMAND: COUNT is there"),
    }
    After::Stay
}

/// `CONFIG GET PATTERN`: what clients ask for before they measure.
pub(super) fn config(server: &Server, a: Arguments<'_>, replies: &mut Replies) -> After {
    let threads = server.threads.to_string();
    let settings = [("save", ""), ("appendonly", "yes"), ("appendfsync", "always"), ("io-threads", &threads)];
    match a {
        [_, verb, patterns @ ..] if verb.eq_ignore_ascii_case(b"GET") && !patterns.is_empty() => {
            let wanted = |name: &str| patterns.iter().any(|pattern| matches(pattern, name.as_bytes()));
            let found: Vec<&str> = settings
                .iter()
                .filter(|(name, _)| wanted(name))
                .flat_map(|&(name, value)| [name, value])
                .collect();
            replies.bulks(found.iter());
        }
        _ => replies.error("ERR only CONFIG GET is there: settings are given when the server is started"),
    }
    After::Stay
}

pub(super) fn info(server: &Server, _: Arguments<'_>, replies: &mut Replies) -> After {
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let text = format!(
        "# Server\r\nserver_name:twizzler kv-server\r\nredis_version:7.0.0\r\nprocess_id:{}\r\ntcp_port:{}\r\n\
         uptime_in_seconds:{}\r\nthreads:{}\r\n\r\n# Clients\r\nconnected_clients:{}\r\n\r\n# Persistence\r\n\
         store:{}\r\ndurability:{}\r\nopened_in_ms:{:.3}\r\n\r\n# Stats\r\ntotal_commands_processed:{}\r\n\
         transactions:{}\r\n",
        std::process::id(),
        server.address.port(),
        server.started.elapsed().as_secs(),
        server.threads,
        count(&server.connections),
        server.path.display(),
        server.durability,
        server.opened_in.as_secs_f64() * 1e3,
        count(&server.commands),
        count(&server.transactions),
    );
    replies.bulk(text.as_bytes());
    After::Stay
}
