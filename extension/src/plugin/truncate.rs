//! TRUNCATE.

use pgrx::pg_sys;
use walferry_protocol::{Lsn, RecordTag, Truncate, encode_truncate, open_change};

use super::change::pin;
use super::decoder::Decoder;
use super::failure::Outcome;
use super::options::Format;

impl Decoder {
    /// A TRUNCATE of several tables is one change. Where the filter leaves
    /// tables out, it is cut into runs of neighbours, so that each table's
    /// event keeps the index it has without a filter.
    ///
    /// # Safety
    /// Within the truncate callback or, with the xid of the change's
    /// (sub)transaction, the stream_truncate callback.
    pub unsafe fn truncate(
        &mut self,
        relations: &[pg_sys::Relation],
        change: *const pg_sys::ReorderBufferChange,
        streamed: Option<u32>,
    ) -> Outcome {
        self.frames.statistics.count();
        if self.options.format == Format::None {
            return Ok(());
        }
        // SAFETY: as the caller promises: the union holds a truncate.
        let (lsn, cascade, restart_identity) = unsafe {
            let truncate = &(*change).data.truncate;
            ((*change).lsn, truncate.cascade, truncate.restart_seqs)
        };
        let mut index = self.index.next(lsn, relations.len() as u32);
        self.count_change();
        // All catalogs are read before a definition is put aside for sending: a
        // concurrent abort in between would leave it for another's frame.
        for relation in relations {
            let pinned = &mut self.pinned;
            // SAFETY: as the caller promises.
            unsafe { self.relations.find(*relation, || pin(pinned))? };
        }
        let mut run = Truncate {
            cascade,
            restart_identity,
            relations: Vec::new(),
        };
        let mut start = index;
        for relation in relations {
            let pinned = &mut self.pinned;
            // SAFETY: as the caller promises.
            let entry = unsafe { self.relations.find(*relation, || pin(pinned))? };
            let passes = entry.passes;
            self.frames.statistics.filtered += u64::from(!passes);
            if self.options.format == Format::Json {
                if passes {
                    self.json_truncate(lsn);
                }
                continue;
            }
            if passes {
                if run.relations.is_empty() {
                    start = index;
                }
                let definitions = self
                    .stream
                    .as_mut()
                    .map(|(_, stream)| &mut stream.definitions);
                let number = self
                    .relations
                    .number(definitions, &mut self.frames.definitions);
                run.relations.push(number);
            } else {
                self.write_truncate(&mut run, lsn, start, streamed);
            }
            index = index.wrapping_add(1);
        }
        self.write_truncate(&mut run, lsn, start, streamed);
        Ok(())
    }

    fn write_truncate(&mut self, run: &mut Truncate, lsn: u64, index: u32, streamed: Option<u32>) {
        if run.relations.is_empty() {
            return;
        }
        let mut record = Vec::new();
        open_change(&mut record, RecordTag::Truncate, streamed, Lsn(lsn), index);
        encode_truncate(&mut record, run);
        run.relations.clear();
        let room = self.frames.open();
        let room = room.bytes(&mut self.frames, &record);
        self.frames.close(room);
    }
}
