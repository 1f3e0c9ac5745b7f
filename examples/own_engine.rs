//! An engine of one's own: a decky that is up is a file with its services.

use std::{fs, io, path::PathBuf, sync::Arc};

use decnet_lifecycle::engine::{Engine, Report, Turns, Work};
use decnet_lifecycle::{store::MemoryStore, *};

/// Brings deckies up as files in this directory.
#[derive(Debug)]
pub struct Directory(pub PathBuf);

impl Directory {
    /// Each decky by itself: one that fails holds no other back.
    fn each(&self, work: &Work, act: impl Fn(&DeckyName, PathBuf) -> io::Result<()>) -> Report {
        let mut report = Report::new();
        for decky in work.deckies.keys() {
            // A name begins with a letter or a digit: it is no path and no dot file.
            let done = match work.is_cancelled(decky) {
                true => Err(Failure::new(FailureKind::Cancelled, "not begun")),
                false => act(decky, self.0.join(decky.as_str()))
                    .map_err(|error| Failure::new(FailureKind::Engine, &error.to_string())),
            };
            match done {
                Ok(()) => report.succeeded(decky.clone()),
                Err(failure) => report.failed(decky.clone(), failure),
            }
        }
        report
    }
}

#[async_trait::async_trait]
impl Engine for Directory {
    fn turns(&self) -> Turns {
        Turns::OneCallPerDecky // they share nothing here
    }

    async fn deploy(&self, work: &Work) -> Result<Report, Failure> {
        Ok(self.each(work, |decky, path| {
            let config = work.fleet.decky(decky).ok_or(io::ErrorKind::NotFound)?;
            let text: String = config.services.iter().map(|service| format!("{service}\n")).collect();
            let new = self.0.join(format!(".{decky}"));
            fs::write(&new, &text)?;
            // The evidence is what is there, not that nothing complained.
            if fs::read_to_string(&new)? != text {
                return Err(io::ErrorKind::InvalidData.into());
            }
            // Whole or not at all: a failure of kind `Engine` says that all is as before.
            fs::rename(new, path)
        }))
    }

    async fn mutate(&self, work: &Work) -> Result<Report, Failure> {
        self.deploy(work).await
    }

    async fn teardown(&self, work: &Work) -> Result<Report, Failure> {
        Ok(self.each(work, |_, path| match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }))
    }
}

#[allow(dead_code, reason = "other examples take the engine from here")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let (store, engine) = (Arc::new(MemoryStore::new()), Arc::new(Directory(dir.path().to_owned())));
    let up = || fs::read_dir(dir.path()).map(Iterator::count);
    smol::block_on(async {
        let (runner, _) = Runner::builder(store, engine).build()?.recover().await?;
        let fleet = FleetConfig::from_json(include_bytes!("fleet.json"))?;
        runner.accept_deploy(DeployRequest::new(fleet)).await?.run().await;
        println!("{} deckies are up", up()?);
        runner.accept_teardown(TeardownRequest::all()).await?.run().await;
        println!("{} deckies are up", up()?);
        Ok(())
    })
}
