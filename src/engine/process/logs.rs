//! What decoys have written down: the end of their log files, and what comes.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::engine::{LogLine, LogQuery};
use crate::lifecycle::{DeckyName, Failure, ServiceName};

use super::files::Files;
use super::settings::{Setup, engine_failure};

/// How much of a file's end is read for its last lines, and at once of what
/// comes.
const END: u64 = 1 << 20;
/// How often it is looked for what comes.
const STEP: Duration = Duration::from_millis(500);

/// One log file, and how far it was read.
struct Reading {
    service: ServiceName,
    path: PathBuf,
    /// Which file it was: a full log is put aside, and another begun.
    file: Option<u64>,
    at: u64,
    /// The beginning of a line whose end has not come.
    begun: Vec<u8>,
}

pub(super) async fn tell(
    setup: &Setup,
    query: &LogQuery,
    hear: &(dyn Fn(LogLine) + Send + Sync),
) -> Result<(), Failure> {
    let (dir, decky) = (setup.settings.dir.clone(), query.decky.clone());
    let found = blocking::unblock(move || services(&dir, &decky)).await;
    let mut readings: Vec<Reading> = found
        .map_err(|error| setup.failed(&error))?
        .into_iter()
        .filter(|service| query.wants(Some(service)))
        .map(|service| {
            let path = Files::new(&setup.settings.dir, &query.decky, &service).log();
            Reading { service, path, file: None, at: 0, begun: Vec::new() }
        })
        .collect();
    if readings.is_empty() {
        let what = query.service.as_ref().map_or("it".to_owned(), ToString::to_string);
        return Err(engine_failure(format!("{what} has no log here, of {}", query.decky)));
    }
    let mut tail = query.tail;
    loop {
        for place in 0..readings.len() {
            let mut reading = readings.swap_remove(place);
            let read = blocking::unblock(move || {
                let lines = reading.next(tail);
                (reading, lines)
            });
            let (reading, lines) = read.await;
            let service = reading.service.clone();
            readings.push(reading);
            let last = readings.len() - 1;
            readings.swap(place, last);
            for line in lines.map_err(|error| setup.failed(&error))? {
                hear(LogLine::new(query.decky.clone(), Some(service.clone()), line));
            }
        }
        if !query.follow {
            return Ok(());
        }
        tail = usize::MAX;
        query.clock.sleep(STEP).await;
    }
}

/// The services of a decky that have left a log, also those that are gone.
fn services(dir: &Path, decky: &DeckyName) -> io::Result<Vec<ServiceName>> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        let service = name.to_str().and_then(|name| {
            let base = name.strip_suffix(".log").or_else(|| name.strip_suffix(".run"))?;
            let (of, service) = base.split_once('.')?;
            ServiceName::parse(service).ok().filter(|_| of == decky.as_str())
        });
        found.extend(service);
    }
    found.sort();
    found.dedup();
    Ok(found)
}

impl Reading {
    /// What has come since the last time, line by line; at first the last lines.
    fn next(&mut self, tail: usize) -> io::Result<Vec<String>> {
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            // It has had no visitor yet.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let (number, length) = file.metadata().map(|data| (data.ino(), data.len()))?;
        let is_first = self.file.is_none();
        if self.file.replace(number) != Some(number) || length < self.at {
            self.at = 0;
            self.begun.clear();
        }
        let mut is_cut = false;
        if length.saturating_sub(self.at) > END {
            self.at = length - END;
            self.begun.clear();
            is_cut = true;
        }
        file.seek(SeekFrom::Start(self.at))?;
        let mut bytes = std::mem::take(&mut self.begun);
        self.at += u64::try_from(file.take(END).read_to_end(&mut bytes)?).unwrap_or(0);
        let mut lines: Vec<String> = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            match piece.strip_suffix(b"\n") {
                Some(line) => lines.push(String::from_utf8_lossy(line).into_owned()),
                // What never ends is not kept for ever.
                None if piece.len() < LogQuery::MAX_LINE * 4 => self.begun = piece.to_vec(),
                None => {}
            }
        }
        if is_cut && !lines.is_empty() {
            lines.remove(0);
        }
        let over = if is_first { lines.len().saturating_sub(tail) } else { 0 };
        lines.drain(..over);
        Ok(lines)
    }
}
