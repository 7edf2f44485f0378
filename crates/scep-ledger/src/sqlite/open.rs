//! The file, its lock, and the settings that must be in force on every connection.

use super::{engine, schema};
use crate::LedgerError;
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags};
use scep_types::{LedgerId, Timestamp};
use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

/// Setting, value to set, value read back. WAL with FULL syncs the log at every commit; FULLFSYNC makes that sync
/// reach the medium where the system distinguishes (macOS), and is read back as set elsewhere too.
const SETTINGS: &[(&str, &str, &str)] = &[
    ("journal_mode", "WAL", "wal"),
    ("synchronous", "FULL", "2"),
    ("fullfsync", "ON", "1"),
    ("checkpoint_fullfsync", "ON", "1"),
    ("foreign_keys", "ON", "1"),
    ("trusted_schema", "OFF", "0"),
    ("busy_timeout", "5000", "5000"),
];

/// Holds the ledger for this process.
#[derive(Debug)]
pub(super) struct ProcessLock {
    _file: File,
}

pub(super) struct Opened {
    pub(super) path: PathBuf,
    pub(super) lock: ProcessLock,
    pub(super) writer: Connection,
    pub(super) id: LedgerId,
    pub(super) high_water: Timestamp,
}

fn file(action: &'static str, path: &Path) -> impl Fn(std::io::Error) -> LedgerError {
    move |error| LedgerError::File { action, path: path.to_path_buf(), kind: error.kind() }
}

#[cfg(unix)]
fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    use std::os::unix::fs::OpenOptionsExt as _;
    options.mode(0o600)
}

#[cfg(not(unix))]
fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    options
}

#[cfg(unix)]
fn check_mode(opened: &File, path: &Path) -> Result<(), LedgerError> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = opened.metadata().map_err(file("examine", path))?.permissions().mode() & 0o777;
    if mode & 0o077 == 0 {
        Ok(())
    } else {
        Err(LedgerError::FileMode { path: path.to_path_buf(), mode })
    }
}

#[cfg(not(unix))]
fn check_mode(_opened: &File, _path: &Path) -> Result<(), LedgerError> {
    Ok(())
}

/// Opens or makes a file that nobody else can read, and gives the path that its name stands for, so that two names
/// of one ledger have one lock.
fn private_file(path: &Path) -> Result<(File, PathBuf), LedgerError> {
    let opened = private(OpenOptions::new().read(true).write(true).create(true).truncate(false))
        .open(path)
        .map_err(file("open", path))?;
    check_mode(&opened, path)?;
    let real = path.canonicalize().map_err(file("find", path))?;
    Ok((opened, real))
}

pub(super) fn open(path: &Path) -> Result<Opened, LedgerError> {
    let (made, real) = private_file(path)?;
    // A new file's name must survive a power failure as its contents do.
    made.sync_all().map_err(file("sync", &real))?;
    if let Some(directory) = real.parent() {
        File::open(directory)
            .and_then(|directory| directory.sync_all())
            .map_err(file("sync", directory))?;
    }
    // Closed before SQLite opens it: on Unix, closing any descriptor of a file drops the process's locks on it.
    drop(made);

    let mut name = real.clone().into_os_string();
    name.push(".lock");
    let (lock, lock_path) = private_file(Path::new(&name))?;
    lock.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => LedgerError::InUse { path: real.clone() },
        TryLockError::Error(error) => file("lock", &lock_path)(error),
    })?;
    let lock = ProcessLock { _file: lock };

    let mut writer = bare(&real)?;
    let application: i64 = writer
        .pragma_query_value(None, "application_id", |row| row.get(0))
        .map_err(|error| not_a_ledger(&real, error))?;
    let tables: i64 = writer
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(|error| not_a_ledger(&real, error))?;
    if application != schema::APPLICATION_ID && (application != 0 || tables != 0) {
        return Err(LedgerError::NotALedger { path: real });
    }
    let found = schema::version(&writer)?;
    if found > schema::known() {
        return Err(LedgerError::SchemaNewer { found, known: schema::known() });
    }
    configure(&writer)?;
    schema::migrate(&mut writer, found)?;
    let (id, high_water) = writer
        .query_row("SELECT ledger_id, high_water FROM ledger", [], |row| {
            Ok((row.get::<_, [u8; 16]>(0)?, row.get(1)?))
        })
        .map_err(engine("read its id"))?;
    Ok(Opened {
        path: real,
        lock,
        writer,
        id: LedgerId::from_bytes(id),
        high_water: Timestamp::from_seconds(high_water),
    })
}

/// A connection for reading, with everything in force.
pub(super) fn open_reader(path: &Path) -> Result<Connection, LedgerError> {
    let reader = bare(path)?;
    configure(&reader)?;
    reader.pragma_update(None, "query_only", "ON").map_err(engine("open a reader"))?;
    Ok(reader)
}

fn bare(path: &Path) -> Result<Connection, LedgerError> {
    // No URI: the file's name is a name. No mutex: each connection belongs to one thread.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags).map_err(engine("open its file"))?;
    conn.set_prepared_statement_cache_capacity(64);
    Ok(conn)
}

fn not_a_ledger(path: &Path, error: rusqlite::Error) -> LedgerError {
    if error.sqlite_error_code() == Some(rusqlite::ErrorCode::NotADatabase) {
        LedgerError::NotALedger { path: path.to_path_buf() }
    } else {
        engine("read its file")(error)
    }
}

fn configure(conn: &Connection) -> Result<(), LedgerError> {
    for (setting, value, _) in SETTINGS {
        // Some settings answer with a row; it is read back below.
        conn.pragma(None, setting, value, |_| Ok(())).map_err(engine("set its settings"))?;
    }
    read_back(conn)
}

/// What was set may be refused silently: what counts is what is in force.
fn read_back(conn: &Connection) -> Result<(), LedgerError> {
    for (setting, _, wanted) in SETTINGS {
        let got = conn
            .pragma_query_value(None, setting, |row| row.get::<_, Value>(0))
            .map_err(engine("read its settings back"))?;
        let got = match got {
            Value::Integer(number) => number.to_string(),
            Value::Text(text) => text,
            Value::Null | Value::Real(_) | Value::Blob(_) => String::from("something else"),
        };
        if got != *wanted {
            return Err(LedgerError::Setting { setting, wanted, got });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_that_is_not_in_force_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let opened = open(&folder.path().join("ledger")).unwrap();
        read_back(&opened.writer).unwrap();
        for (setting, bad, wanted, got) in [
            ("synchronous", "NORMAL", "2", "1"),
            ("foreign_keys", "OFF", "1", "0"),
            ("busy_timeout", "0", "5000", "0"),
            ("journal_mode", "DELETE", "wal", "delete"),
        ] {
            opened.writer.pragma(None, setting, bad, |_| Ok(())).unwrap();
            let error = LedgerError::Setting { setting, wanted, got: got.to_owned() };
            assert_eq!(read_back(&opened.writer), Err(error));
            configure(&opened.writer).unwrap();
        }
        // A database that cannot have a log is refused, whatever was asked of it.
        let memory = Connection::open_in_memory().unwrap();
        let error = LedgerError::Setting {
            setting: "journal_mode",
            wanted: "wal",
            got: String::from("memory"),
        };
        assert_eq!(configure(&memory), Err(error));
    }
}
