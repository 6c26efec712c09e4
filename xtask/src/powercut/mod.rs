//! `powercut`: real texts go into the index while QEMU is killed at random moments.
//!
//! In every round the machine boots, is asked what it holds, then goes on changing it and says of each command that
//! it has returned; at a random moment, in any of this or idle at the prompt, QEMU gets SIGKILL. The next boot must hold
//! everything that was acknowledged, and the command that was cut off wholly or not at all; between the two,
//! `check` must find the image clean. Killing QEMU tests recovery and not flushes (`docs/caveats.md`).

mod model;
mod transcript;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::accel::{Accel, Choice};
use crate::build::{self, Built};
use crate::corpus::{self, Text};
use crate::naive::Counts;
use crate::nvm::Nvm;
use crate::progress::{self, say};
use crate::qemu::{Machine, Running};
use crate::random::Random;
use crate::setup::{self, Tools};
use crate::transfer::{self, Put};
use crate::{archive, check, paths};
use model::{Change, Question, State};
use transcript::Transcript;
use twz::size::Bytes;

/// Arguments of `powercut`.
#[derive(Args, Clone, Debug)]
pub struct Arguments {
    /// Power cuts
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub rounds: u32,
    /// Brings back the moments and the changes of an earlier run
    #[arg(long, value_name = "S")]
    pub seed: Option<u64>,
    /// How much text to take
    #[arg(long, value_name = "SIZE", default_value = "20M")]
    pub text: Bytes,
    /// Processors of the machine
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub cpus: u32,
}

/// Changes of one round: more than there is time for.
const CHANGES: usize = 300;
/// The latest moment of a cut, after changes have begun.
const CHANGING_MS_MAX: u64 = 4_000;
/// The latest moment after the start, for cuts in the midst of booting, mounting and answering.
const EARLY_MS_MAX: u64 = 1_000;
/// The latest moment after the start, for cuts at the prompt.
const IDLE_MS_MAX: u64 = 2_000;
/// A machine that takes longer over its script hangs.
const PATIENCE: Duration = Duration::from_secs(300);

/// When the power is cut.
#[derive(Clone, Copy)]
enum Cut {
    AfterStart(Duration),
    AfterChangesBegan(Duration),
    Never,
}

struct Campaign {
    tools: Tools,
    accel: Accel,
    cpus: u32,
    built: Built,
    folder: PathBuf,
    nvm: Nvm,
    texts: Vec<Text>,
    counts: Counts,
    words: Vec<String>,
    random: Random,
    /// What the machine may hold: the state of what was acknowledged, and that after the command that was cut off.
    states: Vec<State>,
    cut_off: Option<Change>,
    tally: Tally,
}

#[derive(Debug, Default)]
struct Tally {
    cuts: u32,
    idle: u32,
    early: u32,
    acknowledged: usize,
    cut_off_happened: u32,
    cut_off_did_not: u32,
    answers: usize,
}

/// Runs the campaign.
///
/// # Errors
/// Something that was acknowledged is missing, something is half there, or the image is not clean.
pub fn run(arguments: &Arguments) -> Result<u8> {
    let seed = arguments.seed.unwrap_or_else(Random::fresh_seed);
    let again = format!(
        "cargo run -- powercut --rounds {} --seed {seed} --text {}",
        arguments.rounds, arguments.text.0
    );
    say(format!("This campaign again: {again}"));
    let mut campaign = Campaign::prepare(arguments, seed)?;
    let started = Instant::now();
    let bar = progress::bar(u64::from(arguments.rounds), "Power cuts");
    while campaign.tally.cuts < arguments.rounds {
        let round = campaign.tally.cuts + 1;
        campaign.round().with_context(|| {
            format!("power cut {round}; the image is kept: {}\nagain: {again}", campaign.nvm.path().display())
        })?;
        bar.set_position(u64::from(campaign.tally.cuts));
    }
    campaign.last_look().with_context(|| format!("after the last power cut; again: {again}"))?;
    bar.finish_and_clear();
    campaign.report(started.elapsed());
    let _ = std::fs::remove_file(campaign.nvm.path());
    Ok(0)
}

impl Campaign {
    fn prepare(arguments: &Arguments, seed: u64) -> Result<Self> {
        let tools = setup::tools()?;
        let built = build::build(&tools.way)?;
        let texts = corpus::texts(arguments.text)?;
        let counts = Counts::new(&texts);
        let words = counts.words().into_iter().map(str::to_owned).collect();
        let folder = paths::state().join("powercut");
        std::fs::create_dir_all(&folder)?;
        let path = folder.join(format!("{seed}.nvm"));
        let _ = std::fs::remove_file(&path);
        let nvm = Nvm::open(&path, Some(Bytes(Bytes::GIB)))?;
        let puts: Vec<Put> =
            texts.iter().map(|text| Put { file: text.path.clone(), name: text.name.clone() }).collect();
        transfer::put(&nvm, &puts)?;
        Ok(Self {
            accel: Choice::Auto.decide(&tools.qemu)?,
            cpus: arguments.cpus,
            tools,
            built,
            folder,
            nvm,
            texts,
            counts,
            words,
            random: Random::new(seed),
            states: vec![State::default()],
            cut_off: None,
            tally: Tally::default(),
        })
    }

    fn round(&mut self) -> Result<()> {
        if self.random.below(5) == 0 {
            self.idle_round()?;
        } else {
            self.changing_round()?;
        }
        check::clean(&self.nvm)?;
        // Reading objects on the host finishes what the cut interrupted. Most rounds leave that to the next boot.
        if self.random.below(4) == 0 {
            let some =
                (0..10).map(|_| self.random.below(self.texts.len() as u64) as usize).collect::<Vec<_>>();
            self.compare_texts(&some)?;
        }
        Ok(())
    }

    /// Boots to the prompt and cuts the power while nothing happens, or before the prompt is there.
    fn idle_round(&mut self) -> Result<()> {
        let cut = Duration::from_millis(self.random.below(IDLE_MS_MAX));
        self.boot(None, Cut::AfterStart(cut))?;
        self.tally.cuts += 1;
        self.tally.idle += 1;
        Ok(())
    }

    fn changing_round(&mut self) -> Result<()> {
        let questions = self.questions(8);
        let changes = self.changes();
        let script = transcript::script(&questions, &changes, &self.texts);
        let cut = if self.random.below(5) == 0 {
            Cut::AfterStart(Duration::from_millis(self.random.below(EARLY_MS_MAX)))
        } else {
            Cut::AfterChangesBegan(Duration::from_millis(self.random.below(CHANGING_MS_MAX)))
        };
        let (was_cut, said) = self.boot(Some(&script), cut)?;
        self.tally.cuts += u32::from(was_cut);
        let transcript = Transcript::read(&said);
        self.judge(&questions, &transcript)?;
        if !transcript.changing {
            self.tally.early += 1;
            ensure!(was_cut, "the machine ended before it had answered:\n{said}");
            return Ok(());
        }
        let in_order: Vec<usize> = (0..transcript.done.len()).collect();
        ensure!(transcript.done == in_order, "a command failed; the machine said:\n{}", tail(&said));
        ensure!(was_cut || in_order.len() == changes.len(), "the machine ended too early:\n{}", tail(&said));
        self.acknowledge(&changes, in_order.len());
        Ok(())
    }

    /// What the machine holds now, as far as it said.
    fn acknowledge(&mut self, changes: &[Change], done: usize) {
        self.tally.acknowledged += done;
        let state = changes[..done].iter().fold(self.states[0].clone(), |state, change| state.after(change));
        self.cut_off = changes.get(done).cloned();
        self.states = vec![state];
        if let Some(change) = &self.cut_off {
            let after = self.states[0].after(change);
            self.states.push(after);
        }
    }

    /// Holds the answers against the states that may be; the one that fits is the state from now on.
    fn judge(&mut self, questions: &[Question], transcript: &Transcript) -> Result<()> {
        let asked = questions.iter().zip(&transcript.answers);
        self.tally.answers += transcript.answers.len();
        let wrong = |state: &State| {
            asked.clone().find(|(question, answer)| question.answer(state, &self.counts) != **answer)
        };
        let fitting: Vec<State> =
            self.states.iter().filter(|&state| wrong(state).is_none()).cloned().collect();
        if fitting.is_empty() {
            let (question, answer) = wrong(&self.states[0]).expect("no state fits");
            bail!(
                "`{}` answered\n{}\nand not\n{}\nThe command that was cut off: {:?}",
                question.command(),
                tail(answer),
                tail(&question.answer(&self.states[0], &self.counts)),
                self.cut_off.as_ref().map(|change| change.command(&self.texts))
            );
        }
        if transcript.changing {
            if self.states.len() == 2 && fitting.len() == 1 {
                let happened = fitting[0] == self.states[1];
                self.tally.cut_off_happened += u32::from(happened);
                self.tally.cut_off_did_not += u32::from(!happened);
            }
            self.states = vec![fitting[0].clone()];
        }
        Ok(())
    }

    /// Questions that tell the possible states apart, and others.
    fn questions(&mut self, len: usize) -> Vec<Question> {
        let mut questions = vec![Question::Marks, Question::Top(30)];
        if let [one, other] = &self.states[..] {
            for text in one.indexed.symmetric_difference(&other.indexed) {
                questions.extend(self.word_of(*text).map(|word| Question::Search(vec![word])));
            }
        }
        for _ in 0..len {
            let words = (0..=self.random.below(2)).map(|_| self.random.pick(&self.words).clone()).collect();
            questions.push(Question::Search(words));
        }
        // Before the first commands there is no store to ask.
        if self.states.iter().any(|state| state.marks.is_empty()) {
            questions.remove(0);
        }
        questions
    }

    /// A word of a text, as the index has it.
    fn word_of(&self, text: usize) -> Option<String> {
        let content = &self.texts[text].content;
        let longest = content
            .split(|letter: char| !letter.is_alphanumeric())
            .filter(|word| !word.is_empty())
            .max_by_key(|word| word.len().min(20))?;
        Some(longest.chars().flat_map(char::to_lowercase).collect())
    }

    /// Begins with a command that leads to one state whether or not the one that was cut off has happened.
    fn changes(&mut self) -> Vec<Change> {
        let first = self.cut_off.clone().map(|change| match change {
            Change::Remove(text) => Change::Add(vec![text]),
            other => other,
        });
        let state = first.iter().fold(self.states[0].clone(), |state, change| state.after(change));
        let mut changes: Vec<Change> = first.into_iter().collect();
        changes.extend(model::changes(&state, self.texts.len(), &mut self.random, CHANGES));
        changes
    }

    /// Boots with a script, or to the prompt; cuts the power after a while. Tells whether it came to that, and what
    /// the machine said.
    fn boot(&self, script: Option<&str>, cut: Cut) -> Result<(bool, String)> {
        let packed = self.folder.join("boot.tar");
        std::fs::write(&packed, archive::pack(&self.built, script)?)?;
        let machine = Machine {
            qemu: &self.tools.qemu,
            accel: self.accel,
            cpus: self.cpus,
            memory: Bytes(Bytes::GIB),
            nvm: Some(&self.nvm),
            kernel: &self.built.kernel,
            archive: &packed,
            command_line: if script.is_some() { "script".into() } else { String::new() },
            log: &self.folder.join("kernel.log"),
            extra: Vec::new(),
        };
        let said = Arc::new(Mutex::new(Vec::new()));
        let sink = || {
            let said = Arc::clone(&said);
            Box::new(move |bytes: &[u8]| said.lock().expect("no reader panics").extend_from_slice(bytes))
        };
        let errors = Arc::new(Mutex::new(Vec::new()));
        let errors_sink = Arc::clone(&errors);
        let mut running = machine.start(
            sink(),
            Box::new(move |bytes| errors_sink.lock().expect("no reader panics").extend_from_slice(bytes)),
        )?;
        let was_cut = wait_for(cut, &mut running, &said);
        if was_cut {
            let hangs = matches!(cut, Cut::Never) || running.age() > PATIENCE;
            running.cut_power();
            let said = String::from_utf8_lossy(&said.lock().expect("no sink panics")).into_owned();
            ensure!(!hangs, "the machine hangs after saying\n{}", tail(&said));
        } else {
            let ending = running.wait(None)?;
            let errors = String::from_utf8_lossy(&errors.lock().expect("no sink panics")).into_owned();
            ensure!(ending.status() == 0, "the machine ended with {ending:?}:\n{}", tail(&errors));
        }
        let said = String::from_utf8_lossy(&said.lock().expect("no sink panics")).into_owned();
        Ok((was_cut, said))
    }

    /// The texts as they lie in the image.
    fn compare_texts(&self, which: &[usize]) -> Result<()> {
        let names: Vec<&str> = which.iter().map(|&text| self.texts[text].name.as_str()).collect();
        let contents = transfer::contents(&self.nvm, &names)?;
        for (&text, content) in which.iter().zip(contents) {
            let text = &self.texts[text];
            ensure!(content == text.content.as_bytes(), "{} is not what was put", text.name);
        }
        Ok(())
    }

    /// After the last cut: many questions, and all texts.
    fn last_look(&mut self) -> Result<()> {
        let questions = self.questions(60);
        let script = transcript::script(&questions, &[], &self.texts);
        let (_, said) = self.boot(Some(&script), Cut::Never)?;
        let transcript = Transcript::read(&said);
        ensure!(transcript.changing, "the machine ended before it had answered:\n{}", tail(&said));
        self.judge(&questions, &transcript)?;
        self.compare_texts(&(0..self.texts.len()).collect::<Vec<_>>())
    }

    fn report(&self, took: Duration) {
        let Tally { cuts, idle, early, acknowledged, cut_off_happened, cut_off_did_not, answers } =
            self.tally;
        let bytes: usize = self.texts.iter().map(|text| text.content.len()).sum();
        println!("power cuts          {cuts}, {idle} of them idle, {early} before changes had begun");
        println!(
            "texts               {} with {bytes} bytes; {} in the index at the end",
            self.texts.len(),
            self.states[0].indexed.len()
        );
        println!("acknowledged        {acknowledged} commands, nothing of them lost");
        println!(
            "cut off             {cut_off_happened} happened wholly, {cut_off_did_not} not at all, none half"
        );
        println!("answers compared    {answers}, all right");
        println!("check               clean after every cut");
        println!("time                {:.0} s", took.as_secs_f64());
    }
}

/// Waits for the moment of the cut. Tells whether the machine still ran then.
fn wait_for(cut: Cut, running: &mut Running, said: &Mutex<Vec<u8>>) -> bool {
    let mut changes_began = None;
    while running.is_running() && running.age() < PATIENCE {
        if changes_began.is_none() && transcript::changes_began(&said.lock().expect("no sink panics")) {
            changes_began = Some(Instant::now());
        }
        let is_over = match cut {
            Cut::AfterStart(moment) => running.age() >= moment,
            Cut::AfterChangesBegan(moment) => changes_began.is_some_and(|began| began.elapsed() >= moment),
            Cut::Never => false,
        };
        if is_over {
            break;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    running.is_running()
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(25)..].join("\n")
}
