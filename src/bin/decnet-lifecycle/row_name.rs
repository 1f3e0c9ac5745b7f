//! Rows as people name them: by their decky, by an id, or by the end of one.

use std::str::FromStr;

use decnet_lifecycle::{
    DeckyName, LifecycleId,
    store::{Query, Store},
};

use crate::Complaint;

/// The fewest characters of the end of an id.
const FEWEST: usize = 4;
/// The newest rows among which the end of an id is looked for.
const ROWS: usize = 10_000;

#[derive(Debug, Clone)]
pub enum RowName {
    Id(LifecycleId),
    /// A decky, whose newest row is meant, or the end of an id.
    Words(String),
}

impl FromStr for RowName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(id) = text.parse() {
            return Ok(Self::Id(id));
        }
        let is_end = text.len() >= FEWEST && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
        if is_end || DeckyName::parse(text).is_ok() {
            return Ok(Self::Words(text.to_owned()));
        }
        Err(format!(
            "a row is named by its decky, by its id, or by the last {FEWEST} or more characters of that"
        ))
    }
}

impl RowName {
    /// The row that is meant. A decky's name counts before the end of an id.
    pub async fn find(&self, store: &dyn Store) -> Result<LifecycleId, Complaint> {
        let words = match self {
            Self::Id(id) => return Ok(*id),
            Self::Words(words) => words,
        };
        if let Ok(decky) = DeckyName::parse(words) {
            let mut newest = Query::new().limit(1);
            newest.decky = Some(decky);
            if let Some(row) = store.query(&newest).await?.records.pop() {
                return Ok(row.id);
            }
        }
        let end = words.to_ascii_lowercase();
        let (mut found, mut looked, mut after) = (Vec::new(), 0, None);
        while looked < ROWS {
            let page = store.query(&Query::new().limit(Query::MAX_LIMIT).after(after)).await?;
            looked += page.records.len();
            found.extend(page.records.iter().map(|row| row.id).filter(|id| id.to_string().ends_with(&end)));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        match found.as_slice() {
            [id] => Ok(*id),
            [] => Err(Complaint(format!(
                "there is no row of a decky {words}, and none whose id ends so; `ls` shows the known ones"
            ))),
            several => {
                let some: Vec<String> = several.iter().take(5).map(ToString::to_string).collect();
                Err(Complaint(format!(
                    "{} rows end in {words}, say more: {}",
                    several.len(),
                    some.join(", ")
                )))
            }
        }
    }
}
