//! Commands about the machine: views, threads, memory, time, power.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use twizzler_abi::Error;
use twizzler_abi::address::{Area, SLOTS, Slot, band};
use twizzler_abi::call::StatOp;
use twizzler_abi::rights::Rights;
use twizzler_abi::thread::Status;
use twizzler_rt::thread::Watch;
use twizzler_rt::{call, eprintln, slots, system, system_word};

use super::Shell;
use super::failure::{Failure, Outcome};
use super::output::Output;
use crate::text::{Table, bytes, duration};

/// Rights as letters.
pub(super) fn rights_text(rights: Rights) -> String {
    let letters = [(Rights::READ, 'r'), (Rights::WRITE, 'w'), (Rights::EXECUTE, 'x'), (Rights::DELETE, 'd')];
    letters.iter().map(|&(right, letter)| if rights.contains(right) { letter } else { '-' }).collect()
}

/// What a slot of the context band is for.
fn band_name(slot: Slot) -> Option<&'static str> {
    let names = [
        (band::TEXT, "text"),
        (band::DATA, "data"),
        (band::VIEW, "view"),
        (band::TRANSLATION, "translation table"),
        (band::SYSTEM, "system"),
        (band::STARTUP, "startup"),
        (band::HEAP, "heap"),
        (band::ARCHIVE, "boot archive"),
        (band::STACK, "stack"),
    ];
    names.into_iter().find(|(place, _)| *place == slot).map(|(_, name)| name)
}

/// `view`.
pub(super) fn view(shell: &mut Shell<'_>, arguments: &[&str], output: &mut Output) -> Outcome {
    if !arguments.is_empty() {
        return Err(Failure::Usage);
    }
    output.line(format!("view {}", slots::view()));
    let mut table = Table::new(&[">SLOT", "ADDRESS", "RIGHTS", "OBJECT", "WHAT"]);
    let names = shell.names_by_id().unwrap_or_default();
    for slot in
        (0..SLOTS).filter_map(Slot::new).filter(|slot| matches!(slot.area(), Area::Small | Area::Band))
    {
        let entry = slots::entry(slot);
        if entry.id.is_none() {
            continue;
        }
        let what = band_name(slot)
            .map(String::from)
            .or_else(|| names.get(&entry.id).map(|names| names.join(", ")))
            .or_else(|| shell.directory().ok()?.type_name(entry.id));
        table.row([
            slot.number().to_string(),
            format!("{:#x}", slot.base()),
            rights_text(Rights::from_bits_truncate(entry.rights))[..3].to_string(),
            entry.id.to_string(),
            what.unwrap_or_default(),
        ]);
    }
    output.lines(table.lines());
    Ok(0)
}

/// `ps`.
pub(super) fn ps(_: &mut Shell<'_>, arguments: &[&str], output: &mut Output) -> Outcome {
    if !arguments.is_empty() {
        return Err(Failure::Usage);
    }
    let mut table = Table::new(&["THREAD", "STATE", ">CPU", ">PRIORITY", ">TIME", "NAME"]);
    for id in system::threads() {
        let Ok(watch) = Watch::new(id) else { continue };
        let state = watch.state();
        let status = match Status::try_from(state.status) {
            Ok(Status::Runnable) => "runs",
            Ok(Status::Blocked) => "waits",
            Ok(Status::Ended) => "ended",
            Err(_) => "?",
        };
        let name: Vec<u8> = state.name.into_iter().take_while(|&byte| byte != 0).collect();
        table.row([
            id.to_string(),
            status.to_string(),
            state.cpu.to_string(),
            state.priority.to_string(),
            duration(state.cpu_time_ns),
            String::from_utf8_lossy(&name).into_owned(),
        ]);
    }
    output.lines(table.lines());
    Ok(0)
}

/// Lines of a name and a value.
fn pairs(output: &mut Output, pairs: &[(&str, String)]) {
    let mut table = Table::new(&["", ">"]);
    pairs.iter().for_each(|(name, value)| table.row([(*name).to_string(), value.clone()]));
    output.lines(table.lines().into_iter().skip(1));
}

/// `mem`.
pub(super) fn mem(_: &mut Shell<'_>, arguments: &[&str], output: &mut Output) -> Outcome {
    if !arguments.is_empty() {
        return Err(Failure::Usage);
    }
    let (all, free) = (system_word!(dram_bytes), system_word!(dram_free_bytes));
    pairs(
        output,
        &[
            ("DRAM", bytes(all)),
            ("used", bytes(all.saturating_sub(free))),
            ("free", bytes(free)),
            ("volatile objects", system_word!(objects_volatile).to_string()),
            ("page faults", system_word!(faults_resolved).to_string()),
            ("of them, filled", system_word!(faults_filled).to_string()),
            ("calls", system_word!(calls).to_string()),
            ("thread switches", system_word!(switches).to_string()),
            ("TLB shootdowns", system_word!(shootdowns).to_string()),
        ],
    );
    Ok(0)
}

/// `nvm`.
pub(super) fn nvm(_: &mut Shell<'_>, arguments: &[&str], output: &mut Output) -> Outcome {
    if !arguments.is_empty() {
        return Err(Failure::Usage);
    }
    let (all, free) = (system_word!(nvm_bytes), system_word!(nvm_free_bytes));
    if all == 0 {
        let reason = u32::try_from(system_word!(nvm_error)).ok().and_then(Error::from_number);
        return Err(Failure::new(match reason {
            None | Some(Error::NoNvm) => {
                "there is none; start the machine with one: `cargo run -- run --nvm FILE`".into()
            }
            Some(error) => format!(
                "not mounted: {error}; `cargo run -- check FILE` tells more, another FILE starts afresh"
            ),
        }));
    }
    let uuid: String = system::store_uuid().iter().map(|byte| format!("{byte:02x}")).collect();
    pairs(
        output,
        &[
            ("NVM", bytes(all)),
            ("used", bytes(all.saturating_sub(free))),
            ("free", bytes(free)),
            ("persistent objects", system_word!(objects_persistent).to_string()),
            ("in quarantine", system_word!(objects_quarantined).to_string()),
            ("mounted in", duration(system_word!(mount_ns))),
            ("power-ons", system_word!(store_boots).to_string()),
            ("lines flushed", system_word!(flushes).to_string()),
            ("fences", system_word!(fences).to_string()),
            ("store", uuid),
        ],
    );
    Ok(0)
}

/// `quarantine`.
pub(super) fn quarantine(_: &mut Shell<'_>, arguments: &[&str], output: &mut Output) -> Outcome {
    if !arguments.is_empty() {
        return Err(Failure::Usage);
    }
    let damaged = call::objects(StatOp::NextPersistent).filter(|stat| stat.quarantine != 0);
    let mut table = Table::new(&["OBJECT", "WHY"]);
    for stat in damaged {
        let why = Error::from_number(stat.quarantine).map_or("unknown", Error::text);
        table.row([stat.id.to_string(), why.to_string()]);
    }
    if !table.is_empty() {
        output.lines(table.lines());
    }
    Ok(0)
}

/// `uptime`.
pub(super) fn uptime(_: &mut Shell<'_>, arguments: &[&str], output: &mut Output) -> Outcome {
    if !arguments.is_empty() {
        return Err(Failure::Usage);
    }
    let cpus = system_word!(cpus);
    let plural = if cpus == 1 { "" } else { "s" };
    let boot = duration(system_word!(boot_ns));
    output.line(format!("up {}, {cpus} CPU{plural}, booted in {boot}", duration(system::now_ns())));
    Ok(0)
}

/// `time COMMAND [ARGUMENT...]`.
pub(super) fn time(shell: &mut Shell<'_>, arguments: &[&str], output: &mut Output) -> Outcome {
    if arguments.is_empty() {
        return Err(Failure::Usage);
    }
    let counters = || {
        [
            system_word!(faults_resolved),
            system_word!(faults_filled),
            system_word!(calls),
            system_word!(switches),
        ]
    };
    let words: Vec<String> = arguments.iter().map(|&word| word.into()).collect();
    let before = counters();
    let start = system::now_ns();
    let status = shell.dispatch(&words, output);
    let ns = system::now_ns() - start;
    let after = counters();
    let [faults, filled, calls, switches] = core::array::from_fn(|i| after[i].wrapping_sub(before[i]));
    eprintln!("time: {ns} ns, {faults} faults, {filled} filled, {calls} calls, {switches} switches");
    Ok(status)
}

fn status_argument(arguments: &[&str]) -> Result<u64, Failure> {
    match arguments {
        [] => Ok(0),
        [status] => status.parse().map_err(|_| Failure::Usage),
        _ => Err(Failure::Usage),
    }
}

/// `exit [STATUS]`.
pub(super) fn exit(shell: &mut Shell<'_>, arguments: &[&str], _: &mut Output) -> Outcome {
    let status = if arguments.is_empty() { shell.status } else { status_argument(arguments)? };
    shell.leaving = true;
    Ok(status)
}

/// `poweroff [STATUS]`.
pub(super) fn power_off(_: &mut Shell<'_>, arguments: &[&str], _: &mut Output) -> Outcome {
    let status = status_argument(arguments)?;
    twizzler_rt::console::flush();
    call::power_off(super::host_status(status))?;
    Ok(status)
}
