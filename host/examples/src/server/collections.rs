//! Commands about hashes, sets and lists.

use super::commands::{Arguments, NOT_AN_INTEGER, number};
use super::keys::{Fail, Items, Keys, Kind, Record, check_answer};
use super::resp::{Replies, integer};

type Done = Result<(), Fail>;

/// The record of a hash or set and how many items it has; a new one where there is none.
fn counted(keys: &mut Keys<'_, '_>, key: &[u8], kind: Kind) -> Result<(Record, u64), Fail> {
    keys.expire(key)?;
    let mut record = match keys.record_of(key, kind)? {
        Some(record) => record,
        None => Record::new(kind, Vec::new()),
    };
    if record.body.is_empty() {
        record.set_words([0]);
    }
    let [count] = record.words()?;
    Ok((record, count))
}

/// Keeps a new count; a key without items goes.
fn keep(keys: &mut Keys<'_, '_>, key: &[u8], mut record: Record, count: u64) -> Done {
    if count == 0 {
        return keys.remove(key).map(drop);
    }
    record.set_words([count]);
    keys.set_record(key, &record)
}

fn count(keys: &Keys<'_, '_>, key: &[u8], kind: Kind) -> Result<i64, Fail> {
    Ok(match keys.record_of(key, kind)? {
        Some(record) => record.words::<1>()?[0] as i64,
        None => 0,
    })
}

/// Items of a hash or set; none where the key isn't there.
fn items(keys: &Keys<'_, '_>, key: &[u8], kind: Kind) -> Result<Items, Fail> {
    match keys.record_of(key, kind)? {
        Some(_) => keys.items(key),
        None => Ok(Vec::new()),
    }
}

fn item(keys: &Keys<'_, '_>, key: &[u8], kind: Kind, suffix: &[u8]) -> Result<Option<Vec<u8>>, Fail> {
    match keys.record_of(key, kind)? {
        Some(_) => keys.item(key, suffix),
        None => Ok(None),
    }
}

fn remove_items(keys: &mut Keys<'_, '_>, a: Arguments<'_>, kind: Kind, replies: &mut Replies) -> Done {
    let (record, before) = counted(keys, &a[1], kind)?;
    let mut after = before;
    for suffix in &a[2..] {
        after -= u64::from(after > 0 && keys.remove_item(&a[1], suffix)?);
    }
    if after != before {
        keep(keys, &a[1], record, after)?;
    }
    replies.integer((before - after) as i64);
    Ok(())
}

pub(super) fn hset(keys: &mut Keys<'_, '_>, a: Arguments<'_>, replies: &mut Replies) -> Done {
    if !a.len().is_multiple_of(2) {
        return Err(Fail::Refused("ERR wrong number of arguments for 'hset' command"));
    }
    let (record, before) = counted(keys, &a[1], Kind::Hash)?;
    let mut after = before;
    for pair in a[2..].chunks_exact(2) {
        after += u64::from(!keys.set_item(&a[1], &pair[0], &pair[1])?);
    }
    keep(keys, &a[1], record, after)?;
    match a[0].to_ascii_uppercase().as_slice() {
        b"HMSET" => replies.status("OK"),
        _ => replies.integer((after - before) as i64),
    }
    Ok(())
}

pub(super) fn hget(keys: &mut Keys<'_, '_>, a: Arguments<'_>, replies: &mut Replies) -> Done {
    replies.bulk_or_nil(item(keys, &a[1], Kind::Hash, &a[2])?.as_deref());
    Ok(())
}

pub(super) fn hmget(keys: &mut Keys<'_, '_>, a: Arguments<'_>, replies: &mut Replies) -> Done {
    replies.array(a.len() - 2);
    for field in &a[2..] {
        replies.bulk_or_nil(item(keys, &a[1], Kind::Hash, field)?.as_deref());
        check_answer(replies.len())?;
    }
    Ok(())
}

pub(super) fn hexists(keys: &mut Keys<'_, '_>, a: Arguments<'_>, replies: &mut Replies) -> Done {
    replies.integer(item(keys, &a[1], Kind::Hash, &a[2])?.is_some().into());
    Ok(())
}

pub(super) fn hdel(keys: &mut Keys<'_, '_>, a: Arguments<'_>, replies: &mut Replies) -> Done {
    remove_items(keys, a, Kind::Hash, replies)
}

pub(super) fn hlen(keys: &mut Keys<'_, '_>, a: Arguments<'_>, replies: &mut Replies) -> Done {
    replies.integer(count(keys, &a[1], Kind::Hash)?);
    Ok(())
}

pub(super) fn hgetall(keys: &mut Keys<'_, '_>, a: Arguments<'_>, replies: &mut Replies) -> Done {
    let items = items(keys, &a[1], Kind::Hash)?;
    match a[0].to_ascii_uppercase().as_slice() {
        b"HKEYS" => replies.bulks(items.iter().map(|(field, _)| field)),
        b"HVALS" => replies.bulks(items.iter().map(|(_, value)| value)),
        _ => {
            replies.array(items.len() * 2);
            items
                .iter()
                .for_each(|(field, value)| [field, value].iter().for_each(|bytes| replies.bulk(bytes)));
        }
    }
    Ok(())
}

pub(super) fn hincrby(keys: &mut Keys<'_, '_>, a: Arguments<'_>, replies: &mut Replies) -> Done {
    let amount = number(&a[3])?;
    let (record, count) = counted(keys, &a[1], Kind::Hash)?;
    let old = keys.item(&a[1], &a[2])?;
    let number = integer(old.as_deref().unwrap_or(b"0")).ok_or(NOT_AN_INTEGER)?;
    let new = number.checked_add(amount).ok_or(Fail::Refused("ERR increment or decrement would overflow"))?;
    keys.set_item(&a[1], &a[2], new.to_string().as_bytes())?;
    keep(keys, &a[1], record, count + u64::from(old.is_none()))?;
    replies.integer(new);
    Ok(())
}

pub(super) fn sadd(keys: &mut Keys<'_, '_>, a: Arguments<'_>, replies: &mut Replies) -> Done {
    let (record, before) = counted(keys, &a[1], Kind::Set)?;
    let mut after = before;
    for member in &a[2..] {
        after += u64::from(!keys.set_item(&a[1], member, &[])?);
    }
    if after != before {
        keep(keys, &a[1], record, after)?;
    }
    replies.integer((after - before) as i64);
    Ok(())
}

pub(super) fn srem(keys: &mut Keys<'_, '_>, a: Arguments<'_>, replies: &mut Replies) -> Done {
    remove_items(keys, a, Kind::Set, replies)
}

pub(super) fn smembers(keys: &mut Keys<'_, '_>, a: Arguments<'_>, replies: &mut Replies) -> Done {
    replies.bulks(items(keys, &a[1], Kind::Set)?.iter().map(|(member, _)| member));
    Ok(())
}

pub(super) fn sismember(keys: &mut Keys<'_, '_>, a: Arguments<'_>, replies: &mut Replies) -> Done {
    replies.integer(item(keys, &a[1], Kind::Set, &a[2])?.is_some().into());
    Ok(())
}

pub(super) fn scard(keys: &mut Keys<'_, '_>, a: Arguments<'_>, replies: &mut Replies) -> Done {
    replies.integer(count(keys, &a[1], Kind::Set)?);
    Ok(())
}

/// Takes out the first members in order: any will do.
pub(super) fn spop(keys: &mut Keys<'_, '_>, a: Arguments<'_>, replies: &mut Replies) -> Done {
    let wanted = a.get(2).map(|count| number(count)).transpose()?;
    let len = usize::try_from(wanted.unwrap_or(1)).map_err(|_| NOT_AN_INTEGER)?;
    let (record, before) = counted(keys, &a[1], Kind::Set)?;
    let members = if before == 0 { Vec::new() } else { keys.items_from(&a[1], &[], len)? };
    for (member, _) in &members {
        keys.remove_item(&a[1], member)?;
    }
    if !members.is_empty() {
        let after = before.checked_sub(members.len() as u64).ok_or(twizzler::Error::Damaged)?;
        keep(keys, &a[1], record, after)?;
    }
    match wanted {
        Some(_) => replies.bulks(members.iter().map(|(member, _)| member)),
        None => replies.bulk_or_nil(members.first().map(|(member, _)| member.as_slice())),
    }
    Ok(())
}
