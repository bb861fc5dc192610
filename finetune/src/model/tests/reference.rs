//! An adapted decoder in plain f64 loops, written apart from the engine: the oracle of the model's tests.

use std::collections::BTreeMap;

use aggregation::Adapter;

use crate::{batch::Batch, config::LlamaConfig, lora::Projection, weights::WeightSource};

/// Weights by name, in memory.
pub(super) struct MemoryWeights {
    pub(super) config: LlamaConfig,
    pub(super) tensors: BTreeMap<String, Vec<f32>>,
}

impl WeightSource for MemoryWeights {
    fn config(&self) -> &LlamaConfig {
        &self.config
    }

    fn contains(&self, hf_name: &str) -> bool {
        self.tensors.contains_key(hf_name)
    }

    fn tensor(&self, hf_name: &str, shape: &[usize]) -> Result<Vec<f32>, crate::LoadError> {
        let values = self.tensors[hf_name].clone();
        assert_eq!(values.len(), shape.iter().product::<usize>(), "{hf_name}");
        Ok(values)
    }
}

pub(super) struct Reference<'a> {
    pub(super) weights: &'a MemoryWeights,
    /// The adapter's layout, and its values in f64.
    pub(super) adapter: Option<(&'a Adapter, Vec<f64>)>,
}

type Rows = Vec<Vec<f64>>;

impl Reference<'_> {
    fn named(&self, name: &str) -> Vec<f64> {
        self.weights.tensors[name]
            .iter()
            .map(|&x| f64::from(x))
            .collect()
    }

    fn norm(&self, x: &Rows, name: &str) -> Rows {
        let weight = self.named(name);
        let each = |row: &Vec<f64>| {
            let mean = row.iter().map(|x| x * x).sum::<f64>() / row.len() as f64;
            let inverse = (mean + self.weights.config.rms_norm_eps).sqrt().recip();
            row.iter()
                .zip(&weight)
                .map(|(x, w)| x * inverse * w)
                .collect()
        };
        x.iter().map(each).collect()
    }

    fn project(&self, x: &Rows, layer: usize, projection: Projection) -> Rows {
        let name = projection.module(layer);
        let mut y = product(x, &self.named(&format!("{name}.weight")));
        if let Some(bias) = self.weights.tensors.get(&format!("{name}.bias")) {
            for row in &mut y {
                row.iter_mut()
                    .zip(bias)
                    .for_each(|(y, &b)| *y += f64::from(b));
            }
        }
        if let Some((adapter, values)) = &self.adapter {
            let layout = adapter.layout();
            if let Some(module) = layout
                .modules()
                .iter()
                .position(|module| module.name == name)
            {
                let middle = product(x, &values[layout.a_range(module)]);
                let extra = product(&middle, &values[layout.b_range(module)]);
                add(&mut y, &extra, layout.scale());
            }
        }
        y
    }

    fn turned(&self, x: Rows) -> Rows {
        let frequencies = self.weights.config.inverse_frequencies();
        let half = frequencies.len();
        let mut turned = x;
        for (position, row) in turned.iter_mut().enumerate() {
            for head in row.chunks_mut(2 * half) {
                for pair in 0..half {
                    let (sin, cos) = (position as f64 * frequencies[pair]).sin_cos();
                    let (low, high) = (head[pair], head[pair + half]);
                    head[pair] = low * cos - high * sin;
                    head[pair + half] = high * cos + low * sin;
                }
            }
        }
        turned
    }

    fn attend(&self, q: &Rows, k: &Rows, v: &Rows) -> Rows {
        let config = &self.weights.config;
        let width = config.head_dim;
        let group = config.num_attention_heads / config.num_key_value_heads;
        let mut out = vec![vec![0.0; q[0].len()]; q.len()];
        for row in 0..q.len() {
            for head in 0..config.num_attention_heads {
                let (from, other) = (head * width, head / group * width);
                let score = |key: usize| {
                    let pairs = q[row][from..][..width]
                        .iter()
                        .zip(&k[key][other..][..width]);
                    pairs.map(|(q, k)| q * k).sum::<f64>() / (width as f64).sqrt()
                };
                let powers: Vec<f64> = (0..=row).map(|key| score(key).exp()).collect();
                let sum: f64 = powers.iter().sum();
                for (key, power) in powers.iter().enumerate() {
                    for i in 0..width {
                        out[row][from + i] += power / sum * v[key][other + i];
                    }
                }
            }
        }
        out
    }

    /// The logits of one text.
    pub(super) fn logits(&self, tokens: &[u32]) -> Rows {
        use Projection::{Down, Gate, K, O, Q, Up, V};
        let config = &self.weights.config;
        let table = self.named("model.embed_tokens.weight");
        let width = config.hidden_size;
        let mut x: Rows = tokens
            .iter()
            .map(|&t| table[t as usize * width..][..width].to_vec())
            .collect();
        for layer in 0..config.num_hidden_layers {
            let normed = self.norm(&x, &format!("model.layers.{layer}.input_layernorm.weight"));
            let q = self.turned(self.project(&normed, layer, Q));
            let k = self.turned(self.project(&normed, layer, K));
            let attended = self.attend(&q, &k, &self.project(&normed, layer, V));
            add(&mut x, &self.project(&attended, layer, O), 1.0);
            let name = format!("model.layers.{layer}.post_attention_layernorm.weight");
            let normed = self.norm(&x, &name);
            let mut gated = self.project(&normed, layer, Gate);
            for (gate, up) in gated.iter_mut().zip(self.project(&normed, layer, Up)) {
                gate.iter_mut()
                    .zip(up)
                    .for_each(|(g, u)| *g = *g / (1.0 + (-*g).exp()) * u);
            }
            add(&mut x, &self.project(&gated, layer, Down), 1.0);
        }
        let head = if config.tie_word_embeddings {
            table
        } else {
            self.named("lm_head.weight")
        };
        product(&self.norm(&x, "model.norm.weight"), &head)
    }

    /// The sum of nats of a batch.
    pub(super) fn nats(&self, batch: &Batch) -> f64 {
        let mut nats = 0.0;
        for rows in &batch.segments {
            let logits = self.logits(&batch.tokens[rows.clone()]);
            for target in batch
                .targets
                .iter()
                .filter(|t| rows.contains(&(t.row as usize)))
            {
                let row = &logits[target.row as usize - rows.start];
                let sum: f64 = row.iter().map(|x| x.exp()).sum();
                nats += sum.ln() - row[target.token as usize];
            }
        }
        nats
    }
}

/// `x W^T` for a row-major `W` of as many columns as `x`.
fn product(x: &Rows, weight: &[f64]) -> Rows {
    let dot = |row: &[f64], weight: &[f64]| row.iter().zip(weight).map(|(x, w)| x * w).sum();
    x.iter()
        .map(|row| {
            weight
                .chunks(row.len())
                .map(|weight| dot(row, weight))
                .collect()
        })
        .collect()
}

fn add(x: &mut Rows, y: &Rows, scale: f64) {
    for (x, y) in x.iter_mut().zip(y) {
        x.iter_mut().zip(y).for_each(|(x, y)| *x += scale * y);
    }
}
