//! The public suite, on a server straight and through a pooler.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use decnet_lifecycle::store::{PostgresSettings, PostgresStore, Store};
use decnet_lifecycle::testkit::conformance::{self, Fixture};
use futures_lite::future::block_on;

use crate::server::{Server, own_server, pooler_program, server};

pub struct Fresh<'s> {
    server: &'s Server,
    url: String,
    last: Mutex<Option<PostgresSettings>>,
}

impl<'s> Fresh<'s> {
    pub fn at(server: &'s Server, url: &str) -> Self {
        Self { server, url: url.to_owned(), last: Mutex::new(None) }
    }
}

#[async_trait]
impl Fixture for Fresh<'_> {
    async fn fresh(&self) -> Arc<dyn Store> {
        let settings = self.server.fresh_at(&self.url);
        *self.last.lock().unwrap() = Some(settings.clone());
        Arc::new(PostgresStore::connect(settings).await.unwrap())
    }

    async fn reopen(&self, store: Arc<dyn Store>) -> Option<Arc<dyn Store>> {
        drop(store);
        let settings = self.last.lock().unwrap().clone().unwrap();
        Some(Arc::new(PostgresStore::connect(settings).await.unwrap()))
    }
}

#[test]
fn it_conforms() {
    let Some(server) = server() else { return };
    block_on(conformance::check(&Fresh::at(server, server.url()))).unwrap();
}

#[test]
fn it_conforms_through_a_pooler_in_transaction_mode() {
    let Some((server, pooler)) = own_server().zip(pooler_program()) else { return };
    let url = server.pooler(&pooler);
    block_on(conformance::check(&Fresh::at(&server, &url))).unwrap();
}

#[test]
fn it_needs_no_runtime_and_works_under_any() {
    let Some(server) = server() else { return };
    let check = || async { conformance::check(&Fresh::at(server, server.url())).await.unwrap() };
    // Without a reactor, and without a timer.
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(check());
    smol::block_on(check());
}
