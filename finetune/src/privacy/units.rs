//! What is protected as a whole, and which of it joins a step.
//!
//! A unit is one record, or all records that carry the same value in one field (a patient's number). Sampling is Poisson: each
//! unit joins with one probability, independently of all others and of the steps before. Batches of fixed size from a shuffle
//! are something else, and accounting them as Poisson would understate what they cost (Chua et al. 2024, arXiv 2403.17673).

use std::{collections::BTreeMap, path::Path};

use super::NoiseSource;
use crate::data::{DataError, Dataset, field as value_of, lines, read_file};

/// The units of a data set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Units {
    /// The examples of each.
    members: Vec<Vec<usize>>,
    /// Most records of a unit that one step reads.
    records_max: usize,
}

impl Units {
    /// Every record is a unit of its own.
    pub fn records(dataset: &Dataset) -> Self {
        Self {
            members: (0..dataset.examples.len())
                .map(|index| vec![index])
                .collect(),
            records_max: 1,
        }
    }

    /// Records with the same value in `field` are one unit, of which a step reads at most `records_max` records.
    ///
    /// The file is the JSONL file that the data set was read from. Values are texts or whole numbers.
    ///
    /// # Errors
    /// [`DataError`] with the first line that has no such field.
    pub fn groups(
        dataset: &Dataset,
        file: &Path,
        field: &str,
        records_max: usize,
    ) -> Result<Self, DataError> {
        let text = read_file(file)?;
        let lines: Vec<&[u8]> = lines(&text).collect();
        let mut groups: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (index, example) in dataset.examples.iter().enumerate() {
            let refused = |what| DataError {
                file: file.to_owned(),
                line: Some(example.line),
                what,
            };
            let line = lines.get(example.line - 1).copied().unwrap_or_default();
            let group = value_of(line, field).map_err(refused)?;
            groups.entry(group).or_default().push(index);
        }
        Ok(Self {
            members: groups.into_values().collect(),
            records_max: records_max.max(1),
        })
    }

    /// Gives the number of units.
    pub fn count(&self) -> usize {
        self.members.len()
    }

    /// Gives the most records of one unit that a step reads.
    pub fn records_max(&self) -> usize {
        self.records_max
    }

    /// Draws the units of one step, and of each the examples that the step reads, in the order of the data set.
    pub fn sample(&self, rate: f64, random: &mut NoiseSource) -> Vec<(usize, Vec<usize>)> {
        let mut chosen = Vec::new();
        for (unit, members) in self.members.iter().enumerate() {
            if random.happens(rate) {
                chosen.push((unit, self.some_of(members, random)));
            }
        }
        chosen
    }

    /// All members, or `records_max` of them, each set equally likely.
    fn some_of(&self, members: &[usize], random: &mut NoiseSource) -> Vec<usize> {
        let mut members = members.to_vec();
        if members.len() > self.records_max {
            for place in 0..self.records_max {
                let other = place + random.below(members.len() - place);
                members.swap(place, other);
            }
            members.truncate(self.records_max);
            members.sort_unstable();
        }
        members
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::data::Example;

    fn dataset(lines: &[usize]) -> Dataset {
        let example = |&line: &usize| Example {
            tokens: vec![1, 2],
            response: vec![true, true],
            line,
        };
        Dataset {
            examples: lines.iter().map(example).collect(),
            digest: [0; 32],
            source: "records.jsonl".into(),
            truncated: 0,
        }
    }

    fn grouped(text: &str, lines: &[usize], records_max: usize) -> Result<Units, DataError> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        Units::groups(&dataset(lines), file.path(), "patient", records_max)
    }

    #[test]
    fn records_of_one_patient_are_one_unit() {
        let text = "{\"patient\": \"b\"}\n\n{\"patient\": \"a\"}\n{\"patient\": \"b\"}\n{\"patient\": 7}\n";
        let units = grouped(text, &[1, 3, 4, 5], 8).unwrap();
        assert_eq!(units.count(), 3);
        let all = units.sample(1.0, &mut NoiseSource::from_key([1; 32]));
        let members: Vec<_> = all.into_iter().map(|(_, members)| members).collect();
        assert_eq!(members, [vec![3], vec![1], vec![0, 2]]);
    }

    #[test]
    fn ways_to_write_one_patient_are_one_unit() {
        let text = "{\"patient\": 7}\n{\"patient\": \"7\"}\n{\"patient\": \" 7 \"}\n{\"patient\": \"8\"}\n";
        assert_eq!(grouped(text, &[1, 2, 3, 4], 8).unwrap().count(), 2);
    }

    #[test]
    fn byte_order_mark_is_no_part_of_the_first_record() {
        let text = "\u{feff}{\"patient\": 7}\n{\"patient\": 7}\n";
        assert_eq!(grouped(text, &[1, 2], 8).unwrap().count(), 1);
    }

    #[test]
    fn record_without_the_field_is_named_by_its_line() {
        let refused = grouped("{\"patient\": \"b\"}\n{\"text\": \"x\"}\n", &[1, 2], 8).unwrap_err();
        assert_eq!(refused.line, Some(2));
        assert!(
            refused.to_string().contains("no field \"patient\""),
            "{refused}"
        );
        let refused = grouped("{\"patient\": 1.5}\n", &[1], 8).unwrap_err();
        assert!(
            refused.to_string().contains("neither a text nor"),
            "{refused}"
        );
    }

    #[test]
    fn step_reads_no_more_of_a_unit_than_allowed_and_each_record_equally_often() {
        let text = "{\"patient\": \"a\"}\n".repeat(5);
        let units = grouped(&text, &[1, 2, 3, 4, 5], 2).unwrap();
        let mut random = NoiseSource::from_key([2; 32]);
        let mut seen = [0_u32; 5];
        for _ in 0..5000 {
            let drawn = units.sample(1.0, &mut random);
            assert_eq!((drawn.len(), drawn[0].1.len()), (1, 2));
            drawn[0].1.iter().for_each(|&member| seen[member] += 1);
        }
        // Binomial of 5000 draws at 2/5: standard deviation 35.
        assert!(
            seen.iter().all(|&count| count.abs_diff(2000) < 160),
            "{seen:?}"
        );
    }

    #[test]
    fn units_join_at_the_rate_and_independently() {
        let lines: Vec<usize> = (1..=40).collect();
        let units = Units::records(&dataset(&lines));
        let (rate, steps) = (0.1, 20_000);
        let mut random = NoiseSource::from_key([3; 32]);
        let (mut single, mut pair, mut next, mut sizes) = ([0_u32; 40], 0_u32, 0_u32, [0_u32; 3]);
        let mut before = false;
        for _ in 0..steps {
            let drawn = units.sample(rate, &mut random);
            let joined = |unit: usize| drawn.iter().any(|(one, _)| *one == unit);
            drawn.iter().for_each(|&(unit, _)| single[unit] += 1);
            pair += u32::from(joined(0) && joined(1));
            next += u32::from(before && joined(0));
            before = joined(0);
            if let Some(size) = sizes.get_mut(drawn.len()) {
                *size += 1;
            }
        }
        let near = |count: u32, probability: f64| {
            let expected = f64::from(steps) * probability;
            let deviation = (expected * (1.0 - probability)).sqrt();
            (f64::from(count) - expected).abs() < 4.5 * deviation
        };
        assert!(single.iter().all(|&count| near(count, rate)), "{single:?}");
        assert!(
            near(pair, rate * rate) && near(next, rate * rate),
            "{pair} {next}"
        );
        // Sizes are binomial: empty batches too are as frequent as they must be.
        assert!(near(sizes[0], 0.9_f64.powi(40)), "{sizes:?}");
        assert!(near(sizes[1], 40.0 * 0.1 * 0.9_f64.powi(39)), "{sizes:?}");
    }
}
