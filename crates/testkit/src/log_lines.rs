//! The log of this project's verifier beside the running kernel's, line by line.
//!
//! Left out is what only one side can say: addresses, numbers of kernel functions, time, and how the kernel finds out
//! what numbers matter (`mark_precise`, `propagating`), what of the stack is read later (`live stack update`) and when a loop is left
//! (`SCC`).

use std::collections::HashMap;

/// How far two logs agree.
#[derive(Clone, Debug, Default)]
pub struct Agreement {
    /// Lines of the kernel's log.
    pub lines: usize,
    /// Those that the other log has, too.
    pub equal: usize,
    /// Those that it lacks, as far as they were kept.
    pub missing: Vec<String>,
}

impl Agreement {
    /// Adds another program's.
    pub fn add(&mut self, other: Self) {
        self.lines += other.lines;
        self.equal += other.equal;
        self.missing.extend(other.missing);
    }
}

/// Compares the lines of two logs, each as often as it occurs.
#[must_use]
pub fn agreement(kernel: &str, ours: &str) -> Agreement {
    let mut available: HashMap<String, usize> = HashMap::new();
    for line in lines(ours) {
        *available.entry(line).or_default() += 1;
    }
    let mut result = Agreement::default();
    for line in lines(kernel) {
        result.lines += 1;
        match available.get_mut(&line).filter(|count| **count > 0) {
            Some(count) => {
                *count -= 1;
                result.equal += 1;
            }
            None => result.missing.push(line),
        }
    }
    result
}

/// The lines that both can say. What the kernel prints behind an instruction or, if it searched in between, in a line of
/// its own, is a line of its own here.
fn lines(log: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in log.lines().filter(|line| !is_private(line)) {
        let (text, state) = match line.split_once(" ; ") {
            Some((text, state)) if is_instruction(text) => (text.trim_end(), Some(state)),
            _ => (line.trim_end(), None),
        };
        match text.split_once(": ").filter(|_| !is_instruction(text)) {
            Some((number, rest)) if is_number(number) => found.push(rest.to_owned()),
            _ => found.push(neutral(text)),
        }
        found.extend(state.map(str::to_owned));
    }
    found.retain(|line| !line.is_empty());
    found.iter().map(|line| own_ids(line)).collect()
}

/// The line with its identities numbered by itself. That two values are linked is of interest, and not how many identities were
/// given out before: one that only one side needs would make all later lines differ.
fn own_ids(line: &str) -> String {
    let mut parts = line.split("id=");
    let mut text = parts.next().unwrap_or_default().to_owned();
    let mut ids: Vec<&str> = Vec::new();
    for part in parts {
        let digits = part.len() - part.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (id, rest) = part.split_at(digits);
        let number = ids.iter().position(|known| *known == id).unwrap_or_else(|| {
            ids.push(id);
            ids.len() - 1
        });
        text.push_str(&format!("id={}{rest}", number + 1));
    }
    text
}

fn is_private(line: &str) -> bool {
    const STARTS: [&str; 5] = ["mark_precise:", "SCC ", "verification time", "stack depth", "processed "];
    let about_stack = line.starts_with('(') && (line.contains(" frame ") || line.contains("live stack"));
    about_stack || line.contains(": propagating ") || STARTS.iter().any(|start| line.starts_with(start))
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// `12: (bf) r1 = r2`, or the same in the table of live registers.
fn is_instruction(text: &str) -> bool {
    text.split_once(" (").is_some_and(|(_, rest)| rest.as_bytes().get(2) == Some(&b')'))
}

/// Without addresses and numbers of kernel functions.
fn neutral(text: &str) -> String {
    if let Some((before, _)) = text.split_once("(18) ").and_then(|(start, rest)| {
        let (register, value) = rest.split_once(" = ")?;
        Some((format!("{start}(18) {register}"), value))
    }) {
        return before;
    }
    match text.split_once("(85) call ").and_then(|(start, name)| Some((start, name.split_once('#')?.0))) {
        Some((start, name)) => format!("{start}(85) call {name}"),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_compared_wherever_they_stand() {
        let kernel =
            "0: (b7) r0 = 0                        ; R0=0\n1: (18) r1 = 0xffff8881    ; R1=map_ptr()\n";
        let ours = "0: (b7) r0 = 0\n0: R0=0\n1: (18) r1 = map[idx:0]               ; R1=map_ptr()\n";
        let found = agreement(kernel, ours);
        assert_eq!((found.lines, found.equal), (4, 4), "{found:?}");
        assert_eq!(agreement("5: safe\n", "6: safe\n").missing, Vec::<String>::new());
        assert_eq!(agreement("from 5 to 6: safe\n", "").missing, ["from 5 to 6: safe"]);
        let linked = |a, b| format!("R1=scalar(id={a}) R2=scalar(id={b})\n");
        assert_eq!(agreement(&linked(5, 5), &linked(3, 3)).equal, 1);
        assert_eq!(agreement(&linked(5, 5), &linked(3, 4)).equal, 0);
    }
}
