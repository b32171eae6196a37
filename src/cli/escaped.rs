//! What senders wrote, as it is shown on a terminal: names, reasons, values.
//!
//! What always holds: nothing that is shown moves the cursor, changes the terminal or the direction of what follows; what
//! is escaped can be told from what is not there; JSON stays the JSON that it was.

use std::fmt::Write;

/// Characters that turn the direction of what follows.
const TURNING: [char; 12] = [
    '\u{061c}', '\u{200e}', '\u{200f}', '\u{202a}', '\u{202b}', '\u{202c}', '\u{202d}', '\u{202e}', '\u{2066}', '\u{2067}', '\u{2068}',
    '\u{2069}',
];

/// A name or a reason, on one line.
pub(super) fn word(text: &str) -> String {
    escaped(text, is_obeyed, |c, into| into.extend(c.escape_unicode()))
}

/// A value: it keeps its lines, each set in, so that none can be taken for one of ours.
pub(super) fn value(text: &str) -> String {
    let lines = text.split('\n').map(|line| escaped(line, |c| c != '\t' && is_obeyed(c), |c, into| into.extend(c.escape_unicode())));
    lines.map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

/// JSON, with line ends of its own or without: what it leaves as it is, a terminal may obey. Only texts have such characters.
pub(super) fn json(text: &str) -> String {
    let escape = |c: char, into: &mut String| {
        // None of them needs a pair.
        write!(into, "\\u{:04x}", u32::from(c)).expect("a string grows");
    };
    escaped(text, |c| c != '\n' && is_obeyed(c), escape)
}

fn is_obeyed(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') || TURNING.contains(&c)
}

fn escaped(text: &str, is_obeyed: impl Fn(char) -> bool, escape: impl Fn(char, &mut String)) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut into, c| {
        if is_obeyed(c) {
            escape(c, &mut into)
        } else {
            into.push(c)
        }
        into
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str = "\u{1b}[2J\u{9b}31m\u{7f}\u{202e}\r\n";

    #[test]
    fn a_terminal_has_nothing_to_obey_in_a_word() {
        assert_eq!(word(HOSTILE), r"\u{1b}[2J\u{9b}31m\u{7f}\u{202e}\u{d}\u{a}");
        assert_eq!(word("Grüße, 世界 👋"), "Grüße, 世界 👋");
    }

    #[test]
    fn a_values_lines_are_kept_and_are_not_taken_for_ours() {
        assert_eq!(value("{\t1\nin the broker: forged\r}"), "  {\t1\n  in the broker: forged\\u{d}}");
    }

    #[test]
    fn json_says_the_same_as_before() {
        let before = serde_json::json!({ "a": HOSTILE, HOSTILE: [1, null] });
        for text in [before.to_string(), format!("{before:#}")] {
            let shown = json(&text);
            assert!(!shown.contains(|c: char| c != '\n' && is_obeyed(c)), "{shown:?}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).expect("JSON"), before);
        }
    }
}
