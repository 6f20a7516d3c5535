//! Proof of an erasure: looks everywhere for what was known of a subject, after it is erased.
//!
//! Looked at are the bytes of every file in the state folder as they lie there, and every database decrypted:
//! its pages with freed places where it is small enough to be held in memory, else each value of each row.
//! Looked for are the id in both its forms, the name, every template and a piece of every picture. Nothing
//! found is what should be; what is found is told by place and kind, and never shown.
//!
//! Blocking. Runs on a thread of the blocking pool, or of the command.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use memchr::memmem::Finder;
use rusqlite::Connection;
use rusqlite::types::ValueRef;
use schemars::JsonSchema;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::database::{self, Schema};
use crate::gallery::SubjectId;
use crate::media::MEDIA_FOLDER;
use crate::rekey::every_database;
use crate::vault::{KeyPurpose, RootKey, StateFolder};

/// Databases up to this size are looked at page by page.
const PAGES_UP_TO: u64 = 32 << 20;
/// Bytes of a file looked at in one go.
const CHUNK: usize = 1 << 20;
/// Bytes of each template and picture that are looked for: by chance they stand nowhere.
const PIECE: usize = 24;
/// A shorter name stands in other words and in random bytes.
const SHORTEST_NAME: usize = 6;
/// Findings told; what is more is of the same kind.
const MOST_FOUND: usize = 20;

/// What a subject was known by. Never printed; wiped when dropped.
pub struct Traces {
    needles: Vec<(TraceKind, Zeroizing<Vec<u8>>)>,
}

impl std::fmt::Debug for Traces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Traces({})", self.needles.len())
    }
}

/// What something found is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TraceKind {
    /// The id.
    Id,
    /// The name.
    Name,
    /// A template.
    Template,
    /// A picture.
    Picture,
}

impl Traces {
    /// Of a subject that is about to be erased.
    pub(crate) fn new(id: SubjectId, name: &str) -> Self {
        let mut traces = Self { needles: Vec::new() };
        traces.add(TraceKind::Id, id.as_bytes());
        traces.add(TraceKind::Id, id.to_string().as_bytes());
        if name.len() >= SHORTEST_NAME {
            traces.add(TraceKind::Name, name.as_bytes());
        }
        traces
    }

    fn add(&mut self, kind: TraceKind, bytes: &[u8]) {
        self.needles.push((kind, Zeroizing::new(bytes.to_vec())));
    }

    /// Adds a piece of a template or picture, from its middle: beginnings are alike.
    pub(crate) fn add_piece(&mut self, kind: TraceKind, bytes: &[u8]) {
        let from = (bytes.len() / 2).saturating_sub(PIECE / 2);
        if let Some(piece) = bytes.get(from..from + PIECE) {
            self.add(kind, piece);
        }
    }
}

/// Something of the subject that is still there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Trace {
    /// File in the state folder, or database and table.
    pub place: String,
    /// What of the subject.
    pub kind: TraceKind,
}

/// What looking everywhere came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Search {
    /// Files looked at as they lie on the disk.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Databases looked at decrypted, freed places included.
    pub databases: u64,
    /// Databases too large for that, of which every value was looked at.
    pub databases_by_value: u64,
    /// What was found. Empty: nothing is left.
    pub found: Vec<Trace>,
    /// Files and databases that could not be looked at, and why.
    pub not_searched: Vec<String>,
}

/// Looks everywhere in the state folder.
pub fn search(state: &StateFolder, key: &RootKey, traces: &Traces) -> Search {
    let finders: Vec<_> =
        traces.needles.iter().map(|(kind, bytes)| (*kind, Finder::new(bytes.as_slice()))).collect();
    let longest = traces.needles.iter().map(|(_, bytes)| bytes.len()).max().unwrap_or(0);
    let mut run = Run { finders, longest, search: Search::default() };
    for folder in [state.path().to_path_buf(), state.path().join(MEDIA_FOLDER)] {
        match std::fs::read_dir(&folder) {
            Ok(entries) => {
                let files = entries.filter_map(Result::ok).map(|entry| entry.path());
                files.filter(|path| path.is_file()).for_each(|path| run.file(&path));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => run.search.not_searched.push(format!("{}: {error}", folder.display())),
        }
    }
    for (schema, purpose) in every_database() {
        run.database(state, key, schema, purpose);
    }
    run.search
}

struct Run<'n> {
    finders: Vec<(TraceKind, Finder<'n>)>,
    longest: usize,
    search: Search,
}

impl Run<'_> {
    fn look(&mut self, place: &str, bytes: &[u8]) {
        for (kind, finder) in &self.finders {
            let trace = || Trace { place: place.to_owned(), kind: *kind };
            if finder.find(bytes).is_some()
                && self.search.found.len() < MOST_FOUND
                && !self.search.found.contains(&trace())
            {
                self.search.found.push(trace());
            }
        }
    }

    fn file(&mut self, path: &Path) {
        let place = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match self.read(path, &place) {
            Ok(bytes) => {
                self.search.files += 1;
                self.search.bytes += bytes;
            }
            // Another part of the program removes files too.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => self.search.not_searched.push(format!("{place}: {error}")),
        }
    }

    /// In chunks that overlap by what is looked for.
    fn read(&mut self, path: &Path, place: &str) -> std::io::Result<u64> {
        let mut file = File::open(path)?;
        let mut buffer = vec![0; CHUNK + self.longest];
        let (mut kept, mut total) = (0, 0);
        loop {
            let read = file.read(&mut buffer[kept..])?;
            if read == 0 {
                return Ok(total);
            }
            total += read as u64;
            let filled = kept + read;
            self.look(place, &buffer[..filled]);
            kept = filled.min(self.longest);
            buffer.copy_within(filled - kept..filled, 0);
        }
    }

    fn database(&mut self, state: &StateFolder, key: &RootKey, schema: &Schema, purpose: KeyPurpose) {
        let path = state.path().join(schema.file);
        let Ok(metadata) = path.symlink_metadata() else { return };
        let looked = database::connect_with_any(&path, &key.subkeys(purpose), schema)
            .map_err(|error| error.to_string())
            .and_then(|(mut connection, _)| {
                let by_page = metadata.len() <= PAGES_UP_TO;
                let looked = if by_page {
                    self.pages(&mut connection, schema)
                } else {
                    self.values(&connection, schema)
                };
                looked.map_err(|error| error.to_string()).map(|()| by_page)
            });
        match looked {
            Ok(true) => self.search.databases += 1,
            Ok(false) => self.search.databases_by_value += 1,
            Err(error) => self.search.not_searched.push(format!("{}: {error}", schema.file)),
        }
    }

    fn pages(&mut self, connection: &mut Connection, schema: &Schema) -> rusqlite::Result<()> {
        let pages = connection.serialize("main")?;
        self.look(&format!("{}, decrypted", schema.file), &pages);
        Ok(())
    }

    fn values(&mut self, connection: &Connection, schema: &Schema) -> rusqlite::Result<()> {
        let tables: Vec<String> = connection
            .prepare("select name from sqlite_schema where type = 'table' and name not like 'sqlite_%'")?
            .query_map([], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        for table in tables {
            let place = format!("{}, table {table}", schema.file);
            // Names of tables are those of this program's own schema.
            let mut query = connection.prepare(&format!("select * from \"{table}\""))?;
            let columns = query.column_count();
            let mut rows = query.query([])?;
            while let Some(row) = rows.next()? {
                for column in 0..columns {
                    match row.get_ref(column)? {
                        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => self.look(&place, bytes),
                        ValueRef::Null | ValueRef::Integer(_) | ValueRef::Real(_) => {}
                    }
                }
            }
        }
        Ok(())
    }
}
