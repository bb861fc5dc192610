use super::*;
use crate::tiny;
use proptest::prelude::*;
use std::sync::LazyLock;

static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(|| tokenizer(true));

fn tokenizer(template: bool) -> Tokenizer {
    let folder = tempfile::tempdir().unwrap();
    tiny::write(folder.path(), &tiny::shape(), 1).unwrap();
    if !template {
        std::fs::write(
            folder.path().join("tokenizer_config.json"),
            r#"{"eos_token": "<|im_end|>"}"#,
        )
        .unwrap();
    }
    Tokenizer::from_folder(folder.path()).unwrap()
}

fn load(bytes: &[u8], max_tokens: usize) -> Result<Dataset, DataError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.jsonl");
    std::fs::write(&path, bytes).unwrap();
    Dataset::load_jsonl(&path, &TOKENIZER, max_tokens)
}

fn refusal(bytes: &[u8]) -> String {
    load(bytes, 100).unwrap_err().to_string()
}

fn learned(example: &Example) -> String {
    let pairs = example.tokens.iter().zip(&example.response);
    let ids: Vec<u32> = pairs
        .filter(|(_, asked)| **asked)
        .map(|(id, _)| *id)
        .collect();
    TOKENIZER.decode(&ids)
}

#[test]
fn three_kinds_of_records_have_their_masks() {
    let file = "\u{feff}{\"text\": \"abc\"}\n\n{\"prompt\": \"Q\", \"completion\": \"A\", \"id\": 7}\r\n{\"messages\": [{\"role\": \"user\", \"content\": \"Q\"}, {\"role\": \"assistant\", \"content\": \"B\"}]}";
    let dataset = load(file.as_bytes(), 100).unwrap();
    let lines: Vec<usize> = dataset
        .examples
        .iter()
        .map(|example| example.line)
        .collect();
    assert_eq!(lines, [1, 3, 4]);
    let texts: Vec<String> = dataset.examples.iter().map(learned).collect();
    assert_eq!(texts, ["abc", "A<|im_end|>", "B<|im_end|>"]);
    assert_eq!(dataset.truncated, 0);
}

#[test]
fn without_a_template_a_pair_is_prompt_completion_and_end() {
    let record = Record::Pair {
        prompt: "Q:".to_owned(),
        completion: " A".to_owned(),
    };
    let tokenizer = tokenizer(false);
    let dataset =
        Dataset::from_records(Path::new("memory"), vec![record], &tokenizer, 100).unwrap();
    assert_eq!(
        tokenizer.decode(&dataset.examples[0].tokens),
        "Q: A<|im_end|>"
    );
    assert_eq!(
        dataset.examples[0].response,
        [false, false, true, true, true]
    );
}

#[test]
fn a_pair_without_a_template_is_tokenized_as_one_text() {
    // As SentencePiece's models do: a space before whatever they are given.
    let folder = tempfile::tempdir().unwrap();
    tiny::write(folder.path(), &tiny::shape(), 1).unwrap();
    let path = folder.path().join("tokenizer.json");
    let mut file: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    file["normalizer"] = serde_json::json!({"type": "Prepend", "prepend": " "});
    std::fs::write(&path, file.to_string()).unwrap();
    let config = folder.path().join("tokenizer_config.json");
    std::fs::write(config, r#"{"eos_token": "<|im_end|>"}"#).unwrap();
    let tokenizer = Tokenizer::from_folder(folder.path()).unwrap();
    let record = Record::Pair {
        prompt: "Q:".to_owned(),
        completion: " A".to_owned(),
    };
    let data = Dataset::from_records(Path::new("memory"), vec![record], &tokenizer, 100).unwrap();
    let example = &data.examples[0];
    assert_eq!(tokenizer.decode(&example.tokens), " Q: A<|im_end|>");
    assert_eq!(example.response, [false, false, false, true, true, true]);
}

#[test]
fn examples_that_a_training_cannot_tell_apart_are_equal_whatever_else_their_records_say() {
    let lines = "{\"text\": \"one\"}\n{\"text\": \"two\"}\n{\"text\": \"one\", \"id\": 7}\n";
    let data = load(lines.as_bytes(), 100).unwrap();
    let stood = |data: &Dataset| data.examples.iter().map(|one| one.line).collect::<Vec<_>>();
    let distinct = data.distinct();
    assert_eq!(stood(&distinct), [1, 2]);
    assert_eq!(
        distinct.digest,
        load(b"{\"text\": \"one\"}\n{\"text\": \"two\"}", 100)
            .unwrap()
            .digest
    );
    let one = load(b"{\"text\": \"one\"}", 100).unwrap();
    assert_eq!(stood(&data.without(&one)), [2]);
}

#[test]
fn bad_line_is_named_with_what_is_wrong() {
    let good = "{\"text\": \"abc\"}\n";
    for (line, what) in [
        ("{\"text\": 5}", "is not a record"),
        ("{\"text\": \"x\"", "is not a record"),
        ("[1]", "is no JSON object"),
        ("{}", "must have either text"),
        (
            "{\"text\": \"a\", \"prompt\": \"b\"}",
            "must have either text",
        ),
        ("{\"prompt\": \"b\"}", "must have either text"),
        ("{\"text\": \"\"}", "no token to predict"),
        ("{\"messages\": []}", "no assistant turn"),
        (
            "{\"messages\": [{\"role\": \"user\"}]}",
            "missing field `content`",
        ),
    ] {
        let error = refusal(format!("{good}\n{line}\n").as_bytes());
        assert!(
            error.contains("data.jsonl:3: ") && error.contains(what),
            "{line}: {error}"
        );
    }
    let error = refusal(b"{\"text\": \"ok\"}\n{\"text\": \"\xff\"}");
    assert!(
        error.contains("data.jsonl:2: is not UTF-8 (byte 11 of the line)"),
        "{error}"
    );
}

#[test]
fn empty_and_missing_files_are_refused() {
    assert!(refusal(b"\n \n").contains("holds no record"));
    let error = Dataset::load_jsonl(Path::new("/nowhere.jsonl"), &TOKENIZER, 10).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("/nowhere.jsonl: cannot be read"),
        "{error}"
    );
    assert!(
        load(b"{\"text\": \"abc\"}", 1)
            .unwrap_err()
            .to_string()
            .contains("max_tokens is 1")
    );
}

#[test]
fn long_examples_keep_the_start_of_the_response() {
    let long = "y".repeat(50);
    let line = |prompt: &str, answer: &str| {
        serde_json::json!({"prompt": prompt, "completion": answer}).to_string()
    };
    let whole = load(line("q", "a").as_bytes(), 100).unwrap().examples[0]
        .tokens
        .len();
    // A long answer loses its end.
    let dataset = load(line("q", &long).as_bytes(), whole + 20).unwrap();
    assert_eq!(dataset.truncated, 1);
    assert_eq!(dataset.examples[0].tokens.len(), whole + 20);
    assert!(learned(&dataset.examples[0]).starts_with('y'));
    assert!(
        TOKENIZER
            .decode(&dataset.examples[0].tokens)
            .starts_with("<|im_start|>user")
    );
    // A long prompt loses its beginning, and the short answer nothing.
    let dataset = load(line(&long, "answer").as_bytes(), 28).unwrap();
    assert_eq!(dataset.examples[0].tokens.len(), 28);
    assert_eq!(learned(&dataset.examples[0]), "answer<|im_end|>");
    // Both long: a quarter of what is kept is answer.
    let dataset = load(line(&long, &long).as_bytes(), 20).unwrap();
    assert_eq!(learned(&dataset.examples[0]), "y".repeat(5));
    // Plain text loses its end.
    let dataset = load(format!("{{\"text\": \"ab{long}\"}}").as_bytes(), 4).unwrap();
    assert_eq!(learned(&dataset.examples[0]), "abyy");
}

#[test]
fn targets_are_the_next_tokens_of_the_same_example() {
    let example = |tokens: &[u32], response: &[bool]| Example {
        tokens: tokens.to_vec(),
        response: response.to_vec(),
        line: 1,
    };
    let dataset = Dataset {
        examples: vec![
            example(&[10, 11, 12], &[true, false, true]),
            example(&[20, 21], &[true, true]),
        ],
        digest: [0; 32],
        source: PathBuf::new(),
        truncated: 0,
    };
    let batch = dataset.batch(&[1, 0, 1]);
    assert_eq!(batch.tokens, [20, 21, 10, 11, 12, 20, 21]);
    assert_eq!(batch.segments, [0..2, 2..5, 5..7]);
    let targets: Vec<_> = batch.targets.iter().map(|t| (t.row, t.token)).collect();
    assert_eq!(targets, [(0, 21), (3, 12), (5, 21)]);
    batch.check(30, 8).unwrap();
}

#[test]
fn digest_tells_content_apart_and_not_places() {
    let one = load(b"{\"text\": \"abc\"}\n{\"text\": \"de\"}", 100).unwrap();
    let same = load(b"\n{\"text\": \"abc\", \"id\": 1}\n{\"text\": \"de\"}", 100).unwrap();
    assert_eq!(one.digest, same.digest);
    let other = load(b"{\"text\": \"ab\"}\n{\"text\": \"cde\"}", 100).unwrap();
    assert_ne!(one.digest, other.digest);
}

#[test]
fn split_is_a_partition_that_follows_its_seed() {
    let lines: String = (0..40)
        .map(|i| format!("{{\"text\": \"text {i}\"}}\n"))
        .collect();
    let dataset = load(lines.as_bytes(), 100).unwrap();
    let (train, held_out) = dataset.clone().split(3, 10);
    assert_eq!((train.examples.len(), held_out.examples.len()), (30, 10));
    let mut lines: Vec<usize> = train
        .examples
        .iter()
        .chain(&held_out.examples)
        .map(|example| example.line)
        .collect();
    lines.sort_unstable();
    assert_eq!(lines, (1..=40).collect::<Vec<_>>());
    assert_eq!(dataset.clone().split(3, 10).1, held_out);
    assert_ne!(dataset.clone().split(4, 10).1, held_out);
    assert_ne!(train.digest, held_out.digest);
    assert_eq!(dataset.split(3, 99).0.examples.len(), 0);
}

proptest! {
    #![proptest_config(crate::properties::fixed_seed())]

    #[test]
    fn any_bytes_are_records_or_a_named_line(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Err((line, what)) = record::parse_lines(&bytes) {
            prop_assert!(line >= 1 && !what.is_empty());
        }
    }

    #[test]
    fn any_text_is_tokenized_without_special_tokens(text in "(<\\|im_(start|end)\\|>|\\PC|[a-z ]){1,40}") {
        let record = Record::Pair { prompt: text.clone(), completion: text.clone() };
        let dataset = Dataset::from_records(Path::new("any"), vec![record], &TOKENIZER, 4096).unwrap();
        let example = &dataset.examples[0];
        prop_assert_eq!(example.tokens.iter().filter(|id| **id > 255).count(), 4);
        prop_assert_eq!(learned(example), format!("{text}<|im_end|>"));
    }

    #[test]
    fn window_is_within_bounds_and_holds_a_response(
        given in 0usize..60, said in 1usize..60, max_tokens in 2usize..50
    ) {
        let response: Vec<bool> = (0..given + said).map(|index| index >= given).collect();
        let window = tokenize::window(&response, max_tokens);
        prop_assert!(window.end <= response.len());
        prop_assert_eq!(window.len(), max_tokens.min(response.len()));
        // The first kept token is predicted by nothing, so one more must be asked for.
        prop_assert!(given == 0 || response[window].iter().skip(1).any(|asked| *asked));
    }
}
