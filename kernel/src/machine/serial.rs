//! Serial ports: the console (COM1), the kernel's log (COM2), scripted errors (COM3).
//!
//! Source: National Semiconductor PC16550D data sheet.

use core::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};

use x86_64::instructions::port::Port;

use super::lock::{self, Lock, level};

const COM1: u16 = 0x3f8;
const COM2: u16 = 0x2f8;
const COM3: u16 = 0x3e8;

/// Registers: data, interrupt enable, FIFO control, line control, modem control, line status, scratch.
const DATA: u16 = 0;
const INTERRUPTS: u16 = 1;
const FIFO: u16 = 2;
const LINE: u16 = 3;
const MODEM: u16 = 4;
const STATUS: u16 = 5;
const SCRATCH: u16 = 7;

const READY_TO_READ: u8 = 1;
const READY_TO_WRITE: u8 = 0x20;
/// Bytes that fit when the transmitter is empty.
const FIFO_BYTES: usize = 16;
/// What Ctrl-C sends.
const CTRL_C: u8 = 3;

/// One port. Absent ones swallow what is written.
pub(crate) struct Serial {
    present: AtomicBool,
    port: AtomicU16,
    writing: Lock<(), { level::SERIAL }>,
}

static CONSOLE: Serial = Serial::new(COM1);
static LOG: Serial = Serial::new(COM2);
static ERRORS: Serial = Serial::new(COM3);
/// Whether programs' errors go to COM3.
static ERRORS_APART: AtomicBool = AtomicBool::new(false);

impl Serial {
    const fn new(port: u16) -> Self {
        Self { present: AtomicBool::new(false), port: AtomicU16::new(port), writing: Lock::new(()) }
    }

    fn write_register(&self, register: u16, value: u8) {
        // SAFETY: a register of a PC's serial port; at worst bytes are lost.
        unsafe { Port::<u8>::new(self.port.load(Ordering::Relaxed) + register).write(value) };
    }

    fn read_register(&self, register: u16) -> u8 {
        // SAFETY: as above. Reading takes bytes and acknowledges interrupts, which all callers mean.
        unsafe { Port::<u8>::new(self.port.load(Ordering::Relaxed) + register).read() }
    }

    /// Sets 115,200 baud, 8 data bits, no parity, FIFOs on; finds out whether the port is there.
    fn init(&self) {
        self.write_register(SCRATCH, 0x5a);
        if self.read_register(SCRATCH) != 0x5a {
            return;
        }
        self.write_register(INTERRUPTS, 0);
        self.write_register(LINE, 0x80);
        self.write_register(DATA, 1);
        self.write_register(INTERRUPTS, 0);
        self.write_register(LINE, 3);
        self.write_register(FIFO, 0xc7);
        self.write_register(MODEM, 0xb);
        self.present.store(true, Ordering::Relaxed);
    }

    /// Writes bytes, waiting for the line.
    pub(crate) fn write(&self, bytes: &[u8]) {
        let _writing = self.writing.lock();
        self.write_unlocked(bytes);
    }

    /// Writes bytes even if a CPU that has been stopped holds the lock.
    pub(crate) fn write_unlocked(&self, bytes: &[u8]) {
        if !self.present.load(Ordering::Relaxed) {
            return;
        }
        for chunk in bytes.chunks(FIFO_BYTES) {
            while self.read_register(STATUS) & READY_TO_WRITE == 0 {
                lock::relax();
            }
            for &byte in chunk {
                self.write_register(DATA, byte);
            }
        }
    }
}

/// The console's output.
#[must_use]
pub(crate) const fn console() -> &'static Serial {
    &CONSOLE
}

/// Where the kernel's log goes.
#[must_use]
pub(crate) const fn log() -> &'static Serial {
    &LOG
}

/// The third port, whatever it is used for.
pub(crate) const fn com3() -> &'static Serial {
    &ERRORS
}

/// Where programs' errors go: COM3 in script mode, otherwise the console.
#[must_use]
pub(crate) fn errors() -> &'static Serial {
    if ERRORS_APART.load(Ordering::Relaxed) { &ERRORS } else { &CONSOLE }
}

pub(super) fn init() {
    [&CONSOLE, &LOG, &ERRORS].into_iter().for_each(Serial::init);
}

/// Sends programs' errors to COM3.
pub(super) fn keep_errors_apart() {
    ERRORS_APART.store(true, Ordering::Relaxed);
}

const RING_BYTES: usize = 4096;

/// Typed bytes that nobody has read.
struct Ring {
    bytes: [u8; RING_BYTES],
    /// Bytes ever put in and taken out.
    put: usize,
    taken: usize,
}

static INPUT: Lock<Ring, { level::CONSOLE }> = Lock::new(Ring { bytes: [0; RING_BYTES], put: 0, taken: 0 });
static INTERRUPTED: AtomicU64 = AtomicU64::new(0);

impl Ring {
    /// Takes what the port has, as far as there is room. While the ring is full the port's interrupt is off, and
    /// the port's FIFO holds the sender back.
    fn fill(&mut self) -> bool {
        let before = self.put;
        while self.put - self.taken < RING_BYTES && CONSOLE.read_register(STATUS) & READY_TO_READ != 0 {
            let byte = CONSOLE.read_register(DATA);
            if byte == CTRL_C {
                INTERRUPTED.fetch_add(1, Ordering::Relaxed);
            }
            self.bytes[self.put % RING_BYTES] = byte;
            self.put += 1;
        }
        CONSOLE.write_register(INTERRUPTS, u8::from(self.put - self.taken < RING_BYTES));
        self.put != before
    }
}

/// Takes typed bytes, as many as there are and fit. 0: none; [`super::entry::Interrupt::Console`] comes when there are.
pub(crate) fn read_console(buffer: &mut [u8]) -> usize {
    if !CONSOLE.present.load(Ordering::Relaxed) {
        return 0;
    }
    let mut ring = INPUT.lock();
    let mut count = 0;
    while count < buffer.len() {
        if ring.taken == ring.put && !ring.fill() {
            break;
        }
        buffer[count] = ring.bytes[ring.taken % RING_BYTES];
        ring.taken += 1;
        count += 1;
    }
    ring.fill();
    count
}

/// Whether typed bytes wait to be read.
#[must_use]
pub(crate) fn console_has_input() -> bool {
    let ring = INPUT.lock();
    ring.put != ring.taken
}

/// Presses of Ctrl-C so far; its byte is input as well.
#[must_use]
pub(crate) fn console_interrupts() -> u64 {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Handles the console's interrupt: whether there is something new.
pub(super) fn console_interrupt() -> bool {
    INPUT.lock().fill()
}

/// Lets the console's port interrupt.
pub(super) fn enable_console_interrupts() {
    if CONSOLE.present.load(Ordering::Relaxed) {
        INPUT.lock().fill();
    }
}
