//! What a call ended with: what the caller should do, not what the library said.
//!
//! What always holds: nothing of a credential gets into these; a server's words are cut to one short line.

use prost_types::Timestamp;
use tonic::{Code, Status};

use super::super::fs;

/// The longest piece of somebody else's words that is passed on.
const MAX_WORDS: usize = 200;

/// Why a call has no answer, by what the caller should do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// No connection, or it broke, or the service is down: it may or may not have happened. Again, with backoff.
    #[error("not reached: {0}")]
    Unreachable(String),
    /// No answer within the deadline: it may or may not have happened. Again, with backoff.
    #[error("no answer in time")]
    Slow,
    /// Too much or too contended; nothing has happened. Back off, with smaller batches and fewer of them.
    #[error("exhausted: {0}")]
    Exhausted(String),
    /// There is no token, or the service does not let us; nothing has happened. A new token is being fetched: events are
    /// refused for now, and a person should hear of it.
    #[error("not allowed: {0}")]
    Denied(String),
    /// The call itself is wrong, and always will be; nothing has happened. Find the culprit by halves.
    #[error("refused: {0}")]
    Invalid(String),
    /// Anything else, with the service's words: it may or may not have happened. Again, with backoff.
    #[error("failed: {0}")]
    Other(String),
}

impl Fault {
    /// Whether what was asked for may have happened all the same.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Slow | Self::Other(_))
    }

    pub(super) fn of(status: &Status) -> Self {
        let words = || words(status);
        match status.code() {
            Code::Unavailable => Self::Unreachable(words()),
            Code::DeadlineExceeded | Code::Cancelled => Self::Slow,
            Code::ResourceExhausted | Code::Aborted => Self::Exhausted(words()),
            Code::Unauthenticated | Code::PermissionDenied => Self::Denied(words()),
            // Out of range: larger than we send.
            Code::InvalidArgument | Code::OutOfRange => Self::Invalid(words()),
            _ => Self::Other(words()),
        }
    }
}

/// What became of one write of a call.
#[derive(Debug, Clone, PartialEq)]
pub enum Written {
    /// It is done; when, unless it was a delete.
    Ok(Option<Timestamp>),
    /// The document is there already, and was to be made.
    AlreadyExists,
    /// The document is not there, and was to be changed.
    NotFound,
    /// The document is not as it was to be.
    Precondition,
    /// It can never be done, with the service's words.
    Refused(String),
    /// Not done, for now, or not known to be done, while others of the call have fared otherwise. Again, with backoff.
    Again,
}

impl Written {
    fn of(code: Code, words: &str, result: Option<fs::WriteResult>) -> Self {
        match code {
            Code::Ok => Self::Ok(result.and_then(|result| result.update_time)),
            Code::AlreadyExists => Self::AlreadyExists,
            Code::NotFound => Self::NotFound,
            Code::FailedPrecondition => Self::Precondition,
            Code::InvalidArgument | Code::OutOfRange | Code::Unimplemented => Self::Refused(cut(words)),
            _ => Self::Again,
        }
    }
}

/// The results of a call's writes, in their order.
pub(super) fn written(answer: fs::BatchWriteResponse, asked: usize) -> Result<Vec<Written>, Fault> {
    let fs::BatchWriteResponse { status, write_results } = answer;
    if status.len() != asked {
        return Err(Fault::Other(format!("{} results for {asked} writes", status.len())));
    }
    // What became of all of them alike is the call's affair: a token that is not taken, or too much at once.
    let all = |what: &[Code]| status.iter().all(|one| what.contains(&Code::from_i32(one.code)));
    let first = || cut(status.first().map_or("", |one| &one.message));
    if all(&[Code::Unauthenticated, Code::PermissionDenied]) {
        return Err(Fault::Denied(first()));
    }
    if all(&[Code::ResourceExhausted, Code::Aborted]) {
        return Err(Fault::Exhausted(first()));
    }
    let results = write_results.into_iter().map(Some).chain(std::iter::repeat_with(|| None));
    Ok(status.iter().zip(results).map(|(one, result)| Written::of(Code::from_i32(one.code), &one.message, result)).collect())
}

/// A status and what it comes from, in one short line.
fn words(status: &Status) -> String {
    let mut line = format!("{:?}: {}", status.code(), status.message());
    let mut cause = std::error::Error::source(status);
    while let Some(inner) = cause {
        line = format!("{line}: {inner}");
        cause = inner.source();
    }
    cut(&line)
}

fn cut(line: &str) -> String {
    line.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_WORDS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(codes: &[Code]) -> fs::BatchWriteResponse {
        let mut answer = fs::BatchWriteResponse::default();
        answer.status.resize_with(codes.len(), Default::default);
        answer.status.iter_mut().zip(codes).for_each(|(status, code)| status.code = *code as i32);
        answer
    }

    #[test]
    fn each_status_says_what_to_do() {
        let fault = |code| Fault::of(&Status::new(code, "words"));
        let words = |code: &str| format!("{code}: words");
        assert_eq!(fault(Code::Unavailable), Fault::Unreachable(words("Unavailable")));
        assert_eq!(fault(Code::DeadlineExceeded), Fault::Slow);
        assert_eq!(fault(Code::Aborted), Fault::Exhausted(words("Aborted")));
        assert_eq!(fault(Code::Unauthenticated), Fault::Denied(words("Unauthenticated")));
        assert_eq!(fault(Code::InvalidArgument), Fault::Invalid(words("InvalidArgument")));
        assert_eq!(fault(Code::Internal), Fault::Other(words("Internal")));
    }

    #[test]
    fn only_what_was_turned_away_for_certain_has_not_happened() {
        for code in (1..=16).map(Code::from_i32) {
            let certain = matches!(
                code,
                Code::ResourceExhausted
                    | Code::Aborted
                    | Code::Unauthenticated
                    | Code::PermissionDenied
                    | Code::InvalidArgument
                    | Code::OutOfRange
            );
            assert_eq!(Fault::of(&Status::new(code, "")).is_unknown(), !certain, "{code:?}");
        }
    }

    #[test]
    fn each_write_has_its_own_result() {
        let codes = [Code::Ok, Code::AlreadyExists, Code::NotFound, Code::FailedPrecondition, Code::Unavailable, Code::PermissionDenied];
        let results = written(answer(&codes), 6).expect("six");
        let none = Written::Ok(None);
        assert_eq!(results, [none, Written::AlreadyExists, Written::NotFound, Written::Precondition, Written::Again, Written::Again]);
        assert!(matches!(written(answer(&[Code::InvalidArgument]), 1).expect("one")[..], [Written::Refused(_)]));
    }

    #[test]
    fn what_became_of_all_writes_alike_is_the_fate_of_the_call() {
        assert!(matches!(written(answer(&[Code::PermissionDenied; 2]), 2), Err(Fault::Denied(_))));
        assert!(matches!(written(answer(&[Code::Aborted, Code::ResourceExhausted]), 2), Err(Fault::Exhausted(_))));
        assert_eq!(written(answer(&[Code::Aborted, Code::Ok]), 2), Ok(vec![Written::Again, Written::Ok(None)]));
    }

    #[test]
    fn results_that_cannot_be_assigned_are_no_results() {
        assert!(matches!(written(answer(&[Code::Ok]), 2), Err(Fault::Other(_))));
    }

    #[test]
    fn a_servers_words_are_one_short_line() {
        let Fault::Other(words) = Fault::of(&Status::internal("a\nb".repeat(500))) else { panic!("not other") };
        assert!(words.chars().count() <= MAX_WORDS && !words.contains('\n'), "{words}");
    }
}
