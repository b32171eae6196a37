//! What somebody may say who is not anybody yet: a mechanism, a first message, and a second one behind the last byte 255.
//! Nothing panics, and what is understood is so whatever follows.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sluicegate_fuzz_sasl::auth::sasl::{SaslMechanism, rehearse};

fuzz_target!(|input: &[u8]| {
    let Some((mechanism, messages)) = input.split_first() else { return };
    let mechanism = SaslMechanism::ALL[usize::from(*mechanism) % SaslMechanism::ALL.len()];
    let (first, second) = match messages.iter().rposition(|byte| *byte == 255) {
        Some(at) => (&messages[..at], &messages[at + 1..]),
        None => (messages, &[][..]),
    };
    let understood = rehearse(mechanism, &[first, second]);
    assert!(understood <= 2);
    assert_eq!(understood > 0, rehearse(mechanism, &[first]) > 0, "whatever follows");
});
