//! The annotations of the kernel's selftests: declaration tags `comment:test_*` that `bpf_misc.h` puts on functions.

use std::collections::HashMap;

use bpf_object::{Btf, Kind, Object, TypeId};

use super::pattern::Pattern;

/// What an annotated program is expected to do.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Annotations {
    /// `__description`.
    pub description: Option<String>,
    /// Expectations with all privileges: `__success`, `__failure`, `__msg`, `__retval`. Present when no annotation speaks
    /// of either mode.
    pub privileged: Option<Expectation>,
    /// Expectations without privileges: the `_unpriv` forms.
    pub unprivileged: Option<Expectation>,
    /// `__log_level`.
    pub log_level: u32,
    /// `__flag`: `BPF_F_*` to set.
    pub flags: u32,
    /// `__arch_*`: whether this machine is among them; `true` if none is named.
    pub for_this_arch: bool,
    /// `__load_if_JITed`, `__load_if_no_JITed`: which it needs.
    pub needs_jit: Option<bool>,
    /// `__auxiliary`: no test of its own, loaded together with the others.
    pub auxiliary: bool,
    /// `__btf_path`: the file whose BTF CO-RE relocations are resolved against.
    pub btf_path: Option<String>,
    /// Tags that are none of those above.
    pub unknown: Vec<String>,
}

/// What is expected of one load.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Expectation {
    /// `__failure`: the verifier refuses.
    pub rejected: bool,
    /// `__msg` and `__not_msg`: what the log says, in this order.
    pub messages: Vec<Message>,
    /// `__retval`: run it with a packet of [`TEST_DATA_LEN`] bytes (nothing for `syscall`), and compare.
    pub return_value: Option<ReturnValue>,
    /// `__xlated` and `__jited`: how many lines of generated code are expected. They are the kernel's own and are not
    /// compared.
    pub code_lines: usize,
}

/// A message that is expected in the log, or expected not to be there.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// What to look for.
    pub pattern: Pattern,
    /// `__not_msg`: nothing between the messages before and after it matches.
    pub absent: bool,
}

/// What a program is expected to return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReturnValue {
    /// This number.
    Value(u32),
    /// `POINTER_VALUE`: anything.
    Any,
}

/// Bytes of the packet that annotated programs are run with.
pub const TEST_DATA_LEN: u32 = 64;

/// An annotation that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("program `{program}`: annotation `{tag}` cannot be read")]
pub struct BadAnnotation {
    /// Name of the program.
    pub program: String,
    /// The tag.
    pub tag: String,
}

const PREFIX: &str = "comment:";

impl Annotations {
    /// Annotations of every program of an object, in its order; `None` for a program without any.
    ///
    /// # Errors
    /// [`BadAnnotation`] for a number or pattern that is none.
    pub fn of_object(object: &Object) -> Result<Vec<Option<Self>>, BadAnnotation> {
        let Some(btf) = &object.btf else { return Ok(vec![None; object.programs.len()]) };
        let tags = tags_by_function(btf);
        let programs = object.programs.iter();
        programs
            .map(|program| match program.btf_func.and_then(|f| tags.get(&f)) {
                Some(tags) => Self::parse(&program.name, tags).map(Some),
                None => Ok(None),
            })
            .collect()
    }

    /// Reads the tags of one program, in the order of its declaration.
    ///
    /// # Errors
    /// [`BadAnnotation`] for a number or pattern that is none.
    pub fn parse(program: &str, tags: &[&str]) -> Result<Self, BadAnnotation> {
        let mut parser = Parser::default();
        for &tag in tags {
            parser
                .tag(tag)
                .ok_or_else(|| BadAnnotation { program: program.to_owned(), tag: tag.to_owned() })?;
        }
        Ok(parser.finish())
    }
}

/// Tags on functions themselves (not on parameters), in ascending order of their types.
fn tags_by_function(btf: &Btf) -> HashMap<TypeId, Vec<&str>> {
    let mut tags: HashMap<TypeId, Vec<&str>> = HashMap::new();
    for (_, ty) in btf.types() {
        if let Kind::DeclTag { target, component: None, .. } = ty.kind {
            let text = btf.str(ty.name);
            if text.starts_with(PREFIX) {
                tags.entry(target).or_default().push(text);
            }
        }
    }
    tags
}

#[derive(Default)]
struct Parser {
    out: Annotations,
    privileged: Expectation,
    unprivileged: Expectation,
    speaks_of: [bool; 2],
    /// What only the unprivileged form states; the rest it takes from the privileged one.
    unprivileged_verdict: bool,
    archs: Vec<String>,
}

/// The two modes, as indices of `speaks_of`.
const PRIVILEGED: usize = 0;
const UNPRIVILEGED: usize = 1;

impl Parser {
    fn mode(&mut self, unprivileged: bool) -> &mut Expectation {
        if let Some(mode) = self.speaks_of.get_mut(usize::from(unprivileged)) {
            *mode = true;
        }
        if unprivileged { &mut self.unprivileged } else { &mut self.privileged }
    }

    /// Reads one tag; `None` if it cannot be read.
    fn tag(&mut self, tag: &str) -> Option<()> {
        let body = tag.strip_prefix(PREFIX)?;
        let (name, value) = body.split_once('=').unwrap_or((body, ""));
        let (name, unprivileged) = match name.strip_suffix("_unpriv") {
            Some(stem) => (stem, true),
            None => (name, false),
        };
        match name {
            "test_expect_success" | "test_expect_failure" => {
                self.unprivileged_verdict |= unprivileged;
                self.mode(unprivileged).rejected = name == "test_expect_failure";
            }
            "test_expect_msg" | "test_expect_not_msg" => {
                let pattern = Pattern::parse(after_counter(value))?;
                let absent = name == "test_expect_not_msg";
                self.mode(unprivileged).messages.push(Message { pattern, absent });
            }
            "test_expect_xlated" | "test_jited" => self.mode(unprivileged).code_lines += 1,
            "test_retval" => {
                let expected = match value {
                    "POINTER_VALUE" => ReturnValue::Any,
                    text => ReturnValue::Value(return_value(text)?),
                };
                self.mode(unprivileged).return_value = Some(expected);
            }
            "test_auxiliary" => {
                self.mode(unprivileged);
                self.out.auxiliary = true;
            }
            "test_description" => self.out.description = Some(value.to_owned()),
            "test_log_level" => self.out.log_level = integer(value)?,
            "test_prog_flags" => self.flags(value)?,
            "test_arch" => self.archs.push(value.to_owned()),
            "test_btf_path" => self.out.btf_path = Some(value.to_owned()),
            "load_mode" => self.out.needs_jit = Some(value == "jited"),
            _ => self.out.unknown.push(tag.to_owned()),
        }
        Some(())
    }

    /// `NAME` or a number sets flags, `!NAME` clears them.
    fn flags(&mut self, value: &str) -> Option<()> {
        let (text, clear) = match value.strip_prefix('!') {
            Some(rest) => (rest, true),
            None => (value, false),
        };
        let flags = match text {
            "BPF_F_STRICT_ALIGNMENT" => 1 << 0,
            "BPF_F_ANY_ALIGNMENT" => 1 << 1,
            "BPF_F_TEST_RND_HI32" => 1 << 2,
            "BPF_F_TEST_STATE_FREQ" => 1 << 3,
            "BPF_F_SLEEPABLE" => 1 << 4,
            "BPF_F_XDP_HAS_FRAGS" => 1 << 5,
            "BPF_F_TEST_REG_INVARIANTS" => 1 << 7,
            number => integer(number)?,
        };
        if clear {
            self.out.flags &= !flags;
        } else {
            self.out.flags |= flags;
        }
        Some(())
    }

    fn finish(self) -> Annotations {
        let Self { mut out, privileged, mut unprivileged, speaks_of, unprivileged_verdict, archs } = self;
        if !unprivileged_verdict {
            unprivileged.rejected = privileged.rejected;
        }
        if unprivileged.return_value.is_none() {
            unprivileged.return_value = privileged.return_value;
        }
        if unprivileged.messages.is_empty() {
            unprivileged.messages.clone_from(&privileged.messages);
        }
        out.unprivileged = speaks_of[UNPRIVILEGED].then_some(unprivileged);
        out.privileged = (speaks_of[PRIVILEGED] || !speaks_of[UNPRIVILEGED]).then_some(privileged);
        let here = if cfg!(target_arch = "x86_64") { "X86_64" } else { "ARM64" };
        out.for_this_arch = archs.is_empty() || archs.iter().any(|arch| arch == here);
        out
    }
}

/// `COUNTER=text`: the counter keeps equal annotations apart.
fn after_counter(value: &str) -> &str {
    value.split_once('=').map_or(value, |(_, text)| text)
}

fn return_value(text: &str) -> Option<u32> {
    match text {
        "INT_MIN" => Some(i32::MIN.cast_unsigned()),
        "TEST_DATA_LEN" => Some(TEST_DATA_LEN),
        number => integer(number),
    }
}

/// A number as C reads it, negative ones in two's complement, cut to 32 bits.
#[allow(clippy::cast_possible_truncation, reason = "the tests compare an int")]
fn integer(text: &str) -> Option<u32> {
    let number = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok()?.cast_signed(),
        None => text.parse::<i64>().ok()?,
    };
    Some(number as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(tags: &[&str]) -> Annotations {
        Annotations::parse("p", tags).unwrap()
    }

    #[test]
    fn privileged_expectations() {
        let tags = parse(&[
            "comment:test_description=two words",
            "comment:test_expect_failure",
            "comment:test_expect_msg=0=R1 invalid",
            "comment:test_expect_msg=1=a=b",
            "comment:test_prog_flags=BPF_F_STRICT_ALIGNMENT",
            "comment:test_prog_flags=0x20",
            "comment:test_prog_flags=!BPF_F_STRICT_ALIGNMENT",
            "comment:test_log_level=2",
        ]);
        let expected = tags.privileged.unwrap();
        assert_eq!(tags.description.as_deref(), Some("two words"));
        assert!(expected.rejected && tags.unprivileged.is_none());
        let texts: Vec<_> = expected.messages.iter().map(|m| m.pattern.text()).collect();
        assert_eq!(texts, ["R1 invalid", "a=b"]);
        assert_eq!((tags.flags, tags.log_level), (0x20, 2));
    }

    #[test]
    fn unprivileged_takes_what_it_does_not_state() {
        let tags = parse(&[
            "comment:test_expect_success",
            "comment:test_retval=INT_MIN",
            "comment:test_expect_failure_unpriv",
            "comment:test_expect_msg_unpriv=5=leaks",
        ]);
        let (privileged, unprivileged) = (tags.privileged.unwrap(), tags.unprivileged.unwrap());
        assert!(!privileged.rejected && unprivileged.rejected);
        assert_eq!(privileged.return_value, Some(ReturnValue::Value(0x8000_0000)));
        assert_eq!(unprivileged.return_value, privileged.return_value);
        assert_eq!((privileged.messages.len(), unprivileged.messages.len()), (0, 1));
    }

    #[test]
    fn no_mode_means_privileged() {
        let tags = parse(&["comment:test_arch=X86_64", "comment:test_arch=ARM64"]);
        assert!(tags.privileged.is_some() && tags.for_this_arch);
        assert!(!parse(&["comment:test_arch=RISCV64"]).for_this_arch);
    }

    #[test]
    fn numbers() {
        assert_eq!(return_value("-1"), Some(u32::MAX));
        assert_eq!(return_value("0xdeadbeef"), Some(0xdead_beef));
        assert_eq!(return_value("TEST_DATA_LEN"), Some(64));
        assert_eq!(return_value("x"), None);
        assert!(Annotations::parse("p", &["comment:test_retval=x"]).is_err());
        assert_eq!(parse(&["comment:test_new_thing=1"]).unknown, ["comment:test_new_thing=1"]);
    }
}
