//! The known key that an unknown one was probably meant to be.

/// A hint for an unknown key: the nearest known one, or all of them where
/// none is near.
pub fn nearest(given: &str, known: &[&str]) -> String {
    // How people differ from the files' spelling without mistyping.
    let plain = |text: &str| text.to_lowercase().replace(['_', ' '], "-");
    let wanted = plain(given);
    // Misspellings that are accepted are not offered.
    let offered = known
        .iter()
        .filter(|known| **known != super::filter::MISSPELT_CONDITIONS);
    let best = offered
        .clone()
        .map(|known| (strsim::damerau_levenshtein(&wanted, &plain(known)), *known))
        .min_by_key(|(distance, _)| *distance);
    match best {
        None => "no key is known here".into(),
        Some((distance, known)) if distance <= (wanted.chars().count() / 3).max(2) => {
            format!("did you mean {known:?}?")
        }
        Some(_) => format!(
            "the keys here are {}",
            offered.copied().collect::<Vec<_>>().join(", ")
        ),
    }
}
