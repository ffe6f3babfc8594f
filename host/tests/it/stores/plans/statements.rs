//! The SQL in a folder of Rust: string literals, `concat!` of them, and macros
//! that stand for parts of them.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

/// How a statement begins.
const VERBS: [&str; 5] = ["SELECT", "INSERT", "UPDATE", "DELETE", "WITH"];

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Text(String),
    Word(String),
    Mark(char),
}

/// Every statement below `folder`, with the name of its file.
pub(super) fn of(folder: &Path) -> Vec<(String, String)> {
    let mut files = files_below(folder);
    files.sort();
    let sources: Vec<_> = files
        .iter()
        .map(|file| {
            (
                file.file_name().expect("a name").to_string_lossy().into_owned(),
                tokens(&fs::read_to_string(file).expect("it reads")),
            )
        })
        .collect();
    let macros: HashMap<String, Vec<Token>> = sources.iter().flat_map(|(_, tokens)| macros(tokens)).collect();
    let mut found = Vec::new();
    for (file, tokens) in &sources {
        found.extend(
            texts(tokens, &macros).into_iter().filter(|text| is_statement(text)).map(|sql| (file.clone(), sql)),
        );
    }
    found
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(folder).expect("it lists").map(|entry| entry.expect("an entry").path());
    paths.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

fn is_statement(text: &str) -> bool {
    let text = text.trim_start();
    VERBS.iter().any(|verb| text.strip_prefix(verb).is_some_and(|rest| rest.starts_with(char::is_whitespace)))
        && text.split_whitespace().count() > 3
        && !text.contains('{')
}

fn tokens(source: &str) -> Vec<Token> {
    let (mut tokens, mut chars) = (Vec::new(), source.chars().peekable());
    while let Some(next) = chars.next() {
        match next {
            '/' if chars.peek() == Some(&'/') => while chars.next_if(|char| *char != '\n').is_some() {},
            '"' => {
                let mut text = String::new();
                while let Some(char) = chars.next().filter(|char| *char != '"') {
                    match char {
                        // A line that goes on: its indent is none of the text.
                        '\\' if chars.peek() == Some(&'\n') => {
                            while chars.next_if(|char| char.is_whitespace()).is_some() {}
                        }
                        '\\' => text.extend(chars.next()),
                        char => text.push(char),
                    }
                }
                tokens.push(Token::Text(text));
            }
            '\'' => {
                // A character, or the beginning of a lifetime, which is none of ours.
                let ahead: String = chars.clone().take(2).collect();
                if ahead.ends_with('\'') {
                    chars.nth(1);
                }
            }
            char if char.is_alphanumeric() || char == '_' => {
                let mut word = String::from(char);
                while let Some(more) = chars.next_if(|char| char.is_alphanumeric() || *char == '_') {
                    word.push(more);
                }
                tokens.push(Token::Word(word));
            }
            char if char.is_whitespace() => {}
            char => tokens.push(Token::Mark(char)),
        }
    }
    tokens
}

/// `macro_rules! name { … }`, each with what is between its braces.
fn macros(tokens: &[Token]) -> Vec<(String, Vec<Token>)> {
    let mut found = Vec::new();
    for (place, window) in tokens.windows(3).enumerate() {
        if let [Token::Word(word), Token::Mark('!'), Token::Word(name)] = window
            && word == "macro_rules"
        {
            found.push((name.clone(), group(&tokens[place + 3..])));
        }
    }
    found
}

/// What is between the bracket at the beginning and the one that ends it.
fn group(tokens: &[Token]) -> Vec<Token> {
    let mut depth = 0;
    let mut inside = Vec::new();
    for token in tokens {
        match token {
            Token::Mark('(' | '{' | '[') => depth += 1,
            Token::Mark(')' | '}' | ']') => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            break;
        }
        inside.push(token.clone());
    }
    inside
}

/// Every text on its own, those of a `concat!` joined, macros in their place.
fn texts(tokens: &[Token], macros: &HashMap<String, Vec<Token>>) -> Vec<String> {
    let (mut found, mut place) = (Vec::new(), 0);
    while place < tokens.len() {
        match &tokens[place..] {
            [Token::Word(word), Token::Mark('!'), Token::Word(_), ..] if word == "macro_rules" => {
                place += 3 + group(&tokens[place + 3..]).len();
            }
            [Token::Word(word), Token::Mark('!'), rest @ ..] if word == "concat" => {
                let inside = group(rest);
                found.push(joined(&inside, macros));
                place += 2 + inside.len();
            }
            [Token::Text(text), ..] => {
                found.push(text.clone());
                place += 1;
            }
            _ => place += 1,
        }
    }
    found
}

fn joined(tokens: &[Token], macros: &HashMap<String, Vec<Token>>) -> String {
    let mut text = String::new();
    for (place, token) in tokens.iter().enumerate() {
        match token {
            Token::Text(part) => text += part,
            Token::Word(name) if tokens.get(place + 1) == Some(&Token::Mark('!')) => {
                if let Some(body) = macros.get(name) {
                    text += &joined(body, macros);
                }
            }
            _ => {}
        }
    }
    text
}
