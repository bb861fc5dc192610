//! Compressed bases: the same as a base of the decoded weights, near the base that was compressed, and on both paths.

use super::*;
use crate::{
    config::LlamaConfig, error::LoadError, host::compressed::Compressed, weights::WeightSource,
};

/// Wide enough for whole blocks, and for edges of them.
fn wide() -> LlamaConfig {
    LlamaConfig {
        hidden_size: 96,
        intermediate_size: 160,
        num_attention_heads: 6,
        num_key_value_heads: 2,
        head_dim: 16,
        ..config()
    }
}

/// Weights that went through a compressed form and back.
struct Decoded<'a> {
    source: &'a MemoryWeights,
    precision: BasePrecision,
}

impl WeightSource for Decoded<'_> {
    fn config(&self) -> &LlamaConfig {
        self.source.config()
    }

    fn contains(&self, hf_name: &str) -> bool {
        self.source.contains(hf_name)
    }

    fn tensor(&self, hf_name: &str, shape: &[usize]) -> Result<Vec<f32>, LoadError> {
        let mut values = self.source.tensor(hf_name, shape)?;
        let &[rows, columns] = shape else {
            return Ok(values);
        };
        let embedding = hf_name.contains("embed_tokens") || hf_name.contains("lm_head");
        let precision = if embedding {
            self.precision.for_embedding()
        } else {
            self.precision
        };
        if let Some(compressed) = Compressed::new(&values, [rows, columns], precision) {
            for (row, values) in values.chunks_mut(columns).enumerate() {
                compressed.decode(row, 0, values);
            }
        }
        Ok(values)
    }
}

fn load(source: &dyn WeightSource, precision: BasePrecision, kernels: Kernels) -> Llama {
    super::super::load::load(source, &Device::flex(), precision, kernels).unwrap()
}

#[test]
fn compressed_base_computes_what_its_decoded_weights_compute() {
    let weights = weights(wide());
    let factors = upload(&adapter(&weights.config, &Projection::ALL));
    for precision in [BasePrecision::Bf16, BasePrecision::Int8, BasePrecision::Nf4] {
        let compressed = load(&weights, precision, Kernels::Host);
        let source = &weights;
        let decoded = Decoded { source, precision };
        let decoded = load(&decoded, BasePrecision::F32, Kernels::Host);
        let gradient = |llama: &Llama| {
            let options = PassOptions::default();
            llama
                .loss_and_gradient(&batch(), &factors, options)
                .unwrap()
        };
        let ((loss, found), (expected_loss, expected)) =
            (gradient(&compressed), gradient(&decoded));
        assert!(close(loss.nats, expected_loss.nats, 1e-6), "{precision}");
        let error = found.difference(&expected).unwrap().norm() / expected.norm();
        assert!(error < 1e-5, "{precision}: {error:e}");
        // One row goes another way than many.
        let mut caches = [0, 1].map(|_| KvCache::new(&weights.config));
        let one = compressed
            .decode(&mut caches[0], &[3], Some(&factors))
            .unwrap();
        let other = decoded
            .decode(&mut caches[1], &[3], Some(&factors))
            .unwrap();
        for (one, other) in one.iter().zip(&other) {
            assert!((one - other).abs() < 1e-4, "{precision}: {one} {other}");
        }
    }
}

#[test]
fn portable_operations_in_bf16_stay_near_f32() {
    let weights = weights(wide());
    let factors = upload(&adapter(&weights.config, &Projection::ALL));
    for (precision, tolerance) in [
        (BasePrecision::F32, 1e-5),
        (BasePrecision::Bf16, 3e-2),
        (BasePrecision::Int8, 3e-2),
        (BasePrecision::Nf4, 3e-2),
    ] {
        let source = &weights;
        let decoded = Decoded { source, precision };
        let expected = load(&decoded, BasePrecision::F32, Kernels::Host);
        let portable = load(&weights, precision, Kernels::Portable);
        let options = PassOptions {
            dropout: Some(Dropout {
                rate: 0.2,
                seeds: MaskSeeds::Batch(4),
            }),
            checkpointing: Checkpointing::Block,
        };
        let (loss, found) = portable
            .loss_and_gradient(&batch(), &factors, options)
            .unwrap();
        let (expected_loss, expected) = expected
            .loss_and_gradient(&batch(), &factors, options)
            .unwrap();
        assert!(
            close(loss.nats, expected_loss.nats, tolerance),
            "{precision}: {loss:?}"
        );
        let error = found.difference(&expected).unwrap().norm() / expected.norm();
        assert!(error < tolerance, "{precision}: {error:e}");
    }
}
