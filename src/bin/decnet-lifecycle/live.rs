//! What is shown while a command waits for its rows: on a terminal a line for
//! each decky, drawn anew; elsewhere a line for each change.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use decnet_lifecycle::lifecycle::text::{one_line, spoken};
use decnet_lifecycle::{DeckyName, LifecycleId, Operation, Record, Status, engine::Progress, store::Entry};

use crate::output::{Output, aside};
use crate::table::{columns, cut};

/// How often it is drawn anew while nothing happens.
pub const TICK: Duration = Duration::from_millis(250);
/// The lines of a terminal that doesn't say how many it has.
const LINES: usize = 24;
/// The most characters of a note, and of a decky's name.
const NOTE: usize = 1_000;
const NAME: usize = 20;
/// As many rows that failed alike are told in one line.
const ALIKE: usize = 4;

pub struct Live {
    out: Output,
    /// None where there is no terminal to draw on.
    board: Option<Mutex<Board>>,
}

struct Board {
    since: Instant,
    rows: BTreeMap<LifecycleId, Line>,
    /// How many lines there are of the last drawing, and when that was.
    drawn: usize,
    drawn_at: Instant,
}

/// A row as it is shown.
struct Line {
    decky: DeckyName,
    operation: Operation,
    status: Status,
    since: Instant,
    note: String,
}

impl Live {
    pub fn new(out: Output) -> Self {
        let is_dumb = std::env::var("TERM").is_ok_and(|term| term == "dumb");
        // A log on the same terminal would be drawn over.
        let is_quiet = log::max_level() == log::LevelFilter::Off;
        let draws = !out.is_json() && std::io::stdout().is_terminal() && !is_dumb && is_quiet;
        let now = Instant::now();
        let board = Board { since: now, rows: BTreeMap::new(), drawn: 0, drawn_at: now };
        Self { out, board: draws.then(|| Mutex::new(board)) }
    }

    fn board(&self) -> Option<MutexGuard<'_, Board>> {
        // What is half drawn is drawn anew.
        self.board.as_ref().map(|board| board.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub const fn out(&self) -> &Output {
        &self.out
    }

    pub const fn is_drawn(&self) -> bool {
        self.board.is_some()
    }

    /// These rows are waited for.
    pub fn begin(&self, rows: &[Record]) {
        let Some(mut board) = self.board() else { return };
        let lines = rows.iter().map(|row| (row.id, Line::new(&row.decky, row.operation, row.status())));
        board.rows.extend(lines);
        board.draw(&self.out);
    }

    /// A row has changed. Many that change at once are drawn once.
    pub fn change(&self, entry: &Entry) {
        let Some(mut board) = self.board() else { return self.out.change(entry) };
        let new = || Line::new(&entry.decky, entry.operation, entry.status);
        let line = board.rows.entry(entry.id).or_insert_with(new);
        line.status = entry.status;
        if entry.cancel_requested && entry.status.is_open() {
            line.note = "asked to stop".to_owned();
        }
        if board.drawn_at.elapsed() >= TICK {
            board.draw(&self.out);
        }
    }

    /// Time has passed.
    pub fn tick(&self) {
        if let Some(mut board) = self.board() {
            board.draw(&self.out);
        }
    }

    /// Says something beside the drawing.
    pub fn aside(&self, text: &str) {
        self.clear();
        aside(text);
    }

    /// Takes the drawing away.
    pub fn clear(&self) {
        if let Some(mut board) = self.board() {
            let _ = std::io::stdout().lock().write_all(board.erased().as_bytes());
        }
    }
}

impl Progress for Live {
    fn note(&self, decky: &DeckyName, text: &str) {
        let Some(mut board) = self.board() else { return self.out.note(decky, text) };
        for line in board.rows.values_mut().filter(|line| line.decky == *decky) {
            line.note = one_line(text, NOTE);
        }
    }
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Live").field("is_drawn", &self.is_drawn()).finish_non_exhaustive()
    }
}

impl Board {
    /// What takes the last drawing away.
    fn erased(&mut self) -> String {
        match std::mem::take(&mut self.drawn) {
            0 => String::new(),
            lines => format!("\r\u{1b}[{lines}A\u{1b}[0J"),
        }
    }

    fn draw(&mut self, out: &Output) {
        let mut text = self.erased();
        let lines = self.lines(out);
        self.drawn = lines.len();
        self.drawn_at = Instant::now();
        for line in lines {
            text.push_str(&line);
            text.push('\n');
        }
        // What can't be shown now is told at the end.
        let mut stdout = std::io::stdout().lock();
        let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    }

    fn lines(&self, out: &Output) -> Vec<String> {
        let count = |status| self.rows.values().filter(|line| line.status == status).count();
        let (well, failed) = (count(Status::Succeeded), count(Status::Failed));
        let open = self.rows.len() - well - failed;
        let failed = if failed > 0 { format!(", {failed} failed") } else { String::new() };
        let mut lines =
            vec![format!("{well}/{} done{failed}, {}", self.rows.len(), spoken(self.since.elapsed()))];
        let room = terminal_size::terminal_size().map_or(LINES, |(_, height)| usize::from(height.0));
        let room = room.saturating_sub(3).max(1);
        let width = columns().unwrap_or(80).saturating_sub(1);
        let mut shown = 0;
        for status in [Status::Running, Status::Pending] {
            for line in self.rows.values().filter(|line| line.status == status).take(room - shown) {
                lines.push(line.text(out, width));
                shown += 1;
            }
        }
        if open > shown {
            lines.push(format!("\u{2026} and {} more", open - shown));
        }
        lines
    }
}

impl Line {
    fn new(decky: &DeckyName, operation: Operation, status: Status) -> Self {
        Self { decky: decky.clone(), operation, status, since: Instant::now(), note: String::new() }
    }

    fn text(&self, out: &Output, width: usize) -> String {
        let before = format!("{:<NAME$} {:<8} ", cut(self.decky.as_str(), NAME), self.operation);
        let after = format!(" {:>7}  {}", spoken(self.since.elapsed()), self.note);
        // A status is as wide as `succeeded`, whatever its colours take.
        let room = width.saturating_sub(before.chars().count() + 9);
        format!("{before}{}{}", out.status(self.status.as_str()), cut(&after, room))
    }
}

/// Rows that failed alike, in a line for all of them; and the others.
pub fn folded(records: Vec<Record>) -> (Vec<Record>, Vec<String>) {
    let mut alike: BTreeMap<String, Vec<DeckyName>> = BTreeMap::new();
    for row in &records {
        if let Some(failure) = row.failure() {
            alike.entry(failure.to_string()).or_default().push(row.decky.clone());
        }
    }
    alike.retain(|_, deckies| deckies.len() >= ALIKE);
    let told = |(error, deckies): (&String, &Vec<DeckyName>)| {
        let (first, last) = (deckies.first(), deckies.last());
        let ends: Vec<&str> = first.into_iter().chain(last).map(DeckyName::as_str).collect();
        format!("{} failed: {error} ({})", deckies.len(), ends.join(" .. "))
    };
    let lines = alike.iter().map(told).collect();
    let is_alike =
        |row: &Record| row.failure().is_some_and(|failure| alike.contains_key(&failure.to_string()));
    (records.into_iter().filter(|row| !is_alike(row)).collect(), lines)
}
