//! From the (historic) catalog to a relation's definition and layout.
//!
//! Only run when a relation is first seen or has changed, so here server
//! calls are free.

use std::ffi::CStr;

use pgrx::pg_sys;
use walferry_protocol::{
    Column, ColumnFlags, Encoding, Relation, RelationKind, ReplicaIdentity, Root, Storage, Value,
    encode_value,
};

use super::condition::{self, Identity};
use super::failure::{Failure, Outcome};
use super::filter::TableFilter;
use super::json_names::Names;
use super::json_options::JsonOptions;
use super::layout::{Attribute, Layout, Output, Step, alignment};
use super::printing::print;
use super::raw_types;
use super::relation_cache::Entry;
use super::text::Converter;
use super::{server, varlena};

/// Oids from here on belong to objects that are not the server's own
/// (`FirstNormalObjectId`, `src/include/access/transam.h`).
const FIRST_USER_OID: u32 = 16384;

/// Reads the catalog about an open relation.
///
/// # Safety
/// `relation` is open, a historic snapshot is set up, and `parent` is a live
/// memory context that outlives the entry.
pub unsafe fn build(
    relation: pg_sys::Relation,
    filter: &TableFilter,
    json: Option<&JsonOptions>,
    converter: Converter,
    parent: pg_sys::MemoryContext,
) -> Outcome<Entry> {
    // SAFETY: as the caller promises, here and for each server call below: an
    // open relation's descriptor and pg_class row stand while it is open.
    unsafe {
        let class = &*(*relation).rd_rel;
        let oid = (*relation).rd_id;
        let schema = namespace_name(class.relnamespace, converter)?;
        let name = converter.c_string(class.relname.data.as_ptr(), "a relation's name")?;
        let full = class.relreplident as u8 == b'f';
        let identity_index = pg_sys::RelationGetReplicaIndex(relation);
        let key_index = if full {
            server::primary_key_index(relation)
        } else {
            identity_index
        };
        let keys = index_columns(key_index);
        let mut definition = Relation {
            number: 0,
            oid: oid.to_u32(),
            kind: RelationKind::from_relkind(class.relkind as u8),
            replica_identity: ReplicaIdentity::from_relreplident(class.relreplident as u8)
                .unwrap_or(ReplicaIdentity::Nothing),
            identity_usable: full || identity_index != pg_sys::InvalidOid,
            root: if class.relispartition {
                root(oid, converter)?
            } else {
                None
            },
            fingerprint: 0,
            columns: Vec::new(),
            schema,
            name,
        };
        let passes = filter.passes(&definition.schema, &definition.name);
        let mut builder = Builder {
            layout: Layout::default(),
            context: std::ptr::null_mut(),
            parent,
            converter,
            all_text: json.is_some(),
            user_types: false,
        };
        let descriptor = (*relation).rd_att;
        if passes {
            for index in 0..(*descriptor).natts as usize {
                let attribute = server::attribute(descriptor, index);
                let not_null = server::is_not_null(descriptor, index);
                let column = builder.attribute(attribute, not_null, &definition, filter, &keys)?;
                let encoded = match &column {
                    Some(_) => builder.missing(descriptor, index, &definition)?,
                    None => None,
                };
                builder.layout.missing.push(encoded);
                definition.columns.extend(column);
            }
        }
        builder.layout.columns = definition.columns.len() as u16;
        builder.layout.all_raw = builder.layout.attributes.iter().all(|a| a.step.is_raw());
        definition.seal();
        let mut entry = Entry::new(definition, builder.layout, builder.context);
        entry.passes = passes;
        entry.full_identity = full;
        entry.user_types = builder.user_types;
        if passes {
            let identity = Identity {
                full,
                columns: (full || identity_index != pg_sys::InvalidOid).then_some(keys.as_slice()),
            };
            entry.condition =
                condition::compile(relation, &entry.definition, &identity, filter, parent)?;
        }
        if let Some(options) = json.filter(|_| passes) {
            let primary_key = index_columns(server::primary_key_index(relation));
            entry.json = Some(Names::read(
                relation,
                &entry.definition,
                options,
                converter,
                &primary_key,
                identity_index != pg_sys::InvalidOid,
            )?);
        }
        Ok(entry)
    }
}

struct Builder {
    layout: Layout,
    context: pg_sys::MemoryContext,
    parent: pg_sys::MemoryContext,
    converter: Converter,
    /// No column travels raw.
    all_text: bool,
    user_types: bool,
}

impl Builder {
    /// Adds an attribute to the layout; its column, if it is sent.
    ///
    /// # Safety
    /// Within [`build`].
    unsafe fn attribute(
        &mut self,
        attribute: &pg_sys::FormData_pg_attribute,
        not_null: bool,
        relation: &Relation,
        filter: &TableFilter,
        keys: &[i16],
    ) -> Outcome<Option<Column>> {
        let key = keys.contains(&attribute.attnum);
        let mut laid_out = Attribute {
            step: Step::Skip,
            length: attribute.attlen,
            align: alignment(attribute.attalign),
            by_value: attribute.attbyval,
            key,
        };
        // Virtual generated columns (since 18) are never stored.
        if attribute.attisdropped || attribute.attgenerated as u8 == b'v' {
            self.layout.attributes.push(laid_out);
            return Ok(None);
        }
        // SAFETY: an attribute's name is a NUL-terminated array.
        let name = unsafe {
            self.converter
                .c_string(attribute.attname.data.as_ptr(), "a column's name")?
        };
        // Columns of the replica identity are always sent: without them a
        // change could not be brought to its row.
        if !key && !filter.passes_column(&relation.schema, &relation.name, &name) {
            self.layout.attributes.push(laid_out);
            return Ok(None);
        }
        // SAFETY: reads the catalog, as build's caller allows.
        let (base, type_schema, type_name) = unsafe {
            let base = pg_sys::getBaseType(attribute.atttypid);
            let (schema, name) = type_name(attribute.atttypid, self.converter)?;
            (base, schema, name)
        };
        if attribute.atttypid.to_u32() >= FIRST_USER_OID {
            self.user_types = true;
        }
        let raw = !self.all_text
            && raw_types::is_raw(base.to_u32(), self.converter.server_is_utf8())
            && attribute.attlen != -2;
        laid_out.step = if raw {
            match attribute.attlen {
                1 => Step::Raw1,
                2 => Step::Raw2,
                4 => Step::Raw4,
                8 => Step::Raw8,
                -1 => Step::RawVarlena,
                _ => Step::RawFixed,
            }
        } else {
            // SAFETY: as above.
            let output = unsafe { self.output(attribute, base, relation.columns.len())? };
            Step::Text { output }
        };
        self.layout.attributes.push(laid_out);
        let mut flags = 0;
        if key {
            flags |= ColumnFlags::KEY;
        }
        if not_null {
            flags |= ColumnFlags::NOT_NULL;
        }
        if attribute.attgenerated as u8 == b's' {
            flags |= ColumnFlags::GENERATED;
        }
        // SAFETY: reads the catalog, as build's caller allows.
        if unsafe { is_array(base) } {
            flags |= ColumnFlags::ARRAY;
        }
        Ok(Some(Column {
            name,
            attnum: attribute.attnum,
            type_oid: attribute.atttypid.to_u32(),
            type_schema,
            type_name,
            typmod: attribute.atttypmod,
            base_type_oid: base.to_u32(),
            encoding: if raw {
                Encoding::Raw(Storage {
                    length: attribute.attlen,
                    align: alignment(attribute.attalign) + 1,
                })
            } else {
                Encoding::Text
            },
            flags: ColumnFlags(flags),
        }))
    }

    /// Looks up a type's output function, once for the life of the entry.
    ///
    /// # Safety
    /// Within [`build`].
    unsafe fn output(
        &mut self,
        attribute: &pg_sys::FormData_pg_attribute,
        base: pg_sys::Oid,
        column: usize,
    ) -> Outcome<u16> {
        if self.context.is_null() {
            self.context = server::memory_context(self.parent, c"walferry relation");
        }
        let mut function = Box::new(pg_sys::FmgrInfo::default());
        // SAFETY: the function's information lives in the entry's own context,
        // the Box in the entry itself.
        unsafe {
            let mut oid = pg_sys::InvalidOid;
            let mut is_varlena = false;
            pg_sys::getTypeOutputInfo(attribute.atttypid, &mut oid, &mut is_varlena);
            pg_sys::fmgr_info_cxt(oid, &mut *function, self.context);
        }
        let plain = attribute.attlen == -1 && raw_types::is_plain_text(base.to_u32());
        let index = self.layout.outputs.len() as u16;
        self.layout.outputs.push(Output {
            column,
            plain,
            function,
        });
        Ok(index)
    }

    /// The encoded value of attribute `index` in rows that are older than it.
    ///
    /// # Safety
    /// Within [`build`], after the attribute was laid out.
    unsafe fn missing(
        &mut self,
        descriptor: pg_sys::TupleDesc,
        index: usize,
        relation: &Relation,
    ) -> Outcome<Option<Box<[u8]>>> {
        // SAFETY: `index` is one of the descriptor's attributes; its missing
        // value is a datum of its type that stands as long as the descriptor.
        unsafe {
            let attribute = server::attribute(descriptor, index);
            if !attribute.atthasmissing {
                return Ok(None);
            }
            let mut is_null = true;
            let datum = pg_sys::getmissingattr(descriptor, index as i32 + 1, &mut is_null);
            if is_null {
                return Ok(None);
            }
            let mut encoded = Vec::new();
            if let Step::Text { output } = self.layout.attributes[index].step {
                let output = &mut self.layout.outputs[usize::from(output)];
                let place = |_| {
                    format!(
                        "the default of column {} of table \"{}\".\"{}\"",
                        attribute.attnum, relation.schema, relation.name
                    )
                };
                let printed = print(&[&raw mut *output.function], &[datum], place)?;
                let Some(text) = printed.first().filter(|text| !text.is_null()) else {
                    return Err(Failure::corrupted("an output function returned nothing"));
                };
                let text = self
                    .converter
                    .to_utf8(CStr::from_ptr(*text).to_bytes(), || place(0))?;
                if self.all_text {
                    encoded.extend_from_slice(text.as_bytes());
                } else {
                    encode_value(&mut encoded, Value::Text(text.as_bytes()));
                }
            } else if attribute.attbyval {
                let word = datum.value();
                match attribute.attlen {
                    1 => encode_value(&mut encoded, Value::Raw(&(word as u8).to_ne_bytes())),
                    2 => encode_value(&mut encoded, Value::Raw(&(word as u16).to_ne_bytes())),
                    4 => encode_value(&mut encoded, Value::Raw(&(word as u32).to_ne_bytes())),
                    _ => encode_value(&mut encoded, Value::Raw(&(word as u64).to_ne_bytes())),
                }
            } else if attribute.attlen == -1 {
                let bytes = varlena::datum(datum.cast_mut_ptr::<u8>())?;
                encode_value(&mut encoded, varlena::value(bytes)?);
            } else {
                let length = usize::from(attribute.attlen.unsigned_abs());
                let bytes = std::slice::from_raw_parts(datum.cast_mut_ptr::<u8>(), length);
                encode_value(&mut encoded, Value::Raw(bytes));
            }
            Ok(Some(encoded.into_boxed_slice()))
        }
    }
}

/// The columns of an index's key.
///
/// # Safety
/// Within [`build`].
unsafe fn index_columns(index: pg_sys::Oid) -> Vec<i16> {
    if index == pg_sys::InvalidOid {
        return Vec::new();
    }
    // SAFETY: opened and closed here; an index has its pg_index row.
    unsafe {
        let opened = pg_sys::RelationIdGetRelation(index);
        if opened.is_null() {
            return Vec::new();
        }
        let form = (*opened).rd_index;
        let columns = if form.is_null() {
            Vec::new()
        } else {
            let count = (*form).indnkeyatts as usize;
            let values = (&raw const (*form).indkey.values).cast::<i16>();
            std::slice::from_raw_parts(values, count).to_vec()
        };
        pg_sys::RelationClose(opened);
        columns
    }
}

/// A schema's name.
///
/// # Safety
/// Within [`build`].
unsafe fn namespace_name(oid: pg_sys::Oid, converter: Converter) -> Outcome<String> {
    // SAFETY: returns null or a string in the current memory context.
    unsafe { converter.c_string(pg_sys::get_namespace_name(oid), "a schema's name") }
}

/// A type's schema and name.
///
/// # Safety
/// Within [`build`].
unsafe fn type_name(oid: pg_sys::Oid, converter: Converter) -> Outcome<(String, String)> {
    // SAFETY: the catalog row is used before it is released; an error in
    // between releases it with the transaction.
    unsafe {
        let row = pg_sys::SearchSysCache1(
            pg_sys::SysCacheIdentifier::TYPEOID as _,
            pg_sys::Datum::from(oid),
        );
        if row.is_null() {
            return Err(Failure::corrupted(format!(
                "type {} is not in the catalog",
                oid.to_u32()
            )));
        }
        let form = pg_sys::GETSTRUCT(row).cast::<pg_sys::FormData_pg_type>();
        let namespace = (*form).typnamespace;
        let name = converter.c_string((*form).typname.data.as_ptr(), "a type's name");
        pg_sys::ReleaseSysCache(row);
        Ok((namespace_name(namespace, converter)?, name?))
    }
}

/// Whether a type is an array whose elements are separated by commas (box is
/// the server's one type that is not).
///
/// # Safety
/// Within [`build`].
unsafe fn is_array(oid: pg_sys::Oid) -> bool {
    // SAFETY: the catalog row is used before it is released.
    unsafe {
        let element = pg_sys::get_element_type(oid);
        // int2vector and oidvector are subscripted as arrays and print as lists.
        if element == pg_sys::InvalidOid || pg_sys::get_array_type(element) != oid {
            return false;
        }
        let row = pg_sys::SearchSysCache1(
            pg_sys::SysCacheIdentifier::TYPEOID as _,
            pg_sys::Datum::from(element),
        );
        if row.is_null() {
            return false;
        }
        let form = pg_sys::GETSTRUCT(row).cast::<pg_sys::FormData_pg_type>();
        let delimiter = (*form).typdelim as u8;
        pg_sys::ReleaseSysCache(row);
        delimiter == b','
    }
}

/// The topmost partitioned table above a partition.
///
/// # Safety
/// Within [`build`].
unsafe fn root(partition: pg_sys::Oid, converter: Converter) -> Outcome<Option<Root>> {
    let Some(top) = server::partition_ancestors(partition).last().copied() else {
        return Ok(None);
    };
    // SAFETY: reads the catalog.
    unsafe {
        let name = converter.c_string(pg_sys::get_rel_name(top), "a relation's name")?;
        let schema = namespace_name(pg_sys::get_rel_namespace(top), converter)?;
        Ok(Some(Root {
            oid: top.to_u32(),
            schema,
            name,
        }))
    }
}
