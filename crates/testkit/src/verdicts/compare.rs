//! Our verdicts beside the running kernel's, over any number of random programs.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bpf_arena::kernel::{KernelError, LogMode, running_btf};
use bpf_object::{Linked, Program};
use verifier::{Env, LoadFlags, Rejection};

use super::{Judge, Mutants, Original, Refusal, compose, generate, is_limit, link, maps, minimise, types};

/// Programs of which more instructions than this are walked take the kernel as long as thousands of others ..
const LONG_WALK: u64 = 20_000;
/// .. so that it is asked about one in so many of them.
const LONG_IN: u64 = 16;
/// Programs taken at a time by a worker.
const BATCH: u64 = 64;
/// Of so many programs that both refuse, one is asked about again for the kernel's words.
const WORDS_OF: u64 = 16;
/// Log level that has the verifier's objections and counters, and no instructions.
const OBJECTIONS: u32 = 4;
/// Bytes of stack of a worker.
const STACK_BYTES: usize = 64 << 20;

/// What to compare.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The first seed.
    pub first: u64,
    /// Programs.
    pub count: u64,
    /// Threads.
    pub workers: usize,
    /// When to stop although programs are left.
    pub time: Option<Duration>,
    /// Whether to make holes as small as they can be.
    pub minimise: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { first: 0, count: 1000, workers: 1, time: None, minimise: true }
    }
}

/// What came out.
#[derive(Debug, Default)]
pub struct Report {
    /// Programs both accept.
    pub accepted: u64,
    /// Programs both refuse.
    pub refused: u64,
    /// Programs that the kernel refuses for a bound or lack of its own.
    pub limits: u64,
    /// Programs the kernel could not be asked about.
    pub undecided: u64,
    /// Of the programs both refuse: how many had the same error number and how many the same final message, of how many
    /// that were asked about.
    pub words: (u64, u64, u64),
    /// Programs of a very long walk that the kernel was not asked about.
    pub long: u64,
    /// Pairs of different final messages, numbers left out, with how often they came and a seed.
    pub wordings: BTreeMap<(String, String), (u64, u64)>,
    /// The kernel's final messages of those, numbers left out.
    pub refusals: BTreeMap<String, u64>,
    /// Programs only we refuse, by reason: how many, and the first one.
    pub lost: BTreeMap<String, (u64, String)>,
    /// Programs only the kernel refuses, by its message: the smallest program found, and how many.
    pub holes: BTreeMap<String, Hole>,
    /// Programs our verifier panics on.
    pub panics: Vec<String>,
}

/// A program that only the kernel refuses.
#[derive(Clone, Debug)]
pub struct Hole {
    /// Where it comes from: a seed, or a seed and a mutated program.
    pub origin: String,
    /// The kernel's refusal.
    pub refusal: Refusal,
    /// The program as text, in the form of the verifier's cases.
    pub text: String,
    /// How many had this message.
    pub count: u64,
}

impl Report {
    /// Programs only we refuse.
    #[must_use]
    pub fn only_ours(&self) -> u64 {
        self.lost.values().map(|(count, _)| count).sum()
    }

    /// Programs that were compared.
    #[must_use]
    pub fn total(&self) -> u64 {
        let holes: u64 = self.holes.values().map(|hole| hole.count).sum();
        self.accepted + self.refused + self.limits + self.only_ours() + holes + self.panics.len() as u64
    }

    fn merge(&mut self, other: Self) {
        self.accepted += other.accepted;
        self.refused += other.refused;
        self.limits += other.limits;
        self.undecided += other.undecided;
        self.long += other.long;
        let (a, b, c) = other.words;
        self.words = (self.words.0 + a, self.words.1 + b, self.words.2 + c);
        for (pair, (count, seed)) in other.wordings {
            self.wordings.entry(pair).or_insert((0, seed)).0 += count;
        }
        for (message, count) in other.refusals {
            *self.refusals.entry(message).or_insert(0) += count;
        }
        for (reason, (count, origin)) in other.lost {
            self.lost.entry(reason).or_insert((0, origin)).0 += count;
        }
        for (message, hole) in other.holes {
            match self.holes.get_mut(&message) {
                Some(known) => known.count += hole.count,
                None => drop(self.holes.insert(message, hole)),
            }
        }
        self.panics.extend(other.panics);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = self.total();
        let percent = |part: u64, whole: u64| part as f64 * 100.0 / whole.max(1) as f64;
        writeln!(
            f,
            "{total} programs: {} accepted by both ({:.1}%), {} refused by both, {} beyond a bound of the kernel, {} undecided",
            self.accepted,
            percent(self.accepted, total),
            self.refused,
            self.limits,
            self.undecided
        )?;
        if self.long > 0 {
            let every = LONG_IN - 1;
            writeln!(
                f,
                "besides, {} of more than {LONG_WALK} instructions walked: {every} in {LONG_IN} of those",
                self.long
            )?;
        }
        let (errno, message, asked) = self.words;
        writeln!(
            f,
            "of {asked} refused by both: same error number {:.1}%, same final message {:.1}%",
            percent(errno, asked),
            percent(message, asked)
        )?;
        writeln!(f, "refused by us alone: {} ({:.3}%)", self.only_ours(), percent(self.only_ours(), total))?;
        let mut lost: Vec<_> = self.lost.iter().collect();
        lost.sort_by_key(|(_, (count, _))| std::cmp::Reverse(*count));
        for (reason, (count, origin)) in lost.into_iter().take(40) {
            writeln!(f, "  {count} {reason} ({origin})")?;
        }
        for panic in &self.panics {
            writeln!(f, "PANIC: {panic}")?;
        }
        let holes: u64 = self.holes.values().map(|hole| hole.count).sum();
        writeln!(f, "accepted by us alone: {holes}")?;
        for (message, hole) in &self.holes {
            writeln!(f, "  {} {message} (-{}, {})", hole.count, hole.refusal.errno, hole.origin)?;
        }
        Ok(())
    }
}

impl fmt::Display for Hole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let log: Vec<&str> = self.refusal.log.lines().rev().take(40).collect();
        let log: Vec<&str> = log.into_iter().rev().collect();
        writeln!(f, "{}\nthe kernel ({}, {}): {}", self.text, self.origin, self.refusal.errno, log.join("\n"))
    }
}

/// Compares generated programs, composed ones and mutants of others. `judges` have the maps of the mutants.
///
/// # Errors
/// The kernel cannot be asked.
pub fn compare(options: &Options, mutants: &Mutants, judges: &[JudgeOf]) -> Result<Report, KernelError> {
    let kernel = running_btf()?;
    let env = Env::default().with_kernel(kernel);
    let next = AtomicU64::new(0);
    let start = Instant::now();
    let report = Mutex::new(Report::default());
    let failure = Mutex::new(None);
    let work = || {
        let mut worker = match Worker::new(&env, mutants, judges, options.minimise) {
            Ok(worker) => worker,
            Err(error) => {
                *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                return;
            }
        };
        while options.time.is_none_or(|time| start.elapsed() < time) {
            let at = next.fetch_add(BATCH, Ordering::Relaxed);
            if at >= options.count {
                break;
            }
            for seed in at..(at + BATCH).min(options.count) {
                worker.one(options.first + seed);
            }
        }
        report.lock().unwrap_or_else(PoisonError::into_inner).merge(worker.report);
    };
    std::thread::scope(|scope| {
        let builder = || std::thread::Builder::new().stack_size(STACK_BYTES);
        let threads: Vec<_> =
            (0..options.workers.max(1)).map(|_| builder().spawn_scoped(scope, work)).collect();
        drop(threads);
    });
    match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(report.into_inner().unwrap_or_else(PoisonError::into_inner)),
    }
}

/// What a judge is made with.
pub type JudgeOf = (Arc<[bpf_object::MapSpec]>, Option<Arc<bpf_object::Btf>>);

struct Worker<'a> {
    env: &'a Env,
    mutants: &'a Mutants,
    makings: &'a [JudgeOf],
    /// Of the mutants, made when first needed; `None` for those the kernel refuses to make.
    judges: BTreeMap<usize, Option<Judge>>,
    own: Judge,
    minimise: bool,
    report: Report,
}

/// A program with where it comes from.
struct Candidate {
    origin: String,
    flags: u32,
    judge: Option<usize>,
    program: Linked,
}

impl<'a> Worker<'a> {
    fn new(
        env: &'a Env,
        mutants: &'a Mutants,
        makings: &'a [JudgeOf],
        minimise: bool,
    ) -> Result<Self, KernelError> {
        let own = Judge::new(maps(), Some(Arc::new(types())))?;
        Ok(Self { env, mutants, makings, judges: BTreeMap::new(), own, minimise, report: Report::default() })
    }

    fn candidate(&self, seed: u64) -> Option<Candidate> {
        let own = |program: &Program| {
            let flags = if seed.is_multiple_of(11) { 1 << 3 } else { 0 };
            Some(Candidate {
                origin: format!("seed {seed}"),
                flags,
                judge: None,
                program: link(program).ok()?,
            })
        };
        match seed % 8 {
            0 | 1 => {
                let mut program = generate(seed);
                program.maps = maps();
                program.btf = Some(Arc::new(types()));
                own(&program)
            }
            2..=4 if !self.mutants.is_empty() => {
                let Original { name, judge, flags, program } = self.mutants.mutant(seed)?;
                Some(Candidate { origin: format!("seed {seed}, {name}"), flags, judge: Some(judge), program })
            }
            _ => own(&compose(seed)),
        }
    }

    fn one(&mut self, seed: u64) {
        let Some(candidate) = self.candidate(seed) else { return };
        if let Some(index) = candidate.judge
            && !self.judges.contains_key(&index)
        {
            let making = self.makings.get(index).cloned();
            let judge = making.and_then(|(maps, btf)| Judge::new(maps, btf).ok());
            self.judges.insert(index, judge);
        }
        let ours = match catch_unwind(AssertUnwindSafe(|| self.ours(&candidate.program, candidate.flags))) {
            Ok(ours) => ours,
            Err(_) => return self.report.panics.push(candidate.origin),
        };
        let Some(judge) = self.judge(&candidate) else {
            self.report.undecided += 1;
            return;
        };
        // Instructions that cannot be decoded are refused by every verifier before it begins.
        let Some(ours) = ours else { return };
        let walked = ours.as_ref().map_or_else(Rejection::insns_walked, |walked| *walked);
        if walked > LONG_WALK && !(seed / 8).is_multiple_of(LONG_IN) {
            self.report.long += 1;
            return;
        }
        let theirs = judge.verdict(&candidate.program, candidate.flags, LogMode::Never);
        match (ours, theirs) {
            (_, Err(_)) => self.report.undecided += 1,
            (Ok(_), Ok(Ok(()))) => self.report.accepted += 1,
            (Err(ours), Ok(Ok(()))) => {
                let entry = self.report.lost.entry(class(&ours.reason().to_string()));
                entry.or_insert((0, candidate.origin)).0 += 1;
            }
            (Err(ours), Ok(Err(_))) => {
                self.report.refused += 1;
                if self.report.refused.is_multiple_of(WORDS_OF) && ours.insns_walked() < 10_000 {
                    self.words(&candidate, &ours, seed);
                }
            }
            (Ok(_), Ok(Err(_))) => self.hole(candidate),
        }
    }

    fn judge(&self, candidate: &Candidate) -> Option<&Judge> {
        match candidate.judge {
            None => Some(&self.own),
            Some(index) => self.judges.get(&index)?.as_ref(),
        }
    }

    /// Our verdict, with the instructions walked; `None` if the slots are no instructions.
    fn ours(&self, program: &Linked, flags: u32) -> Option<Result<u64, Rejection>> {
        let program = program.clone().decode().ok()?;
        let env = self.env.clone().with_flags(LoadFlags::from_bits(flags));
        Some(verifier::verify(&program, &env).map(|verified| verified.stats().insns_walked))
    }

    /// Compares error numbers and final messages of a program that both refuse.
    fn words(&mut self, candidate: &Candidate, ours: &Rejection, seed: u64) {
        let Some(judge) = self.judge(candidate) else { return };
        let asked = judge.verdict(&candidate.program, candidate.flags, LogMode::Always(OBJECTIONS));
        let Ok(Err(theirs)) = asked else { return };
        let message = ours.reason().to_string();
        *self.report.refusals.entry(class(&theirs.message)).or_insert(0) += 1;
        let words = &mut self.report.words;
        words.2 += 1;
        words.0 += u64::from(theirs.errno == ours.errno());
        if one_line(&message) == one_line(&theirs.message) {
            words.1 += 1;
        } else {
            let pair = (class(&theirs.message), class(&message));
            self.report.wordings.entry(pair).or_insert((0, seed)).0 += 1;
        }
    }

    /// Accepted by us and refused by the kernel: for its safety, or for a bound of its own?
    fn hole(&mut self, candidate: Candidate) {
        let Candidate { origin, flags, program, .. } = &candidate;
        let Some(judge) = self.judge(&candidate) else { return };
        let asked = judge.verdict(program, *flags, LogMode::Always(OBJECTIONS));
        // Accepted when asked again: memory was short. Or refused without a word: the host does not permit it.
        let Some(mut refusal) = asked.ok().and_then(Result::err).filter(|refusal| !is_limit(refusal)) else {
            self.report.limits += 1;
            return;
        };
        let message = class(&refusal.message);
        let mut program = program.clone();
        if self.minimise && !self.report.holes.contains_key(&message) {
            let mut interesting = |smaller: &Linked| {
                let ours = catch_unwind(AssertUnwindSafe(|| self.ours(smaller, *flags)));
                let Ok(Some(Ok(_))) = ours else { return false };
                let theirs = judge.verdict(smaller, *flags, LogMode::Always(OBJECTIONS));
                matches!(theirs, Ok(Err(refusal)) if class(&refusal.message) == message)
            };
            program = minimise(&program, &mut interesting);
            if let Ok(Err(smaller)) = judge.verdict(&program, *flags, LogMode::Always(2)) {
                refusal = smaller;
            }
        }
        let text = text(&program, *flags, &refusal);
        let new = Hole { origin: origin.clone(), text, refusal, count: 0 };
        self.report.holes.entry(message).or_insert(new).count += 1;
    }
}

/// The program in the form of the verifier's cases.
fn text(program: &Linked, flags: u32, refusal: &Refusal) -> String {
    let code = program.clone().decode().map(|p| p.code.to_string());
    let code = code.unwrap_or_else(|error| error.to_string());
    let flags = if flags == 0 { String::new() } else { format!("; flags {flags}\n") };
    let section =
        if program.section == "syscall" { String::new() } else { format!("; program {}\n", program.section) };
    format!("== found: {}\n; reject: {}\n{section}{flags}{code}", refusal.message, refusal.message)
}

/// A message without its numbers, and hexadecimal ones.
fn class(message: &str) -> String {
    let line = message.lines().last().unwrap_or_default();
    let mut out = String::new();
    for word in line.split(' ') {
        let hex = word.contains("0x");
        let mut digit = false;
        for c in word.chars() {
            let number = c.is_ascii_digit() || (hex && (c.is_ascii_hexdigit() || c == 'x'));
            if !(number && digit) {
                out.push(if number { '#' } else { c });
            }
            digit = number;
        }
        out.push(' ');
    }
    out.trim_end().to_owned()
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
