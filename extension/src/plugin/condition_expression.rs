//! From a condition's text to an expression of the server, by the server's own
//! parser and under the rules of publications
//! (`src/backend/commands/publicationcmds.c`): columns, constants and what is
//! built in and immutable.
//!
//! Runs when a relation's definition is built, never for a row.

use std::any::Any;
use std::ffi::{CStr, CString, c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use pgrx::pg_sys::NodeTag;
use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;
use pgrx::pg_sys::panic::CaughtError;
use pgrx::{pg_guard, pg_sys};

use super::server;

/// Why a condition is none of a table's.
#[derive(Debug)]
pub struct Misfit(pub String);

pub type Fitting<T> = Result<T, Misfit>;

/// `FirstNormalObjectId` (`src/include/access/transam.h`).
const FIRST_USER_OID: u32 = 16384;

// pgrx leaves it out of its bindings for 14 and 15, and binds the macro's
// target from 16 on (`src/include/nodes/nodeFuncs.h`).
unsafe extern "C-unwind" {
    #[cfg_attr(
        any(feature = "pg16", feature = "pg17", feature = "pg18"),
        link_name = "expression_tree_walker_impl"
    )]
    fn expression_tree_walker(
        node: *mut pg_sys::Node,
        walker: unsafe extern "C-unwind" fn(*mut pg_sys::Node, *mut c_void) -> bool,
        context: *mut c_void,
    ) -> bool;
}

/// The pointers that a list holds.
///
/// # Safety
/// `list` is null or a live list of pointers.
pub unsafe fn nodes<'a>(list: *const pg_sys::List) -> &'a [*mut pg_sys::Node] {
    if list.is_null() {
        return &[];
    }
    // SAFETY: as the caller promises: a cell is a union of the size of a
    // pointer, which is what it holds.
    unsafe {
        let cells = (*list).elements.cast::<*mut pg_sys::Node>();
        std::slice::from_raw_parts(cells, (*list).length as usize)
    }
}

/// What the column hook knows while a condition is analysed.
struct Table {
    relation: pg_sys::Relation,
    schema: *const c_char,
    /// The attribute numbers that the condition reads.
    read: Vec<i16>,
}

/// A condition as an expression over a table's row.
pub struct Expression {
    /// As it was written, in the server's nodes, planned.
    pub planned: *mut pg_sys::Expr,
    /// The attribute numbers that it reads.
    pub columns: Vec<i16>,
}

/// Runs `body` in a subtransaction, so that what an error leaves behind (locks,
/// references) is cleaned up by the server's own means. What kind of error
/// stands for a misfit is told by its SQLSTATE; any other goes on.
///
/// # Safety
/// Within a transaction.
pub unsafe fn attempt<T>(body: impl FnOnce() -> Fitting<T>) -> Fitting<T> {
    // SAFETY: the calls of PL/pgSQL's exception block, in its order. The end of
    // a subtransaction forgets which transaction is watched for a concurrent
    // abort; that is of the outer one and is put back.
    unsafe {
        let context = pg_sys::CurrentMemoryContext;
        let owner = pg_sys::CurrentResourceOwner;
        let watched = pg_sys::CheckXidAlive;
        pg_sys::BeginInternalSubTransaction(std::ptr::null());
        pg_sys::CurrentMemoryContext = context;
        let outcome = catch_unwind(AssertUnwindSafe(body));
        pg_sys::CurrentMemoryContext = context;
        match &outcome {
            Ok(Ok(_)) => pg_sys::ReleaseCurrentSubTransaction(),
            _ => pg_sys::RollbackAndReleaseCurrentSubTransaction(),
        }
        pg_sys::CurrentMemoryContext = context;
        pg_sys::CurrentResourceOwner = owner;
        pg_sys::CheckXidAlive = watched;
        match outcome {
            Ok(result) => result,
            Err(caught) => Err(misfit(caught)),
        }
    }
}

fn misfit(caught: Box<dyn Any + Send>) -> Misfit {
    let report = match caught.downcast_ref::<CaughtError>() {
        Some(CaughtError::PostgresError(report)) => report,
        _ => resume_unwind(caught),
    };
    // Data exceptions (a literal that is none), syntax and access (no such
    // column or operator), what is not supported (a subquery): the SQLSTATE's
    // first two characters, six bits each.
    let class = report.sql_error_code() as u32 & 0xfff;
    let of = |text: &[u8; 2]| u32::from(text[0] - b'0') | u32::from(text[1] - b'0') << 6;
    if ![of(b"22"), of(b"42"), of(b"0A")].contains(&class) {
        resume_unwind(caught);
    }
    Misfit(report.message().to_owned())
}

/// Reads a condition as one of an open relation.
///
/// # Safety
/// Within [`attempt`]; `relation` is open and `schema` its schema's name.
pub unsafe fn read(
    predicate: &str,
    relation: pg_sys::Relation,
    schema: *const c_char,
) -> Fitting<Expression> {
    // SAFETY: as the caller promises; all that is made is in the current memory
    // context, and the table outlives the analysis that its hook is for.
    unsafe {
        let source = in_server_encoding(&format!("SELECT (\n{predicate}\n)"))?;
        let raw = only_expression(pg_sys::raw_parser(
            source.as_ptr(),
            pg_sys::RawParseMode::RAW_PARSE_DEFAULT,
        ))?;
        let mut table = Table {
            relation,
            schema,
            read: Vec::new(),
        };
        let state = pg_sys::make_parsestate(std::ptr::null_mut());
        (*state).p_sourcetext = source.as_ptr();
        (*state).p_pre_columnref_hook = Some(column);
        (*state).p_ref_hook_state = (&raw mut table).cast();
        // Of the server's kinds of expression the one that allows neither
        // subqueries nor aggregates, window functions or sets.
        let kind = pg_sys::ParseExprKind::EXPR_KIND_CHECK_CONSTRAINT;
        let expression = pg_sys::transformExpr(state, raw, kind);
        let expression = pg_sys::coerce_to_boolean(state, expression, c"a condition".as_ptr());
        pg_sys::assign_expr_collations(state, expression);
        check(expression)?;
        let planned = pg_sys::expression_planner(expression.cast());
        // IN with a long list looks values up in a table.
        pg_sys::convert_saop_to_hashed_saop(planned.cast());
        pg_sys::free_parsestate(state);
        let mut columns = table.read;
        columns.sort_unstable();
        columns.dedup();
        Ok(Expression { planned, columns })
    }
}

fn in_server_encoding(text: &str) -> Fitting<CString> {
    let text = CString::new(text).map_err(|_| Misfit("it holds a zero byte".to_owned()))?;
    // SAFETY: returns its argument, or a C string in the current context.
    unsafe {
        let length = text.as_bytes().len() as i32;
        let converted =
            pg_sys::pg_any_to_server(text.as_ptr(), length, pg_sys::pg_enc::PG_UTF8 as i32);
        Ok(CStr::from_ptr(converted).to_owned())
    }
}

/// The one expression of `SELECT (…)`; a text that breaks out of the brackets
/// makes something else of it.
///
/// # Safety
/// `statements` comes from the server's parser.
unsafe fn only_expression(statements: *const pg_sys::List) -> Fitting<*mut pg_sys::Node> {
    let other = || Misfit("it is not one expression".to_owned());
    // SAFETY: as the caller promises; each node is cast to what its tag says.
    unsafe {
        let [statement] = nodes(statements) else {
            return Err(other());
        };
        let statement = (*statement.cast::<pg_sys::RawStmt>()).stmt;
        if (*statement).type_ != NodeTag::T_SelectStmt {
            return Err(other());
        }
        let select = &*statement.cast::<pg_sys::SelectStmt>();
        let lists = [
            select.distinctClause,
            select.fromClause,
            select.groupClause,
            select.windowClause,
            select.valuesLists,
            select.sortClause,
            select.lockingClause,
        ];
        let parts = [
            select.whereClause,
            select.havingClause,
            select.limitOffset,
            select.limitCount,
            select.intoClause.cast(),
            select.withClause.cast(),
        ];
        let [target] = nodes(select.targetList) else {
            return Err(other());
        };
        let target = &*target.cast::<pg_sys::ResTarget>();
        if select.op != pg_sys::SetOperation::SETOP_NONE
            || lists.iter().any(|list| !list.is_null())
            || parts.iter().any(|part| !part.is_null())
            || !target.name.is_null()
        {
            return Err(other());
        }
        Ok(target.val)
    }
}

/// A column's name as a column of the table; what it does not know is the
/// server's to refuse, for which there is no table at all.
#[pg_guard]
unsafe extern "C-unwind" fn column(
    state: *mut pg_sys::ParseState,
    reference: *mut pg_sys::ColumnRef,
) -> *mut pg_sys::Node {
    // SAFETY: the server passes the state that read() has made, and a reference
    // whose fields are strings, or at the end an asterisk.
    unsafe {
        let table = &mut *(*state).p_ref_hook_state.cast::<Table>();
        let none = std::ptr::null_mut();
        let mut names = Vec::new();
        for field in nodes((*reference).fields) {
            match string(*field) {
                Some(name) => names.push(name),
                None => return none,
            }
        }
        let class = &*(*table.relation).rd_rel;
        let own_name = CStr::from_ptr(class.relname.data.as_ptr());
        let name = match names[..] {
            [name] => name,
            [own, name] if own == own_name => name,
            [schema, own, name]
                if own == own_name
                    && !table.schema.is_null()
                    && schema == CStr::from_ptr(table.schema) =>
            {
                name
            }
            _ => return none,
        };
        let descriptor = (*table.relation).rd_att;
        for index in 0..(*descriptor).natts as usize {
            let attribute = server::attribute(descriptor, index);
            // Virtual generated columns (since 18) are in no row.
            if attribute.attisdropped
                || attribute.attgenerated as u8 == b'v'
                || CStr::from_ptr(attribute.attname.data.as_ptr()) != name
            {
                continue;
            }
            table.read.push(attribute.attnum);
            return pg_sys::makeVar(
                1,
                attribute.attnum,
                attribute.atttypid,
                attribute.atttypmod,
                attribute.attcollation,
                0,
            )
            .cast();
        }
        none
    }
}

/// `strVal`.
///
/// # Safety
/// `node` is a live node.
unsafe fn string<'a>(node: *const pg_sys::Node) -> Option<&'a CStr> {
    // SAFETY: as the caller promises; the tag says what the node is.
    unsafe {
        if (*node).type_ != NodeTag::T_String {
            return None;
        }
        #[cfg(feature = "pg14")]
        let text = (*node.cast::<pg_sys::Value>()).val.str_;
        #[cfg(not(feature = "pg14"))]
        let text = (*node.cast::<pg_sys::String>()).sval;
        Some(CStr::from_ptr(text))
    }
}

/// Whether a condition could be one of a publication.
///
/// # Safety
/// `expression` was analysed, not yet planned.
unsafe fn check(expression: *mut pg_sys::Node) -> Fitting<()> {
    // SAFETY: as the caller promises.
    unsafe {
        let mut refused: Option<&'static str> = None;
        if refuse(expression, (&raw mut refused).cast()) {
            return Err(Misfit(refused.unwrap_or_default().to_owned()));
        }
        if pg_sys::contain_mutable_functions(expression) {
            return Err(Misfit(
                "it uses a function or operator that is not immutable".to_owned(),
            ));
        }
    }
    Ok(())
}

/// A walker: true where the tree holds what a condition may not.
#[pg_guard]
unsafe extern "C-unwind" fn refuse(node: *mut pg_sys::Node, reason: *mut c_void) -> bool {
    if node.is_null() {
        return false;
    }
    // SAFETY: the walker is called with nodes of the expression and with what
    // check() passed on.
    unsafe {
        let because = |text: &'static str| {
            *reason.cast::<Option<&'static str>>() = Some(text);
            true
        };
        match (*node).type_ {
            NodeTag::T_List => {
                return pg_guard_ffi_boundary(|| expression_tree_walker(node, refuse, reason));
            }
            // The arms of CASE are no expression by themselves.
            NodeTag::T_CaseWhen => {
                return pg_guard_ffi_boundary(|| expression_tree_walker(node, refuse, reason));
            }
            NodeTag::T_Var
            | NodeTag::T_Const
            | NodeTag::T_FuncExpr
            | NodeTag::T_OpExpr
            | NodeTag::T_DistinctExpr
            | NodeTag::T_NullIfExpr
            | NodeTag::T_ScalarArrayOpExpr
            | NodeTag::T_BoolExpr
            | NodeTag::T_RelabelType
            | NodeTag::T_CollateExpr
            | NodeTag::T_CaseExpr
            | NodeTag::T_CaseTestExpr
            | NodeTag::T_ArrayExpr
            | NodeTag::T_CoalesceExpr
            | NodeTag::T_MinMaxExpr
            | NodeTag::T_NullTest
            | NodeTag::T_BooleanTest => {}
            _ => {
                return because(
                    "only columns, constants, and built-in operators and functions that are immutable may be used",
                );
            }
        }
        let is_own = |oid: pg_sys::Oid| oid.to_u32() >= FIRST_USER_OID;
        if is_own(pg_sys::exprType(node)) {
            return because("it uses a type that is not built in");
        }
        if is_own(pg_sys::exprCollation(node)) || is_own(pg_sys::exprInputCollation(node)) {
            return because("it uses a collation that is not built in");
        }
        if pg_sys::check_functions_in_node(node, Some(is_own_function), std::ptr::null_mut()) {
            return because("it uses a function or operator that is not built in");
        }
        pg_guard_ffi_boundary(|| expression_tree_walker(node, refuse, reason))
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn is_own_function(function: pg_sys::Oid, _context: *mut c_void) -> bool {
    function.to_u32() >= FIRST_USER_OID
}
