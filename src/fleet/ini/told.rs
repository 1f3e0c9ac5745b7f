//! What is to be told of a file, by line.

use crate::fleet::{Problem, Problems};

/// Problems and notes, gathered in any order.
#[derive(Debug, Default)]
pub(super) struct Told {
    problems: Vec<(usize, Problem)>,
    notes: Vec<(usize, Problem)>,
}

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// From 1; 0 for the file as a whole.
    pub(super) line: usize,
    pub(super) text: String,
}

impl Place {
    pub(super) fn line(line: usize) -> Self {
        Self { line, text: format!("line {line}") }
    }

    pub(super) fn file() -> Self {
        Self { line: 0, text: String::new() }
    }
}

impl Told {
    /// So many are kept, with the note that there are more as many as
    /// [`Problems`] tells; a file of nonsense has one a line.
    const MAX: usize = Problems::MAX - 1;

    pub(super) fn problem(&mut self, place: &Place, what: impl Into<String>, hint: impl Into<String>) {
        add(&mut self.problems, place, what.into(), hint.into());
    }

    pub(super) fn note(&mut self, place: &Place, what: impl Into<String>, hint: impl Into<String>) {
        add(&mut self.notes, place, what.into(), hint.into());
    }

    pub(super) fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }

    /// Problems and notes, each in the order of the file.
    pub(super) fn finish(self) -> (Vec<Problem>, Vec<Problem>) {
        let sorted = |mut list: Vec<(usize, Problem)>| {
            list.sort_by_key(|(line, _)| *line);
            list.into_iter().map(|(_, problem)| problem).collect()
        };
        (sorted(self.problems), sorted(self.notes))
    }
}

fn add(list: &mut Vec<(usize, Problem)>, place: &Place, what: String, hint: String) {
    match list.len() {
        len if len < Told::MAX => list.push((place.line, Problem { path: place.text.clone(), what, hint })),
        Told::MAX => {
            let what = format!("there is more than these {}", Told::MAX);
            list.push((
                usize::MAX,
                Problem { path: String::new(), what, hint: "mend them first".to_owned() },
            ));
        }
        _ => {}
    }
}
