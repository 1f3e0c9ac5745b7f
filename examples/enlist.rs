//! Accepts in a transaction of one's own: an order and the rows of its deckies
//! are durable together, or neither is.
//!
//! `cargo run --example enlist`

use std::sync::Arc;

use decnet_lifecycle::redb::{Database, ReadableDatabase, ReadableTableMetadata, TableDefinition};
use decnet_lifecycle::{DeployRequest, FleetConfig, Runner, store::Query, store::RedbStore};

#[path = "own_engine.rs"]
mod own_engine;

/// A table of the program's own; those of the store begin with `decnet-lifecycle`.
const ORDERS: TableDefinition<'_, u64, &str> = TableDefinition::new("orders");

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let db = Arc::new(Database::create(dir.path().join("program.redb"))?);
    let (decoys, fleet) = (dir.path().join("decoys"), FleetConfig::from_json(include_bytes!("fleet.json"))?);
    std::fs::create_dir(&decoys)?;
    smol::block_on(async {
        let store = Arc::new(RedbStore::in_database(Arc::clone(&db))?);
        let engine = Arc::new(own_engine::Directory(decoys));
        let (runner, _) = Runner::builder(store, engine).build()?.recover().await?;
        for is_paid in [false, true] {
            // What can be refused without a look inside the transaction is refused here.
            let prepared = runner.prepare_deploy(DeployRequest::new(fleet.clone())).await?;

            // No await in here: while it is open, the store's own writer waits.
            let txn = db.begin_write()?;
            txn.open_table(ORDERS)?.insert(1, "six deckies")?;
            let enlisted = prepared.enlisted(RedbStore::enlist(&txn, prepared.batch())?)?;
            if is_paid {
                txn.commit()?;
                // Should the program end here, its next start takes the rows up.
                runner.start(enlisted).await?.run().await;
            } else {
                txn.abort()?;
            }

            let orders = db.begin_read()?.open_table(ORDERS).map_or(0, |table| table.len().unwrap_or(0));
            let rows = runner.list(&Query::new()).await?.records;
            println!("paid: {is_paid}; {orders} orders, {} rows", rows.len());
            rows.iter().for_each(|row| println!("  {} {}", row.decky, row.status()));
        }
        Ok(())
    })
}
