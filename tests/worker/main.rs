//! The worker's half, against a real master over a wire that loses things.

mod bodies;
mod exchange;
mod pair;
mod trouble;
