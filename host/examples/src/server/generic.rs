//! Commands about keys of whatever kind.

use super::commands::{Arguments, SYNTAX, number};
use super::keys::{Fail, Keys, SHARDS, check_answer};
use super::pattern::matches;
use super::resp::{Replies, cost_bytes, integer};
use super::strings::expiry;

type Done = Result<(), Fail>;

pub(super) fn del(keys: &mut Keys<'_, '_>, a: Arguments<'_>, replies: &mut Replies) -> Done {
    let mut removed = 0;
    for key in &a[1..] {
        removed += i64::from(keys.remove(key)?);
    }
    replies.integer(removed);
    Ok(())
}

pub(super) fn exists(keys: &mut Keys<'_, '_>, a: Arguments<'_>, replies: &mut Replies) -> Done {
    let mut found = 0;
    for key in &a[1..] {
        found += i64::from(keys.record(key)?.is_some());
    }
    replies.integer(found);
    Ok(())
}

pub(super) fn kind(keys: &mut Keys<'_, '_>, a: Arguments<'_>, replies: &mut Replies) -> Done {
    replies.status(keys.record(&a[1])?.map_or("none", |record| record.kind.name()));
    Ok(())
}

/// `EXPIRE`, `PEXPIRE`, `EXPIREAT`, `PEXPIREAT`. What has expired already goes at once.
pub(super) fn expire(keys: &mut Keys<'_, '_>, a: Arguments<'_>, replies: &mut Replies) -> Done {
    let name = a[0].to_ascii_uppercase();
    let unit: &[u8] = match name.as_slice() {
        b"EXPIRE" => b"EX",
        b"PEXPIRE" => b"PX",
        b"EXPIREAT" => b"EXAT",
        _ => b"PXAT",
    };
    let amount = number(&a[2])?;
    let Some(mut record) = keys.record(&a[1])? else {
        replies.integer(0);
        return Ok(());
    };
    let expires_ms = if amount <= 0 { 0 } else { expiry(amount, unit, keys.now_ms())? };
    if expires_ms <= keys.now_ms() {
        keys.remove(&a[1])?;
    } else {
        record.expires_ms = expires_ms;
        keys.set_record(&a[1], &record)?;
    }
    replies.integer(1);
    Ok(())
}

pub(super) fn persist(keys: &mut Keys<'_, '_>, a: Arguments<'_>, replies: &mut Replies) -> Done {
    let record = keys.record(&a[1])?.filter(|record| record.expires_ms != 0);
    replies.integer(record.is_some().into());
    if let Some(mut record) = record {
        record.expires_ms = 0;
        keys.set_record(&a[1], &record)?;
    }
    Ok(())
}

/// `TTL` and `PTTL`.
pub(super) fn ttl(keys: &mut Keys<'_, '_>, a: Arguments<'_>, replies: &mut Replies) -> Done {
    let rest_ms = keys.record(&a[1])?.map(|record| match record.expires_ms {
        0 => -1,
        expires_ms => (expires_ms - keys.now_ms()) as i64,
    });
    let in_seconds = a[0].eq_ignore_ascii_case(b"TTL");
    replies.integer(match rest_ms {
        None => -2,
        Some(rest_ms) if rest_ms >= 0 && in_seconds => (rest_ms + 500) / 1000,
        Some(rest_ms) => rest_ms,
    });
    Ok(())
}

pub(super) fn dbsize(keys: &mut Keys<'_, '_>, _: Arguments<'_>, replies: &mut Replies) -> Done {
    replies.integer(keys.len()? as i64);
    Ok(())
}

pub(super) fn flush(keys: &mut Keys<'_, '_>, _: Arguments<'_>, replies: &mut Replies) -> Done {
    keys.clear()?;
    replies.status("OK");
    Ok(())
}

pub(super) fn keys(keys: &mut Keys<'_, '_>, a: Arguments<'_>, replies: &mut Replies) -> Done {
    let (mut found, mut bytes) = (Vec::new(), 0);
    for shard in 0..SHARDS {
        let keys = keys.keys_of(shard, |key, _| matches(&a[1], key))?;
        bytes += cost_bytes(&keys);
        check_answer(bytes)?;
        found.extend(keys);
    }
    replies.bulks(found.iter());
    Ok(())
}

/// `SCAN`: a step is a shard, whatever `COUNT` says, which is a hint. So keys that are there all the time are met once.
pub(super) fn scan(keys: &mut Keys<'_, '_>, a: Arguments<'_>, replies: &mut Replies) -> Done {
    let cursor = integer(&a[1]).and_then(|cursor| usize::try_from(cursor).ok());
    let shard = cursor.ok_or(Fail::Refused("ERR invalid cursor"))?;
    let (mut pattern, mut kind) = (&b"*"[..], None);
    for option in a[2..].chunks(2) {
        let [name, value] = option else { return Err(SYNTAX) };
        match name.to_ascii_uppercase().as_slice() {
            b"MATCH" => pattern = value,
            b"TYPE" => kind = Some(value.to_ascii_lowercase()),
            b"COUNT" => drop(number(value)?),
            _ => return Err(SYNTAX),
        }
    }
    let found = keys.keys_of(shard, |key, of| {
        matches(pattern, key) && kind.as_ref().is_none_or(|kind| kind == of.name().as_bytes())
    })?;
    let next = if shard + 1 < SHARDS { shard + 1 } else { 0 };
    replies.array(2);
    replies.bulk(next.to_string().as_bytes());
    replies.bulks(found.iter());
    Ok(())
}
