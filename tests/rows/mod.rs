//! Rows for the tests of stores, one a number.

use decnet_lifecycle::{
    lifecycle::{MasterName, Owner, Phase, Revision},
    *,
};

/// A pending deploy of `decky-NUMBER`, so many microseconds into the year.
pub fn row(number: u64) -> Record {
    let at = Timestamp::from_micros(1_767_225_600_000_000 + i64::try_from(number).unwrap());
    Record {
        id: LifecycleId::from_u128(u128::from(number) + (1 << 90)),
        decky: DeckyName::parse(&format!("decky-{number}")).unwrap(),
        host: None,
        operation: Operation::Deploy,
        phase: Phase::Pending { deadline: at },
        owner: Owner { master: MasterName::parse("m").unwrap(), epoch: 1 },
        created_at: at,
        updated_at: at,
        cancel_requested_at: None,
        claimed_completion: None,
        key: None,
        revision: Revision::ZERO,
    }
}
