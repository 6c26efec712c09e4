//! Commands about lists: items numbered without gaps, from a number in the middle of all on, so that both ends can grow.

use super::commands::{Arguments, NOT_AN_INTEGER, number};
use super::keys::{Fail, Keys, Kind, Record, check_answer};
use super::resp::{ARGUMENT_COST_BYTES, Replies};

type Done = Result<(), Fail>;

/// Number of the first item of a new list.
const MIDDLE: u64 = 1 << 63;

/// The list at a key, to be changed; a new one where there is none.
fn list(keys: &mut Keys<'_, '_>, key: &[u8]) -> Result<(Record, [u64; 2]), Fail> {
    keys.expire(key)?;
    let record = keys.record_of(key, Kind::List)?;
    let fresh = record.is_none();
    let mut record = record.unwrap_or_else(|| Record::new(Kind::List, Vec::new()));
    if fresh {
        record.set_words([MIDDLE, MIDDLE]);
    }
    let ends = record.words()?;
    Ok((record, ends))
}

fn keep(keys: &mut Keys<'_, '_>, key: &[u8], mut record: Record, ends: [u64; 2]) -> Done {
    if ends[0] == ends[1] {
        return keys.remove(key).map(drop);
    }
    record.set_words(ends);
    keys.set_record(key, &record)
}

/// Number of the first item, and how many there are.
fn extent(keys: &Keys<'_, '_>, key: &[u8]) -> Result<(u64, u64), Fail> {
    let Some(record) = keys.record_of(key, Kind::List)? else { return Ok((MIDDLE, 0)) };
    let [first, end] = record.words()?;
    Ok((first, end.checked_sub(first).ok_or(twizzler::Error::Damaged)?))
}

/// The ends of a list.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Left,
    Right,
}

fn push(keys: &mut Keys<'_, '_>, a: Arguments<'_>, end: End, replies: &mut Replies) -> Done {
    let (record, mut ends) = list(keys, &a[1])?;
    for value in &a[2..] {
        let number = match end {
            End::Left => {
                ends[0] -= 1;
                ends[0]
            }
            End::Right => {
                ends[1] += 1;
                ends[1] - 1
            }
        };
        keys.set_item(&a[1], &number.to_be_bytes(), value)?;
    }
    keep(keys, &a[1], record, ends)?;
    replies.integer((ends[1] - ends[0]) as i64);
    Ok(())
}

pub(super) fn lpush(keys: &mut Keys<'_, '_>, a: Arguments<'_>, replies: &mut Replies) -> Done {
    push(keys, a, End::Left, replies)
}

pub(super) fn rpush(keys: &mut Keys<'_, '_>, a: Arguments<'_>, replies: &mut Replies) -> Done {
    push(keys, a, End::Right, replies)
}

fn pop(keys: &mut Keys<'_, '_>, a: Arguments<'_>, end: End, replies: &mut Replies) -> Done {
    let wanted = a.get(2).map(|count| number(count)).transpose()?;
    let len = u64::try_from(wanted.unwrap_or(1)).map_err(|_| NOT_AN_INTEGER)?;
    let (record, mut ends) = list(keys, &a[1])?;
    let (mut values, mut bytes) = (Vec::new(), 0);
    let there = ends[0] != ends[1];
    while ends[0] < ends[1] && (values.len() as u64) < len {
        let number = match end {
            End::Left => {
                ends[0] += 1;
                ends[0] - 1
            }
            End::Right => {
                ends[1] -= 1;
                ends[1]
            }
        };
        let at = number.to_be_bytes();
        let value = keys.item(&a[1], &at)?.ok_or(twizzler::Error::Damaged)?;
        bytes += value.len() + ARGUMENT_COST_BYTES;
        check_answer(bytes)?;
        values.push(value);
        keys.remove_item(&a[1], &at)?;
    }
    if !values.is_empty() {
        keep(keys, &a[1], record, ends)?;
    }
    match wanted {
        Some(_) if there => replies.bulks(values.iter()),
        Some(_) => replies.nil_array(),
        None => replies.bulk_or_nil(values.first().map(Vec::as_slice)),
    }
    Ok(())
}

pub(super) fn lpop(keys: &mut Keys<'_, '_>, a: Arguments<'_>, replies: &mut Replies) -> Done {
    pop(keys, a, End::Left, replies)
}

pub(super) fn rpop(keys: &mut Keys<'_, '_>, a: Arguments<'_>, replies: &mut Replies) -> Done {
    pop(keys, a, End::Right, replies)
}

pub(super) fn llen(keys: &mut Keys<'_, '_>, a: Arguments<'_>, replies: &mut Replies) -> Done {
    replies.integer(extent(keys, &a[1])?.1 as i64);
    Ok(())
}

/// A place in a list of `len` items: from the end where it is negative.
fn place(index: i64, len: u64) -> i64 {
    if index < 0 { index.saturating_add_unsigned(len) } else { index }
}

pub(super) fn lrange(keys: &mut Keys<'_, '_>, a: Arguments<'_>, replies: &mut Replies) -> Done {
    let (first, len) = extent(keys, &a[1])?;
    let from = place(number(&a[2])?, len).max(0) as u64;
    let end = place(number(&a[3])?, len).saturating_add(1).max(0) as u64;
    let wanted = end.min(len).saturating_sub(from) as usize;
    if wanted == 0 {
        replies.array(0);
        return Ok(());
    }
    let items = keys.items_from(&a[1], &(first + from).to_be_bytes(), wanted)?;
    replies.bulks(items.iter().map(|(_, value)| value));
    Ok(())
}

pub(super) fn lindex(keys: &mut Keys<'_, '_>, a: Arguments<'_>, replies: &mut Replies) -> Done {
    let (first, len) = extent(keys, &a[1])?;
    let at = u64::try_from(place(number(&a[2])?, len)).ok().filter(|&at| at < len);
    let value = match at {
        Some(at) => keys.item(&a[1], &(first + at).to_be_bytes())?,
        None => None,
    };
    replies.bulk_or_nil(value.as_deref());
    Ok(())
}
