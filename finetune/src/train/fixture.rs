//! A tiny random model and little texts, for the tests of everything that trains or measures.

use std::{path::Path, sync::Arc};

use aggregation::Adapter;

use crate::{
    base::BaseModel,
    chat::Turn,
    data::{Dataset, Record},
    device::{self, DeviceChoice},
    lora::{LoraConfig, Projection},
    recipe::Recipe,
    schedule::Schedule,
    tiny,
};

/// The random model of this seed, on the CPU.
pub(crate) fn base() -> Arc<BaseModel> {
    let folder = tempfile::tempdir().unwrap();
    tiny::write(folder.path(), &tiny::shape(), 11).unwrap();
    let device = device::open(DeviceChoice::Cpu).unwrap();
    Arc::new(BaseModel::open(folder.path(), &device).unwrap())
}

/// Six texts of different lengths.
pub(crate) fn texts(base: &BaseModel) -> Arc<Dataset> {
    let texts = [
        "the cat",
        "a dog barks at night",
        "rain",
        "two and two is four",
        "ledger",
        "pulse 72",
    ];
    let records = texts.map(|text| Record::Text(text.to_owned()));
    dataset(base, "texts.jsonl", records.to_vec())
}

/// One question with its answer.
pub(crate) fn question(base: &BaseModel) -> Arc<Dataset> {
    let turns = vec![Turn::user("code?"), Turn::assistant("4711")];
    dataset(base, "question.jsonl", vec![Record::Messages(turns)])
}

pub(crate) fn dataset(base: &BaseModel, source: &str, records: Vec<Record>) -> Arc<Dataset> {
    Arc::new(Dataset::from_records(Path::new(source), records, &base.tokenizer, 64).unwrap())
}

/// A fresh adapter on every projection.
pub(crate) fn adapter(base: &BaseModel) -> Adapter {
    Adapter::initial(Arc::new(base.adapter_layout(&lora()).unwrap()), 5)
}

pub(crate) fn lora() -> LoraConfig {
    LoraConfig {
        rank: 4,
        alpha: 8.0,
        target_modules: Projection::ALL.to_vec(),
        ..LoraConfig::default()
    }
}

/// Ten steps on batches of three, with dropout.
pub(crate) fn recipe() -> Recipe {
    Recipe {
        learning_rate: 1e-2,
        schedule: Schedule::Cosine,
        warmup_steps: 2,
        total_steps: 10,
        batch_examples: 3,
        max_tokens: 64,
        ..Recipe::default()
    }
}
