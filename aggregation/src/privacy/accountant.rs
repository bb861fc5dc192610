//! What all steps so far have cost.

use std::{collections::BTreeMap, sync::OnceLock};

use rayon::prelude::*;

use super::{Budget, SampledGaussian, renyi};

/// The Rényi orders that an accountant looks at; more orders can only find a smaller epsilon.
#[derive(Clone, Debug, PartialEq)]
pub struct Orders(Vec<f64>);

impl Orders {
    /// Whole orders 2 to 256, then 512 and 1024.
    pub fn whole() -> Self {
        let orders = (2..=256).chain([512, 1024]).map(f64::from);
        Self(orders.collect())
    }

    /// Whole orders, and tenths from 1.1 to 10.9, where large budgets are decided.
    pub fn dense() -> Self {
        let mut orders = Self::whole().0;
        orders.extend(
            (11..110)
                .filter(|tenths| tenths % 10 != 0)
                .map(|tenths| f64::from(tenths) / 10.0),
        );
        orders.sort_by(f64::total_cmp);
        Self(orders)
    }

    /// These orders.
    ///
    /// # Panics
    /// If one is not above 1.
    pub fn of(orders: &[f64]) -> Self {
        assert!(
            orders.iter().all(|&order| order > 1.0),
            "Rényi orders are above 1"
        );
        Self(orders.to_vec())
    }

    /// Gives the divergences of one step, order by order.
    fn divergences(&self, step: SampledGaussian) -> Vec<f64> {
        self.0
            .par_iter()
            .map(|&order| renyi::divergence(step, order))
            .collect()
    }
}

impl Default for Orders {
    fn default() -> Self {
        static DENSE: OnceLock<Orders> = OnceLock::new();
        DENSE.get_or_init(Self::dense).clone()
    }
}

/// An epsilon at some delta, and the order that gave it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// The bound; zero if nothing was released.
    pub epsilon: f64,
    /// The Rényi order of the bound, where anything was released.
    pub order: Option<f64>,
}

/// Steps of any mechanisms, added up.
///
/// Costs are kept by mechanism and summed in one order of mechanisms, so the result does not depend on the order in which they
/// were spent, and a ledger that is read back gives the same epsilon to the last bit.
#[derive(Clone, Debug, Default)]
pub struct Accountant {
    orders: Orders,
    spent: BTreeMap<[u64; 2], Spent>,
}

#[derive(Clone, Debug)]
struct Spent {
    step: SampledGaussian,
    divergences: Vec<f64>,
    steps: u64,
}

impl Accountant {
    /// Makes an accountant that has seen nothing.
    pub fn new(orders: Orders) -> Self {
        Self {
            orders,
            spent: BTreeMap::new(),
        }
    }

    /// Adds steps of a mechanism on the same data.
    pub fn add(&mut self, step: SampledGaussian, steps: u64) {
        if steps == 0 {
            return;
        }
        let key = [step.sampling_rate(), step.noise_multiplier()].map(f64::to_bits);
        let orders = &self.orders;
        let spent = self.spent.entry(key).or_insert_with(|| Spent {
            step,
            divergences: orders.divergences(step),
            steps: 0,
        });
        spent.steps = spent.steps.saturating_add(steps);
    }

    /// Gives the mechanisms and their steps, in the order in which they are summed.
    pub fn spent(&self) -> impl Iterator<Item = (SampledGaussian, u64)> {
        self.spent.values().map(|spent| (spent.step, spent.steps))
    }

    /// Gives the smallest epsilon that holds for everything so far at this delta.
    ///
    /// # Panics
    /// If `delta` is not above 0 and below 1: a [`Budget`] has checked its own.
    pub fn cost(&self, delta: f64) -> Cost {
        assert!(delta > 0.0 && delta < 1.0, "delta is a probability");
        if self.spent.is_empty() {
            return Cost {
                epsilon: 0.0,
                order: None,
            };
        }
        let bounds = self.totals().map(|(order, total)| Cost {
            epsilon: epsilon(order, total, delta).max(0.0),
            order: Some(order),
        });
        bounds
            .min_by(|one, other| one.epsilon.total_cmp(&other.epsilon))
            .expect("an accountant has orders")
    }

    /// Gives the smallest delta that holds for everything so far at this epsilon.
    pub fn delta(&self, epsilon: f64) -> f64 {
        if self.spent.is_empty() {
            return 0.0;
        }
        self.totals()
            .map(|(order, total)| {
                let spare = total - epsilon + (-1.0 / order).ln_1p();
                ((order - 1.0) * spare - order.ln()).exp().min(1.0)
            })
            .fold(1.0, f64::min)
    }

    /// Whether everything so far is within a budget.
    pub fn is_within(&self, budget: Budget) -> bool {
        self.cost(budget.delta()).epsilon <= budget.epsilon()
    }

    /// Gives an accountant that has also seen these steps.
    #[must_use]
    pub fn with(&self, step: SampledGaussian, steps: u64) -> Self {
        let mut more = self.clone();
        more.add(step, steps);
        more
    }

    fn totals(&self) -> impl Iterator<Item = (f64, f64)> {
        self.orders.0.iter().enumerate().map(|(index, &order)| {
            let parts = self.spent.values();
            let total = parts
                .map(|spent| spent.steps as f64 * spent.divergences[index])
                .sum();
            (order, total)
        })
    }
}

/// The conversion of Canonne, Kamath and Steinke 2020 (arXiv 2004.00010), proposition 12; also Balle et al. 2020, theorem 21.
fn epsilon(order: f64, divergence: f64, delta: f64) -> f64 {
    divergence + (-1.0 / order).ln_1p() - (delta.ln() + order.ln()) / (order - 1.0)
}
