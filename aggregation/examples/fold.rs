//! How long the server's arithmetic on one round takes, by hand: no test depends on it.
//!
//! `cargo run --release -p aggregation --example fold` takes four updates of 84 MB (32 layers, the
//! seven projections of a 4096-wide model at rank 4) through admission, folding and the anchor.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
#![expect(clippy::print_stdout, reason = "a benchmark prints what it measured")]

use std::sync::Arc;
use std::time::Instant;

use aggregation::admission::{AdmissionRules, admit};
use aggregation::encoded::EncodedUpdate;
use aggregation::ewc::{FisherAccumulator, proximal_step};
use aggregation::strategy::fedavg::FedAvg;
use aggregation::strategy::fixed_point::FixedPoint;
use aggregation::{Adapter, AdapterLayout, Encoding, ModuleLayout};

const PROJECTIONS: [(&str, usize, usize); 7] = [
    ("self_attn.q_proj", 4096, 4096),
    ("self_attn.k_proj", 4096, 1024),
    ("self_attn.v_proj", 4096, 1024),
    ("self_attn.o_proj", 4096, 4096),
    ("mlp.gate_proj", 4096, 14336),
    ("mlp.up_proj", 4096, 14336),
    ("mlp.down_proj", 14336, 4096),
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let modules = (0..32).flat_map(|layer| {
        PROJECTIONS.map(|(name, in_features, out_features)| ModuleLayout {
            name: format!("model.layers.{layer}.{name}"),
            in_features,
            out_features,
        })
    });
    let layout = Arc::new(AdapterLayout::new(8, 16.0, false, modules.collect())?);
    println!(
        "{} values, {} MB",
        layout.parameters(),
        layout.parameters() * 4 / 1_000_000
    );
    let global = timed("initial", || Adapter::initial(Arc::clone(&layout), 1));
    timed("sha256", || global.sha256());
    let rules = AdmissionRules {
        norm_max: 1000.0,
        weight_max: 100_000,
    };
    let fixed = FixedPoint::for_bounds(64, rules.weight_max, rules.norm_max)?;
    println!("step {:.1e}", fixed.step());
    let mut sum = FedAvg::new(Arc::clone(&layout), fixed);
    for encoding in [Encoding::F32, Encoding::Bf16, Encoding::Int8] {
        println!("{encoding:?}");
        let bytes = timed("encode", || encoding.encode(global.values()));
        let copied = timed("memory copy", || bytes.clone());
        for _ in 0..3 {
            let update = EncodedUpdate::new(copied.as_slice(), encoding);
            let admitted = timed("admit", || admit(&layout, update, 10, &rules))?;
            timed("fold", || sum.fold_admitted(&admitted))?;
        }
    }
    let mut mean = timed("mean", || sum.mean())?;
    timed("inexactness", || sum.inexactness(&global, &mean));
    timed("norm", || mean.norm());
    timed("product norm", || mean.product_norm());
    let mut fisher = FisherAccumulator::new(&layout);
    for (index, module) in layout.modules().iter().enumerate() {
        let (out, width) = (module.out_features as f64, module.in_features as f64);
        let (row, col) = (
            vec![width; module.out_features],
            vec![out; module.in_features],
        );
        fisher.add(index, &row, &col, out * width);
    }
    fisher.finish_example(1);
    let anchor = fisher.finish([0; 32])?.bind(&layout, &[0; 32])?;
    timed("proximal step", || {
        proximal_step(&mut mean, &anchor, None, &|_, _| 0.01)
    });
    Ok(())
}

fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    println!("{what:>15}  {:7.1} ms", start.elapsed().as_secs_f64() * 1e3);
    result
}
