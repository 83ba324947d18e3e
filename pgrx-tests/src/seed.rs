//! Random tests that a failure can be repeated of.

/// What a random test starts from: `WALFERRY_TEST_SEED` if it is set, a new one
/// under `WALFERRY_SOAK`, and else always the same, so that a change is judged
/// by what it did and not by the draw of the day. It is printed.
#[must_use]
pub fn random_seed() -> u64 {
    let seed = match std::env::var("WALFERRY_TEST_SEED") {
        Ok(seed) => seed
            .parse()
            .unwrap_or_else(|error| panic!("WALFERRY_TEST_SEED={seed}: {error}")),
        Err(_) if std::env::var_os("WALFERRY_SOAK").is_some() => rand::random(),
        Err(_) => 20_261_121,
    };
    println!("WALFERRY_TEST_SEED={seed}");
    seed
}
