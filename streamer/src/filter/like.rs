//! LIKE and ILIKE (`src/backend/utils/adt/like_match.c`), by characters.

use super::failing::Failed;

/// A pattern, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Vec<Token>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Character(char),
    AnyOne,
    Any,
    /// The pattern ends after an escape. Only who gets here fails.
    Broken,
}

impl Pattern {
    /// `escape`: the character that takes the next one as it is.
    pub fn new(text: &str, escape: Option<char>) -> Self {
        let mut tokens = Vec::new();
        let mut characters = text.chars();
        while let Some(character) = characters.next() {
            tokens.push(match character {
                _ if Some(character) == escape => match characters.next() {
                    Some(escaped) => Token::Character(escaped),
                    None => Token::Broken,
                },
                '%' => Token::Any,
                '_' => Token::AnyOne,
                plain => Token::Character(plain),
            });
        }
        Pattern(tokens)
    }

    /// The same with its letters in lower case, as far as they are ASCII.
    pub fn folded(mut self) -> Self {
        for token in &mut self.0 {
            if let Token::Character(character) = token {
                *character = character.to_ascii_lowercase();
            }
        }
        self
    }

    /// Whether some text makes it fail.
    pub fn may_fail(&self) -> bool {
        self.0.contains(&Token::Broken)
    }

    /// # Errors
    /// The server's, for a pattern that ends with its escape character, where
    /// the text reaches that far.
    pub fn matches(&self, text: &str) -> Result<bool, Failed> {
        let text: Vec<char> = text.chars().collect();
        let (mut at, mut token) = (0, 0);
        // Where to go on when what follows the last % does not match.
        let mut back: Option<(usize, usize)> = None;
        while at < text.len() {
            let matched = match self.0.get(token) {
                Some(Token::Any) => {
                    back = Some((token + 1, at));
                    token += 1;
                    continue;
                }
                Some(Token::AnyOne) => true,
                Some(Token::Character(wanted)) => *wanted == text[at],
                Some(Token::Broken) => return Err(broken()),
                None => false,
            };
            if matched {
                at += 1;
                token += 1;
            } else if let Some((after, from)) = back {
                back = Some((after, from + 1));
                at = from + 1;
                token = after;
            } else {
                return Ok(false);
            }
        }
        Ok(self.0[token..].iter().all(|rest| *rest == Token::Any))
    }
}

fn broken() -> Failed {
    Failed::new("22025", "LIKE pattern must not end with escape character")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_by_characters() {
        for (text, pattern, expected) in [
            ("", "", true),
            ("", "%", true),
            ("abc", "a%", true),
            ("abc", "%b%", true),
            ("abc", "a_c", true),
            ("aéc", "a_c", true),
            ("abc", "a_", false),
            ("a%c", "a\\%c", true),
            ("abc", "a\\%c", false),
            ("abcabcd", "%abcd", true),
            ("aaa", "%a%a%a%a", false),
        ] {
            let read = Pattern::new(pattern, Some('\\'));
            assert_eq!(read.matches(text), Ok(expected), "{text} {pattern}");
        }
        assert!(Pattern::new("a\\", None).matches("a\\").unwrap());
        assert!(Pattern::new("a\\", Some('\\')).matches("ab").is_err());
        assert!(!Pattern::new("a\\", Some('\\')).matches("b").unwrap());
    }
}
