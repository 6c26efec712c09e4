//! The key-value server as clients see it.
#![forbid(unsafe_code)]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use support::{Client, Server};
use twizzler::{Access, Durability, Error, Observer, Options, Step};

fn session(client: &mut Client, steps: &[(&str, &str)]) {
    for (command, wanted) in steps {
        assert_eq!(client.ask(command), *wanted, "{command}");
    }
}

#[test]
fn commands_answer_as_redis_does() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(&folder.path().join("store"), &["--survives", "kill"]);
    let mut client = server.client();
    session(&mut client, STRINGS);
    session(&mut client, KEYS);
    session(&mut client, COLLECTIONS);
    session(&mut client, LISTS);
    session(&mut client, REFUSALS);
    session(&mut client, &[("FLUSHALL", "OK"), ("DBSIZE", "0"), ("KEYS *", "[]"), ("GET a", "nil")]);
}

const STRINGS: &[(&str, &str)] = &[
    ("PING", "PONG"),
    ("PING hello", "hello"),
    ("ECHO hello", "hello"),
    ("GET a", "nil"),
    ("SET a 1", "OK"),
    ("GET a", "1"),
    ("SET a 2 NX", "nil"),
    ("SET b 2 XX", "nil"),
    ("SET a 3 XX GET", "1"),
    ("GETSET a 4", "3"),
    ("SETNX a 5", "0"),
    ("SETNX c 5", "1"),
    ("INCR a", "5"),
    ("INCRBY a 10", "15"),
    ("DECR a", "14"),
    ("DECRBY a 20", "-6"),
    ("INCR new", "1"),
    ("APPEND t ab", "2"),
    ("APPEND t cd", "4"),
    ("STRLEN t", "4"),
    ("MSET x 1 y 2", "OK"),
    ("MGET x nosuch y", "[1 nil 2]"),
    ("GETDEL x", "1"),
    ("EXISTS x y y", "2"),
    ("DEL y nosuch t", "2"),
    ("INCR c", "6"),
    ("SET c 9223372036854775807", "OK"),
    ("INCR c", "ERR increment or decrement would overflow"),
];

const KEYS: &[(&str, &str)] = &[
    ("TTL a", "-1"),
    ("TTL nosuch", "-2"),
    ("EXPIRE a 100", "1"),
    ("TTL a", "100"),
    ("SET a 1 KEEPTTL", "OK"),
    ("TTL a", "100"),
    ("PERSIST a", "1"),
    ("PERSIST a", "0"),
    ("TTL a", "-1"),
    ("SETEX gone 1 x", "OK"),
    ("PEXPIREAT gone 1", "1"),
    ("EXISTS gone", "0"),
    ("SET gone x PXAT 1", "OK"),
    ("GET gone", "nil"),
    ("LPUSH gone x", "1"),
    ("TYPE gone", "list"),
    ("DEL gone", "1"),
    ("TYPE a", "string"),
    ("TYPE nosuch", "none"),
    ("DBSIZE", "3"),
    ("KEYS ?", "[a c]"),
    ("KEYS n[aeiou]w", "[new]"),
    ("SELECT 0", "OK"),
];

const COLLECTIONS: &[(&str, &str)] = &[
    ("HSET h f 1 g 2", "2"),
    ("HSET h f 3", "0"),
    ("HGET h f", "3"),
    ("HGET h nosuch", "nil"),
    ("HMGET h g nosuch", "[2 nil]"),
    ("HGETALL h", "[f 3 g 2]"),
    ("HKEYS h", "[f g]"),
    ("HVALS h", "[3 2]"),
    ("HLEN h", "2"),
    ("HEXISTS h g", "1"),
    ("HINCRBY h f 4", "7"),
    ("HDEL h f g nosuch", "2"),
    ("EXISTS h", "0"),
    ("SADD s b a b", "2"),
    ("SMEMBERS s", "[a b]"),
    ("SISMEMBER s a", "1"),
    ("SCARD s", "2"),
    ("SREM s a nosuch", "1"),
    ("SPOP s", "b"),
    ("SPOP s", "nil"),
    ("TYPE s", "none"),
];

const LISTS: &[(&str, &str)] = &[
    ("RPUSH l c d", "2"),
    ("LPUSH l b a", "4"),
    ("LRANGE l 0 -1", "[a b c d]"),
    ("LRANGE l -2 9", "[c d]"),
    ("LRANGE l 5 9", "[]"),
    ("LINDEX l 1", "b"),
    ("LINDEX l -5", "nil"),
    ("LPOP l", "a"),
    ("RPOP l 2", "[d c]"),
    ("LLEN l", "1"),
    ("RPOP l", "b"),
    ("LPOP l 2", "nil"),
    ("EXISTS l", "0"),
];

const REFUSALS: &[(&str, &str)] = &[
    ("PING a b", "ERR wrong number of arguments for 'ping' command"),
    ("SET e 1 EX 9223372036854776", "ERR invalid expire time"),
    ("EXISTS e", "0"),
    ("LPUSH a x", "WRONGTYPE Operation against a key holding the wrong kind of value"),
    ("SET s x EX 0", "ERR invalid expire time"),
    ("SET s x NX XX", "ERR syntax error"),
    ("INCRBY a x", "ERR value is not an integer or out of range"),
    ("HSET h f", "ERR wrong number of arguments for 'hset' command"),
    ("HSET h f 1 g", "ERR wrong number of arguments for 'hset' command"),
    ("nonsense", "ERR unknown command 'nonsense'"),
    ("SELECT 1", "ERR DB index is out of range: there is one database, 0"),
];

#[test]
fn a_command_that_is_refused_changes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(&folder.path().join("store"), &["--survives", "kill"]);
    let mut client = server.client();
    let long = "k".repeat(2000);
    let refused = "ERR the key, with its field, is too long";
    assert_eq!(client.ask(&format!("MSET a 1 {long} 2")), refused);
    assert_eq!(client.ask(&format!("HSET h f 1 {long} 2")), refused);
    assert_eq!(client.ask(&format!("SADD s f {long}")), refused);
    session(
        &mut client,
        &[
            ("GET a", "nil"),
            ("EXISTS h s", "0"),
            ("DBSIZE", "0"),
            ("HSET h g 2", "1"),
            ("HGETALL h", "[g 2]"),
        ],
    );
    assert_eq!(client.ask(&format!("GET {long}")), "nil");
}

#[test]
fn pipelines_are_answered_in_order() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(&folder.path().join("store"), &["--survives", "kill"]);
    let mut client = server.client();
    for n in 0..10_000 {
        client.send(&format!("SET key{n} {n}"));
        client.send(&format!("GET key{n}"));
    }
    for n in 0..10_000 {
        assert_eq!((client.reply(), client.reply()), ("OK".into(), n.to_string()));
    }
    assert_eq!(client.ask("DBSIZE"), "10000");
    let mut found = std::collections::BTreeSet::new();
    let mut cursor = String::from("0");
    loop {
        let reply = client.ask(&format!("SCAN {cursor} MATCH key* COUNT 10"));
        let (next, keys) = reply[1..reply.len() - 1].split_once(' ').expect("two items");
        found
            .extend(keys.trim_matches(['[', ']']).split(' ').filter(|key| !key.is_empty()).map(String::from));
        cursor = next.into();
        if cursor == "0" {
            break;
        }
    }
    assert_eq!(found.len(), 10_000);
    // What makes no sense ends the connection, after what came before was answered.
    client.raw(b"PING\r\n*1\r\n:5\r\n");
    assert_eq!(
        (client.reply(), client.reply()),
        ("PONG".into(), "ERR Protocol error: expected a length".into())
    );
    assert!(client.is_closed());
}

#[test]
fn a_client_that_asks_for_much_and_takes_nothing_costs_little_memory() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(&folder.path().join("store"), &["--survives", "kill"]);
    let (mut client, mut other) = (server.client(), server.client());
    let value = "v".repeat(4 << 20);
    assert_eq!(client.ask(&format!("SET long {value}")), "OK");
    for n in 0..200 {
        client.send("GET long");
        client.send(&format!("SET last {n}"));
    }
    assert_eq!(other.ask("PING"), "PONG");
    for n in 0..200 {
        assert!(client.reply() == value && client.reply() == "OK", "answer {n}");
    }
    assert_eq!(client.ask("GET last"), "199");
    let peak_bytes = server.peak_bytes();
    assert!(peak_bytes < 200 << 20, "{peak_bytes} bytes for 800 MiB of answers");
}

#[test]
fn clients_at_once_lose_no_update() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(&folder.path().join("store"), &["--survives", "kill", "--threads", "4"]);
    std::thread::scope(|scope| {
        for n in 0..8 {
            let mut client = server.client();
            scope.spawn(move || {
                for round in 0..250 {
                    client.send("INCR shared");
                    client.send(&format!("MSET a{n} {round} b{n} {round} c{n} {round}"));
                    client.send(&format!("MGET a{n} b{n} c{n}"));
                    client.reply();
                    assert_eq!(client.reply(), "OK");
                    assert_eq!(client.reply(), format!("[{round} {round} {round}]"));
                }
            });
        }
    });
    assert_eq!(server.client().ask("GET shared"), "2000");
}

/// How many numbers were pushed and counted, in two commands.
fn counted(client: &mut Client) -> (u64, u64) {
    let number = |reply: String| reply.parse().unwrap_or(0);
    (number(client.ask("GET n")), number(client.ask("LLEN list")))
}

#[test]
fn what_was_answered_survives_a_kill() {
    for survives in ["power-cut", "kill"] {
        let folder = tempfile::tempdir().expect("a folder");
        let store = folder.path().join("store");
        let mut acknowledged = 0;
        for round in 0..3 {
            let server = Server::start(&store, &["--survives", survives]);
            let mut client = server.client();
            for _ in 0..50 {
                client.ask("RPUSH list x");
                acknowledged = client.ask("INCR n").parse().expect("a number");
            }
            // Not waited for.
            client.send("RPUSH list x");
            server.kill();
            let server = Server::start(&store, &["--survives", survives]);
            let mut client = server.client();
            let (n, len) = counted(&mut client);
            assert_eq!(n, acknowledged, "round {round}");
            assert!(len == n || len == n + 1, "round {round}: {len} of {n}");
            client.ask(&format!("SET n {len}"));
            client.send("SHUTDOWN");
            assert!(client.is_closed());
            server.ends_well();
        }
    }
}

#[test]
fn more_clients_than_there_are_files_for_are_told_and_do_no_harm() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start_with_files(&folder.path().join("store"), &["--threads", "1"], 100);
    let mut client = server.client();
    assert_eq!(client.ask("PING"), "PONG");
    let mut others: Vec<Client> = (0..120).map(|_| server.client()).collect();
    assert_eq!(others.last_mut().expect("the last one").reply(), "ERR max number of clients reached");
    for n in 0..300 {
        client.send(&format!("SET key{n} {n}"));
    }
    assert!((0..300).all(|_| client.reply() == "OK"));
    drop(others);
    // The server learns of that at its leisure.
    let answered = |_| {
        std::thread::sleep(Duration::from_millis(50));
        let mut client = server.client();
        client.send("PING");
        client.try_reply().is_some_and(|reply| reply == "PONG")
    };
    assert!((0..100).any(answered));
}

#[test]
fn who_sends_no_more_is_answered() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(&folder.path().join("store"), &["--survives", "kill"]);
    let mut client = server.client();
    client.raw(b"SET a 1\r\nGET a\r\nSET unfinished");
    client.ends();
    assert_eq!((client.reply(), client.reply()), ("OK".into(), "1".into()));
    assert!(client.is_closed());
    // Nothing behind the last command is run.
    let mut client = server.client();
    client.raw(b"GET a\r\nQUIT\r\nSET a 2\r\nGET a\r\n");
    assert_eq!((client.reply(), client.reply()), ("1".into(), "OK".into()));
    assert!(client.is_closed());
    assert_eq!(server.client().ask("GET a"), "1");
}

#[test]
fn who_sends_without_end_keeps_nobody_waiting() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(&folder.path().join("store"), &["--threads", "1"]);
    let (mut busy, mut other) = (server.client(), server.client());
    std::thread::scope(|scope| {
        // 2,000 commands wait all the time.
        scope.spawn(move || {
            let many = b"SET a b\r\n".repeat(500);
            let until = Instant::now() + Duration::from_secs(6);
            busy.raw(&many.repeat(4));
            while Instant::now() < until {
                assert!((0..500).all(|_| busy.reply() == "OK"));
                busy.raw(&many);
            }
        });
        std::thread::sleep(Duration::from_millis(500));
        for _ in 0..3 {
            let asked = Instant::now();
            assert_eq!(other.ask("PING"), "PONG");
            assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
        }
    });
}

#[test]
fn what_is_sent_faster_than_it_runs_waits_with_the_client() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(&folder.path().join("store"), &["--survives", "kill", "--threads", "1"]);
    let mut client = server.client();
    let mut writer = client.writer();
    let value = "v".repeat(16 << 10);
    let command = format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${}\r\n{value}\r\n", value.len());
    let sent = std::thread::spawn(move || {
        (0..20_000).try_for_each(|_| std::io::Write::write_all(&mut writer, command.as_bytes()))
    });
    for n in 0..20_000 {
        assert_eq!(client.try_reply().as_deref(), Some("OK"), "answer {n}");
    }
    sent.join().expect("no panic").expect("all was sent");
    let peak_bytes = server.peak_bytes();
    assert!(peak_bytes < 100 << 20, "{peak_bytes} bytes for 320 MiB of commands");
}

#[test]
fn commands_without_end_do_not_take_all_memory() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(&folder.path().join("store"), &["--survives", "kill"]);
    let mut other = server.client();
    let part = [b"$33554432\r\n".to_vec(), vec![b'v'; 32 << 20], b"\r\n".to_vec()].concat();
    let begin = |client: &mut Client| {
        let mut writer = client.writer();
        let mut send = |bytes: &[u8]| std::io::Write::write_all(&mut writer, bytes);
        send(b"*9\r\n").and_then(|()| (0..6).try_for_each(|_| send(&part))).is_ok()
    };
    let mut clients: Vec<Client> = (0..6).map(|_| server.client()).collect();
    let begun: Vec<bool> = clients.iter_mut().map(begin).collect();
    // Nearly 200 MiB each.
    assert!(begun[0] && begun[1] && begun.contains(&false), "{begun:?}");
    assert_eq!(other.ask("PING"), "PONG");
    let peak_bytes = server.peak_bytes();
    assert!(peak_bytes < 800 << 20, "{peak_bytes} bytes");
}

#[test]
fn an_answer_that_is_too_long_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(&folder.path().join("store"), &["--survives", "kill"]);
    let mut client = server.client();
    let value = "v".repeat(4 << 20);
    assert_eq!(client.ask(&format!("SET a {value}")), "OK");
    assert_eq!(client.ask(&format!("HSET h f {value}")), "1");
    let refused = "ERR the answer is too long";
    assert_eq!(client.ask(&format!("MGET{}", " a".repeat(500))), refused);
    assert_eq!(client.ask(&format!("HMGET h{}", " f".repeat(500))), refused);
    for _ in 0..70 {
        assert!(client.ask(&format!("RPUSH l {value}")).parse::<u64>().is_ok());
    }
    assert_eq!(client.ask("LRANGE l 0 -1"), refused);
    assert_eq!(client.ask("LPOP l 70"), refused);
    assert_eq!((client.ask("LLEN l"), client.ask("DEL l")), ("70".into(), "1".into()));
    assert_eq!(
        client.ask(&format!("MSET{}", " a b".repeat(10_001))).split(':').next(),
        Some("ERR too many values for one command")
    );
    assert!(client.ask(&format!("MGET{}", " a".repeat(10))).len() > 40 << 20);
    let peak_bytes = server.peak_bytes();
    assert!(peak_bytes < 1200 << 20, "{peak_bytes} bytes");
}

#[test]
fn several_keys_are_read_at_one_moment() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(&folder.path().join("store"), &["--survives", "kill", "--threads", "2"]);
    let (mut writer, mut reader) = (server.client(), server.client());
    assert_eq!(writer.ask("MSET a 0 b 0 c 0 d 0"), "OK");
    std::thread::scope(|scope| {
        let written = scope.spawn(move || {
            for n in 0..20_000 {
                assert_eq!(writer.ask(&format!("MSET a {n} b {n} c {n} d {n}")), "OK");
            }
        });
        while !written.is_finished() {
            let reply = reader.ask("MGET a b c d");
            let mut values = reply.trim_matches(['[', ']']).split(' ');
            let first = values.next();
            assert!(values.all(|value| Some(value) == first), "{reply}");
        }
    });
}

#[test]
fn what_others_hold_is_waited_for_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store");
    let server = Server::start(&path, &["--survives", "kill", "--threads", "1"]);
    let mut client = server.client();
    assert_eq!(client.ask("SET before 1"), "OK");
    let store = Options::new().durability(Durability::ProcessKill).open(&path).expect("shared");
    let ids = store.backend().ids().expect("listed");
    let held = std::sync::Barrier::new(2);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let done: Result<(), Error> = store.transact(|tx| {
                for &id in &ids {
                    if let Ok(area) = tx.open_any(id, Access::Write) {
                        tx.lock(area)?;
                    }
                }
                held.wait();
                std::thread::sleep(Duration::from_secs(24));
                Ok(())
            });
            done.expect("changes nothing");
        });
        held.wait();
        let asked = Instant::now();
        let sets: String = (0..16).map(|n| format!("SET key{n} 1\r\n")).collect();
        client.raw(format!("{sets}GET before\r\n").as_bytes());
        for n in 0..16 {
            assert!(client.reply().starts_with("ERR the store says: "), "answer {n}");
        }
        assert_eq!(client.reply(), "1");
        assert!(asked.elapsed() < Duration::from_secs(18), "{:?}", asked.elapsed());
    });
    assert_eq!(client.ask("SET after 1"), "OK");
}

/// A disk on which nothing can be written.
#[derive(Debug)]
struct Broken;

impl Observer for Broken {
    fn before(&self, step: Step<'_>) -> std::io::Result<()> {
        match step {
            Step::WriteDurably(..) => Err(std::io::ErrorKind::Other.into()),
            _ => Ok(()),
        }
    }
}

#[test]
fn a_store_that_can_not_be_changed_is_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store");
    let server = Server::start(&path, &[]);
    let mut client = server.client();
    session(&mut client, &[("MSET a 1 b 2", "OK"), ("RPUSH l 1 2", "2")]);
    let store = Options::new().observer(Arc::new(Broken)).open(&path).expect("shared");
    let made = store.transact(|tx| tx.create::<u64>().map(drop));
    assert_eq!(made, Err(Error::ReadOnly));
    client.raw(b"MGET a b\r\nSET a 3\r\nLRANGE l 0 -1\r\nGET a\r\n");
    assert_eq!(client.reply(), "[1 2]");
    assert!(client.reply().starts_with("ERR the store says: "));
    assert_eq!((client.reply(), client.reply()), ("[1 2]".into(), "1".into()));
}
