//! `foedus-client data check`: what training text is like before anybody trains on it, and a cleaned copy of it.

use std::path::Path;

use finetune::{
    base::BaseFiles,
    data::{
        read_file,
        survey::{Aspects, Balance, Lengths, Likeness, Share, Survey},
    },
};

use super::{answer::say, arguments::DataCheckArguments, failure::Failure, output::Kind};

/// A cleaned copy. None is told from text that somebody wrote, so nothing is replaced by one.
const COPY: Kind = Kind {
    name: "empty file",
    is: |_| false,
};
/// Lines that are named before the rest are only counted.
const NAMED: usize = 10;

/// Looks through the text, says what was found and writes the copy.
pub(super) fn check(arguments: &DataCheckArguments) -> Result<(), Failure> {
    let DataCheckArguments { data, write, .. } = arguments;
    if data.extension().is_some_and(|extension| extension == "txt") {
        return Err(Failure::usage(format!(
            "{}: a text file has no records to be checked; write JSON lines, as {{\"text\": \"...\"}}",
            data.display()
        )));
    }
    if let Some(copy) = write {
        COPY.prepare(copy)?;
    }
    let tokenizer = BaseFiles::inspect(&arguments.model).map_err(anyhow::Error::from)?;
    let read = |file: &Path| read_file(file).map_err(anyhow::Error::from);
    let held_out = arguments.eval.as_deref().map(read).transpose()?;
    let aspects = Aspects {
        held_out: held_out.as_deref(),
        balance_by: arguments.balance_by.as_deref(),
        max_tokens: arguments.max_tokens,
    };
    let survey = Survey::of(&read(data)?, &tokenizer, aspects);
    let kept = survey.kept(arguments.at_most.map(usize::from));
    if arguments.json {
        say!("{}", json(&survey, kept.len())?)?;
    } else {
        show(&survey, arguments)?;
    }
    if let Some(copy) = write {
        let lines: String = kept.iter().flat_map(|line| [line, "\n"]).collect();
        COPY.write(copy, lines.as_bytes())?;
        if !arguments.json {
            let (kept, file) = (kept.len(), copy.display());
            say!("written: {kept} records to {file}")?;
        }
    }
    verdict(&survey, data)
}

/// Whether a run would read every record.
fn verdict(survey: &Survey, data: &Path) -> Result<(), Failure> {
    let file = data.display();
    let refused = match (survey.records(), survey.refused.as_slice()) {
        (0, []) => format!("{file} holds no record"),
        (_, []) => return Ok(()),
        (_, [first, rest @ ..]) => format!(
            "{file}:{}: {}; a run would not begin ({} more such lines)",
            first.line,
            first.what,
            rest.len()
        ),
    };
    Err(anyhow::Error::msg(refused).into())
}

fn json(survey: &Survey, kept: usize) -> anyhow::Result<serde_json::Value> {
    let mut line = serde_json::to_value(survey)?;
    line["records"] = survey.records().into();
    line["kept"] = kept.into();
    line["effective_values"] = survey
        .balance
        .as_ref()
        .map(Balance::effective_values)
        .into();
    Ok(line)
}

fn show(survey: &Survey, arguments: &DataCheckArguments) -> anyhow::Result<()> {
    let kinds = survey.kinds.iter();
    let kinds: Vec<_> = kinds
        .map(|(kind, count)| format!("{kind} {count}"))
        .collect();
    say!("records: {} ({})", survey.records(), kinds.join(", "))?;
    for refused in survey.refused.iter().take(NAMED) {
        say!("cannot be read: line {}: {}", refused.line, refused.what)?;
    }
    if NAMED < survey.refused.len() {
        let more = survey.refused.len() - NAMED;
        say!("cannot be read: {more} more lines")?;
    }
    show_lengths(&survey.lengths, arguments.max_tokens)?;
    alike("repeats of an earlier record", &survey.repeats)?;
    alike(
        "an earlier record's question, another answer",
        &survey.contradictions,
    )?;
    if let Some(eval) = &arguments.eval {
        alike(&format!("also in {}", eval.display()), &survey.held_out)?;
    }
    for (untidiness, lines) in &survey.untidy {
        let mended = if untidiness.is_mended() {
            ""
        } else {
            ", which no copy mends"
        };
        say!("untidy: {untidiness}{mended}: {}", numbered(lines))?;
    }
    survey.balance.as_ref().map_or(Ok(()), show_balance)
}

fn show_lengths(lengths: &Lengths, max_tokens: usize) -> anyhow::Result<()> {
    say!(
        "tokens: {}, of which {} are to be learned; a record has {} to {}, half of them at most {}, 95 of 100 at most {}",
        lengths.tokens,
        lengths.response_tokens,
        lengths.shortest,
        lengths.longest,
        lengths.median,
        lengths.percentile_95
    )?;
    if !lengths.cut.is_empty() {
        say!(
            "longer than {max_tokens} tokens, and cut: {}",
            numbered(&lengths.cut)
        )?;
    }
    Ok(())
}

/// Names records that are like others, each with the line of that one.
fn alike(what: &str, found: &[Likeness]) -> anyhow::Result<()> {
    if found.is_empty() {
        return Ok(());
    }
    let lines = found
        .iter()
        .map(|like| format!("{} as {}", like.line, like.other));
    say!("{what}: {}", named(found.len(), lines))
}

fn show_balance(balance: &Balance) -> anyhow::Result<()> {
    let Balance {
        field,
        shares,
        without,
    } = balance;
    let all: usize = shares.iter().map(|share| share.records).sum();
    say!(
        "values of {field:?}: {}, as even as {:.1} of one size",
        shares.len(),
        balance.effective_values()
    )?;
    // Escaped, as a value may have in it what a terminal obeys.
    let values: Vec<_> = shares
        .iter()
        .map(|share| format!("{:?}", share.value))
        .collect();
    let width = values
        .iter()
        .map(|value| value.chars().count())
        .max()
        .unwrap_or(0);
    for (
        value,
        Share {
            records, tokens, ..
        },
    ) in values.iter().zip(shares)
    {
        let part = 100.0 * *records as f64 / all as f64;
        say!("  {value:<width$} {records:>9} records {part:>5.1} % {tokens:>11} tokens")?;
    }
    if !without.is_empty() {
        say!("without {field:?}: {}", numbered(without))?;
    }
    Ok(())
}

/// How many lines, some of them by their numbers, and how many more there are.
fn named(count: usize, lines: impl Iterator<Item = String>) -> String {
    let first: Vec<_> = lines.take(NAMED).collect();
    let more = match count.saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{count} (lines {}{more})", first.join(", "))
}

fn numbered(lines: &[usize]) -> String {
    named(lines.len(), lines.iter().map(usize::to_string))
}
