//! Where a decky's decoys listen.

use decnet_lifecycle::{DeckyName, ServiceName};

/// A service of a decky that runs, and where.
pub struct Place {
    pub decky: DeckyName,
    pub service: String,
    pub at: String,
    is_up: bool,
}

impl Place {
    pub fn new(decky: DeckyName, service: &ServiceName, at: String, is_up: bool) -> Self {
        Self { decky, service: service.to_string(), at, is_up }
    }

    pub const fn is_up(&self) -> bool {
        self.is_up
    }

    /// How many of these are up.
    pub fn count_up(places: &[Self]) -> usize {
        places.iter().filter(|place| place.is_up).count()
    }

    /// One that should be there and isn't.
    pub fn dead(decky: DeckyName, service: &ServiceName) -> Self {
        Self::new(decky, service, "dead".to_owned(), false)
    }
}
