//! Which databases there are, and which are wanted.

use std::ffi::CStr;

use pgrx::pg_sys;

/// A row of pg_database.
pub struct Database {
    pub oid: pg_sys::Oid,
    /// In the encoding of whoever named it.
    pub name: Vec<u8>,
    pub allows_connections: bool,
}

/// Every database. Read as the autovacuum launcher does (`get_database_list`):
/// a process that belongs to no database may scan shared catalogs, and not
/// rely on an index of them.
pub fn all() -> Vec<Database> {
    let mut found = Vec::new();
    // SAFETY: within a transaction of its own, in the worker's only thread; the
    // tuples are copied before the scan ends. An error aborts the transaction
    // with the process.
    unsafe {
        pg_sys::StartTransactionCommand();
        pg_sys::GetTransactionSnapshot();
        let lock = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
        let relation = pg_sys::table_open(pg_sys::DatabaseRelationId, lock);
        let scan = pg_sys::table_beginscan_catalog(relation, 0, std::ptr::null_mut());
        loop {
            let tuple = pg_sys::heap_getnext(scan, pg_sys::ScanDirection::ForwardScanDirection);
            if tuple.is_null() {
                break;
            }
            let row = &*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_database>();
            // One whose DROP has begun (DATCONNLIMIT_INVALID_DB).
            if row.datconnlimit == -2 {
                continue;
            }
            found.push(Database {
                oid: row.oid,
                name: CStr::from_ptr((&raw const row.datname.data).cast())
                    .to_bytes()
                    .to_vec(),
                allows_connections: row.datallowconn,
            });
        }
        pg_sys::heap_endscan(scan);
        pg_sys::table_close(relation, lock);
        pg_sys::CommitTransactionCommand();
    }
    found
}

/// Names with commas between them, in double quotes where they have commas,
/// quotes or blanks at their ends.
pub fn names(list: &[u8]) -> Vec<Vec<u8>> {
    let mut names = vec![Vec::new()];
    let mut quoted = false;
    let mut solid = 0;
    let mut bytes = list.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        let Some(name) = names.last_mut() else { break };
        match byte {
            b'"' if quoted && bytes.peek() == Some(&b'"') => {
                bytes.next();
                name.push(b'"');
                solid = name.len();
            }
            b'"' => {
                quoted = !quoted;
                solid = name.len();
            }
            b',' if !quoted => {
                name.truncate(solid);
                names.push(Vec::new());
                solid = 0;
            }
            byte if byte.is_ascii_whitespace() && !quoted => {
                if !name.is_empty() {
                    name.push(byte);
                }
            }
            byte => {
                name.push(byte);
                solid = name.len();
            }
        }
    }
    if let Some(name) = names.last_mut() {
        name.truncate(solid);
    }
    names.retain(|name| !name.is_empty());
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::names;

    #[test]
    fn a_list_of_databases_is_read() {
        let read = |list: &str| -> Vec<String> {
            let names = names(list.as_bytes());
            names
                .into_iter()
                .map(|name| String::from_utf8_lossy(&name).into_owned())
                .collect()
        };
        assert_eq!(read(""), [""; 0]);
        assert_eq!(read(" shop,Crm ,, shop "), ["Crm", "shop"]);
        assert_eq!(
            read(r#""a, b", " c", "d""e", two words "#),
            [" c", "a, b", "d\"e", "two words"]
        );
    }
}
