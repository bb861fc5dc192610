//! How a journal is opened: checked whole and this run's, or made anew beside its place.

use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Mutex;

use redb::{Builder, Database, DatabaseError, ReadableTable};

use super::error::{of_file, storage};
use super::{
    COMMIT_SECONDS, ENTRIES, FORMAT, Found, IDENTITY, Identity, Journal, JournalError, ROUNDS, RUN,
    TRANSCRIPT,
};
use crate::durable;
use crate::metrics::Histogram;

impl Journal {
    /// Opens the journal of a run, or begins it.
    ///
    /// # Errors
    /// [`JournalError`], also if it is another run's or another server has it open.
    pub(crate) fn open(path: &Path, identity: &Identity) -> Result<(Self, Found), JournalError> {
        // Of some damage the database says nothing and panics; nothing of it is used afterwards.
        let open = AssertUnwindSafe(|| Self::open_whole(path, identity));
        catch_unwind(open).unwrap_or_else(|_| {
            let what = "the database makes no sense of it";
            Err(JournalError::damaged(path, what.to_owned()))
        })
    }

    fn open_whole(path: &Path, identity: &Identity) -> Result<(Self, Found), JournalError> {
        if !path.try_exists().map_err(of_file(path))? {
            Self::make(path, identity)?;
        }
        let journal = Self::of(path, checked(path))?;
        journal.begin(identity)?;
        let found = journal.read()?;
        Ok((journal, found))
    }

    /// Makes a new journal beside its place, and puts it there once it is whole: no server could open one whose making broke off.
    fn make(path: &Path, identity: &Identity) -> Result<(), JournalError> {
        let part = path.with_added_extension("part");
        match fs::remove_file(&part) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(of_file(&part)(error));
            }
            _ => {}
        }
        let journal = Self::of(&part, Database::create(&part))?;
        // Another server's, which was faster.
        if path.try_exists().map_err(of_file(path))? {
            return Err(JournalError::Busy {
                path: path.to_owned(),
            });
        }
        journal.begin(identity)?;
        let closed = journal.database.close();
        closed.map_err(|error| storage(&part)(error.into()))?;
        fs::rename(&part, path).map_err(of_file(path))?;
        durable::sync_folder_of(path).map_err(of_file(path))
    }

    /// The journal in a database that was opened at this path.
    fn of(path: &Path, opened: Result<Database, DatabaseError>) -> Result<Self, JournalError> {
        let database = opened.map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => JournalError::Busy {
                path: path.to_owned(),
            },
            error => storage(path)(error.into()),
        })?;
        Ok(Self {
            path: path.to_owned(),
            database,
            commits: Mutex::new(Histogram::new(COMMIT_SECONDS)),
        })
    }

    /// Makes the tables, and the identity in a new journal; refuses another run's.
    fn begin(&self, identity: &Identity) -> Result<(), JournalError> {
        let value = self.json(identity)?;
        let write = || -> Result<Option<Vec<u8>>, redb::Error> {
            let transaction = self.database.begin_write()?;
            let before = {
                transaction.open_table(ROUNDS)?;
                transaction.open_table(TRANSCRIPT)?;
                transaction.open_table(ENTRIES)?;
                let mut run = transaction.open_table(RUN)?;
                let before = run.get(IDENTITY)?.map(|value| value.value().to_vec());
                if before.is_none() {
                    run.insert(IDENTITY, value.as_slice())?;
                }
                before
            };
            self.commit(transaction)?;
            Ok(before)
        };
        let Some(before) = write().map_err(storage(&self.path))? else {
            return Ok(());
        };
        let before: Identity = self.parse("identity", &before)?;
        if before == *identity {
            return Ok(());
        }
        if before.format != FORMAT {
            let what = format!(
                "its format is {}, and this version's is {FORMAT}",
                before.format
            );
            return Err(self.damaged(what));
        }
        Err(JournalError::OtherRun {
            path: self.path.clone(),
            what: if before.plan == identity.plan {
                "start adapter"
            } else {
                "plan"
            },
        })
    }
}

/// Opens the database after every page was checked: of one that was closed it would check none, and a changed digit is still JSON.
fn checked(path: &Path) -> Result<Database, DatabaseError> {
    let mut builder = Builder::new();
    builder.set_check_integrity_on_open(true);
    builder.open(path)
}
