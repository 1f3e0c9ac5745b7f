//! What can be asked of a row that has ended.

use super::state::{Failed, Lifecycle, Succeeded};
use super::{Failure, Timestamp};

impl Lifecycle<Succeeded> {
    /// When it ended.
    #[must_use]
    pub fn completed_at(&self) -> Timestamp {
        self.record().completed_at().unwrap_or(self.record().updated_at)
    }
}

impl Lifecycle<Failed> {
    /// When it ended.
    #[must_use]
    pub fn completed_at(&self) -> Timestamp {
        self.record().completed_at().unwrap_or(self.record().updated_at)
    }

    /// Why it failed.
    #[must_use]
    pub fn failure(&self) -> Option<&Failure> {
        self.record().failure()
    }
}
