//! One run of the machine.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::accel::Accel;
use crate::nvm::Nvm;
use crate::paths;
use crate::status::Ending;
use twz::size::Bytes;

/// The machine to run.
#[derive(Clone, Debug)]
pub struct Machine<'a> {
    /// QEMU.
    pub qemu: &'a Path,
    /// What runs its code.
    pub accel: Accel,
    /// Processors.
    pub cpus: u32,
    /// DRAM.
    pub memory: Bytes,
    /// The NVDIMM, if there is one.
    pub nvm: Option<&'a Nvm>,
    /// The kernel's ELF file.
    pub kernel: &'a Path,
    /// The boot archive.
    pub archive: &'a Path,
    /// The kernel's command line.
    pub command_line: String,
    /// Where the kernel's log goes.
    pub log: &'a Path,
    /// Further arguments for QEMU, for measurements.
    pub extra: Vec<String>,
}

/// Where the machine's output goes; called from a thread of its own.
pub type Sink = Box<dyn FnMut(&[u8]) + Send>;

/// A machine that runs. Dropping it is a power cut.
#[derive(Debug)]
pub struct Running {
    child: Child,
    pumps: Vec<JoinHandle<()>>,
    log: PathBuf,
    started: Instant,
}

impl Machine<'_> {
    /// Starts the machine on this terminal: its console is stdin and stdout.
    ///
    /// # Errors
    /// QEMU can't be started.
    pub fn start_on_terminal(&self) -> Result<Running> {
        let mut command = self.command("stdio,id=console,mux=on,signal=off")?;
        command.args(["-echr", "0x1d"]);
        self.spawn(&mut command)
    }

    /// Starts the machine without input, its console going to `output`, its messages and QEMU's to `messages`.
    ///
    /// # Errors
    /// QEMU can't be started.
    pub fn start(&self, output: Sink, messages: Sink) -> Result<Running> {
        let mut command = self.command("stdio,id=console,signal=off")?;
        command.args(["-chardev", "file,id=errors,path=/dev/stderr,append=on", "-serial", "chardev:errors"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut running = self.spawn(&mut command)?;
        let stdout = running.child.stdout.take().expect("stdout is piped");
        let stderr = running.child.stderr.take().expect("stderr is piped");
        running.pumps = vec![pump(stdout, output), pump(stderr, messages)];
        Ok(running)
    }

    fn spawn(&self, command: &mut Command) -> Result<Running> {
        let child = command.spawn().with_context(|| format!("can't start {}", self.qemu.display()))?;
        Ok(Running { child, pumps: Vec::new(), log: self.log.to_owned(), started: Instant::now() })
    }

    fn command(&self, console: &str) -> Result<Command> {
        // Emptied here, so that a log with something in it says that the kernel ran.
        File::create(self.log)
            .with_context(|| format!("can't write the kernel log {}", self.log.display()))?;
        let mut command = dies_with_us(self.qemu);
        let (accel, cpu) = match self.accel {
            Accel::Tcg => ("tcg", "max"),
            Accel::Kvm => ("kvm", "host"),
        };
        command.args(["-accel", accel, "-cpu", cpu, "-smp", &self.cpus.to_string()]);
        let nvm_size = self.nvm.map_or(0, |nvm| nvm.size().0);
        let memory = self.memory.0 >> 20;
        let most = memory + (nvm_size >> 20) + 1024;
        command.args(["-machine", "q35,nvdimm=on", "-m", &format!("{memory}M,slots=2,maxmem={most}M")]);
        if let Some(nvm) = self.nvm {
            let path = option_value(nvm.path());
            command.args([
                "-object",
                &format!("memory-backend-file,id=nv0,share=on,mem-path={path},size={nvm_size}"),
            ]);
            command.args(["-device", "nvdimm,memdev=nv0"]);
        }
        command.arg("-kernel").arg(self.kernel).arg("-initrd").arg(self.archive);
        command.args(["-append", &self.command_line]);
        command.args(["-nodefaults", "-display", "none", "-no-reboot"]);
        command.args(["-device", "isa-debug-exit,iobase=0xf4,iosize=4"]);
        command.args(["-chardev", console, "-serial", "chardev:console"]);
        command.args([
            "-chardev",
            &format!("file,id=log,path={}", option_value(self.log)),
            "-serial",
            "chardev:log",
        ]);
        command.args(&self.extra);
        Ok(command)
    }
}

impl Running {
    /// Waits for the machine to end; ends it at the deadline.
    ///
    /// # Errors
    /// QEMU found something wrong with its arguments, and said so among its messages.
    pub fn wait(mut self, timeout: Option<Duration>) -> Result<Ending> {
        let mut timed_out = false;
        let status = loop {
            if let Some(status) = self.child.try_wait().context("can't wait for QEMU")? {
                break status;
            }
            if !timed_out && timeout.is_some_and(|timeout| self.started.elapsed() >= timeout) {
                timed_out = true;
                self.child.kill().context("can't end QEMU")?;
            }
            let nap = if self.started.elapsed() < Duration::from_secs(2) { 2 } else { 10 };
            std::thread::sleep(Duration::from_millis(nap));
        };
        self.finish();
        if timed_out {
            return Ok(Ending::TimedOut);
        }
        if status.code() == Some(1) && !self.kernel_ran() {
            bail!("QEMU could not start the machine; its message is above");
        }
        Ok(Ending::from_qemu(status.code()))
    }

    /// Cuts the power.
    pub fn cut_power(mut self) {
        self.kill();
    }

    /// Whether the machine still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// QEMU's process.
    #[must_use]
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// Time since the start.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.started.elapsed()
    }

    fn kernel_ran(&self) -> bool {
        self.log.metadata().is_ok_and(|metadata| metadata.len() > 0)
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.finish();
    }

    fn finish(&mut self) {
        for pump in self.pumps.drain(..) {
            let _ = pump.join();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A sink that hands everything to a stream, until that no longer takes it.
#[must_use]
pub fn to_stream(mut stream: impl Write + Send + 'static) -> Sink {
    let mut open = true;
    Box::new(move |bytes| {
        open = open && stream.write_all(bytes).and_then(|()| stream.flush()).is_ok();
    })
}

/// How long a pump lets output gather: no longer than nobody sees.
const PUMP_PAUSE: Duration = Duration::from_millis(1);

fn pump(mut from: impl Read + Send + 'static, mut to: Sink) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(length) = from.read(&mut buffer)
            && length > 0
        {
            to(&buffer[..length]);
            // QEMU writes single bytes. A reader who sleeps is not woken for each of them, which the machine's
            // processor would have to wait for.
            std::thread::sleep(PUMP_PAUSE);
        }
    })
}

/// QEMU's command, ended by the host's kernel if we end first, where `setpriv` is there to arrange it.
fn dies_with_us(qemu: &Path) -> Command {
    match paths::which("setpriv") {
        Some(setpriv) => {
            let mut command = Command::new(setpriv);
            command.args(["--pdeathsig", "TERM"]).arg(qemu);
            command
        }
        None => Command::new(qemu),
    }
}

/// A path as the value of an option: QEMU doubles commas.
fn option_value(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}
