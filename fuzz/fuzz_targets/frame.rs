//! A whole CopyData message: header, context, definitions, records, values.
#![no_main]

use libfuzzer_sys::fuzz_target;
use walferry_protocol::{Change, Column, Frame, OldRow, Row};

fn step_over(row: &Row<'_>, columns: &[Column]) {
    for value in row.values(columns, false) {
        if value.is_err() {
            break;
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let Ok(frame) = Frame::decode(data) else {
        return;
    };
    let mut columns = Vec::new();
    for definition in frame.definitions() {
        // What was read can be written and read again as the same.
        if let Ok(definition) = definition {
            let mut bytes = Vec::new();
            definition.encode(&mut bytes);
            let again =
                walferry_protocol::Relation::decode(&mut walferry_protocol::Cursor::new(&bytes));
            assert_eq!(again.as_ref(), Ok(&definition));
            columns = definition.columns;
        }
    }
    for record in frame.records().flatten() {
        match record.change {
            Change::Insert { new, .. } => step_over(&new, &columns),
            Change::Update { old, new, .. } => {
                if let OldRow::Key(row) | OldRow::Full(row) = old {
                    step_over(&row, &columns);
                }
                step_over(&new, &columns);
            }
            Change::Delete {
                old: OldRow::Key(row) | OldRow::Full(row),
                ..
            } => step_over(&row, &columns),
            _ => {}
        }
    }
});
