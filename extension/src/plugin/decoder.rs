//! The state of one decoding context: everything the plugin remembers hangs
//! from `output_plugin_private` and goes with `ctx->context`.

use std::collections::HashMap;
use std::ffi::c_void;

use pgrx::{pg_guard, pg_sys};
use walferry_protocol::Start;

use super::failure::{Failure, Outcome};
use super::json::Json;
use super::options::{Format, Options};
use super::relation_cache::{RelationCache, StreamedDefinitions};
use super::server;
use super::text::Converter;
use super::writer::Frames;

/// Counts the changes that came out of one WAL record, before any filter, so
/// that a change has the same index whatever is asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct RecordIndex {
    lsn: u64,
    next: u32,
}

impl RecordIndex {
    /// The index of the next `count` changes at `lsn`.
    #[inline]
    pub fn next(&mut self, lsn: u64, count: u32) -> u32 {
        if self.lsn != lsn {
            self.lsn = lsn;
            self.next = 0;
        }
        let index = self.next;
        self.next = self.next.wrapping_add(count);
        index
    }
}

/// What is known of a transaction that is being streamed while in progress.
#[derive(Default)]
pub struct StreamedTransaction {
    pub definitions: StreamedDefinitions,
    pub index: RecordIndex,
    /// Whether any of its frames has been sent.
    pub sent: bool,
}

pub struct Decoder {
    pub ctx: *mut pg_sys::LogicalDecodingContext,
    pub options: Options,
    pub converter: Converter,
    pub relations: RelationCache,
    pub frames: Frames,
    pub json: Json,
    /// Streamed transactions by their top-level xid.
    pub streams: HashMap<u32, StreamedTransaction>,
    /// The streamed block being replayed.
    pub stream: Option<(u32, StreamedTransaction)>,
    pub index: RecordIndex,
    /// For allocations of the server's functions; emptied after each use.
    pub scratch: pg_sys::MemoryContext,
    /// Whether the settings that shape text are pinned in this transaction.
    pub pinned: bool,
    /// Changes since the server was last told that there is progress.
    quiet_changes: u32,
}

/// Tell the server about progress at least every so many changes, as
/// pgoutput does.
const QUIET_CHANGES: u32 = 100;

impl Decoder {
    /// Sets the decoder of a context up and hangs it there.
    ///
    /// # Safety
    /// `ctx` is the context whose startup callback is running.
    pub unsafe fn install(
        ctx: *mut pg_sys::LogicalDecodingContext,
        options: Options,
        converter: Converter,
    ) -> Outcome {
        // SAFETY: as the caller promises: ctx->context lives as long as the
        // decoding context and outlives what is made under it.
        unsafe {
            let parent = (*ctx).context;
            let scratch = server::memory_context(parent, c"walferry change");
            let cache = server::memory_context(parent, c"walferry relations");
            let start = Start {
                server_version: pg_sys::PG_VERSION_NUM,
                system_identifier: pg_sys::GetSystemIdentifier(),
                database_oid: pg_sys::MyDatabaseId.to_u32(),
                database: database_name(converter)?,
                server_encoding: converter
                    .c_string(pg_sys::GetDatabaseEncodingName(), "the encoding's name")?,
                big_endian: cfg!(target_endian = "big"),
                streaming: (*ctx).streaming,
                two_phase: (*ctx).twophase,
                plugin_version: env!("CARGO_PKG_VERSION").to_owned(),
            };
            let frames = Frames::new(ctx, options.frame_size, start)?;
            let json = (options.format == Format::Json).then(|| options.json.clone());
            let relations =
                RelationCache::new(options.tables.clone(), json, converter, cache, scratch);
            let decoder = Box::new(Decoder {
                ctx,
                json: Json::default(),
                options,
                converter,
                relations,
                frames,
                streams: HashMap::new(),
                stream: None,
                index: RecordIndex::default(),
                scratch,
                pinned: false,
                quiet_changes: 0,
            });
            let callback =
                pg_sys::MemoryContextAllocZero(parent, size_of::<pg_sys::MemoryContextCallback>())
                    .cast::<pg_sys::MemoryContextCallback>();
            let decoder = Box::into_raw(decoder).cast::<c_void>();
            (*callback).func = Some(drop_decoder);
            (*callback).arg = decoder;
            pg_sys::MemoryContextRegisterResetCallback(parent, callback);
            (*ctx).output_plugin_private = decoder;
            Self::of(ctx)?.publish_statistics();
        }
        Ok(())
    }

    /// The decoder of a context; None while a slot is being created.
    ///
    /// # Safety
    /// `ctx` is the context whose callback is running, and no other reference
    /// to the decoder is alive.
    #[inline(always)]
    pub unsafe fn find<'a>(ctx: *mut pg_sys::LogicalDecodingContext) -> Option<&'a mut Decoder> {
        // SAFETY: install put a decoder there, or nobody anything; a callback
        // never runs inside another one.
        unsafe { (*ctx).output_plugin_private.cast::<Decoder>().as_mut() }
    }

    /// The decoder of a context that has one.
    ///
    /// # Safety
    /// As for [`Decoder::find`].
    #[inline(always)]
    pub unsafe fn of<'a>(ctx: *mut pg_sys::LogicalDecodingContext) -> Outcome<&'a mut Decoder> {
        // SAFETY: as the caller promises.
        unsafe { Self::find(ctx) }
            .ok_or_else(|| Failure::corrupted("walferry was called before it was started"))
    }

    /// A change was seen, sent or not: tells the server now and then that
    /// decoding goes on. From 16 on the server does so itself.
    #[inline]
    pub fn count_change(&mut self) {
        if cfg!(any(feature = "pg14", feature = "pg15")) {
            self.quiet_changes += 1;
            if self.quiet_changes >= QUIET_CHANGES {
                self.quiet_changes = 0;
                server::update_progress(self.ctx, false);
            }
        }
    }
}

fn database_name(converter: Converter) -> Outcome<String> {
    // SAFETY: reads the catalog within a transaction, into the current
    // memory context, from which the name is copied.
    server::in_transaction(|| unsafe {
        let name = pg_sys::get_database_name(pg_sys::MyDatabaseId);
        converter.c_string(name, "the database's name")
    })
}

#[pg_guard]
unsafe extern "C-unwind" fn drop_decoder(decoder: *mut c_void) {
    // SAFETY: the pointer came from Box::into_raw and the context that owned
    // it is going, so nobody uses it any more. The memory contexts under it
    // are the server's to free.
    drop(unsafe { Box::from_raw(decoder.cast::<Decoder>()) });
}
