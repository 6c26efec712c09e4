//! The console: bytes as they come, without lines or echo.

use twizzler_abi::Error;
use twizzler_abi::call::{ConsoleOp, TRANSFER_BYTES_MAX};

use super::{Caller, Done, SYSCALL_BYTES, part};
use crate::machine::{serial, user};
use crate::thread::wait::{Waited, console_input};

/// Bytes that one read returns at most.
const READ_BYTES_MAX: usize = 256;

#[inline(never)]
pub(super) fn console(caller: &mut Caller<'_>, op: u64, address: u64, bytes: u64) -> Result<Done, Error> {
    let op = ConsoleOp::try_from(op)?;
    let mut buffer = [0; TRANSFER_BYTES_MAX as usize];
    let buffer = part(&mut buffer, bytes)?;
    let port = match op {
        ConsoleOp::Read => return read(caller, address, buffer),
        ConsoleOp::Write => serial::console(),
        ConsoleOp::WriteError => serial::errors(),
    };
    user::copy_in(buffer, address)?;
    port.write(buffer);
    Ok(Done::Value(bytes))
}

fn read(caller: &mut Caller<'_>, address: u64, buffer: &mut [u8]) -> Result<Done, Error> {
    let most = buffer.len().min(READ_BYTES_MAX);
    let buffer = &mut buffer[..most];
    if buffer.is_empty() {
        return Ok(Done::Value(0));
    }
    // Before anything is taken from the console, where it could not be put back.
    user::copy_out(address, buffer)?;
    loop {
        let len = serial::read_console(buffer);
        if len != 0 {
            user::copy_out(address, &buffer[..len])?;
            return Ok(Done::Value(len as u64));
        }
        caller.context.registers.rip -= SYSCALL_BYTES;
        match console_input(caller.cpu, caller.thread, serial::console_has_input) {
            Ok(Waited::Blocked) => return Ok(Done::Elsewhere),
            Ok(_) => caller.context.registers.rip += SYSCALL_BYTES,
            Err(error) => {
                caller.context.registers.rip += SYSCALL_BYTES;
                return Err(error);
            }
        }
    }
}
