//! The commands, as a table.

use super::control::{self, Server};
use super::keys::{Fail, Keys};
use super::resp::{Replies, integer};
use super::{collections, generic, lists, strings};

/// A command with its arguments, its name first: as many as [`Spec::arity`] says.
pub(super) type Arguments<'a> = &'a [Vec<u8>];

pub(super) const NOT_AN_INTEGER: Fail = Fail::Refused("ERR value is not an integer or out of range");
pub(super) const SYNTAX: Fail = Fail::Refused("ERR syntax error");

/// An argument that is a number.
pub(super) fn number(argument: &[u8]) -> Result<i64, Fail> {
    integer(argument).ok_or(NOT_AN_INTEGER)
}

/// What runs a command.
#[derive(Clone, Copy)]
pub(super) enum Run {
    /// It looks at one place, which is what it is at one moment.
    Look(OnKeys),
    /// It looks at several places, which are to be what they are at one moment.
    LookAround(OnKeys),
    /// It changes keys.
    Change(OnKeys),
    /// It is about the server or the connection.
    Control(fn(&Server, Arguments<'_>, &mut Replies) -> After),
}

type OnKeys = fn(&mut Keys<'_, '_>, Arguments<'_>, &mut Replies) -> Result<(), Fail>;

/// What becomes of the connection after a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum After {
    Stay,
    Close,
}

/// A command.
pub(super) struct Spec {
    pub(super) name: &'static str,
    /// Arguments with the name; negative: at least so many.
    pub(super) arity: i32,
    pub(super) run: Run,
}

const fn look(name: &'static str, arity: i32, run: OnKeys) -> Spec {
    Spec { name, arity, run: Run::Look(run) }
}

const fn look_around(name: &'static str, arity: i32, run: OnKeys) -> Spec {
    Spec { name, arity, run: Run::LookAround(run) }
}

const fn change(name: &'static str, arity: i32, run: OnKeys) -> Spec {
    Spec { name, arity, run: Run::Change(run) }
}

const fn control(
    name: &'static str,
    arity: i32,
    run: fn(&Server, Arguments<'_>, &mut Replies) -> After,
) -> Spec {
    Spec { name, arity, run: Run::Control(run) }
}

/// All commands, by name.
pub(super) const COMMANDS: &[Spec] = &[
    change("APPEND", 3, strings::append),
    control("CLIENT", -2, control::client),
    control("COMMAND", -1, control::command),
    control("CONFIG", -2, control::config),
    look("DBSIZE", 1, generic::dbsize),
    change("DECR", 2, strings::decr),
    change("DECRBY", 3, strings::decrby),
    change("DEL", -2, generic::del),
    control("ECHO", 2, control::echo),
    look_around("EXISTS", -2, generic::exists),
    change("EXPIRE", 3, generic::expire),
    change("EXPIREAT", 3, generic::expire),
    change("FLUSHALL", -1, generic::flush),
    change("FLUSHDB", -1, generic::flush),
    look("GET", 2, strings::get),
    change("GETDEL", 2, strings::getdel),
    change("GETSET", 3, strings::getset),
    change("HDEL", -3, collections::hdel),
    look("HEXISTS", 3, collections::hexists),
    look("HGET", 3, collections::hget),
    look_around("HGETALL", 2, collections::hgetall),
    change("HINCRBY", 4, collections::hincrby),
    look_around("HKEYS", 2, collections::hgetall),
    look("HLEN", 2, collections::hlen),
    look_around("HMGET", -3, collections::hmget),
    change("HMSET", -4, collections::hset),
    change("HSET", -4, collections::hset),
    look_around("HVALS", 2, collections::hgetall),
    change("INCR", 2, strings::incr),
    change("INCRBY", 3, strings::incrby),
    control("INFO", -1, control::info),
    look("KEYS", 2, generic::keys),
    look_around("LINDEX", 3, lists::lindex),
    look("LLEN", 2, lists::llen),
    change("LPOP", -2, lists::lpop),
    change("LPUSH", -3, lists::lpush),
    look_around("LRANGE", 4, lists::lrange),
    look_around("MGET", -2, strings::mget),
    change("MSET", -3, strings::mset),
    change("PERSIST", 2, generic::persist),
    change("PEXPIRE", 3, generic::expire),
    change("PEXPIREAT", 3, generic::expire),
    control("PING", -1, control::ping),
    change("PSETEX", 4, strings::setex),
    look("PTTL", 2, generic::ttl),
    control("QUIT", -1, control::quit),
    change("RPOP", -2, lists::rpop),
    change("RPUSH", -3, lists::rpush),
    change("SADD", -3, collections::sadd),
    look("SCAN", -2, generic::scan),
    look("SCARD", 2, collections::scard),
    control("SELECT", 2, control::select),
    change("SET", -3, strings::set),
    change("SETEX", 4, strings::setex),
    change("SETNX", 3, strings::setnx),
    control("SHUTDOWN", -1, control::shutdown),
    look("SISMEMBER", 3, collections::sismember),
    look_around("SMEMBERS", 2, collections::smembers),
    change("SPOP", -2, collections::spop),
    change("SREM", -3, collections::srem),
    look("STRLEN", 2, strings::strlen),
    look("TTL", 2, generic::ttl),
    look("TYPE", 2, generic::kind),
    change("UNLINK", -2, generic::del),
];

/// The command of these arguments.
///
/// # Errors
/// What to answer where there is none, or it takes other arguments.
pub(super) fn find(arguments: Arguments<'_>) -> Result<&'static Spec, String> {
    let name = arguments.first().map_or(&[][..], Vec::as_slice);
    let upper = name.to_ascii_uppercase();
    let shown = String::from_utf8_lossy(&name[..name.len().min(64)]);
    let found = COMMANDS.binary_search_by(|spec| spec.name.as_bytes().cmp(&upper));
    let spec = found.map(|at| &COMMANDS[at]).map_err(|_| format!("ERR unknown command '{shown}'"))?;
    let count = i32::try_from(arguments.len()).unwrap_or(i32::MAX);
    if count == spec.arity || spec.arity < 0 && count >= -spec.arity {
        Ok(spec)
    } else {
        Err(format!("ERR wrong number of arguments for '{}' command", spec.name.to_ascii_lowercase()))
    }
}

/// True for what is its connection's last command.
pub(super) fn is_last(arguments: Arguments<'_>) -> bool {
    let is = |name: &[u8]| arguments.first().is_some_and(|first| first.eq_ignore_ascii_case(name));
    is(b"QUIT") || is(b"SHUTDOWN")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(line: &str) -> Vec<Vec<u8>> {
        line.split(' ').map(|word| word.as_bytes().to_vec()).collect()
    }

    #[test]
    fn commands_are_in_order_and_found() {
        assert!(COMMANDS.is_sorted_by(|a, b| a.name < b.name));
        for spec in COMMANDS {
            let words = vec![spec.name.to_ascii_lowercase().into_bytes(); spec.arity.unsigned_abs() as usize];
            assert_eq!(find(&words).map(|found| found.name), Ok(spec.name));
        }
    }

    #[test]
    fn what_is_no_command_is_named() {
        assert_eq!(find(&arguments("nonsense x")).err(), Some("ERR unknown command 'nonsense'".into()));
        let wrong = "ERR wrong number of arguments for 'get' command";
        assert_eq!(find(&arguments("get")).err(), Some(wrong.into()));
        assert_eq!(find(&arguments("get a b")).err(), Some(wrong.into()));
        assert!(find(&[]).is_err());
    }
}
