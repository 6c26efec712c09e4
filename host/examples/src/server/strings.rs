//! Commands about strings and the numbers in them.

use super::commands::{Arguments, NOT_AN_INTEGER, SYNTAX, number};
use super::keys::{Fail, Keys, Kind, Record, check_answer};
use super::resp::{Replies, integer};

/// Longest string.
const STRING_BYTES_MAX: usize = super::resp::ARGUMENT_BYTES_MAX - 64;
const TOO_LARGE: Fail = Fail::Refused("ERR string exceeds maximum allowed size");
const BAD_EXPIRY: Fail = Fail::Refused("ERR invalid expire time");

fn string(keys: &Keys<'_, '_>, key: &[u8]) -> Result<Option<Vec<u8>>, Fail> {
    Ok(keys.record_of(key, Kind::String)?.map(|record| record.body))
}

/// Gives a key a string, whatever it held.
fn set_string(keys: &mut Keys<'_, '_>, key: &[u8], value: &[u8], expires_ms: u64) -> Result<(), Fail> {
    if value.len() > STRING_BYTES_MAX {
        return Err(TOO_LARGE);
    }
    if keys.record(key)?.is_none_or(|record| record.kind != Kind::String) {
        keys.remove(key)?;
    }
    keys.set_record(key, &Record { kind: Kind::String, expires_ms, body: value.to_vec() })
}

pub(super) fn get(keys: &mut Keys<'_, '_>, a: Arguments<'_>, replies: &mut Replies) -> Result<(), Fail> {
    replies.bulk_or_nil(string(keys, &a[1])?.as_deref());
    Ok(())
}

pub(super) fn mget(keys: &mut Keys<'_, '_>, a: Arguments<'_>, replies: &mut Replies) -> Result<(), Fail> {
    replies.array(a.len() - 1);
    for key in &a[1..] {
        let record = keys.record(key)?.filter(|record| record.kind == Kind::String);
        replies.bulk_or_nil(record.as_ref().map(|record| record.body.as_slice()));
        check_answer(replies.len())?;
    }
    Ok(())
}

/// The options of `SET`.
#[derive(Default)]
struct SetOptions {
    expires_ms: Option<u64>,
    keep: bool,
    only_new: bool,
    only_old: bool,
    get: bool,
}

impl SetOptions {
    fn parse(options: Arguments<'_>, now_ms: u64) -> Result<Self, Fail> {
        let mut parsed = Self::default();
        let mut rest = options.iter();
        while let Some(option) = rest.next() {
            match option.to_ascii_uppercase().as_slice() {
                b"NX" if !parsed.only_old => parsed.only_new = true,
                b"XX" if !parsed.only_new => parsed.only_old = true,
                b"GET" => parsed.get = true,
                b"KEEPTTL" if parsed.expires_ms.is_none() => parsed.keep = true,
                unit @ (b"EX" | b"PX" | b"EXAT" | b"PXAT") if parsed.expires_ms.is_none() && !parsed.keep => {
                    let amount = number(rest.next().ok_or(SYNTAX)?)?;
                    parsed.expires_ms = Some(expiry(amount, unit, now_ms)?);
                }
                _ => return Err(SYNTAX),
            }
        }
        Ok(parsed)
    }
}

/// The time in milliseconds that an amount of a unit means.
pub(super) fn expiry(amount: i64, unit: &[u8], now_ms: u64) -> Result<u64, Fail> {
    let amount = u64::try_from(amount).ok().filter(|&amount| amount > 0).ok_or(BAD_EXPIRY)?;
    let ms = if unit.starts_with(b"E") { amount.checked_mul(1000) } else { Some(amount) };
    let ms = if unit.ends_with(b"AT") { ms } else { ms.and_then(|ms| ms.checked_add(now_ms)) };
    // As Redis has it: a signed number of milliseconds since 1970.
    ms.filter(|&ms| i64::try_from(ms).is_ok()).ok_or(BAD_EXPIRY)
}

pub(super) fn set(keys: &mut Keys<'_, '_>, a: Arguments<'_>, replies: &mut Replies) -> Result<(), Fail> {
    let options = SetOptions::parse(&a[3..], keys.now_ms())?;
    let old = keys.record(&a[1])?;
    let old_string = if options.get { string(keys, &a[1])? } else { None };
    let wanted = if old.is_some() { !options.only_new } else { !options.only_old };
    if wanted {
        let kept = old.filter(|_| options.keep).map_or(0, |record| record.expires_ms);
        set_string(keys, &a[1], &a[2], options.expires_ms.unwrap_or(kept))?;
    }
    match (options.get, wanted) {
        (true, _) => replies.bulk_or_nil(old_string.as_deref()),
        (false, true) => replies.status("OK"),
        (false, false) => replies.bulk_or_nil(None),
    }
    Ok(())
}

pub(super) fn setnx(keys: &mut Keys<'_, '_>, a: Arguments<'_>, replies: &mut Replies) -> Result<(), Fail> {
    let vacant = keys.record(&a[1])?.is_none();
    if vacant {
        set_string(keys, &a[1], &a[2], 0)?;
    }
    replies.integer(vacant.into());
    Ok(())
}

pub(super) fn setex(keys: &mut Keys<'_, '_>, a: Arguments<'_>, replies: &mut Replies) -> Result<(), Fail> {
    let unit: &[u8] = if a[0].eq_ignore_ascii_case(b"PSETEX") { b"PX" } else { b"EX" };
    let expires_ms = expiry(number(&a[2])?, unit, keys.now_ms())?;
    set_string(keys, &a[1], &a[3], expires_ms)?;
    replies.status("OK");
    Ok(())
}

pub(super) fn getset(keys: &mut Keys<'_, '_>, a: Arguments<'_>, replies: &mut Replies) -> Result<(), Fail> {
    let old = string(keys, &a[1])?;
    set_string(keys, &a[1], &a[2], 0)?;
    replies.bulk_or_nil(old.as_deref());
    Ok(())
}

pub(super) fn getdel(keys: &mut Keys<'_, '_>, a: Arguments<'_>, replies: &mut Replies) -> Result<(), Fail> {
    let old = string(keys, &a[1])?;
    keys.remove(&a[1])?;
    replies.bulk_or_nil(old.as_deref());
    Ok(())
}

pub(super) fn mset(keys: &mut Keys<'_, '_>, a: Arguments<'_>, replies: &mut Replies) -> Result<(), Fail> {
    if a.len().is_multiple_of(2) {
        return Err(Fail::Refused("ERR wrong number of arguments for 'mset' command"));
    }
    for pair in a[1..].chunks_exact(2) {
        set_string(keys, &pair[0], &pair[1], 0)?;
    }
    replies.status("OK");
    Ok(())
}

pub(super) fn append(keys: &mut Keys<'_, '_>, a: Arguments<'_>, replies: &mut Replies) -> Result<(), Fail> {
    keys.expire(&a[1])?;
    let record = keys.record_of(&a[1], Kind::String)?;
    let mut record = record.unwrap_or_else(|| Record::new(Kind::String, Vec::new()));
    record.body.extend_from_slice(&a[2]);
    if record.body.len() > STRING_BYTES_MAX {
        return Err(TOO_LARGE);
    }
    keys.set_record(&a[1], &record)?;
    replies.integer(record.body.len() as i64);
    Ok(())
}

pub(super) fn strlen(keys: &mut Keys<'_, '_>, a: Arguments<'_>, replies: &mut Replies) -> Result<(), Fail> {
    replies.integer(string(keys, &a[1])?.map_or(0, |value| value.len() as i64));
    Ok(())
}

fn add(keys: &mut Keys<'_, '_>, key: &[u8], amount: i64, replies: &mut Replies) -> Result<(), Fail> {
    keys.expire(key)?;
    let record = keys.record_of(key, Kind::String)?;
    let mut record = record.unwrap_or_else(|| Record::new(Kind::String, b"0".to_vec()));
    let old = integer(&record.body).ok_or(NOT_AN_INTEGER)?;
    let new = old.checked_add(amount).ok_or(Fail::Refused("ERR increment or decrement would overflow"))?;
    record.body = new.to_string().into_bytes();
    keys.set_record(key, &record)?;
    replies.integer(new);
    Ok(())
}

pub(super) fn incr(keys: &mut Keys<'_, '_>, a: Arguments<'_>, replies: &mut Replies) -> Result<(), Fail> {
    add(keys, &a[1], 1, replies)
}

pub(super) fn decr(keys: &mut Keys<'_, '_>, a: Arguments<'_>, replies: &mut Replies) -> Result<(), Fail> {
    add(keys, &a[1], -1, replies)
}

pub(super) fn incrby(keys: &mut Keys<'_, '_>, a: Arguments<'_>, replies: &mut Replies) -> Result<(), Fail> {
    add(keys, &a[1], number(&a[2])?, replies)
}

pub(super) fn decrby(keys: &mut Keys<'_, '_>, a: Arguments<'_>, replies: &mut Replies) -> Result<(), Fail> {
    add(keys, &a[1], number(&a[2])?.checked_neg().ok_or(NOT_AN_INTEGER)?, replies)
}
