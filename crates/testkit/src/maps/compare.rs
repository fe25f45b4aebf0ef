//! When two sides' answers agree.

use std::collections::{BTreeMap, BTreeSet};

use super::config::{Config, Defined, Shape};
use super::sequence::{Bytes, HostOp, Kind, ScriptOp, Step};
use super::side::{Answer, OpAnswer};

const EPERM: i32 = 1;
const ENOENT: i32 = 2;
const EEXIST: i32 = 17;

/// Compares a map's answers in two engines, step after step.
pub(super) struct Comparison<'c> {
    config: &'c Config,
    /// Values that a bloom filter was given.
    pushed: BTreeSet<Bytes>,
    /// What a map that evicts may hold, on each side.
    kept: [Kept; 2],
}

impl<'c> Comparison<'c> {
    pub(super) fn new(config: &'c Config) -> Self {
        Self { config, pushed: BTreeSet::new(), kept: [Kept::default(), Kept::default()] }
    }

    /// Whether the answers to a step agree; if not, why.
    pub(super) fn step(&mut self, step: &Step, ours: &Answer, theirs: &Answer) -> Result<(), String> {
        let (ours, theirs) = (&self.comparable(ours), &self.comparable(theirs));
        match self.config.defined {
            Defined::All if ours == theirs => Ok(()),
            Defined::Unordered if sorted(ours) == sorted(theirs) => Ok(()),
            Defined::FalsePositives => self.filter(step, ours, theirs),
            Defined::Evicting => {
                let [mine, its] = &mut self.kept;
                mine.step(self.config, step, ours).map_err(|what| format!("here: {what}"))?;
                its.step(self.config, step, theirs).map_err(|what| format!("in the kernel: {what}"))
            }
            _ => Err(first_difference(step, ours, theirs)),
        }
    }

    /// The answer without what is nobody's to compare: the bytes between the values of CPUs, which some operations of the
    /// kernel keep and others clear, and the numbers that maps have.
    fn comparable(&self, answer: &Answer) -> Answer {
        let size = self.config.spec.value_size as usize;
        let clear = |value: &Bytes| {
            let stride = size.next_multiple_of(8);
            let kept = value.iter().enumerate().map(|(at, byte)| if at % stride < size { *byte } else { 0 });
            Bytes(kept.collect())
        };
        let per_cpu = self.config.program == Some("percpu");
        match answer {
            Answer::Value(value) if self.config.shape == Shape::Nested => Answer::Found(value.is_some()),
            Answer::Value(Some(value)) if per_cpu => Answer::Value(Some(clear(value))),
            Answer::Batches { elements, counts, errno } if per_cpu => Answer::Batches {
                elements: elements.iter().map(|(key, value)| (key.clone(), clear(value))).collect(),
                counts: counts.clone(),
                errno: *errno,
            },
            other => other.clone(),
        }
    }

    /// A bloom filter with a seed of its own: what was pushed is found, all else is the same.
    fn filter(&mut self, step: &Step, ours: &Answer, theirs: &Answer) -> Result<(), String> {
        match (step, ours, theirs) {
            (Step::Host(HostOp::MayContain { value }), Answer::Found(mine), Answer::Found(its)) => {
                let pushed = self.pushed.contains(value);
                if !pushed || (*mine && *its) {
                    Ok(())
                } else {
                    Err("a value that was pushed is missing".into())
                }
            }
            (Step::Host(HostOp::Update { value, .. }), ..) if ours == theirs => {
                if *ours == Answer::Done(0) {
                    self.pushed.insert(value.clone());
                }
                Ok(())
            }
            (Step::Script(ops), Answer::Script(mine, _), Answer::Script(its, _)) => {
                let size = self.config.spec.value_size as usize;
                for (op, (mine, its)) in ops.iter().zip(mine.iter().zip(its)) {
                    let value = op.value.get(..size).unwrap_or_default();
                    if op.kind == Kind::Peek {
                        let bad = |answer: &OpAnswer| ![0, -i64::from(ENOENT)].contains(&answer.result);
                        let missing = |answer: &OpAnswer| {
                            self.pushed.contains(&Bytes::from(value)) && answer.result != 0
                        };
                        if [mine, its].into_iter().any(|answer| bad(answer) || missing(answer)) {
                            return Err(format!("{op:?}: {mine:?} here, {its:?} in the kernel"));
                        }
                    } else if mine != its {
                        return Err(format!("{op:?}: {mine:?} here, {its:?} in the kernel"));
                    } else if mine.result == 0 {
                        self.pushed.insert(value.into());
                    }
                }
                Ok(())
            }
            _ if ours == theirs => Ok(()),
            _ => Err(first_difference(step, ours, theirs)),
        }
    }
}

/// The answer without what the order of elements decides.
fn sorted(answer: &Answer) -> Answer {
    fn set<T: Ord + Clone>(list: &[T]) -> Vec<T> {
        list.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect()
    }
    match answer {
        // How far a walk came that was ended is up to the order too.
        Answer::Keys(_, errno) if *errno != 0 => Answer::Keys(Vec::new(), *errno),
        Answer::Keys(keys, errno) => Answer::Keys(set(keys), *errno),
        Answer::Batches { elements, counts: _, errno } => {
            Answer::Batches { elements: set(elements), counts: Vec::new(), errno: *errno }
        }
        Answer::Key(key) => Answer::Found(key.is_some()),
        Answer::Script(answers, keys) => Answer::Script(answers.clone(), set(keys)),
        other => other.clone(),
    }
}

fn first_difference(step: &Step, ours: &Answer, theirs: &Answer) -> String {
    if let (Step::Script(ops), Answer::Script(mine, my_keys), Answer::Script(its, its_keys)) =
        (step, ours, theirs)
    {
        let mut pairs = ops.iter().zip(mine.iter().zip(its)).enumerate();
        return match pairs.find(|(_, (_, (mine, its)))| mine != its) {
            Some((number, (op, (mine, its)))) => {
                format!("operation {number} of the script, {op:?}: {mine:?} here, {its:?} in the kernel")
            }
            None => format!("walked {my_keys:?} here, {its_keys:?} in the kernel"),
        };
    }
    format!("{ours:?} here, {theirs:?} in the kernel")
}

/// What a map may hold that evicts elements as it sees fit: values that were stored last, no more than it has room for, and the
/// element that was stored last of all.
#[derive(Default)]
struct Kept {
    values: BTreeMap<Bytes, Bytes>,
    newest: Option<Bytes>,
}

impl Kept {
    fn step(&mut self, config: &Config, step: &Step, answer: &Answer) -> Result<(), String> {
        match (step, answer) {
            (Step::Script(ops), Answer::Script(answers, _)) => {
                for (op, answer) in ops.iter().zip(answers) {
                    self.script_op(config, op, answer)
                        .map_err(|what| format!("{what}: {op:?}, {answer:?}"))?;
                }
                Ok(())
            }
            (Step::Host(op), answer) => {
                self.host_op(config, op, answer).map_err(|what| format!("{what}: {answer:?}"))
            }
            _ => Err("an answer to something else".to_owned()),
        }
    }

    fn host_op(&mut self, config: &Config, op: &HostOp, answer: &Answer) -> Result<(), &'static str> {
        match (op, answer) {
            (HostOp::Update { key, value, flags }, Answer::Done(errno)) => {
                self.updated(key, value, *flags, *errno)
            }
            (HostOp::Lookup { key, .. }, Answer::Value(value)) => {
                self.looked_up(config, key, value.as_deref())
            }
            (HostOp::LookupAndDelete { key, .. }, Answer::Value(value)) => {
                self.looked_up(config, key, value.as_deref())?;
                self.gone(key);
                Ok(())
            }
            (HostOp::Delete { key }, Answer::Done(errno)) => self.deleted(key, *errno),
            (HostOp::Walk { delete }, Answer::Keys(keys, errno)) => {
                let distinct: BTreeSet<_> = keys.iter().collect();
                if *errno == 0 && distinct.len() > config.spec.max_entries as usize {
                    return Err("more elements than the map has room for");
                }
                let known = distinct.iter().all(|key| self.values.contains_key(*key));
                if *delete && *errno == 0 {
                    distinct
                        .into_iter()
                        .filter(|k| k.first().is_some_and(|b| b & 1 == 1))
                        .for_each(|key| self.gone(key));
                }
                if known { Ok(()) } else { Err("an element that was not stored") }
            }
            (HostOp::Batches { delete, .. }, Answer::Batches { elements, .. }) => {
                for (key, value) in elements {
                    self.looked_up(config, key, Some(value))?;
                    if *delete {
                        self.gone(key);
                    }
                }
                Ok(())
            }
            (HostOp::UpdateBatch { keys, values, flags }, Answer::Count(count, _)) => {
                let (key_bytes, all) = (config.spec.key_size as usize, values.len().max(1));
                let value_bytes = all.checked_div(keys.len() / key_bytes.max(1)).unwrap_or(1).max(1);
                let pairs = keys.chunks(key_bytes.max(1)).zip(values.chunks(value_bytes));
                pairs.take(*count).try_for_each(|(key, value)| self.updated(key, value, *flags, 0))
            }
            (HostOp::DeleteBatch { keys, .. }, Answer::Count(count, _)) => {
                keys.chunks(config.spec.key_size.max(1) as usize).take(*count).for_each(|key| self.gone(key));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn script_op(&mut self, config: &Config, op: &ScriptOp, answer: &OpAnswer) -> Result<(), &'static str> {
        let errno = i32::try_from(-answer.result).unwrap_or(0);
        let value = op.value.get(..config.spec.value_size as usize).unwrap_or_default();
        let out = answer.out.get(..config.spec.value_size as usize).unwrap_or_default();
        match op.kind {
            Kind::Update => self.updated(&op.key, value, op.flags, errno),
            Kind::Delete => self.deleted(&op.key, errno),
            Kind::Lookup => self.looked_up(config, &op.key, (answer.result == 1).then_some(out)),
            Kind::Store if answer.result == 1 => {
                self.looked_up(config, &op.key, self.values.get(&op.key).cloned().as_deref())?;
                self.values.insert(op.key.clone(), value.into());
                Ok(())
            }
            Kind::WalkDelete if answer.result >= 0 => {
                self.values.retain(|key, _| key.first().is_none_or(|b| b & 1 == 0));
                self.newest = None;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn updated(&mut self, key: &[u8], value: &[u8], flags: u64, errno: i32) -> Result<(), &'static str> {
        // An update that fails may have made room first.
        let newest = self.newest.take();
        // One that is to replace may thereby have removed what it was to replace.
        match (flags, errno) {
            (_, EPERM) => {
                self.newest = newest;
                Ok(())
            }
            (0..=2, 0) => {
                self.values.insert(key.into(), value.into());
                self.newest = Some(key.into());
                Ok(())
            }
            (1, EEXIST) if self.values.contains_key(&Bytes::from(key)) => Ok(()),
            (2, ENOENT) => Ok(()),
            (3.., 1..) => Ok(()),
            _ => Err("an update that cannot end so"),
        }
    }

    fn deleted(&mut self, key: &[u8], errno: i32) -> Result<(), &'static str> {
        let newest = self.newest.as_deref() == Some(key);
        let known = self.values.contains_key(&Bytes::from(key));
        if errno == EPERM {
            return Ok(());
        }
        self.gone(key);
        match errno {
            0 if known => Ok(()),
            ENOENT if !newest => Ok(()),
            _ => Err("a removal that cannot end so"),
        }
    }

    fn looked_up(&self, config: &Config, key: &[u8], value: Option<&[u8]>) -> Result<(), &'static str> {
        let per_cpu = config.program == Some("percpu");
        match (value, self.values.get(&Bytes::from(key))) {
            (Some(_), None) => Err("an element that was not stored"),
            // The values of other CPUs are compared where nothing is evicted.
            (Some(value), Some(last)) if *value != **last && !per_cpu => Err("a value that was not the last"),
            (None, _) if self.newest.as_deref() == Some(key) => Err("the newest element is missing"),
            _ => Ok(()),
        }
    }

    fn gone(&mut self, key: &[u8]) {
        self.values.remove(&Bytes::from(key));
        self.newest.take_if(|newest| &**newest == key);
    }
}
