//! Words as the NIST script mteval-v13a counts them: punctuation apart, but not within numbers. sacreBLEU calls it `13a` and uses it
//! unless told otherwise (Post 2018, arXiv 1804.08771), so that BLEU from different papers can be compared.

use std::sync::LazyLock;

use regex::Regex;

/// What is set apart, in this order.
static STEPS: LazyLock<[(Regex, &str); 4]> = LazyLock::new(|| {
    let step = |pattern, instead| {
        let pattern = Regex::new(pattern).expect("the patterns are constants, and tried by tests");
        (pattern, instead)
    };
    [
        // Whatever in ASCII is no letter, digit, apostrophe, comma, hyphen or full stop.
        step(
            r"([\x7b-\x7e\x5b-\x60\x20-\x26\x28-\x2b\x3a-\x40\x2f])",
            " $1 ",
        ),
        // Full stops and commas, unless a digit comes before.
        step(r"([^0-9])([.,])", "$1 $2 "),
        // Or unless one comes behind.
        step(r"([.,])([^0-9])", " $1 $2"),
        // A hyphen behind a digit.
        step(r"([0-9])(-)", "$1 $2 "),
    ]
});

/// The words of a text.
pub(super) fn words(text: &str) -> Vec<String> {
    let mut text = text.trim_end().replace("<skipped>", "");
    text = text.replace("-\n", "").replace('\n', " ");
    for (entity, character) in [
        ("&quot;", "\""),
        ("&amp;", "&"),
        ("&lt;", "<"),
        ("&gt;", ">"),
    ] {
        text = text.replace(entity, character);
    }
    text = format!(" {text} ");
    for (pattern, instead) in &*STEPS {
        text = pattern.replace_all(&text, *instead).into_owned();
    }
    text.split_whitespace().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What sacreBLEU 2.5.1 makes of them: `sacrebleu.tokenizers.tokenizer_13a.Tokenizer13a()(text)`.
    #[test]
    fn words_are_those_of_sacrebleu() {
        for (text, expected) in [
            ("Take 5.5 mg, twice a day!", "Take 5.5 mg , twice a day !"),
            (
                "well-known: 24-hour (see p.3)",
                "well-known : 24 - hour ( see p . 3 )",
            ),
            (
                "A&amp;B said: \"don't\" &lt;now&gt;",
                "A & B said : \" don't \" < now >",
            ),
            ("1,000.50 or 1.000,50", "1,000.50 or 1.000,50"),
            (
                "e.g. the U.S. rate is 3.5%-4%",
                "e . g . the U . S . rate is 3.5 % -4 %",
            ),
            (
                "über-cool naïve café — “quoted”",
                "über-cool naïve café — “quoted”",
            ),
            (
                "line one\nline two hyphen-\nated",
                "line one line two hyphenated",
            ),
            (
                "$100@5/6 = [x]{y}~z^w`q_r|s\\t",
                "$ 100 @ 5 / 6 = [ x ] { y } ~ z ^ w ` q _ r | s \\ t",
            ),
            ("  spaces   here  ", "spaces here"),
            ("x.5 5.x 5. .5 a,b a, b", "x . 5 5 . x 5 . . 5 a , b a , b"),
        ] {
            assert_eq!(words(text).join(" "), expected);
        }
    }
}
