//! What really runs of a decky, in the engine's words.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::lifecycle::text::one_line;

/// What really runs of a decky.
///
/// ```
/// use decnet_lifecycle::fleet::DeckyRuntime;
///
/// let runtime: DeckyRuntime = serde_json::from_str(r#"{"running": true, "services": {"ssh": "running"}}"#)?;
/// assert_eq!(runtime.to_string(), "up (ssh running)");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DeckyRuntime {
    /// Whether the decky as a whole counts as up.
    pub running: bool,
    /// Each service's state, in the engine's words.
    #[serde(default)]
    pub services: BTreeMap<String, String>,
}

impl fmt::Display for DeckyRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.running { "up" } else { "not up" })?;
        let word = |text: &str| one_line(text, 64);
        let states: Vec<String> = self
            .services
            .iter()
            .take(32)
            .map(|(name, state)| format!("{} {}", word(name), word(state)))
            .collect();
        if states.is_empty() { Ok(()) } else { write!(f, " ({})", states.join(", ")) }
    }
}
