//! Every operation against `burn`'s autodiff (f32) and against finite differences of the portable forward in f64.

use burn::tensor::{DType, Device, Tensor, TensorData, activation};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{
    attention::{self, Heads, Inputs, Span},
    cross_entropy::{self, Want},
    dropout::{self, Mask},
    frozen::Frozen,
    linear::{Branch, Linear},
    rms_norm, rope, rows, swiglu,
};
use crate::{
    host::{self, Kernels},
    lora::{Factors, Projection, Site},
};

const BOTH: [Kernels; 2] = [Kernels::Host, Kernels::Portable];
const PORTABLE: Kernels = Kernels::Portable;

fn random(shape: [usize; 2], seed: u64) -> Tensor<2> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let values = (0..shape[0] * shape[1])
        .map(|_| random.random_range(-1.0_f32..1.0))
        .collect();
    host::tensor(values, shape)
}

fn wide(x: &Tensor<2>) -> Tensor<2> {
    x.clone().cast(DType::F64)
}

fn norm(x: &[f32]) -> f64 {
    x.iter()
        .map(|&x| f64::from(x) * f64::from(x))
        .sum::<f64>()
        .sqrt()
}

#[track_caller]
fn assert_close(found: Tensor<2>, expected: Tensor<2>, what: &str) {
    assert_eq!(found.dims(), expected.dims(), "{what}");
    let (found, expected) = (host::download(found), host::download(expected));
    let difference: Vec<f32> = found.iter().zip(&expected).map(|(a, b)| a - b).collect();
    let error = norm(&difference) / norm(&expected).max(1e-12);
    assert!(error < 1e-5, "{what}: relative error {error:e}");
}

/// The gradients of all inputs, given the inputs and the gradient of the output.
type Backward<'a> = dyn Fn(Kernels, &[Tensor<2>], Tensor<2>) -> Vec<Tensor<2>> + 'a;

/// A differentiable operation of several inputs: a forward in portable operations of any precision, and the explicit
/// backward under test.
struct Operation<'a> {
    name: &'a str,
    inputs: Vec<Tensor<2>>,
    forward: &'a dyn Fn(&[Tensor<2>]) -> Tensor<2>,
    backward: &'a Backward<'a>,
}

impl Operation<'_> {
    fn check(&self) {
        let out = (self.forward)(&self.inputs);
        let dy = random(out.dims(), 99);
        let expected = self.autodiff(&dy);
        for kernels in BOTH {
            let found = (self.backward)(kernels, &self.inputs, dy.clone());
            assert_eq!(found.len(), expected.len());
            for (index, (found, expected)) in found.into_iter().zip(&expected).enumerate() {
                let what = format!("{} {kernels:?}, input {index}", self.name);
                self.check_slope(index, &found, &dy, &what);
                assert_close(found, expected.clone(), &what);
            }
        }
    }

    fn autodiff(&self, dy: &Tensor<2>) -> Vec<Tensor<2>> {
        let device = Device::flex().autodiff();
        let lift = |x: &Tensor<2>| {
            let data = TensorData::new(host::download(x.clone()), x.dims());
            Tensor::<2>::from_data(data, &device)
        };
        let inputs: Vec<_> = self.inputs.iter().map(|x| lift(x).require_grad()).collect();
        let loss = ((self.forward)(&inputs) * lift(dy)).sum();
        let gradients = loss.backward();
        inputs
            .iter()
            .map(|x| x.grad(&gradients).expect("every input has a gradient"))
            .collect()
    }

    /// Central difference along the gradient itself, in f64.
    fn check_slope(&self, index: usize, gradient: &Tensor<2>, dy: &Tensor<2>, what: &str) {
        let direction = wide(gradient) / norm(&host::download(gradient.clone()));
        let value = |step: f64| {
            let mut inputs: Vec<_> = self.inputs.iter().map(wide).collect();
            inputs[index] = inputs[index].clone() + direction.clone() * step;
            ((self.forward)(&inputs) * wide(dy))
                .sum()
                .into_data()
                .iter::<f64>()
                .sum::<f64>()
        };
        let slope = (value(1e-5) - value(-1e-5)) / 2e-5;
        let expected = norm(&host::download(gradient.clone()));
        let error = (slope - expected).abs() / expected;
        assert!(error < 1e-5, "{what}: finite difference off by {error:e}");
    }
}

#[test]
fn rms_norm_and_its_backward_agree_with_autodiff() {
    let eps = 1e-5;
    let weight = random([1, 24], 1) + 1.5;
    let forward = |inputs: &[Tensor<2>]| {
        let x = &inputs[0];
        let weight = weight.clone().cast(x.dtype());
        let weight = Tensor::from_data(weight.into_data(), (&x.device(), x.dtype()));
        rms_norm::apply(PORTABLE, x, &rms_norm::inverse(PORTABLE, x, eps), &weight)
    };
    let backward = |kernels, inputs: &[Tensor<2>], dy| {
        let inverse = rms_norm::inverse(kernels, &inputs[0], eps);
        vec![rms_norm::backward(
            kernels, &dy, &inputs[0], &inverse, &weight,
        )]
    };
    let x = random([19, 24], 2);
    let inverse = rms_norm::inverse(Kernels::Host, &x, eps);
    let host = rms_norm::apply(Kernels::Host, &x, &inverse, &weight);
    assert_close(host, forward(std::slice::from_ref(&x)), "rms_norm forward");
    let operation = Operation {
        name: "rms_norm",
        inputs: vec![x],
        forward: &forward,
        backward: &backward,
    };
    operation.check();
}

#[test]
fn swiglu_and_its_backward_agree_with_autodiff() {
    let inputs = vec![random([9, 21], 3) * 4.0, random([9, 21], 4)];
    let forward = |inputs: &[Tensor<2>]| swiglu::forward(PORTABLE, &inputs[0], &inputs[1]);
    let backward = |kernels, inputs: &[Tensor<2>], dy| {
        let (gate, up) = swiglu::backward(kernels, dy, &inputs[0], &inputs[1]);
        vec![gate, up]
    };
    let host = swiglu::forward(Kernels::Host, &inputs[0], &inputs[1]);
    assert_close(host, forward(&inputs), "swiglu forward");
    Operation {
        name: "swiglu",
        inputs,
        forward: &forward,
        backward: &backward,
    }
    .check();
}

/// Two spans, longer than a block of queries and of keys; three queries heads to a key head.
fn attention_case() -> (Vec<Span>, Heads, Vec<Tensor<2>>) {
    let heads = Heads {
        queries: 6,
        keys: 2,
        width: 24,
    };
    let spans = [0..37, 37..170].map(|rows| Span {
        queries: rows.clone(),
        keys: rows,
    });
    let q = random([170, 6 * 24], 5) * 2.0;
    (
        spans.to_vec(),
        heads,
        vec![q, random([170, 48], 6) * 2.0, random([170, 48], 7)],
    )
}

fn attention_inputs(inputs: &[Tensor<2>]) -> Inputs {
    let [q, k, v] = [0, 1, 2].map(|index| inputs[index].clone());
    Inputs { q, k, v }
}

#[test]
fn attention_and_its_backward_agree_with_autodiff() {
    let (spans, heads, inputs) = attention_case();
    let forward = |inputs: &[Tensor<2>]| attention::plain(&attention_inputs(inputs), &spans, heads);
    let backward = |kernels, inputs: &[Tensor<2>], dy: Tensor<2>| {
        let inputs = attention_inputs(inputs);
        let attended = attention::forward(kernels, &inputs, &spans, heads);
        let d = attention::backward(kernels, &dy, &inputs, &attended, &spans, heads);
        vec![d.q, d.k, d.v]
    };
    for kernels in BOTH {
        let attended = attention::forward(kernels, &attention_inputs(&inputs), &spans, heads);
        assert_close(attended.out, forward(&inputs), "attention forward");
    }
    Operation {
        name: "attention",
        inputs,
        forward: &forward,
        backward: &backward,
    }
    .check();
}

#[test]
fn attention_over_a_cache_sees_all_earlier_keys() {
    let (_, heads, inputs) = attention_case();
    let all = attention_inputs(&inputs);
    let whole = [Span {
        queries: 0..170,
        keys: 0..170,
    }];
    let late = Inputs {
        q: all.q.clone().narrow(0, 100, 70),
        ..all.clone()
    };
    let spans = [Span {
        queries: 0..70,
        keys: 0..170,
    }];
    for kernels in BOTH {
        let expected = attention::forward(kernels, &all, &whole, heads)
            .out
            .narrow(0, 100, 70);
        let found = attention::forward(kernels, &late, &spans, heads).out;
        assert_close(found, expected, "attention over a cache");
    }
}

#[test]
fn a_rotation_is_undone_by_its_backward_and_equal_in_both_implementations() {
    let positions: Vec<u32> = (0..31).map(|row| row * 17 % 23).collect();
    let angles = rope::Angles::new(&positions, &[1.0, 0.3, 0.01, 0.002], &Device::flex());
    let x = random([31, 24], 8);
    let turned = rope::rotate(PORTABLE, x.clone(), &angles);
    assert_close(
        rope::rotate(Kernels::Host, x.clone(), &angles),
        turned.clone(),
        "rope",
    );
    for kernels in BOTH {
        // The transpose of a rotation is its inverse.
        assert_close(
            rope::rotate(kernels, turned.clone(), &angles.reversed()),
            x.clone(),
            "back",
        );
    }
    let first = host::download(turned)[..2].to_vec();
    assert_eq!(first, host::download(x)[..2], "position 0 is not turned");
}

#[test]
fn cross_entropy_and_its_gradient_agree_with_autodiff() {
    let head = random([67, 12], 9);
    let frozen = Frozen::from(head.clone());
    let targets: Vec<u32> = (0..150).map(|row| row * 7 % 67).collect();
    let forward = |inputs: &[Tensor<2>]| {
        let x = &inputs[0];
        let head = Tensor::<2>::from_data(
            head.clone().cast(x.dtype()).into_data(),
            (&x.device(), x.dtype()),
        );
        let choice: Vec<f32> = targets
            .iter()
            .flat_map(|&target| (0..67).map(move |token| f32::from(u8::from(token == target))))
            .collect();
        let choice =
            Tensor::<2>::from_data(TensorData::new(choice, [150, 67]), (&x.device(), x.dtype()));
        (activation::log_softmax(x.clone().matmul(head.transpose()), 1) * choice)
            .neg()
            .sum()
            .reshape([1, 1])
    };
    let x = random([150, 12], 10) * 3.0;
    let expected = host::download(forward(std::slice::from_ref(&x)))[0];
    for kernels in BOTH {
        let (nats, none) = cross_entropy::loss(kernels, &x, &frozen, &targets, Want::Loss);
        let nats: f64 = nats.iter().sum();
        assert!(
            (nats - f64::from(expected)).abs() / nats < 1e-5,
            "{nats} {expected}"
        );
        assert!(none.is_none());
    }
    let backward = |kernels, inputs: &[Tensor<2>], dy: Tensor<2>| {
        let want = Want::LossAndGradient;
        let (_, dx) = cross_entropy::loss(kernels, &inputs[0], &frozen, &targets, want);
        vec![dx.expect("wanted") * host::download(dy)[0]]
    };
    let inputs = vec![x];
    Operation {
        name: "cross_entropy",
        inputs,
        forward: &forward,
        backward: &backward,
    }
    .check();
}

#[test]
fn an_adapted_linear_layer_and_its_backward_agree_with_autodiff() {
    let weight = random([14, 18], 11);
    let linear = Linear {
        weight: weight.clone().into(),
        bias: Some(random([1, 14], 12)),
    };
    let scale = 0.75;
    for mask in [None, Some(Mask::new(0.4, &[(0, 5)], 3))] {
        let lift = |x: &Tensor<2>, like: &Tensor<2>| {
            let data = x.clone().cast(like.dtype()).into_data();
            Tensor::<2>::from_data(data, (&like.device(), like.dtype()))
        };
        let ones = mask
            .as_ref()
            .map(|mask| dropout::apply(PORTABLE, &random([7, 18], 0).ones_like(), mask));
        let forward = |inputs: &[Tensor<2>]| {
            let [x, a, b] = [0, 1, 2].map(|index| inputs[index].clone());
            let dropped = match &ones {
                Some(ones) => x.clone() * lift(ones, &x),
                None => x.clone(),
            };
            x.clone().matmul(lift(&weight, &x).transpose())
                + dropped.matmul(a.transpose()).matmul(b.transpose()) * scale
        };
        let backward = |kernels, inputs: &[Tensor<2>], dy: Tensor<2>| {
            let site = Site {
                layer: 0,
                projection: Projection::Q,
            };
            let factors = Factors {
                site,
                a: inputs[1].clone(),
                b: inputs[2].clone(),
            };
            let branch = Branch {
                factors: &factors,
                scale,
                mask: mask.clone(),
            };
            let way = branch.way_back(kernels, &inputs[0], &dy);
            let found = way.gradient(kernels, &(0..7));
            let dx =
                linear.weight.backward(kernels, &dy, None) + branch.input_gradient(kernels, &way);
            vec![dx, found.a, found.b]
        };
        let inputs = vec![
            random([7, 18], 13),
            random([4, 18], 14),
            random([14, 4], 15),
        ];
        Operation {
            name: "linear",
            inputs,
            forward: &forward,
            backward: &backward,
        }
        .check();
    }
}

#[test]
fn one_row_goes_through_a_layer_like_many() {
    let linear = Linear {
        weight: random([130, 37], 16).into(),
        bias: Some(random([1, 130], 17)),
    };
    let x = random([3, 37], 18);
    let expected = linear.forward(Kernels::Host, &x).narrow(0, 2, 1);
    assert_close(
        linear.forward(Kernels::Host, &x.narrow(0, 2, 1)),
        expected,
        "one row",
    );
}

#[test]
fn dropout_masks_are_the_same_everywhere_and_have_the_asked_rate() {
    let x = random([200, 150], 19).ones_like();
    let mask = Mask::new(0.1, &[(0, 42)], 7);
    let [one, other] = BOTH.map(|kernels| host::download(dropout::apply(kernels, &x, &mask)));
    assert_eq!(one, other);
    let kept = one.iter().filter(|&&value| value > 0.0).count() as f64 / 30_000.0;
    assert!((kept - 0.9).abs() < 0.006, "kept {kept}");
    let next = host::download(dropout::apply(PORTABLE, &x, &Mask::new(0.1, &[(0, 42)], 8)));
    let differ = one.iter().zip(&next).filter(|(a, b)| a != b).count() as f64 / 30_000.0;
    assert!(
        (differ - 0.18).abs() < 0.01,
        "two modules' masks differ in {differ}"
    );
}

#[test]
fn chosen_rows_come_back_to_their_places() {
    let table = random([9, 5], 20);
    for kernels in BOTH {
        let chosen = rows::gather(kernels, &table, &[7, 0, 3]);
        let back = host::download(rows::scatter(kernels, chosen, &[7, 0, 3], 9));
        let whole = host::download(table.clone());
        for (row, (back, from)) in back.chunks(5).zip(whole.chunks(5)).enumerate() {
            let expected = if [0, 3, 7].contains(&row) {
                from.to_vec()
            } else {
                vec![0.0; 5]
            };
            assert_eq!(back, expected, "{kernels:?} row {row}");
        }
    }
}
