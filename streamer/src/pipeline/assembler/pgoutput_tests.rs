use super::super::testing::{self, keepalive};
use super::super::{End, Output, Received};
use super::*;
use crate::source::conninfo::Conninfo;

/// A message, from big-endian fields.
#[derive(Clone, Default)]
struct Encoded(Vec<u8>);

impl Encoded {
    fn tag(tag: u8) -> Self {
        Encoded(vec![tag])
    }
    fn u8(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }
    fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }
    fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }
    fn string(mut self, text: &str) -> Self {
        self.0.extend(text.as_bytes());
        self.0.push(0);
        self
    }
    fn at(self, start: u64) -> Received {
        Received::Frame {
            start: Lsn(start),
            bytes: Bytes::from(self.0),
        }
    }
}

fn begin(xid: u32, commit_lsn: u64) -> Received {
    Encoded::tag(b'B').u64(commit_lsn).u64(0).u32(xid).at(0)
}

fn commit(end_lsn: u64) -> Received {
    Encoded::tag(b'C')
        .u8(0)
        .u64(end_lsn - 1)
        .u64(end_lsn)
        .u64(0)
        .at(end_lsn)
}

/// A logical message: the change that needs no relation. `xid`: in a streamed
/// block.
fn logical(xid: Option<u32>, transactional: bool, lsn: u64, prefix: &str) -> Received {
    let message = Encoded::tag(b'M');
    let message = match xid {
        Some(xid) => message.u32(xid),
        None => message,
    };
    message
        .u8(transactional.into())
        .u64(lsn)
        .string(prefix)
        .u32(1)
        .u8(b'c')
        .at(lsn)
}

fn change(lsn: u64) -> Received {
    logical(None, true, lsn, "p")
}

fn stream_start(xid: u32) -> Received {
    Encoded::tag(b'S').u32(xid).u8(1).at(0)
}

fn stream_stop() -> Received {
    Encoded::tag(b'E').at(0)
}

fn stream_abort(xid: u32, subxid: u32) -> Received {
    Encoded::tag(b'A').u32(xid).u32(subxid).at(0)
}

fn stream_commit(xid: u32, end_lsn: u64) -> Received {
    Encoded::tag(b'c')
        .u32(xid)
        .u8(0)
        .u64(end_lsn - 1)
        .u64(end_lsn)
        .u64(0)
        .at(0)
}

fn assemble(delivered: u64, until: Option<u64>, received: Vec<Received>) -> (Vec<String>, End) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let _inside = runtime.enter();
    // Nothing here needs the catalog.
    let conninfo = Conninfo::parse_with(Some("host=/nowhere user=u"), &Default::default());
    let setting = Setting {
        server_version: 150_000,
        catalog: Catalog::new(conninfo.expect("a conninfo")),
        tables: TableFilter::default(),
        prefixes: PrefixFilter::parse("p*").expect("a pattern"),
    };
    testing::assemble(
        Output::Pgoutput(Box::new(setting)),
        delivered,
        until,
        received,
    )
}

#[test]
fn what_was_delivered_is_skipped_by_its_end_lsn_alone() {
    let received = vec![
        begin(1, 49),
        change(10),
        commit(50),
        begin(2, 50),
        change(50),
        commit(51),
        logical(None, false, 50, "p"),
        logical(None, false, 52, "p"),
    ];
    assert_eq!(
        assemble(50, None, received),
        (vec!["51.".to_owned(), "52.".to_owned()], End::InputClosed)
    );
}

#[test]
fn a_keepalive_inside_a_transaction_is_no_position_and_in_a_streamed_one_it_is() {
    let received = vec![
        keepalive(10),
        begin(1, 49),
        keepalive(45),
        commit(50),
        stream_start(2),
        keepalive(60),
        stream_stop(),
        keepalive(70),
    ];
    assert_eq!(assemble(0, None, received).0, ["=10", "50.", "=60", "=70"]);
}

#[test]
fn the_end_asked_for_is_exact() {
    let received = || {
        vec![
            begin(1, 49),
            change(1),
            commit(50),
            begin(2, 59),
            commit(60),
        ]
    };
    let reached = |until| assemble(0, Some(until), received());
    assert_eq!(reached(49), (vec![], End::ReachedUntil));
    assert_eq!(reached(50), (vec!["50.".to_owned()], End::ReachedUntil));
    assert_eq!(reached(59), (vec!["50.".to_owned()], End::ReachedUntil));
    assert_eq!(reached(61).1, End::InputClosed);
    // The commit record begins before the end, and ends past it.
    let across = vec![begin(1, 55), change(1), commit(60)];
    assert_eq!(assemble(0, Some(57), across), (vec![], End::ReachedUntil));
}

#[test]
fn streamed_blocks_are_given_out_at_their_commit_and_not_after_an_abort() {
    let received = vec![
        stream_start(9),
        logical(Some(9), true, 5, "p"),
        stream_stop(),
        stream_start(11),
        logical(Some(11), true, 6, "p"),
        stream_stop(),
        begin(12, 29),
        change(7),
        commit(30),
        stream_start(9),
        logical(Some(10), true, 8, "p"),
        stream_stop(),
        stream_abort(9, 10),
        stream_abort(11, 11),
        stream_commit(9, 50),
    ];
    assert_eq!(assemble(0, None, received).0, ["30.", "50-", "50-", "=50"]);
}

#[test]
fn a_prefix_that_is_not_wanted_is_left_out_of_every_kind_of_transaction() {
    let received = vec![
        logical(None, false, 40, "q"),
        stream_start(9),
        logical(Some(9), true, 5, "q"),
        stream_stop(),
        stream_commit(9, 50),
    ];
    assert_eq!(assemble(0, None, received).0, ["=50"]);
}

#[test]
fn a_message_that_does_not_fit_stops_the_stream_at_its_place() {
    let cut = |received: Received, at: usize| match received {
        Received::Frame { start, bytes } => Received::Frame {
            start,
            bytes: bytes.slice(..at),
        },
        other => other,
    };
    let row = || Encoded::tag(b'I').u32(77).u8(b'N').u8(0).u8(0);
    let bad = [
        vec![Encoded::default().at(0)],
        vec![Encoded::tag(b'?').at(0)],
        vec![cut(begin(1, 60), 5)],
        vec![Encoded(vec![b'E', 0]).at(0)],
        vec![commit(60)],
        vec![change(60)],
        vec![stream_stop()],
        vec![stream_commit(9, 60)],
        vec![begin(1, 59), begin(2, 60)],
        vec![begin(1, 59), stream_start(9)],
        vec![begin(1, 59), row().at(9)],
        vec![begin(1, 59), change(0)],
        vec![begin(1, 59), logical(None, false, 9, "p")],
        vec![stream_start(9), stream_start(10)],
        vec![stream_start(9), commit(60)],
    ];
    for bad in bad {
        let shown = format!("{bad:?}");
        let mut received = vec![begin(7, 49), change(1), commit(50)];
        received.extend(bad);
        received.extend([begin(8, 69), commit(70)]);
        let (given, end) = assemble(0, None, received);
        assert_eq!(end, End::Stopped, "{shown}");
        assert_eq!(given.len(), 2, "{shown}: {given:?}");
        assert_eq!(given[0], "50.", "{shown}");
        assert!(given[1].contains("not its protocol"), "{shown}: {given:?}");
    }
}

#[test]
fn a_transaction_cut_off_by_the_end_of_the_connection_never_becomes_whole() {
    let received = vec![begin(1, 49), change(1)];
    assert_eq!(assemble(0, None, received).0, Vec::<String>::new());
}
