use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;
use crate::tiny;

static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    tiny::write(folder.path(), &tiny::shape(), 1).unwrap();
    Tokenizer::from_folder(folder.path()).unwrap()
});

const ASPECTS: Aspects<'static> = Aspects {
    held_out: None,
    balance_by: None,
    max_tokens: 512,
};

fn survey(text: &str) -> Survey {
    Survey::of(text.as_bytes(), &TOKENIZER, ASPECTS)
}

fn like(line: usize, other: usize) -> Likeness {
    Likeness { line, other }
}

#[test]
fn every_line_that_a_training_would_refuse_is_named_and_the_others_are_counted() {
    let found = survey(
        "{\"text\": \"one\"}\nnot json\n\n{\"prompt\": \"q\", \"completion\": \"a\"}\n{\"prompt\": \"q\"}\n{\"text\": \"\"}\n\
         {\"messages\": [{\"role\": \"user\", \"content\": \"q\"}, {\"role\": \"assistant\", \"content\": \"b\"}]}\n",
    );
    let refused: Vec<_> = found.refused.iter().map(|refused| refused.line).collect();
    assert_eq!(refused, [2, 5, 6]);
    assert_eq!(found.records(), 3);
    let kinds: Vec<_> = found.kinds.into_iter().collect();
    assert_eq!(kinds, [("messages", 1), ("pair", 1), ("text", 1)]);
}

#[test]
fn what_is_said_again_and_what_is_answered_otherwise_is_named_with_the_first() {
    let found = survey(
        "{\"prompt\": \"How much?\", \"completion\": \"5 mg\"}\n{\"text\": \"xyz\"}\n{\"prompt\": \"how  much?\", \"completion\": \"5 MG\"}\n\
         {\"prompt\": \"How much?\", \"completion\": \"7 mg\"}\n\
         {\"messages\": [{\"role\": \"user\", \"content\": \"How much?\"}, {\"role\": \"assistant\", \"content\": \"5 mg\\n\"}]}\n{\"text\": \"XYZ \"}\n",
    );
    assert_eq!(found.repeats, [like(3, 1), like(5, 1), like(6, 2)]);
    assert_eq!(found.contradictions, [like(4, 1)]);
    assert_eq!(found.kept(None).len(), 3);
}

#[test]
fn records_that_are_held_out_too_are_named_and_not_kept() {
    let aspects = Aspects {
        held_out: Some(b"{\"text\": \"one\"}\n{\"text\": \"TWO\"}\n"),
        ..ASPECTS
    };
    let found = Survey::of(
        b"{\"text\": \"two\"}\n{\"text\": \"three\"}\n",
        &TOKENIZER,
        aspects,
    );
    assert_eq!(found.held_out, [like(1, 2)]);
    assert_eq!(found.kept(None), ["{\"text\": \"three\"}"]);
}

#[test]
fn lengths_are_those_of_whole_records() {
    let text: String = (1..=20)
        .map(|words| format!("{{\"text\": \"{}\"}}\n", "a".repeat(10 * words)))
        .collect();
    let of_line = |line: usize| {
        let one = text.lines().nth(line - 1).unwrap();
        survey(one).lengths.longest
    };
    let aspects = Aspects {
        max_tokens: of_line(18),
        ..ASPECTS
    };
    let found = Survey::of(text.as_bytes(), &TOKENIZER, aspects).lengths;
    assert_eq!(found.cut, [19, 20]);
    assert_eq!(
        [
            found.shortest,
            found.median,
            found.percentile_95,
            found.longest
        ],
        [1, 10, 19, 20].map(of_line)
    );
    let all: usize = (1..=20).map(of_line).sum();
    assert_eq!(found.tokens, all as u64);
    // Nothing predicts the first token of a text.
    assert_eq!(found.response_tokens, all as u64 - 20);
}

#[test]
fn values_are_counted_and_at_most_so_many_of_each_are_kept_whatever_their_order() {
    let mut lines: Vec<_> = (0..12)
        .map(|n| {
            format!(
                "{{\"text\": \"record {n}\", \"ward\": \"{}\"}}",
                if n < 8 { "a" } else { "b" }
            )
        })
        .collect();
    lines.push("{\"text\": \"without\"}".to_owned());
    let aspects = Aspects {
        balance_by: Some("ward"),
        ..ASPECTS
    };
    let of = |lines: &[String]| Survey::of(lines.join("\n").as_bytes(), &TOKENIZER, aspects);
    let found = of(&lines);
    let balance = found.balance.as_ref().unwrap();
    let shares: Vec<_> = balance
        .shares
        .iter()
        .map(|share| (share.value.as_str(), share.records))
        .collect();
    assert_eq!(shares, [("a", 8), ("b", 4)]);
    assert_eq!(balance.without, [13]);
    // exp(-2/3 ln 2/3 - 1/3 ln 1/3)
    assert!((balance.effective_values() - 1.889_881_574_842_309).abs() < 1e-12);
    let kept = found.kept(Some(4));
    assert_eq!(kept.len(), 4 + 4 + 1);
    lines.reverse();
    let turned = of(&lines);
    let mut again = turned.kept(Some(4));
    again.reverse();
    assert_eq!(again, kept);
}

#[test]
fn lines_of_each_untidiness_are_named() {
    let found =
        survey("{\"text\": \"a\\r\\nb\"}\n{\"text\": \"tidy\"}\n{\"text\": \"c\\u00a0d\\r\"}\n");
    let untidy: Vec<_> = found.untidy.into_iter().collect();
    assert_eq!(
        untidy,
        [
            (Untidiness::CarriageReturns, vec![1, 3]),
            (Untidiness::Spaces, vec![3])
        ]
    );
}

/// Texts of what is tidy and untidy, so short that they repeat.
fn text() -> impl Strategy<Value = String> {
    let pieces = [
        "a",
        "B",
        " ",
        "\n",
        "\r\n",
        "\u{a0}",
        "\u{feff}",
        "\u{c3}\u{bc}",
        "\u{fffd}",
        "é",
    ];
    prop::collection::vec(prop::sample::select(pieces.to_vec()), 0..6)
        .prop_map(|some| some.concat())
}

proptest! {
    #![proptest_config(crate::properties::fixed_seed())]

    #[test]
    fn a_cleaned_copy_has_nothing_left_to_clean(
        texts in prop::collection::vec((text(), prop::option::of(text())), 0..12),
    ) {
        let line = |(text, answer): &(String, Option<String>)| match answer {
            None => serde_json::json!({ "text": text }),
            Some(answer) => serde_json::json!({ "prompt": text, "completion": answer }),
        };
        let lines: Vec<_> = texts.iter().map(|text| line(text).to_string()).collect();
        let first = survey(&lines.join("\n"));
        prop_assert_eq!(first.records() + first.refused.len(), lines.len());
        let kept = first.kept(None);
        let copy = survey(&kept.join("\n"));
        prop_assert_eq!(copy.kept(None), kept);
        prop_assert!(copy.refused.is_empty() && copy.repeats.is_empty());
        prop_assert!(copy.untidy.keys().all(|untidiness| !untidiness.is_mended()), "{:?}", copy.untidy);
    }

    #[test]
    fn any_bytes_are_surveyed_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let found = Survey::of(&bytes, &TOKENIZER, ASPECTS);
        let lines = lines(&bytes).filter(|line| !line.trim_ascii().is_empty()).count();
        prop_assert_eq!(found.records() + found.refused.len(), lines);
    }
}
