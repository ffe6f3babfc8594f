//! The system's error behind one of SQLite's: which one a read or a write of the
//! disk failed with.

use std::ffi::c_int;

use rusqlite::{Connection, ErrorCode, ffi};
use rustix::io::Errno;

/// With what the system answered the call that `error` is for, as far as SQLite
/// knows. It takes a read that fails with `EIO` for a damaged file.
#[allow(unsafe_code, reason = "rusqlite has no function of its own for these two of SQLite's")]
pub(super) fn behind(conn: &Connection, error: &rusqlite::Error) -> Option<Errno> {
    let number = match error.sqlite_error_code()? {
        ErrorCode::SystemIoFailure | ErrorCode::CannotOpen => {
            // SAFETY: the handle is that of an open connection, which a reference to it
            // keeps open, and a connection is used by one thread at a time.
            unsafe { ffi::sqlite3_system_errno(conn.handle()) }
        }
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => {
            let mut number: c_int = 0;
            // SAFETY: as above; this question writes one `int` to where it is told to, and
            // the name is a C string.
            unsafe {
                let place = (&raw mut number).cast();
                ffi::sqlite3_file_control(conn.handle(), c"main".as_ptr(), ffi::SQLITE_FCNTL_LAST_ERRNO, place);
            }
            number
        }
        _ => 0,
    };
    (number > 0).then(|| Errno::from_raw_os_error(number))
}
