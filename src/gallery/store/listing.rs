//! Lists of subjects, part by part: a part begins behind a key and not after a number of rows, so that
//! the thousandth costs what the first does.

use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use super::rows::{SELECT_SUBJECT, read_groups, read_subject};
use super::{GalleryError, GalleryStore};
use crate::gallery::records::{SubjectPage, SubjectQuery, words};

/// Words of a search that count; further ones would narrow little and cost a look-up each.
const MAX_WORDS: usize = 6;
/// Behind every word that begins alike: the last character there is.
const LAST: char = '\u{10ffff}';

/// A statement with the values for its places.
struct Statement {
    sql: String,
    values: Vec<Value>,
}

impl Statement {
    fn bind(&mut self, value: impl Into<Value>) -> String {
        self.values.push(value.into());
        format!("?{}", self.values.len())
    }

    /// Which subjects are meant, as the text behind `from`. Starts from what narrows most: the longest
    /// word, else the group, else the names in order.
    fn source(&mut self, query: &SubjectQuery) -> String {
        let mut conditions = Vec::new();
        let mut words: Vec<_> = query.search.as_deref().map(words).unwrap_or_default().into_iter().collect();
        words.sort_by_key(|word| std::cmp::Reverse(word.chars().count()));
        words.truncate(MAX_WORDS);
        let mut from = "subject s".to_owned();
        let mut words = words.into_iter();
        if let Some(word) = words.next() {
            let (low, high) = (self.bind(word.clone()), self.bind(format!("{word}{LAST}")));
            from = format!(
                "(select distinct subject from subject_word where word >= {low} and word < {high}) w
                 cross join subject s on s.id = w.subject"
            );
            for word in words {
                let (low, high) = (self.bind(word.clone()), self.bind(format!("{word}{LAST}")));
                conditions.push(format!(
                    "exists (select 1 from subject_word o
                     where o.subject = s.id and o.word >= {low} and o.word < {high})"
                ));
            }
            if let Some(group) = query.group {
                let group = self.bind(group.0);
                conditions.push(format!(
                    "exists (select 1 from group_member g where g.subject_group = {group} and g.subject = s.id)"
                ));
            }
        } else if let Some(group) = query.group {
            let group = self.bind(group.0);
            from = "group_member g cross join subject s on s.id = g.subject".to_owned();
            conditions.push(format!("g.subject_group = {group}"));
        }
        if conditions.is_empty() {
            conditions.push("true".to_owned());
        }
        format!("{from} where {}", conditions.join(" and "))
    }
}

fn page(query: &SubjectQuery) -> Statement {
    let mut statement = Statement { sql: String::new(), values: Vec::new() };
    let source = statement.source(query);
    let after = statement.bind(query.after.clone().unwrap_or_default());
    // One more tells whether there is a next part.
    let limit = statement.bind(query.limit as i64 + 1);
    let columns = SELECT_SUBJECT.trim_end_matches("subject s");
    statement.sql = format!("{columns} {source} and s.name_key > {after} order by s.name_key limit {limit}");
    statement
}

fn count(query: &SubjectQuery) -> Statement {
    let mut statement = Statement { sql: String::new(), values: Vec::new() };
    let source = statement.source(query);
    statement.sql = format!("select count(*) from {source}");
    statement
}

impl GalleryStore {
    /// A part of the list of subjects, in the order of their names.
    pub fn list(&self, query: &SubjectQuery) -> Result<SubjectPage, GalleryError> {
        self.read("list the subjects", |db| read_page(db, query))
    }
}

fn read_page(db: &Connection, query: &SubjectQuery) -> rusqlite::Result<SubjectPage> {
    let Statement { sql, values } = page(query);
    let mut statement = db.prepare_cached(&sql)?;
    let mut subjects =
        statement.query_map(params_from_iter(values), read_subject)?.collect::<Result<Vec<_>, _>>()?;
    let more = subjects.len() > query.limit;
    subjects.truncate(query.limit);
    let next = subjects.last().filter(|_| more).map(|subject| subject.name.key());
    read_groups(db, &mut subjects)?;
    let narrowed =
        query.search.as_deref().is_some_and(|text| !words(text).is_empty()) || query.group.is_some();
    let total = match narrowed {
        false => None,
        true => {
            let Statement { sql, values } = count(query);
            Some(db.prepare_cached(&sql)?.query_row(params_from_iter(values), |row| row.get(0))?)
        }
    };
    Ok(SubjectPage { subjects, next, total })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gallery::records::GroupId;

    /// The plan's lines for a statement over the present schema.
    fn plan(statement: &Statement) -> Vec<String> {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch(super::super::SCHEMA.script).unwrap();
        let mut query = db.prepare(&format!("explain query plan {}", statement.sql)).unwrap();
        let lines = query.query_map(params_from_iter(&statement.values), |row| row.get(3)).unwrap();
        lines.collect::<Result<_, _>>().unwrap()
    }

    fn queries() -> Vec<SubjectQuery> {
        let searches = [None, Some("ad"), Some("ada lov")];
        let mut all = Vec::new();
        for search in searches {
            for group in [None, Some(GroupId(7))] {
                for after in [None, Some("ada lovelace".to_owned())] {
                    all.push(SubjectQuery { after, search: search.map(str::to_owned), group, limit: 50 });
                }
            }
        }
        all
    }

    #[test]
    fn no_list_of_subjects_scans_a_table() {
        let mut checked = 0;
        for query in queries() {
            for statement in [Some(page(&query)), query.search.as_ref().map(|_| count(&query))] {
                let Some(statement) = statement else { continue };
                let plan = plan(&statement);
                // `w` is what the search for a word has found.
                let scans: Vec<_> =
                    plan.iter().filter(|line| line.starts_with("SCAN") && *line != "SCAN w").collect();
                assert!(scans.is_empty(), "{query:?}: {plan:#?}");
                checked += 1;
            }
        }
        assert_eq!(checked, 20);
        let scanning = Statement { sql: "select * from subject where notes = 'x'".into(), values: vec![] };
        assert!(plan(&scanning).iter().any(|line| line.starts_with("SCAN")), "a scan would be seen");
    }
}
