//! Figures of the English in comments and pages. Readers who are no native speakers stumble over
//! sentences that begin with a clause in place of a noun, over many pronouns, and over negations.

/// A limit per 100 sentences, or per 100 words for pronouns.
const START: (&str, f64) = ("begin with What, Who, Whose, Whoever or Whatever", 1.0);
const RELATIVE: (&str, f64) = ("have a clause in place of a noun (\"what is\", \"who has\")", 1.0);
const PRONOUNS: (&str, f64) = ("pronouns", 6.5);
const NEGATIVE: (&str, f64) = ("have nobody, nothing, none, neither, nor or no", 9.0);

/// Fewer sentences have no steady figures.
const FEW: usize = 40;

/// Prints the figures of a text, and returns those beyond their limits.
pub(crate) fn check(place: &str, sentences: Vec<String>) -> Vec<String> {
    if sentences.len() < FEW {
        return Vec::new();
    }
    let words: Vec<Vec<String>> = sentences.iter().map(|sentence| words(sentence)).collect();
    let share = |is: &dyn Fn(&[String]) -> bool| {
        100.0 * words.iter().filter(|words| is(words)).count() as f64 / words.len() as f64
    };
    let all = words.iter().flatten().count();
    let pronouns = words.iter().flatten().filter(|word| is_pronoun(word)).count();
    let figures = [
        (START, share(&begins_with_a_clause)),
        (RELATIVE, share(&has_free_clause)),
        (PRONOUNS, 100.0 * pronouns as f64 / all as f64),
        (NEGATIVE, share(&|words| words.iter().any(|word| is_negative(word)))),
    ];
    let shown = figures.map(|((_, limit), figure)| format!("{figure:4.1} of {limit}"));
    println!("{place:32} {:5} sentences: {}", sentences.len(), shown.join(", "));
    figures
        .into_iter()
        .filter(|((_, limit), figure)| figure > limit)
        .map(|((rule, limit), figure)| {
            format!("{place}: {figure:.1} of 100 {rule}, at most {limit}")
        })
        .collect()
}

/// Returns the sentences of the comments in a source, without code.
pub(crate) fn of_comments(source: &str) -> Vec<String> {
    let (mut paragraphs, mut paragraph, mut is_code) = (Vec::new(), String::new(), false);
    for line in source.lines() {
        let comment = line.trim_start().strip_prefix("//");
        let text = comment.map(|text| text.trim_start_matches(['/', '!']).trim());
        is_code &= comment.is_some();
        match text {
            Some(fence) if fence.starts_with("```") => is_code = !is_code,
            Some(text) if !is_code && !text.is_empty() && !text.starts_with(['|', '#']) => {
                paragraph.push(' ');
                paragraph.push_str(text);
            }
            Some(_) if is_code => {}
            _ => paragraphs.push(std::mem::take(&mut paragraph)),
        }
    }
    paragraphs.push(paragraph);
    paragraphs.iter().flat_map(|paragraph| sentences(paragraph)).collect()
}

/// Returns the sentences of a page, without code, tables and headings.
pub(crate) fn of_markdown(page: &str) -> Vec<String> {
    let (mut paragraphs, mut paragraph, mut is_code) = (Vec::new(), String::new(), false);
    for line in page.lines() {
        let text = line.trim();
        if text.starts_with("```") {
            is_code = !is_code;
        }
        let is_left_out = is_code || text.starts_with(['|', '#', '!', '<', '`']);
        let begins = text.is_empty() || text.starts_with("- ") || text.starts_with("* ");
        if begins || is_left_out {
            paragraphs.push(std::mem::take(&mut paragraph));
        }
        if !is_left_out {
            paragraph.push(' ');
            paragraph.push_str(text);
        }
    }
    paragraphs.push(paragraph);
    paragraphs.iter().flat_map(|paragraph| sentences(paragraph)).collect()
}

/// Splits a paragraph. A sentence has at least three words.
fn sentences(paragraph: &str) -> Vec<String> {
    let (mut found, mut sentence) = (Vec::new(), String::new());
    let tokens: Vec<&str> = paragraph.split_whitespace().collect();
    for (at, token) in tokens.iter().enumerate() {
        sentence.push_str(token);
        sentence.push(' ');
        let is_last = token.ends_with(['.', '!', '?', ':'])
            && tokens.get(at + 1).is_some_and(|next| next.starts_with(char::is_uppercase));
        if is_last || at + 1 == tokens.len() {
            found.push(std::mem::take(&mut sentence));
        }
    }
    found.retain(|sentence| sentence.split_whitespace().count() >= 3);
    found
}

fn words(sentence: &str) -> Vec<String> {
    let words = sentence.split(|char: char| !(char.is_alphanumeric() || char == '_'));
    words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

fn begins_with_a_clause(words: &[String]) -> bool {
    let first = words.iter().find(|word| word.parse::<u32>().is_err());
    first.is_some_and(|first| ["What", "Who", "Whose", "Whoever", "Whatever"].contains(&&**first))
}

fn has_free_clause(words: &[String]) -> bool {
    const AFTER: [&str; 23] = [
        "is", "was", "has", "are", "were", "had", "it", "they", "the", "a", "others", "comes",
        "came", "one", "this", "leaves", "reads", "waits", "goes", "becomes", "became", "does",
        "did",
    ];
    let lower: Vec<String> = words.iter().map(|word| word.to_lowercase()).collect();
    lower.windows(2).any(|pair| {
        ["what", "who", "whoever", "whatever"].contains(&&*pair[0]) && AFTER.contains(&&*pair[1])
    })
}

fn is_pronoun(word: &str) -> bool {
    let word = word.to_lowercase();
    ["it", "that", "this", "one", "they", "those", "which", "them", "its", "such"].contains(&&*word)
}

fn is_negative(word: &str) -> bool {
    let word = word.to_lowercase();
    ["nobody", "nothing", "none", "neither", "nor", "no"].contains(&&*word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(sentence: &str) -> usize {
        check("here", vec![sentence.to_owned(); FEW]).len()
    }

    #[test]
    fn each_rule_finds_its_sentences() {
        assert_eq!(findings("The store returns the record of the session."), 0);
        assert_eq!(findings("Whatever follows counts for the session."), 1);
        assert_eq!(findings("The commit stores what the request changed, what is new."), 1);
        assert_eq!(findings("It returns that one."), 1);
        assert_eq!(findings("The store returns no record for the session."), 1);
    }

    #[test]
    fn code_and_tables_are_left_out() {
        let source = "/// One sentence of words.\n/// ```\n/// no code at all\n/// ```\n/// | no | table |\nfn no_code_here() {}\n// Another sentence of words.";
        assert_eq!(of_comments(source).len(), 2);
        let page = "# No heading here\n\nOne sentence of words. Another one\nof two lines.\n\n```rust\nno code at all\n```\n- The item of a list.";
        assert_eq!(of_markdown(page).len(), 3);
    }
}
