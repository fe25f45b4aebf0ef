//! Patterns of expected messages: text, with POSIX extended regular expressions between `{{` and `}}`.

use regex::{Regex, RegexBuilder};

/// A compiled pattern.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: String,
    // `None` for text alone, which is most of them.
    regex: Option<Regex>,
}

/// Limit of a compiled expression in bytes: a hostile object must not fill the memory.
const MAX_REGEX_BYTES: usize = 1 << 20;

impl Pattern {
    /// Compiles a pattern; `None` for one that is not closed, or no regular expression.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.to_owned();
        if !text.contains("{{") {
            return Some(Self { text, regex: None });
        }
        let mut source = String::new();
        let mut rest = text.as_str();
        while let Some((verbatim, tail)) = rest.split_once("{{") {
            let (expression, tail) = tail.split_once("}}")?;
            source.push_str(&regex::escape(verbatim));
            source.push_str(expression);
            rest = tail;
        }
        source.push_str(&regex::escape(rest));
        // As REG_NEWLINE: `.` does not match a newline, `^` and `$` match at lines.
        let regex = RegexBuilder::new(&source).multi_line(true).size_limit(MAX_REGEX_BYTES).build().ok()?;
        Some(Self { text, regex: Some(regex) })
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The bytes of the first match.
    #[must_use]
    pub fn find(&self, log: &str) -> Option<std::ops::Range<usize>> {
        match &self.regex {
            Some(regex) => regex.find(log).map(|found| found.range()),
            None => log.find(&self.text).map(|at| at..at + self.text.len()),
        }
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl core::fmt::Display for Pattern {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_expressions() {
        assert_eq!(Pattern::parse("a.c").unwrap().find("abc a.c"), Some(4..7));
        let mixed = Pattern::parse("R{{[0-9]+}} (x) {{.*}}end").unwrap();
        assert_eq!(mixed.find("R12 (x) the end"), Some(0..15));
        assert_eq!(mixed.find("R12 x the end"), None);
        assert!(mixed.find("R12 (x) the\nend").is_none());
        assert!(Pattern::parse("open {{ never").is_none());
        assert!(Pattern::parse("{{(}}").is_none());
    }
}
