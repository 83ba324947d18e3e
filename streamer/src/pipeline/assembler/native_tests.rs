use walferry_protocol::{
    Flags, RecordTag, Start, StreamAbort, Streamed as StreamedContext, close_record, encode_frame,
    encode_message, open_change,
};

use super::super::testing::{self, SYSTEM, keepalive};
use super::super::{End, Output, Received};
use super::*;
use crate::source::replication::ends_at_or_past;

const FIRST: u16 = Flags::FIRST;
const LAST: u16 = Flags::LAST;

fn frame(context: &Context, flags: u16, records: &[u8]) -> Received {
    Received::Frame {
        start: Lsn(0),
        bytes: Bytes::from(encode_frame(context, Flags(flags), &[], records)),
    }
}

fn start(system_identifier: u64) -> Received {
    let start = Start {
        server_version: 150_000,
        system_identifier,
        database_oid: 5,
        database: "d".into(),
        server_encoding: "UTF8".into(),
        big_endian: false,
        streaming: true,
        two_phase: false,
        plugin_version: "0.1.0".into(),
    };
    frame(&Context::Start(start), 0, &[])
}

fn transaction_at(end_lsn: u64) -> protocol::Transaction {
    protocol::Transaction {
        xid: 9,
        commit_lsn: Lsn(end_lsn - 1),
        end_lsn: Lsn(end_lsn),
        commit_time: 0,
        origin: None,
    }
}

fn commit(end_lsn: u64, flags: u16) -> Received {
    frame(
        &Context::Transaction(transaction_at(end_lsn)),
        flags,
        &record(None),
    )
}

fn record(xid: Option<u32>) -> Vec<u8> {
    let mut record = Vec::new();
    open_change(&mut record, RecordTag::Message, xid, Lsn(1), 0);
    let message = protocol::Message {
        prefix: "p",
        content: b"c",
    };
    encode_message(&mut record, message);
    close_record(&mut record);
    record
}

fn assemble(delivered: u64, until: Option<u64>, received: Vec<Received>) -> (Vec<String>, End) {
    testing::assemble(Output::Native, delivered, until, received)
}

#[test]
fn what_was_delivered_is_skipped_by_its_end_lsn_alone() {
    let received = vec![
        start(SYSTEM),
        commit(50, FIRST),
        commit(50, LAST),
        commit(51, FIRST | LAST),
        frame(
            &Context::Message { end_lsn: Lsn(52) },
            FIRST | LAST,
            &record(None),
        ),
    ];
    let (given, end) = assemble(50, None, received);
    assert_eq!(
        (given, end),
        (vec!["51.".to_owned(), "52.".to_owned()], End::InputClosed)
    );
}

#[test]
fn a_keepalive_inside_a_transaction_is_no_position() {
    let received = vec![
        start(SYSTEM),
        keepalive(10),
        commit(50, FIRST),
        keepalive(45),
        commit(50, LAST),
        keepalive(60),
    ];
    assert_eq!(assemble(0, None, received).0, ["=10", "50", "50.", "=60"]);
}

#[test]
fn the_end_asked_for_is_exact() {
    let received = || {
        vec![
            start(SYSTEM),
            commit(50, FIRST | LAST),
            commit(60, FIRST | LAST),
        ]
    };
    let reached = |until| assemble(0, Some(until), received());
    assert_eq!(reached(49), (vec![], End::ReachedUntil));
    assert_eq!(reached(50), (vec!["50.".to_owned()], End::ReachedUntil));
    assert_eq!(reached(59), (vec!["50.".to_owned()], End::ReachedUntil));
    assert_eq!(reached(61).1, End::InputClosed);
    let idle = vec![start(SYSTEM), keepalive(70)];
    assert_eq!(
        assemble(0, Some(65), idle),
        (vec!["=65".to_owned()], End::ReachedUntil)
    );
    // The same place, written before and after a page's header.
    assert!(ends_at_or_past(Lsn(8192), Lsn(8192 + 24)));
    assert!(!ends_at_or_past(Lsn(8192), Lsn(8192 + 41)));
    assert!(!ends_at_or_past(Lsn(8191), Lsn(8192)));
}

#[test]
fn streamed_pieces_are_given_out_at_their_commit_and_not_after_an_abort() {
    let piece = |xid, flags| {
        frame(
            &Context::Streamed(StreamedContext { xid }),
            flags,
            &record(Some(xid)),
        )
    };
    let abort = |xid, subxid| {
        let abort_lsn = Lsn(1);
        frame(
            &Context::StreamAbort(StreamAbort {
                xid,
                subxid,
                abort_lsn,
            }),
            0,
            &[],
        )
    };
    let received = vec![
        start(SYSTEM),
        piece(9, FIRST),
        piece(11, FIRST),
        commit(30, FIRST | LAST),
        piece(9, 0),
        abort(9, 10),
        abort(11, 11),
        frame(&Context::StreamCommit(transaction_at(50)), 0, &[]),
    ];
    assert_eq!(assemble(0, None, received).0, ["30.", "50-", "50-", "=50"]);
}

#[test]
fn a_frame_that_does_not_fit_stops_the_stream_at_its_place() {
    let cut = |received: Received, at: usize| match received {
        Received::Frame { start, bytes } => Received::Frame {
            start,
            bytes: bytes.slice(..at),
        },
        other => other,
    };
    let bad = [
        cut(commit(60, FIRST | LAST), 20),
        cut(commit(60, FIRST | LAST), 3),
        commit(60, LAST),
        start(SYSTEM),
        frame(&Context::StreamCommit(transaction_at(60)), 0, &[]),
        commit(60, FIRST | LAST | Flags::CONTINUED),
    ];
    for bad in bad {
        let received = vec![
            start(SYSTEM),
            commit(50, FIRST | LAST),
            bad,
            commit(70, FIRST | LAST),
        ];
        let (given, end) = assemble(0, None, received);
        assert_eq!(end, End::Stopped);
        assert_eq!(given.len(), 2, "{given:?}");
        assert_eq!(given[0], "50.");
        assert!(given[1].contains("not the native format"), "{given:?}");
    }
    let (given, _) = assemble(0, None, vec![commit(50, FIRST | LAST)]);
    assert!(given[0].contains("before the start frame"), "{given:?}");
    let (given, _) = assemble(0, None, vec![start(SYSTEM + 1)]);
    assert!(given[0].contains("another server"), "{given:?}");
}

#[test]
fn a_transaction_cut_off_by_the_end_of_the_connection_never_becomes_whole() {
    let received = vec![start(SYSTEM), commit(50, FIRST), commit(50, 0)];
    assert_eq!(assemble(0, None, received).0, ["50", "50"]);
}
