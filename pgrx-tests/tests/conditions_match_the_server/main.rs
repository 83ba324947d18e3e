//! What a condition says of a row must be what the server says of it: random
//! rows of extreme values, random predicates, `SELECT (predicate)` as the
//! reference. Errors count too: where the server raises one, so does walferry,
//! with the same SQLSTATE.
//!
//! A predicate that walferry refuses says nothing, so those are counted and
//! few; one that walferry takes and the server does not is a failure.

#[path = "../types_match_the_server/native_reader.rs"]
#[allow(dead_code, reason = "the counts are the other test's")]
mod native_reader;
mod predicates;
mod values;

use std::borrow::Cow;
use std::collections::HashMap;

use postgres::{Client, SimpleQueryMessage};
use predicates::Generator;
use rand::SeedableRng;
use rand::rngs::StdRng;
use values::COLUMNS;
use walferry_streamer::event::{Change, Payload, Relation, Value};
use walferry_streamer::filter::compile::{Server as Traits, compile};
use walferry_streamer::filter::evaluate::{Node, Row};
use walferry_streamer::filter::failing::Stop;
use walferry_streamer::filter::{Knowledge, Predicate, table_of, value};
use walferry_tests::Server;

const ROWS: i32 = 60;

/// The settings that a streamer's connection has.
const PINNED: &str = "SET datestyle = 'ISO'; SET intervalstyle = 'postgres'; SET timezone = 'UTC'; \
     SET extra_float_digits = 1; SET bytea_output = 'hex'; SET synchronous_commit = on";

/// Every row's answer in one go, errors as their SQLSTATE.
const ASK: &str =
    "CREATE FUNCTION public.ask(predicate text, row_id int) RETURNS text LANGUAGE plpgsql AS $$
     DECLARE answer bool;
     BEGIN
       EXECUTE format('SELECT (%s) FROM public.t WHERE id = %s', predicate, row_id) INTO answer;
       RETURN coalesce(answer::text, 'null');
     EXCEPTION WHEN OTHERS THEN RETURN SQLSTATE;
     END $$";

/// A row as its event told it, and the same with every value as text, as other
/// plugins send it.
struct Told {
    native: Vec<Value<'static>>,
    texts: Vec<Value<'static>>,
}

fn whole(payload: &Payload<'_>) -> Payload<'static> {
    Payload {
        bytes: Cow::Owned(payload.bytes.to_vec()),
        layout: payload.layout,
    }
}

fn owned(value: &Value<'_>) -> Value<'static> {
    match value {
        Value::Text(text) => Value::Text(Cow::Owned(text.clone().into_owned())),
        Value::Json(text) => Value::Json(Cow::Owned(text.clone().into_owned())),
        Value::Bytea(bytes) => Value::Bytea(Cow::Owned(bytes.clone().into_owned())),
        Value::Numeric(payload) => Value::Numeric(whole(payload)),
        Value::Jsonb(payload) => Value::Jsonb(whole(payload)),
        Value::Array(payload) => Value::Array(whole(payload)),
        Value::Null => Value::Null,
        Value::Bool(value) => Value::Bool(*value),
        Value::Int2(value) => Value::Int2(*value),
        Value::Int4(value) => Value::Int4(*value),
        Value::Int8(value) => Value::Int8(*value),
        Value::Oid(value) => Value::Oid(*value),
        Value::Float4(value) => Value::Float4(*value),
        Value::Float8(value) => Value::Float8(*value),
        Value::Date(value) => Value::Date(*value),
        Value::Time(value) => Value::Time(*value),
        Value::TimeTz(us, west) => Value::TimeTz(*us, *west),
        Value::Timestamp(value) => Value::Timestamp(*value),
        Value::TimestampTz(value) => Value::TimestampTz(*value),
        Value::Interval(value) => Value::Interval(*value),
        Value::Uuid(value) => Value::Uuid(*value),
        other => panic!("{other:?} in an insert"),
    }
}

fn as_text(value: &Value<'_>) -> Value<'static> {
    if *value == Value::Null {
        return Value::Null;
    }
    let mut out = Vec::new();
    value.write_output(&mut out).expect("a value");
    Value::Text(Cow::Owned(String::from_utf8(out).expect("UTF-8")))
}

fn answer(node: &Node, image: &[Value<'_>]) -> String {
    match node.evaluate(&Row {
        image,
        before: None,
    }) {
        Ok(value::Value::Bool(true)) => "true".into(),
        Ok(value::Value::Bool(false)) => "false".into(),
        Ok(_) => "null".into(),
        Err(Stop::Failed(failed)) => failed.sqlstate.into(),
        Err(stop) => format!("{stop:?}"),
    }
}

/// The server's answers by row.
fn ask(client: &mut Client, predicate: &str) -> HashMap<i32, String> {
    client
        .query(
            "SELECT id, public.ask($1, id) FROM public.t ORDER BY id",
            &[&predicate],
        )
        .unwrap_or_else(|error| panic!("{error:?}\n{predicate}"))
        .iter()
        .map(|row| (row.get(0), row.get(1)))
        .collect()
}

/// What the server says of the text as a whole: an error of class 42 (and
/// 22P02 and the like of a literal) comes from every row.
fn prepares(client: &mut Client, predicate: &str) -> Result<(), String> {
    match client.simple_query(&format!(
        "SELECT ({predicate})::bool FROM public.t WHERE false"
    )) {
        Ok(messages) => {
            assert!(matches!(
                messages.last(),
                Some(SimpleQueryMessage::CommandComplete(0))
            ));
            Ok(())
        }
        Err(error) => Err(error
            .as_db_error()
            .map_or_else(|| error.to_string(), |error| error.message().to_owned())),
    }
}

#[test]
fn random_predicates_mean_on_random_rows_what_they_mean_on_the_server() {
    let seed = walferry_tests::random_seed();
    let mut random = StdRng::seed_from_u64(seed);
    let server = Server::builder().setting("max_wal_size", "1GB").start();
    let mut client = server.client();
    client.batch_execute(PINNED).expect("settings");
    client.batch_execute(ASK).expect("the function");
    let columns: Vec<String> = COLUMNS
        .iter()
        .map(|column| format!("{} {}", column.name, column.declared))
        .collect();
    client
        .batch_execute(&format!(
            "CREATE TABLE public.t (id int PRIMARY KEY, {})",
            columns.join(", ")
        ))
        .expect("the table");
    server.create_slot("rows", "walferry");
    for id in 0..ROWS {
        let values: Vec<String> = COLUMNS
            .iter()
            .map(|column| values::stored(column, &mut random))
            .collect();
        let statement = format!("INSERT INTO public.t VALUES ({id}, {})", values.join(", "));
        client
            .batch_execute(&statement)
            .unwrap_or_else(|error| panic!("{error:?}\n{statement}"));
    }
    let mut told: HashMap<i32, Told> = HashMap::new();
    let mut relation: Option<Relation> = None;
    native_reader::read_slot(&mut client, "rows", |event| {
        let Change::Insert {
            relation: of,
            after,
        } = &event.change
        else {
            panic!("only inserts were made: {event:?}")
        };
        relation.get_or_insert_with(|| Relation::new(of.definition.clone()));
        let Value::Int4(id) = after[0] else {
            panic!("the first column is the id: {:?}", after[0])
        };
        told.insert(
            id,
            Told {
                native: after.iter().map(owned).collect(),
                texts: after.iter().map(as_text).collect(),
            },
        );
    });
    let relation = relation.expect("rows came");
    let table = table_of(&relation, &Knowledge::default());
    let traits = Traits {
        infinite_intervals: server.tree().major() >= 17,
        // The harness makes its databases with --locale=C.
        default_is_c: true,
        ..Traits::default()
    };
    let long = std::env::var_os("WALFERRY_SOAK").is_some();
    let wanted = if long { 20_000 } else { 1_200 };
    let (mut compared, mut refused, mut invalid) = (0usize, 0usize, 0usize);
    let mut differences = Vec::new();
    let mut generator = Generator::new(random);
    for _ in 0..wanted {
        let predicate = generator.predicate();
        let prepared = prepares(&mut client, &predicate);
        let node =
            Predicate::read(&predicate).and_then(|predicate| compile(&predicate, &table, &traits));
        let node = match (node, prepared) {
            (Ok(node), Ok(())) => node,
            (Err(_), Err(_)) => {
                invalid += 1;
                continue;
            }
            (Err(refusal), Ok(())) => {
                refused += 1;
                println!("refused: {refusal}: {predicate}");
                continue;
            }
            // The server works out constants before it has a row.
            (Ok(node), Err(error)) => {
                if let Some(row) = told.values().next()
                    && answer(&node, &row.native).starts_with("22")
                {
                    continue;
                }
                differences.push(format!("the server refuses it ({error}): {predicate}"));
                continue;
            }
        };
        let expected = ask(&mut client, &predicate);
        for (id, row) in &told {
            for (way, image) in [("raw", &row.native), ("text", &row.texts)] {
                let found = answer(&node, image);
                compared += 1;
                if found != expected[id] {
                    differences.push(format!(
                        "{predicate}\n    row {id} {way}: walferry {found}, server {}",
                        expected[id]
                    ));
                    break;
                }
            }
        }
    }
    println!(
        "{wanted} predicates: {compared} answers compared, {refused} refused by walferry alone, {invalid} by both"
    );
    assert!(
        differences.is_empty(),
        "{} differences (WALFERRY_TEST_SEED={seed}):\n{}",
        differences.len(),
        differences[..differences.len().min(40)].join("\n")
    );
    assert!(compared > wanted * 60, "only {compared} were compared");
    assert!(
        refused < wanted / 10,
        "{refused} of {wanted} were refused by walferry alone"
    );
}
