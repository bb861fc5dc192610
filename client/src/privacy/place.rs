//! Which ledger counts what a body of data has cost, if nobody has named one.
//!
//! It follows the contents of the data and not its file's name: a renamed or copied file goes on with the budget of the first one, and
//! a file whose contents changed goes on with its own, because old records may still be in it. Looked through is the folder that the
//! file lies in; a copy in another folder is found by nobody, so a site that must be sure names the ledger in its policy.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{BudgetError, Ledger, ledger::failed, terms::digest};

/// Gives the ledger of a data file: the one beside it that knows its contents, or the one that is named after it.
///
/// # Errors
/// [`BudgetError::ManyLedgers`] if two ledgers count the same records, [`BudgetError::Ledger`] if one cannot be read.
pub fn ledger_beside(data: &Path) -> Result<PathBuf, BudgetError> {
    let own = data.with_added_extension("privacy");
    let mut found = counting(data)?;
    if own.exists() && !found.iter().any(|path| path.file_name() == own.file_name()) {
        found.push(own.clone());
        found.sort();
    }
    match found.len() {
        0 => Ok(own),
        1 => {
            let ledger = found.remove(0);
            if ledger.file_name() != own.file_name() {
                tracing::warn!(
                    data = %data.display(), ledger = %ledger.display(),
                    "these records were trained on under another name; their budget goes on"
                );
            }
            Ok(ledger)
        }
        _ => Err(BudgetError::ManyLedgers {
            data: data.to_owned(),
            ledgers: found,
        }),
    }
}

/// Gives the ledgers beside a data file that count its records too, if they are to be counted in this one.
///
/// # Errors
/// [`BudgetError::Ledger`] if one cannot be read.
pub fn others_beside(data: &Path, ledger: &Path) -> Result<Vec<PathBuf>, BudgetError> {
    // By whatever name it is called.
    let place = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut found = counting(data)?;
    found.retain(|other| place(other) != place(ledger));
    Ok(found)
}

/// The ledgers in the folder of a data file that know its contents, in order.
fn counting(data: &Path) -> Result<Vec<PathBuf>, BudgetError> {
    let contents = digest(data)?;
    let folder = data
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or_else(|| Path::new("."));
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed("look for", data))? {
        let path = entry.map_err(failed("look for", data))?.path();
        let is_ledger = path
            .extension()
            .is_some_and(|extension| extension == "privacy");
        if is_ledger
            && Ledger::read(&path)?
                .entries()
                .iter()
                .any(|entry| entry.data == contents)
        {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
