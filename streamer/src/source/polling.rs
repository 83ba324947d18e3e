//! Reading a slot by SQL, for servers that refuse replication connections:
//! `pg_logical_slot_peek_binary_changes`, which leaves the slot where it is,
//! and `pg_replication_slot_advance` to what is durable.
//!
//! A peek gives whole transactions: everything whose commit record begins in a
//! window of WAL. What a window holds is delivered and made durable before the
//! slot is advanced to its end and the next is peeked at, so that nothing comes
//! twice and nothing is passed by. A window's end is never after the end of WAL
//! as it was before the peek: a commit that the peek was too early for lies
//! past it.

use std::time::Duration;

use bytes::Buf;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use walferry_protocol::Lsn;

use super::connection::{CancelOnDrop, Connection, malformed, quote_literal};
use super::replication::ServerMessage;
use super::report::{self, Doing};
use crate::error::{Failure, Result};

/// Bytes of WAL that one peek decodes. It bounds what the server gathers for
/// an answer (in memory up to `work_mem`, then in a temporary file). A window
/// without a whole transaction in it is doubled, up to the end of WAL: each
/// peek decodes a long transaction from its beginning.
const WINDOW: u64 = 64 << 20;

/// Messages between the connection and the assembler.
const QUEUE: usize = 16;

/// How a slot is polled.
#[derive(Clone, Debug)]
pub struct Polling {
    pub slot: String,
    /// Of the output plugin.
    pub options: Vec<(String, String)>,
    /// The pause after everything was read.
    pub interval: Duration,
    /// A peek ends with the transaction that makes it this many rows.
    pub rows: Option<u32>,
    /// Where the slot stands.
    pub confirmed: Lsn,
}

/// The receiving half.
pub struct PollReader {
    messages: mpsc::Receiver<Result<ServerMessage>>,
    task: JoinHandle<()>,
}

/// The half that says how far delivery is.
pub struct PollWriter {
    wishes: watch::Sender<Wishes>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Wishes {
    /// The slot may forget what is before.
    acknowledged: Lsn,
    finish: bool,
}

/// Starts to poll on an ordinary connection.
///
/// # Errors
/// What the server or the output plugin refuses, with the connection.
pub async fn start_polling(
    mut connection: Connection,
    polling: Polling,
) -> Result<(PollReader, PollWriter), (Failure, Option<Box<Connection>>)> {
    if let Err(failure) = begin(&mut connection, &polling).await {
        return Err((failure, Some(Box::new(connection))));
    }
    let (outbox, messages) = mpsc::channel(QUEUE);
    let (wishes, inbox) = watch::channel(Wishes::default());
    let poller = Poller {
        connection,
        advanced: polling.confirmed,
        window: WINDOW,
        rows: polling.rows,
        polling,
        outbox: outbox.clone(),
        wishes: inbox,
    };
    let task = tokio::spawn(async move {
        if let Err(failure) = poller.run().await {
            // Nobody may be listening any more.
            let _ = outbox.send(Err(failure)).await;
        }
    });
    Ok((PollReader { messages, task }, PollWriter { wishes }))
}

/// Decoding takes as long as it takes, and a quiet database is no mistake, so
/// no time-outs. A peek at nothing shows whether the plugin takes its options.
async fn begin(connection: &mut Connection, polling: &Polling) -> Result<()> {
    connection
        .simple_query("SET statement_timeout = 0; SET idle_session_timeout = 0")
        .await?;
    let doing = Doing::ReadingSlot {
        slot: &polling.slot,
    };
    let command = peek_command(polling, polling.confirmed, Some(1));
    connection.begin_rows(&command).await?;
    while connection.next_row(&doing).await?.is_some() {}
    Ok(())
}

fn peek_command(polling: &Polling, end: Lsn, rows: Option<u32>) -> String {
    let options: String = polling
        .options
        .iter()
        .map(|(name, value)| format!(", {}, {}", quote_literal(name), quote_literal(value)))
        .collect();
    let rows = rows.map_or("NULL".to_owned(), |rows| rows.to_string());
    format!(
        "SELECT lsn, data FROM pg_catalog.pg_logical_slot_peek_binary_changes({}, '{end}', {rows}{options})",
        quote_literal(&polling.slot)
    )
}

impl PollReader {
    /// See [`super::changes::ChangeReader::next`].
    pub async fn next(&mut self) -> Result<Option<ServerMessage>> {
        self.messages.recv().await.transpose()
    }
}

impl Drop for PollReader {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl PollWriter {
    pub fn acknowledge(&self, flushed: Lsn) {
        self.wishes.send_modify(|wishes| {
            wishes.acknowledged = wishes.acknowledged.max(flushed);
        });
    }

    pub fn finish(&self) {
        self.wishes.send_modify(|wishes| wishes.finish = true);
    }
}

struct Poller {
    connection: Connection,
    polling: Polling,
    /// The furthest that we know the slot to be.
    advanced: Lsn,
    /// Bytes of WAL of the next peek.
    window: u64,
    /// Rows of the next peek.
    rows: Option<u32>,
    outbox: mpsc::Sender<Result<ServerMessage>>,
    wishes: watch::Receiver<Wishes>,
}

/// What a peek gave.
struct Peeked {
    rows: u64,
    /// The position of the last row.
    last: Lsn,
}

/// What ends a poller without a failure.
enum Step {
    GoOn,
    Finish,
}

impl Poller {
    async fn run(mut self) -> Result<()> {
        // Everything whose commit begins before this was given out.
        let mut complete = Lsn::INVALID;
        loop {
            let (wal_end, confirmed) = self.look().await?;
            let wishes = *self.wishes.borrow();
            let confirmed = self.advance(confirmed, wishes.acknowledged).await?;
            if wishes.finish {
                return Ok(());
            }
            complete = complete.max(confirmed);
            if wal_end > complete {
                let end = wal_end.min(Lsn(complete.0.saturating_add(self.window)));
                let Some(peeked) = self.peek(end, wal_end).await? else {
                    continue;
                };
                let cut = self.rows.is_some_and(|most| peeked.rows >= most.into());
                // A cut peek ends with a commit, and all before it were given.
                let reached = if cut {
                    peeked.last
                } else {
                    end.max(peeked.last)
                };
                complete = complete.max(reached);
                self.size_next(&peeked, cut, reached > confirmed);
                let told = self
                    .give(ServerMessage::Keepalive {
                        wal_end: reached,
                        server_time_us: 0,
                        reply_requested: true,
                    })
                    .await;
                if let Step::Finish = told {
                    continue;
                }
                self.durable(reached).await;
                if reached < wal_end {
                    continue;
                }
            } else {
                // Nothing new; whoever waits for an end hears of it.
                let _ = self
                    .give(ServerMessage::Keepalive {
                        wal_end: complete,
                        server_time_us: 0,
                        reply_requested: false,
                    })
                    .await;
            }
            self.pause().await;
        }
    }

    /// Where the server's WAL ends and where the slot stands.
    async fn look(&mut self) -> Result<(Lsn, Lsn)> {
        let sql = format!(
            "SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn() \
             ELSE pg_catalog.pg_current_wal_flush_lsn() END AS wal_end, \
             (SELECT confirmed_flush_lsn FROM pg_catalog.pg_replication_slots WHERE slot_name = {}) AS confirmed",
            quote_literal(&self.polling.slot)
        );
        let rows = self.connection.simple_query(&sql).await?;
        let row = rows.first().ok_or_else(|| malformed("answer"))?;
        let wal_end = row
            .parse("wal_end")
            .ok_or_else(|| malformed("end of WAL"))?;
        let slot = &self.polling.slot;
        let Some(confirmed) = row.parse("confirmed") else {
            return Err(
                Failure::definite(format!("replication slot \"{slot}\" does not exist"))
                    .sqlstate("42704")
                    .hint(report::missing_slot(slot)),
            );
        };
        let ours = self.advanced.max(self.wishes.borrow().acknowledged);
        if confirmed > ours {
            return Err(Failure::definite(format!(
                "slot \"{slot}\" was moved by somebody else: changes may be missing"
            ))
            .detail(format!(
                "its confirmed_flush_lsn is {confirmed}, and this run advanced it to {ours}"
            ))
            .hint("find out who reads or advances it, or whether it was made anew; start again to see what can be done"));
        }
        Ok((wal_end, confirmed))
    }

    /// Moves the slot to what is durable.
    async fn advance(&mut self, confirmed: Lsn, acknowledged: Lsn) -> Result<Lsn> {
        if acknowledged <= confirmed {
            return Ok(confirmed);
        }
        let slot = &self.polling.slot;
        let sql = format!(
            "SELECT pg_catalog.pg_replication_slot_advance({}, '{acknowledged}')",
            quote_literal(slot)
        );
        self.connection
            .run(&sql, &Doing::ReadingSlot { slot })
            .await?;
        self.advanced = self.advanced.max(acknowledged);
        Ok(acknowledged)
    }

    /// Gives out every transaction whose commit record begins before `end`.
    /// `None`: asked to finish meanwhile, so that some of it was perhaps not
    /// given out.
    async fn peek(&mut self, end: Lsn, wal_end: Lsn) -> Result<Option<Peeked>> {
        let sql = peek_command(&self.polling, end, self.rows);
        let guard = CancelOnDrop::new(self.connection.cancel_token());
        let slot = self.polling.slot.clone();
        self.connection.begin_rows(&sql).await?;
        let mut peeked = Peeked {
            rows: 0,
            last: Lsn::INVALID,
        };
        let mut step = self.give(ServerMessage::NewStart).await;
        let doing = Doing::ReadingSlot { slot: &slot };
        loop {
            let row = match step {
                Step::GoOn => tokio::select! {
                    row = self.connection.next_row(&doing) => Some(row),
                    () = asked_to_finish(&mut self.wishes) => None,
                },
                // A row may have been left behind: there is no saying that
                // everything before `end` was given out.
                Step::Finish => None,
            };
            let Some(row) = row else {
                self.abandon(guard).await;
                return Ok(None);
            };
            let Some(mut row) = row? else {
                guard.ended();
                return Ok(Some(peeked));
            };
            // Two columns, each after its length: pg_lsn and bytea, binary.
            if row.len() < 2 + 4 + 8 + 4 {
                return Err(malformed("row of changes"));
            }
            row.advance(2 + 4);
            let start = Lsn(row.get_u64());
            row.advance(4);
            peeked.rows += 1;
            peeked.last = peeked.last.max(start);
            step = self
                .give(ServerMessage::XLogData {
                    start,
                    wal_end,
                    server_time_us: 0,
                    data: row,
                })
                .await;
        }
    }

    /// The server stops decoding, and what it has left is read to its end.
    async fn abandon(&mut self, guard: CancelOnDrop) {
        drop(guard);
        loop {
            match self.connection.next_row(&Doing::Query).await {
                Ok(Some(_)) => {}
                Err(_) => return,
                Ok(None) => break,
            }
        }
        // Everything was sent before the request got there: something has to
        // take it, or it hits the statement that advances the slot.
        let _ = self
            .connection
            .simple_query("SELECT pg_catalog.pg_sleep(1)")
            .await;
    }

    /// What the next peek asks for: more, where this one got nowhere.
    fn size_next(&mut self, peeked: &Peeked, cut: bool, moved: bool) {
        self.window = if peeked.rows == 0 {
            self.window.saturating_mul(2)
        } else {
            WINDOW
        };
        self.rows = match self.rows {
            Some(rows) if cut && !moved => Some(rows.saturating_mul(2)),
            _ => self.polling.rows,
        };
    }

    /// [`Step::Finish`]: the message was perhaps not given out.
    async fn give(&mut self, message: ServerMessage) -> Step {
        tokio::select! {
            sent = self.outbox.send(Ok(message)) => match sent {
                Ok(()) => Step::GoOn,
                // Nobody reads any more: the end is near.
                Err(_) => Step::Finish,
            },
            () = asked_to_finish(&mut self.wishes) => Step::Finish,
        }
    }

    /// Waits until `position` is durable, or until asked to finish.
    async fn durable(&mut self, position: Lsn) {
        // Without a sender there is nobody left to wait for.
        let _ = self
            .wishes
            .wait_for(|wishes| wishes.finish || wishes.acknowledged >= position)
            .await;
    }

    async fn pause(&mut self) {
        tokio::select! {
            () = tokio::time::sleep(self.polling.interval) => {}
            () = asked_to_finish(&mut self.wishes) => {}
        }
    }
}

/// Without a sender nothing is asked any more; the reader's end ends the task.
async fn asked_to_finish(wishes: &mut watch::Receiver<Wishes>) {
    if wishes.wait_for(|wishes| wishes.finish).await.is_err() {
        std::future::pending::<()>().await;
    }
}
