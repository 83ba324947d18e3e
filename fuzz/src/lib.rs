//! What the targets share: a datum is read and written in every form.
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use walferry_protocol::{
    self as protocol, Column, ColumnFlags, Encoding, Lsn, Put, RecordTag, Records, Relation,
    RelationKind, ReplicaIdentity, Start,
};
use walferry_streamer::datum::{Layout, ScalarType, Type};
use walferry_streamer::decode::RelationTable;
use walferry_streamer::decode::native::decode_records;
use walferry_streamer::decode::pgoutput::{Pgoutput, message::Message, records as kept};
use walferry_streamer::decode::wal2json::message::Kind;
use walferry_streamer::decode::wal2json::record::{Action, Record};
use walferry_streamer::decode::wal2json::{
    Chunk, Definitions, Filters, Head, Request, ServerEncoding, Wal2json, time,
};
use walferry_streamer::encode::debezium::{DebeziumJson, DebeziumOptions};
use walferry_streamer::encode::{ByteaForm, Encode, Int8Form, JsonForm, NumericForm, ValueForms};
use walferry_streamer::error::Result;
use walferry_streamer::event::{Event, Transaction, Value};
use walferry_streamer::pipeline::dispatch::Piece;
use walferry_streamer::source::catalog::{Found, TypeDescription};
use walferry_streamer::source::table_filter::TableFilter;
use walferry_streamer::transaction::Dialect;

/// The first byte chooses the type and how the server lays it out, the rest
/// is the datum: its text, the same out of an array, and its JSON.
pub fn datum(family: &[ScalarType], data: &[u8]) {
    let Some((&choice, bytes)) = data.split_first() else {
        return;
    };
    let big_endian = choice & 0x80 != 0;
    let version = if choice & 0x40 != 0 { 180_000 } else { 150_000 };
    let scalar = family[usize::from(choice & 0x3f) % family.len()];
    let layout = Layout::of_server(version, big_endian);
    if let Ok(value) = Value::read(Type::Scalar(scalar), Cow::Borrowed(bytes), layout) {
        let _ = value.write_text(&mut Vec::new());
        let _ = value.write_output(&mut Vec::new());
    }
    as_row(scalar.oid(), bytes, big_endian);
}

/// An array of any element type.
pub fn array(data: &[u8]) {
    let Some((&choice, bytes)) = data.split_first() else {
        return;
    };
    let layout = Layout::of_server(150_000, choice & 0x80 != 0);
    let kind = Type::Array(ScalarType::Int4);
    if let Ok(value) = Value::read(kind, Cow::Borrowed(bytes), layout) {
        let _ = value.write_text(&mut Vec::new());
    }
    as_row(1007, bytes, layout.big_endian);
}

/// One row of one column, raw and as text, through the whole way to JSON.
fn as_row(oid: u32, bytes: &[u8], big_endian: bool) {
    for value in [protocol::Value::Raw(bytes), protocol::Value::Text(bytes)] {
        let mut record = Vec::new();
        protocol::open_change(&mut record, RecordTag::Insert, None, Lsn(1), 0);
        record.put_u32(1);
        record.put_u16(1);
        protocol::encode_value(&mut record, value);
        protocol::close_record(&mut record);
        records(&[oid], &record, false, big_endian);
    }
}

/// Decodes records of a table with columns of these types and encodes the
/// events in both sets of forms.
pub fn records(oids: &[u32], bytes: &[u8], streamed: bool, big_endian: bool) {
    let table = RelationTable::new();
    table.insert(Relation {
        number: 1,
        oid: 1,
        schema: "s".into(),
        name: "t".into(),
        kind: RelationKind::Table,
        replica_identity: ReplicaIdentity::Full,
        identity_usable: true,
        root: None,
        fingerprint: 0,
        columns: oids.iter().map(|&oid| column(oid)).collect(),
    });
    let start = Start {
        server_version: 150_020,
        system_identifier: 1,
        database_oid: 1,
        database: "d".into(),
        server_encoding: "UTF8".into(),
        big_endian,
        streaming: true,
        two_phase: false,
        plugin_version: "0.1.0".into(),
    };
    let transaction = Transaction {
        xid: 1,
        commit_lsn: Lsn(1),
        end_lsn: Lsn(2),
        commit_time_us: 3,
        origin: None,
    };
    for values in [ValueForms::default(), OTHER_FORMS] {
        let encoder = DebeziumJson::new(&DebeziumOptions {
            values,
            ..Default::default()
        });
        let mut out = Vec::new();
        let _ = decode_records(
            Records::new(bytes, streamed),
            &table,
            &start,
            &transaction,
            true,
            &HashSet::new(),
            &mut |event: &Event<'_>| encoder.encode(event, &mut out),
        );
        assert!(std::str::from_utf8(&out).is_ok());
    }
}

/// A table that has columns of many types, or none at all.
#[derive(Debug)]
struct Tables;

impl Definitions for Tables {
    fn relation(&self, schema: &str, table: &str) -> Result<Option<Found>> {
        if table != "t" {
            return Ok(None);
        }
        let columns: Vec<Column> = ScalarType::all()
            .flat_map(|scalar| [scalar.oid(), scalar.array_oid()])
            .zip(1..)
            .map(|(oid, attnum)| Column {
                name: format!("c{attnum}"),
                attnum,
                encoding: Encoding::Text,
                ..column(oid)
            })
            .collect();
        Ok(Some(Found {
            out_of_line: columns
                .iter()
                .map(|column| column.attnum % 2 == 0)
                .collect(),
            relation: Relation {
                number: 0,
                oid: 1,
                schema: schema.into(),
                name: table.into(),
                kind: RelationKind::Table,
                replica_identity: ReplicaIdentity::Full,
                identity_usable: true,
                root: None,
                fingerprint: 0,
                columns,
            },
        }))
    }

    fn types(&self, _oids: &[u32]) -> Result<HashMap<u32, TypeDescription>> {
        Ok(HashMap::new())
    }

    fn origin_name(&self, _origin: u32) -> Result<Option<String>> {
        Ok(None)
    }
}

/// A message of wal2json. `choice`: the format-version, the encoding, and
/// whether a transaction is open.
pub fn wal2json(message: &[u8], choice: u8) {
    let one = choice & 1 != 0;
    let further = [(
        "format-version".to_owned(),
        if one { "1" } else { "2" }.to_owned(),
    )];
    let request = Request::new(&TableFilter::default(), &further).expect("options");
    let encoding = ["UTF8", "LATIN1"][usize::from(choice >> 1 & 1)];
    let encoding = ServerEncoding::from_name(encoding).expect("an encoding that is read");
    let reader = Wal2json::new(&request, encoding, Filters::default(), Arc::new(Tables));
    let message = &*encoding.to_utf8(message);
    let (action, rest, transactional) = if one {
        match Chunk::read(message, choice & 4 != 0) {
            Ok(Chunk::Change { action, rest }) => (action, rest, true),
            Ok(Chunk::Message { rest }) => (Action::Message, rest, false),
            Ok(Chunk::Begin(begin)) => {
                let _ = begin.timestamp.map(|text| time::read(text.bytes));
                return;
            }
            _ => return,
        }
    } else {
        match Head::read(message) {
            Ok(Head {
                kind: Kind::Change(action),
                rest,
                transactional,
                ..
            }) => (action, rest, transactional),
            _ => return,
        }
    };
    let mut records = Vec::new();
    Record {
        action,
        lsn: Lsn(1),
        index: 0,
        message,
        rest,
    }
    .push(&mut records);
    let transaction = Transaction::of_message(Lsn(2));
    for values in [ValueForms::default(), OTHER_FORMS] {
        let encoder = DebeziumJson::new(&DebeziumOptions {
            values,
            ..Default::default()
        });
        let mut out = Vec::new();
        let _ = reader.decode_records(&records, &transaction, transactional, &mut |event| {
            encoder.encode(event, &mut out)
        });
        assert!(std::str::from_utf8(&out).is_ok());
    }
}

const OTHER_FORMS: ValueForms = ValueForms {
    int8: Int8Form::String,
    numeric: NumericForm::Number,
    json: JsonForm::String,
    bytea: ByteaForm::Hex,
};

fn column(oid: u32) -> Column {
    Column {
        name: "c".into(),
        attnum: 1,
        type_oid: oid,
        type_schema: "pg_catalog".into(),
        type_name: "t".into(),
        typmod: -1,
        base_type_oid: oid,
        encoding: Encoding::Raw(Type::from_oid(oid).storage()),
        flags: ColumnFlags(0),
    }
}

/// A message of pgoutput, on its own and as a record kept for the workers, of
/// a table with columns of all kinds.
pub fn pgoutput(bytes: &[u8], streamed: bool) {
    let _ = Message::decode(bytes, streamed);
    let dialect = Pgoutput::new(170_000);
    dialect.relations.insert(Relation {
        number: 1,
        oid: 1,
        schema: "s".into(),
        name: "t".into(),
        kind: RelationKind::Table,
        replica_identity: ReplicaIdentity::Default,
        identity_usable: true,
        root: None,
        fingerprint: 0,
        columns: [23, 25, 1700, 3802, 1007, 1009, 1231, 1184, 600]
            .map(column)
            .into(),
    });
    let mut records = Vec::new();
    kept::append(&mut records, Lsn(1), 0, bytes, 0, &[]);
    for records in [records, bytes.to_vec()] {
        let piece = Piece {
            dialect: Arc::new(Dialect::Pgoutput(Pgoutput::new(170_000))),
            transaction: Arc::new(Transaction::of_message(Lsn(2))),
            records: records.into(),
            streamed,
            transactional: true,
            aborted: Arc::default(),
            ends: true,
        };
        let encoder = DebeziumJson::new(&DebeziumOptions::default());
        let mut out = Vec::new();
        let _ = dialect.decode(&piece, &mut |event| encoder.encode(event, &mut out));
        assert!(std::str::from_utf8(&out).is_ok());
    }
}
