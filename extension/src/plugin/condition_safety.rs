//! Which conditions can raise no error on any row, and mean here what they
//! mean to the streamer: comparisons of columns and constants of the built-in
//! types it knows, IN, BETWEEN, LIKE with a fixed pattern, IS NULL, AND, OR, NOT.
//!
//! A reader that applies conditions itself (`conditions_mode 'thin'`) stops at
//! a row whose condition fails. A row that was left out here would hide that.

use std::ffi::CStr;

use pgrx::pg_sys::{self, NodeTag};
use walferry_protocol::Value;

use super::condition_expression::nodes;
use super::varlena;

// Types by `src/include/catalog/pg_type.dat`.
const TEXT: u32 = 25;
const BPCHAR: u32 = 1042;
const VARCHAR: u32 = 1043;
/// bool, bytea, int8, int2, int4, text, float4, float8, char(n), varchar, date,
/// time, timestamp, timestamptz, interval, timetz, numeric, uuid.
const COMPARED: [u32; 18] = [
    16, 17, 20, 21, 23, TEXT, 700, 701, BPCHAR, VARCHAR, 1082, 1083, 1114, 1184, 1186, 1266, 1700,
    2950,
];

/// Casts that succeed with every value, as functions of
/// `src/include/catalog/pg_proc.dat`: from smaller to larger integers, from
/// integers to numeric and floats, from float4 to float8, from char(n) to text.
const TOTAL_CASTS: [u32; 14] = [
    313, 754, 481, 1782, 1740, 1781, 235, 316, 482, 236, 318, 652, 311, 401,
];

/// C and POSIX (`src/include/catalog/pg_collation.dat`).
const BYTEWISE: [u32; 2] = [950, 951];

/// Whether a planned condition is such a one.
///
/// # Safety
/// `node` is an expression that the server has planned.
pub unsafe fn cannot_fail(node: *mut pg_sys::Node) -> bool {
    if node.is_null() {
        return false;
    }
    // SAFETY: as the caller promises; a node is cast to what its tag says.
    unsafe {
        let all = |list| nodes(list).iter().all(|node| cannot_fail(*node));
        match (*node).type_ {
            NodeTag::T_Var | NodeTag::T_Const => is_compared(node),
            NodeTag::T_BoolExpr => all((*node.cast::<pg_sys::BoolExpr>()).args),
            NodeTag::T_RelabelType => {
                is_compared(node) && cannot_fail((*node.cast::<pg_sys::RelabelType>()).arg.cast())
            }
            NodeTag::T_BooleanTest => cannot_fail((*node.cast::<pg_sys::BooleanTest>()).arg.cast()),
            NodeTag::T_NullTest => {
                let test = &*node.cast::<pg_sys::NullTest>();
                let argument = test.arg.cast::<pg_sys::Node>();
                !test.argisrow && ((*argument).type_ == NodeTag::T_Var || cannot_fail(argument))
            }
            NodeTag::T_OpExpr | NodeTag::T_DistinctExpr => {
                let operation = &*node.cast::<pg_sys::OpExpr>();
                compares(operation.opno, operation.inputcollid, operation.args)
            }
            NodeTag::T_ScalarArrayOpExpr => {
                let operation = &*node.cast::<pg_sys::ScalarArrayOpExpr>();
                is_in_list(operation)
            }
            NodeTag::T_FuncExpr => {
                let call = &*node.cast::<pg_sys::FuncExpr>();
                TOTAL_CASTS.contains(&call.funcid.to_u32()) && is_compared(node) && all(call.args)
            }
            NodeTag::T_CoalesceExpr => {
                is_compared(node) && all((*node.cast::<pg_sys::CoalesceExpr>()).args)
            }
            _ => false,
        }
    }
}

/// # Safety
/// As for [`cannot_fail`].
unsafe fn is_compared(node: *mut pg_sys::Node) -> bool {
    // SAFETY: as the caller promises.
    COMPARED.contains(&unsafe { pg_sys::exprType(node) }.to_u32())
}

/// A comparison whose operands are fit for it.
///
/// # Safety
/// As for [`cannot_fail`]; `arguments` are an operator's.
unsafe fn compares(
    operator: pg_sys::Oid,
    collation: pg_sys::Oid,
    arguments: *const pg_sys::List,
) -> bool {
    // SAFETY: as the caller promises.
    unsafe {
        let [left, right] = *nodes(arguments) else {
            return false;
        };
        let fit = cannot_fail(left) && cannot_fail(right);
        fit && match operator_name(operator) {
            b"~~" | b"!~~" => is_text(left) && is_text(right) && ends_its_escapes(right),
            name => is_comparison(name, collation, is_text(left) || is_text(right)),
        }
    }
}

/// `x IN (constants)`.
///
/// # Safety
/// As for [`cannot_fail`].
unsafe fn is_in_list(operation: &pg_sys::ScalarArrayOpExpr) -> bool {
    // SAFETY: as the caller promises.
    unsafe {
        let [scalar, list] = *nodes(operation.args) else {
            return false;
        };
        let element = pg_sys::get_element_type(pg_sys::exprType(list));
        (*list).type_ == NodeTag::T_Const
            && !(*list.cast::<pg_sys::Const>()).constisnull
            && COMPARED.contains(&element.to_u32())
            && cannot_fail(scalar)
            && matches!(operator_name(operation.opno), b"=" | b"<>")
            && is_comparison(b"=", operation.inputcollid, is_text(scalar))
    }
}

fn is_comparison(name: &[u8], collation: pg_sys::Oid, of_text: bool) -> bool {
    match name {
        // Text without any collation is an error.
        b"=" | b"<>" => !of_text || collation != pg_sys::InvalidOid,
        b"<" | b"<=" | b">" | b">=" => !of_text || BYTEWISE.contains(&collation.to_u32()),
        _ => false,
    }
}

/// # Safety
/// Within a transaction.
unsafe fn operator_name<'a>(operator: pg_sys::Oid) -> &'a [u8] {
    // SAFETY: returns null or a C string in the current memory context, which
    // outlives the check.
    unsafe {
        let name = pg_sys::get_opname(operator);
        if name.is_null() {
            return b"";
        }
        CStr::from_ptr(name).to_bytes()
    }
}

/// # Safety
/// As for [`cannot_fail`].
unsafe fn is_text(node: *mut pg_sys::Node) -> bool {
    // SAFETY: as the caller promises.
    let kind = unsafe { pg_sys::exprType(node) };
    matches!(kind.to_u32(), TEXT | BPCHAR | VARCHAR)
}

/// Whether a pattern is fixed and no escape is its last character, which LIKE
/// refuses when it comes to it.
///
/// # Safety
/// As for [`cannot_fail`].
unsafe fn ends_its_escapes(pattern: *mut pg_sys::Node) -> bool {
    // SAFETY: as the caller promises: a constant of a text type is a varlena.
    unsafe {
        if (*pattern).type_ != NodeTag::T_Const {
            return false;
        }
        let pattern = &*pattern.cast::<pg_sys::Const>();
        if pattern.constisnull {
            return false;
        }
        let text = varlena::datum(pattern.constvalue.cast_mut_ptr::<u8>())
            .and_then(|bytes| varlena::value(bytes));
        // In every encoding of a server a backslash is only ever one.
        let Ok(Value::Raw(text)) = text else {
            return false;
        };
        let escapes = text.iter().rev().take_while(|byte| **byte == b'\\').count();
        escapes % 2 == 0
    }
}
