//! A password for a command: from a file, from standard input, or asked for at the terminal.
//!
//! What always holds: it is never an argument (those are seen by everybody on the machine and kept by shells), and what is
//! typed is not shown.

use std::io::{self, IsTerminal, Read, Write};
use std::path::Path;

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::units::Secret;

/// Far more than a password has.
const MAX_INPUT: u64 = 4 << 10;

/// The password in the file, or else what standard input says.
pub(super) fn given(file: Option<&Path>) -> Result<Secret, String> {
    let (from, text) = match file {
        Some(path) => (path.display().to_string(), std::fs::File::open(path).and_then(line)),
        None if io::stdin().is_terminal() => return asked(),
        None => ("standard input".to_owned(), line(io::stdin())),
    };
    text.map_err(|error| format!("no password from {from}: {error}"))
}

/// All of it, without the end of its line.
fn line(from: impl Read) -> io::Result<Secret> {
    let mut text = String::new();
    from.take(MAX_INPUT).read_to_string(&mut text)?;
    let end = text.trim_end_matches(['\r', '\n']).len();
    text.truncate(end);
    Ok(Secret::new(text))
}

/// Asks twice: nobody sees what they type.
fn asked() -> Result<Secret, String> {
    let quiet = Quiet::begin().map_err(|error| format!("the terminal shows what is typed, and cannot be told not to: {error}"))?;
    let first = ask("Password: ")?;
    let second = ask("Once more: ")?;
    drop(quiet);
    if first == second { Ok(first) } else { Err("the two are not the same; nothing was changed".to_owned()) }
}

fn ask(prompt: &str) -> Result<Secret, String> {
    let mut text = String::new();
    let mut terminal = io::stderr();
    let asked = write!(terminal, "{prompt}").and_then(|()| terminal.flush()).and_then(|()| io::stdin().read_line(&mut text).map(drop));
    let answered = asked.and_then(|()| writeln!(terminal));
    let secret = Secret::new(text.trim_end_matches(['\r', '\n']));
    answered.map(|()| secret).map_err(|error| format!("no password from the terminal: {error}"))
}

/// A terminal that does not show what is typed; as it was, on drop.
struct Quiet(Termios);

impl Quiet {
    fn begin() -> io::Result<Self> {
        let usual = tcgetattr(io::stdin())?;
        let mut quiet = usual.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &quiet)?;
        Ok(Self(usual))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // The terminal may have gone; then there is nothing to be shown.
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_the_line_as_it_stands_without_its_end() {
        for (text, password) in [("a b \n", "a b "), ("ab\r\n", "ab"), ("ab", "ab"), ("", "")] {
            assert_eq!(line(text.as_bytes()).expect("read").expose(), password);
        }
        assert!(given(Some(Path::new("/nowhere/at/all"))).expect_err("refused").contains("/nowhere/at/all"));
    }
}
