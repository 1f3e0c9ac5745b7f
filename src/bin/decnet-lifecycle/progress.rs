//! Prints the notes of an engine at work.

use decnet_lifecycle::{DeckyName, engine::Progress};

use crate::output::Output;

/// Prints what the engine says of each decky.
pub struct Printed(pub Output);

impl std::fmt::Debug for Printed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Printed")
    }
}

impl Progress for Printed {
    fn note(&self, decky: &DeckyName, text: &str) {
        self.0.note(decky, text);
    }
}
