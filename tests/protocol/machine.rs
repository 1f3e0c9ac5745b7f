//! What a master and its workers are to each other: states, and every step
//! that one of them, the network or time can take.

use stateright::{Model, Property};

/// What a worker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Names rows: ours.
    Naming,
    /// Names none, and posts each word once: the original's agent.
    Mute,
}

/// A rule that can be taken away, to see what it is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rule {
    /// An accept takes over from an open row of the decky in the same commit.
    OneOpenRow,
    /// The agent is called after the row is durably running.
    RunningFirst,
    /// Only a worker that is known to name rows is called a second time.
    SecondCallToNaming,
    /// A worker keeps the ids that it took.
    IdsAreKept,
    /// An ended row takes no word.
    EndedStays,
    /// A word that names no row counts for none if an earlier one may still
    /// be spoken of.
    EarlierMaySpeak,
    /// Of an earlier row that a word has ended, only a later word is none.
    SameWordTwice,
    /// A row that a beat leaves out is lost only if later beats do so too.
    Grace,
}

/// How a row has ended other than well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Why {
    Word,
    Deadline,
    Superseded,
    Cancelled,
    Dispatch,
    Lost,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Phase {
    #[default]
    None,
    Pending,
    Running,
    Succeeded,
    Failed(Why),
}

/// Of a master that lives: how far it is with its call. A restart forgets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
enum Turn {
    #[default]
    None,
    ToCall(u8),
    Calling(u8),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
enum Missing {
    #[default]
    No,
    Seen,
    Ripe,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Row {
    pub phase: Phase,
    turn: Turn,
    ran: bool,
    handed: bool,
    missing: Missing,
    to_stop: bool,
    /// The time that the word claimed which ended it.
    claimed: Option<u8>,
    /// Ended so long ago that nothing can be said of it any more.
    old: bool,
}

impl Row {
    pub fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Pending | Phase::Running)
    }

    fn has_ended(&self) -> bool {
        matches!(self.phase, Phase::Succeeded | Phase::Failed(_))
    }
}

/// How an operation ended. Which row's it was, a mute worker does not say.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Word {
    row: usize,
    ok: bool,
    claim: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Beat {
    words: Vec<Word>,
    knows: [bool; ROWS],
}

/// What really happened, which nobody in the model looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Truth {
    pub begun: u8,
    pub done: bool,
    pub failed: bool,
}

pub const ROWS: usize = 2;

/// A host with one decky: its rows at the master, the wire, the worker.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Side {
    pub rows: [Row; ROWS],
    /// Whether the master knows that the worker names rows.
    known: bool,
    calls: Vec<usize>,
    answers: Vec<usize>,
    beats: Vec<Beat>,
    taken: [bool; ROWS],
    at_work: Vec<usize>,
    words: Vec<Word>,
    /// Counts works that ended: the worker's clock.
    clock: u8,
    pub truth: [Truth; ROWS],
    pub changed_after_its_end: bool,
    pub lost_though_known: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    pub sides: Vec<Side>,
    /// How much may still go wrong.
    faults: u8,
}

/// The first number is the host, the second the row or the place in a list.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Step {
    Accept(usize, usize),
    Start(usize, usize),
    Call(usize, usize),
    Take(usize, usize),
    Answer(usize, usize),
    NoAnswer(usize, usize),
    End(usize, usize, bool),
    Beat(usize),
    Hear(usize, usize),
    Cancel(usize, usize),
    Deadline(usize, usize),
    GraceIsOver(usize, usize),
    GrowOld(usize, usize),
    // What goes wrong, each at the cost of a fault.
    LoseCall(usize, usize),
    LoseAnswer(usize, usize),
    GiveUpEarly(usize, usize),
    LoseBeat(usize, usize),
    DoubleBeat(usize, usize),
    HearUnanswered(usize, usize),
    WorkerRestarts(usize),
    WorkerLosesFiles(usize),
    MasterRestarts,
}

/// A master with these workers.
#[derive(Debug, Clone)]
pub struct Swarm {
    pub hosts: Vec<Kind>,
    pub faults: u8,
    pub without: Option<Rule>,
    /// Nobody supersedes or cancels, and no deadline passes.
    pub patient: bool,
}

impl Swarm {
    pub fn of(hosts: &[Kind], faults: u8) -> Self {
        Self { hosts: hosts.to_vec(), faults, without: None, patient: false }
    }

    fn keeps(&self, rule: Rule) -> bool {
        self.without != Some(rule)
    }
}

impl Model for Swarm {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        vec![State { sides: vec![Side::default(); self.hosts.len()], faults: self.faults }]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        for (host, side) in state.sides.iter().enumerate() {
            self.steps_of(host, side, steps);
            if state.faults > 0 {
                faults_of(host, side, self.hosts[host], steps);
            }
        }
        let has_begun = state.sides.iter().flat_map(|side| &side.rows).any(Row::is_open);
        if state.faults > 0 && has_begun {
            steps.push(Step::MasterRestarts);
        }
    }

    fn next_state(&self, last: &State, step: Step) -> Option<State> {
        let mut state = last.clone();
        if let Step::MasterRestarts = step {
            state.faults -= 1;
            state.sides.iter_mut().for_each(Side::master_restarts);
            return Some(state);
        }
        let (host, is_fault) = step.place();
        state.faults -= u8::from(is_fault);
        let side = &mut state.sides[host];
        side.take(self, self.hosts[host], step);
        side.settle();
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        fn rows(state: &State) -> impl Iterator<Item = (&Row, &Truth)> {
            state.sides.iter().flat_map(|side| side.rows.iter().zip(&side.truth))
        }
        vec![
            Property::always("succeeded is only what was done", |_, state: &State| {
                rows(state).all(|(row, truth)| row.phase != Phase::Succeeded || truth.done)
            }),
            Property::always("a word fails only what failed", |_, state: &State| {
                rows(state).all(|(row, truth)| row.phase != Phase::Failed(Why::Word) || truth.failed)
            }),
            Property::always("an ended row stays as it ended", |_, state: &State| {
                state.sides.iter().all(|side| !side.changed_after_its_end)
            }),
            Property::always("a decky has one open row", |_, state: &State| {
                state.sides.iter().all(|side| side.rows.iter().filter(|row| row.is_open()).count() <= 1)
            }),
            Property::always("a worker that names rows does each once", |swarm: &Self, state: &State| {
                let mut sides = state.sides.iter().zip(&swarm.hosts);
                sides.all(|(side, kind)| {
                    *kind == Kind::Mute || side.truth.iter().all(|truth| truth.begun <= 1)
                })
            }),
            Property::always("lost is only what its worker does not know", |_, state: &State| {
                state.sides.iter().all(|side| !side.lost_though_known)
            }),
            Property::always(
                "where nothing went wrong each row ends by a word",
                |swarm: &Self, state: &State| {
                    let mut steps = Vec::new();
                    swarm.actions(state, &mut steps);
                    !steps.is_empty() || swarm.faults > 0 || rows(state).all(|(row, _)| row.has_ended())
                },
            ),
            Property::sometimes("all succeed", |_, state: &State| {
                rows(state).all(|(row, _)| row.phase == Phase::Succeeded)
            }),
            Property::sometimes("all fail by a word", |_, state: &State| {
                rows(state).all(|(row, _)| row.phase == Phase::Failed(Why::Word))
            }),
        ]
    }
}

impl Swarm {
    /// What the host's side may do where nothing goes wrong.
    fn steps_of(&self, host: usize, side: &Side, steps: &mut Vec<Step>) {
        for (id, row) in side.rows.iter().enumerate() {
            let earlier = id.checked_sub(1).map(|earlier| &side.rows[earlier]);
            let is_next =
                earlier.is_none_or(|earlier| earlier.has_ended() || (earlier.is_open() && !self.patient));
            if row.phase == Phase::None && is_next {
                steps.push(Step::Accept(host, id));
            }
            // One call at a time to a host.
            let is_free = side.rows.iter().all(|row| row.turn == Turn::None);
            if row.phase == Phase::Pending && is_free {
                steps.push(Step::Start(host, id));
            }
            if matches!(row.turn, Turn::ToCall(_)) {
                steps.push(Step::Call(host, id));
            }
            if matches!(row.turn, Turn::Calling(_))
                && !side.calls.contains(&id)
                && !side.answers.contains(&id)
            {
                steps.push(Step::NoAnswer(host, id));
            }
            if row.is_open() && !row.to_stop && !self.patient {
                steps.push(Step::Cancel(host, id));
            }
            if row.phase == Phase::Running && !self.patient {
                steps.push(Step::Deadline(host, id));
            }
            // By then what was on its way has come, or never will.
            if row.missing == Missing::Seen && side.beats.is_empty() && !side.calls.contains(&id) {
                steps.push(Step::GraceIsOver(host, id));
            }
            if row.has_ended() && !row.old && !side.may_be_spoken_of(id) {
                steps.push(Step::GrowOld(host, id));
            }
        }
        (0..side.calls.len()).for_each(|place| steps.push(Step::Take(host, place)));
        (0..side.answers.len()).for_each(|place| steps.push(Step::Answer(host, place)));
        for place in 0..side.at_work.len() {
            steps.extend([Step::End(host, place, true), Step::End(host, place, false)]);
        }
        if self.hosts[host] == Kind::Naming && side.beats.is_empty() && side.has_to_beat() {
            steps.push(Step::Beat(host));
        }
        (0..side.beats.len()).for_each(|place| steps.push(Step::Hear(host, place)));
    }
}

fn faults_of(host: usize, side: &Side, kind: Kind, steps: &mut Vec<Step>) {
    (0..side.calls.len()).for_each(|place| steps.push(Step::LoseCall(host, place)));
    (0..side.answers.len()).for_each(|place| steps.push(Step::LoseAnswer(host, place)));
    for (id, row) in side.rows.iter().enumerate() {
        if matches!(row.turn, Turn::Calling(_)) {
            steps.push(Step::GiveUpEarly(host, id));
        }
    }
    for place in 0..side.beats.len() {
        steps.push(Step::LoseBeat(host, place));
        steps.push(Step::DoubleBeat(host, place));
        if kind == Kind::Naming {
            steps.push(Step::HearUnanswered(host, place));
        }
    }
    if !side.at_work.is_empty() {
        steps.push(Step::WorkerRestarts(host));
    }
    if kind == Kind::Naming && side.taken.contains(&true) {
        steps.push(Step::WorkerLosesFiles(host));
    }
}

impl Step {
    /// The host, and whether it is a fault.
    fn place(&self) -> (usize, bool) {
        use Step::*;
        match *self {
            Accept(host, _) | Start(host, _) | Call(host, _) | Take(host, _) | Answer(host, _) => {
                (host, false)
            }
            NoAnswer(host, _) | End(host, ..) | Beat(host) | Hear(host, _) | Cancel(host, _) => (host, false),
            Deadline(host, _) | GraceIsOver(host, _) | GrowOld(host, _) => (host, false),
            LoseCall(host, _) | LoseAnswer(host, _) | GiveUpEarly(host, _) | LoseBeat(host, _) => {
                (host, true)
            }
            DoubleBeat(host, _) | HearUnanswered(host, _) => (host, true),
            WorkerRestarts(host) | WorkerLosesFiles(host) => (host, true),
            MasterRestarts => (0, true),
        }
    }
}

impl Side {
    fn take(&mut self, swarm: &Swarm, kind: Kind, step: Step) {
        match step {
            Step::Accept(_, id) => {
                if swarm.keeps(Rule::OneOpenRow)
                    && let Some(earlier) = id.checked_sub(1).filter(|earlier| self.rows[*earlier].is_open())
                {
                    self.end(earlier, Phase::Failed(Why::Superseded));
                }
                self.rows[id].phase = Phase::Pending;
            }
            Step::Start(_, id) => {
                if swarm.keeps(Rule::RunningFirst) {
                    self.runs(id);
                }
                self.rows[id].turn = Turn::ToCall(1);
            }
            Step::Call(_, id) => {
                let Turn::ToCall(tries) = self.rows[id].turn else { return };
                self.rows[id].turn = Turn::Calling(tries);
                self.calls.push(id);
            }
            Step::Take(_, place) => {
                let id = self.calls.remove(place);
                self.worker_takes(swarm, kind, id);
                if matches!(self.rows[id].turn, Turn::Calling(_)) {
                    self.answers.push(id);
                }
            }
            Step::Answer(_, place) => {
                let id = self.answers.remove(place);
                self.runs(id);
                let row = &mut self.rows[id];
                row.turn = Turn::None;
                row.handed = row.phase == Phase::Running;
            }
            Step::NoAnswer(_, id) | Step::GiveUpEarly(_, id) => {
                self.answers.retain(|answer| *answer != id);
                let Turn::Calling(tries) = self.rows[id].turn else { return };
                let again = self.known || !swarm.keeps(Rule::SecondCallToNaming);
                if tries == 1 && again {
                    self.rows[id].turn = Turn::ToCall(2);
                } else {
                    self.rows[id].turn = Turn::None;
                    if self.rows[id].is_open() {
                        self.end(id, Phase::Failed(Why::Dispatch));
                    }
                }
            }
            Step::End(_, place, ok) => {
                let id = self.at_work.remove(place);
                self.worker_ends(kind, id, ok);
            }
            Step::Beat(_) => {
                let knows = std::array::from_fn(|id| self.knows(id));
                self.beats.push(Beat { words: self.words.clone(), knows });
            }
            Step::Hear(_, place) => {
                let beat = self.beats.remove(place);
                self.master_hears(swarm, kind, &beat);
                self.words.retain(|word| !beat.words.contains(word));
                for id in 0..ROWS {
                    if self.rows[id].to_stop && self.rows[id].handed && self.rows[id].phase == Phase::Running
                    {
                        self.worker_stops(kind, id);
                    }
                }
            }
            Step::HearUnanswered(_, place) => {
                let beat = self.beats.remove(place);
                self.master_hears(swarm, kind, &beat);
            }
            Step::Cancel(_, id) => match self.rows[id].phase {
                Phase::Pending => self.end(id, Phase::Failed(Why::Cancelled)),
                _ => self.rows[id].to_stop = true,
            },
            Step::Deadline(_, id) => self.end(id, Phase::Failed(Why::Deadline)),
            Step::GraceIsOver(_, id) => self.rows[id].missing = Missing::Ripe,
            Step::GrowOld(_, id) => self.rows[id].old = true,
            Step::LoseCall(_, place) => drop(self.calls.remove(place)),
            Step::LoseAnswer(_, place) => drop(self.answers.remove(place)),
            Step::LoseBeat(_, place) => drop(self.beats.remove(place)),
            Step::DoubleBeat(_, place) => self.beats.push(self.beats[place].clone()),
            Step::WorkerRestarts(_) => {
                for id in std::mem::take(&mut self.at_work) {
                    if kind == Kind::Naming {
                        self.worker_ends(kind, id, false);
                    }
                }
            }
            Step::WorkerLosesFiles(_) => {
                self.at_work.clear();
                self.words.clear();
                self.taken = Default::default();
                self.truth.iter_mut().for_each(|truth| truth.begun = 0);
            }
            Step::MasterRestarts => {}
        }
    }

    fn runs(&mut self, id: usize) {
        let row = &mut self.rows[id];
        if row.phase == Phase::Pending {
            row.phase = Phase::Running;
            row.ran = true;
        }
    }

    fn end(&mut self, id: usize, how: Phase) {
        let row = &mut self.rows[id];
        self.changed_after_its_end |= row.has_ended() && row.phase != how;
        row.phase = how;
        row.handed = false;
        row.missing = Missing::No;
        row.to_stop = false;
    }

    fn master_restarts(&mut self) {
        self.known = false;
        self.answers.clear();
        for row in &mut self.rows {
            row.turn = Turn::None;
            row.missing = Missing::No;
            row.handed = row.phase == Phase::Running;
        }
    }

    fn master_hears(&mut self, swarm: &Swarm, kind: Kind, beat: &Beat) {
        for word in &beat.words {
            match kind {
                Kind::Naming => self.hears_of(swarm, word.row, word),
                Kind::Mute => {
                    let mut open = (0..ROWS).filter(|id| self.rows[*id].is_open());
                    if let (Some(id), None) = (open.next(), open.next())
                        && !(0..ROWS).any(|earlier| earlier != id && self.may_be_of(swarm, earlier, word))
                    {
                        self.hears_of(swarm, id, word);
                    }
                }
            }
        }
        if kind == Kind::Mute {
            return;
        }
        self.known = true;
        for id in 0..ROWS {
            if !self.rows[id].handed {
                continue;
            }
            let missing = self.rows[id].missing;
            if beat.knows[id] {
                self.rows[id].missing = Missing::No;
            } else if missing == Missing::Ripe || !swarm.keeps(Rule::Grace) {
                self.lost_though_known |= self.knows(id);
                self.end(id, Phase::Failed(Why::Lost));
            } else {
                self.rows[id].missing = Missing::Seen;
            }
        }
    }

    fn hears_of(&mut self, swarm: &Swarm, id: usize, word: &Word) {
        let takes = match self.rows[id].phase {
            Phase::Running => true,
            Phase::Succeeded | Phase::Failed(_) => !swarm.keeps(Rule::EndedStays),
            Phase::None | Phase::Pending => false,
        };
        if takes {
            self.end(id, if word.ok { Phase::Succeeded } else { Phase::Failed(Why::Word) });
            self.rows[id].claimed = Some(word.claim);
        }
    }

    /// Whether a word that names no row may be of this earlier one.
    fn may_be_of(&self, swarm: &Swarm, earlier: usize, word: &Word) -> bool {
        let row = &self.rows[earlier];
        let may_speak = row.has_ended() && row.ran && !row.old && swarm.keeps(Rule::EarlierMaySpeak);
        let is_newer = match row.claimed {
            Some(before) if swarm.keeps(Rule::SameWordTwice) => word.claim > before,
            Some(_) => true,
            None => false,
        };
        may_speak && !is_newer
    }

    fn worker_takes(&mut self, swarm: &Swarm, kind: Kind, id: usize) {
        if kind == Kind::Naming {
            if self.taken[id] && swarm.keeps(Rule::IdsAreKept) {
                return;
            }
            self.taken[id] = true;
            for earlier in std::mem::take(&mut self.at_work) {
                self.worker_ends(kind, earlier, false);
            }
        }
        self.truth[id].begun += 1;
        self.at_work.push(id);
    }

    fn worker_stops(&mut self, kind: Kind, id: usize) {
        if let Some(place) = self.at_work.iter().position(|at_work| *at_work == id) {
            self.at_work.remove(place);
            self.worker_ends(kind, id, false);
        }
    }

    fn worker_ends(&mut self, kind: Kind, id: usize, ok: bool) {
        self.clock += 1;
        self.truth[id].done |= ok;
        self.truth[id].failed |= !ok;
        let word = Word { row: id, ok, claim: self.clock };
        match kind {
            Kind::Naming => self.words.push(word),
            Kind::Mute => self.beats.push(Beat { words: vec![word], knows: [false; ROWS] }),
        }
    }

    fn knows(&self, id: usize) -> bool {
        self.at_work.contains(&id) || self.words.iter().any(|word| word.row == id)
    }

    /// Whether a beat would tell anybody anything.
    fn has_to_beat(&self) -> bool {
        let is_asked = |(id, row): (usize, &Row)| row.handed && (row.to_stop || !self.knows(id));
        !self.known || !self.words.is_empty() || self.rows.iter().enumerate().any(is_asked)
    }

    /// Whether anything of the row is on its way or being done. The times of
    /// the real one are such that a row grows old only after that.
    fn may_be_spoken_of(&self, id: usize) -> bool {
        let says = |words: &[Word]| words.iter().any(|word| word.row == id);
        self.rows[id].turn != Turn::None
            || self.calls.contains(&id)
            || self.knows(id)
            || self.beats.iter().any(|beat| says(&beat.words))
    }

    /// In which order things are on their way makes no difference.
    fn settle(&mut self) {
        self.calls.sort();
        self.beats.sort();
        self.at_work.sort();
    }
}
