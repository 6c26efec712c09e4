//! Whether KVM truly works here: a device file that opens proves little.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::paths;
use crate::progress::say;

/// What `--accel` may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Choice {
    /// KVM where it truly works, TCG elsewhere.
    Auto,
    /// QEMU translates the machine's code.
    Tcg,
    /// The processor runs the machine's code.
    Kvm,
}

/// What runs the machine's code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Accel {
    /// QEMU.
    Tcg,
    /// The processor.
    Kvm,
}

impl Choice {
    /// Makes the choice.
    ///
    /// # Errors
    /// KVM is asked for and does not work here.
    pub fn decide(self, qemu: &Path) -> Result<Accel> {
        match self {
            Self::Tcg => Ok(Accel::Tcg),
            Self::Auto => Ok(if pages_in_hardware() && kvm_works(qemu)? { Accel::Kvm } else { Accel::Tcg }),
            Self::Kvm if kvm_works(qemu)? => {
                if !pages_in_hardware() {
                    say(
                        "warning: this host's KVM imitates page tables; expect \"emulation failure\". --accel auto avoids it",
                    );
                }
                Ok(Accel::Kvm)
            }
            Self::Kvm => bail!("KVM does not work here (a trial failed): use --accel tcg or auto"),
        }
    }
}

/// Whether the processor walks the guest's page tables itself. Where KVM has to imitate that (nested without
/// support, PVM), short trials succeed and real kernels stop with "emulation failure" after a while.
fn pages_in_hardware() -> bool {
    ["/sys/module/kvm_intel/parameters/ept", "/sys/module/kvm_amd/parameters/npt"]
        .iter()
        .any(|file| fs::read_to_string(file).is_ok_and(|text| matches!(text.trim(), "Y" | "1")))
}

/// Tries KVM with a kernel of four instructions; remembers the answer until the next start of the host.
fn kvm_works(qemu: &Path) -> Result<bool> {
    if OpenOptions::new().read(true).write(true).open("/dev/kvm").is_err() {
        return Ok(false);
    }
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let key = format!("{} {}", boot.trim(), qemu.metadata().map_or(0, |metadata| metadata.mtime()));
    let remembered = paths::state().join("kvm");
    match fs::read_to_string(&remembered).ok().as_deref().and_then(|text| text.strip_prefix(&key)) {
        Some(" works\n") => return Ok(true),
        Some(" fails\n") => return Ok(false),
        _ => {}
    }
    let works = trial(qemu)?;
    fs::write(remembered, format!("{key} {}\n", if works { "works" } else { "fails" }))
        .context("can't write state")?;
    Ok(works)
}

fn trial(qemu: &Path) -> Result<bool> {
    const PATIENCE: Duration = Duration::from_secs(5);
    let kernel = paths::state().join("trial-kernel");
    fs::write(&kernel, trial_kernel()).with_context(|| format!("can't write {}", kernel.display()))?;
    let mut command = Command::new(qemu);
    command.args([
        "-accel",
        "kvm",
        "-cpu",
        "host",
        "-machine",
        "q35",
        "-m",
        "64M",
        "-nodefaults",
        "-no-reboot",
    ]);
    command
        .args(["-display", "none", "-device", "isa-debug-exit,iobase=0xf4,iosize=4", "-kernel"])
        .arg(&kernel);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("can't start {}", qemu.display()))?;
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        if let Some(status) = child.try_wait()? {
            return Ok(status.code() == Some(TRIAL_STATUS << 1 | 1));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill()?;
    child.wait()?;
    Ok(false)
}

const TRIAL_STATUS: i32 = 0x2a;

/// An ELF file with a PVH entry that writes [`TRIAL_STATUS`] to the exit device.
fn trial_kernel() -> Vec<u8> {
    const LOADED_AT: u32 = 0x10_0000;
    const NOTE_AT: u32 = 0xb0;
    const CODE_AT: u32 = 0xc4;
    // mov dx, 0xf4; mov eax, TRIAL_STATUS; out dx, eax; hlt; jmp back to hlt
    let code = [0x66, 0xba, 0xf4, 0x00, 0xb8, TRIAL_STATUS as u8, 0, 0, 0, 0xef, 0xf4, 0xeb, 0xfd];
    let length = u64::from(CODE_AT) + code.len() as u64;
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    let mut put = |bytes: &[u8]| file.extend_from_slice(bytes);
    put(&2u16.to_le_bytes());
    put(&62u16.to_le_bytes());
    put(&1u32.to_le_bytes());
    put(&u64::from(LOADED_AT + CODE_AT).to_le_bytes());
    put(&64u64.to_le_bytes());
    put(&0u64.to_le_bytes());
    put(&0u32.to_le_bytes());
    for half in [64u16, 56, 2, 64, 0, 0] {
        put(&half.to_le_bytes());
    }
    for (kind, at, bytes) in [(1u32, 0, length), (4, NOTE_AT, u64::from(CODE_AT - NOTE_AT))] {
        put(&kind.to_le_bytes());
        put(&5u32.to_le_bytes());
        let address = u64::from(LOADED_AT + at);
        for word in [u64::from(at), address, address, bytes, bytes, 4] {
            put(&word.to_le_bytes());
        }
    }
    for word in [4u32, 4, 18] {
        put(&word.to_le_bytes());
    }
    put(b"Xen\0");
    put(&(LOADED_AT + CODE_AT).to_le_bytes());
    put(&code);
    file
}

#[cfg(test)]
mod tests {
    #[test]
    fn trial_kernel_is_an_elf_file_with_a_pvh_note() {
        let kernel = super::trial_kernel();
        let elf = elf::ElfBytes::<elf::endian::LittleEndian>::minimal_parse(&kernel).expect("ELF");
        let note =
            elf.segments().expect("segments").iter().find(|segment| segment.p_type == 4).expect("a note");
        assert_eq!(elf.segment_data_as_notes(&note).expect("notes").count(), 1);
    }
}
