//! Updates on their way into a sum: those that are there together in one pass over it.
//!
//! A sum has eight bytes for each value of an update, which has four or two. With a pass over the sum for each update, memory would
//! carry that back and forth and little else; so a module's sum stays in the processor's cache until all have been added to it.

use std::convert::Infallible;
use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;

use super::{AggregateError, FedAvg, FoldError};
use crate::adapter::Adapter;
use crate::admission::Admitted;
use crate::encoded::ReadAt;
use crate::inexactness::ModuleSketch;
use crate::layout::AdapterLayout;
use crate::strategy::fixed_point::add_weighted;

/// Updates that may wait for one pass: one that waits costs an open file, and is added at the round's end if no other pass comes before.
pub const TOGETHER: usize = 64;

/// By what the values of an update are multiplied.
#[derive(Clone, Copy, Debug)]
pub(super) struct Factors {
    weight: u64,
    /// Of its length that is left of it.
    share: f64,
}

/// Puts a range of the values of an update, by its number from 0, where it is told.
pub(super) trait ReadValues<E>:
    Fn(usize, Range<usize>, &mut [f32]) -> Result<(), E>
{
}

impl<E, F: Fn(usize, Range<usize>, &mut [f32]) -> Result<(), E>> ReadValues<E> for F {}

/// Updates that are to be added: the factors of each, and what reads its values.
pub(super) struct Addends<F> {
    factors: Vec<Factors>,
    read: F,
}

/// What one module's values are added to.
pub(super) struct ModuleSum<'a> {
    /// Where the module is in an update.
    pub(super) range: Range<usize>,
    pub(super) sums: &'a mut [i64],
    pub(super) sketch: ModuleSketch<'a>,
}

impl<F> Addends<F> {
    /// Adds the module of each update; `values` is room for one, whatever is in it.
    pub(super) fn add_to<E>(
        &self,
        module: &mut ModuleSum<'_>,
        values: &mut [f32],
        scale: f64,
    ) -> Result<(), E>
    where
        F: ReadValues<E>,
    {
        for (update, Factors { weight, share }) in self.factors.iter().enumerate() {
            (self.read)(update, module.range.clone(), values)?;
            add_weighted(module.sums, values, scale * share, *weight as i64);
            module.sketch.add(values, *weight);
        }
        Ok(())
    }
}

impl FedAvg {
    /// Adds one participant's update to the weighted sum.
    ///
    /// # Units
    /// `weight` counts training examples, not tokens or steps.
    ///
    /// # Errors
    /// [`AggregateError`] if the layout differs, or the weight, a value or the number of
    /// participants is beyond the bounds of the fixed point; the sum is then unchanged.
    pub fn fold(&mut self, update: &Adapter, weight: u64) -> Result<(), AggregateError> {
        self.check(update.layout(), weight, 1)?;
        self.check_values(update)?;
        let copy = |_, range: Range<usize>, values: &mut [f32]| {
            values.copy_from_slice(&update.values()[range]);
            Ok::<(), Infallible>(())
        };
        let factors = vec![Factors { weight, share: 1.0 }];
        match self.add(&Addends {
            factors,
            read: copy,
        }) {
            Ok(()) => Ok(()),
            Err(never) => match never {},
        }
    }

    /// Adds an update that lies in bytes, reading it once more, module by module on all cores.
    ///
    /// # Errors
    /// [`FoldError::Refused`] as for [`Self::fold`], the sum is then unchanged; [`FoldError::Read`] if the bytes cannot
    /// be read any more, and then this sum must not be used.
    pub fn fold_admitted<R: ReadAt>(&mut self, admitted: &Admitted<R>) -> Result<(), FoldError> {
        self.fold_together(&[admitted], f64::INFINITY)
    }

    /// Adds updates as [`Self::fold_admitted`] does, in one pass over the sum; those longer than `clip_norm` are shrunk to it.
    ///
    /// # Errors
    /// As [`Self::fold_admitted`]; of those that are refused, the first.
    pub fn fold_together<R: ReadAt>(
        &mut self,
        admitted: &[&Admitted<R>],
        clip_norm: f64,
    ) -> Result<(), FoldError> {
        self.check_together(admitted)?;
        self.add(&addends(admitted, clip_norm))
    }

    /// Looks whether an update may be folded in behind so many others that are not folded in yet.
    ///
    /// # Errors
    /// [`AggregateError`] as for [`Self::fold`].
    pub fn check_admitted<R: ReadAt>(
        &self,
        admitted: &Admitted<R>,
        before: u32,
    ) -> Result<(), AggregateError> {
        self.check(&admitted.layout, admitted.weight, before.saturating_add(1))?;
        let (found, limit) = (admitted.norm(), self.fixed.norm_max());
        if limit < found {
            return Err(AggregateError::Norm { found, limit });
        }
        Ok(())
    }

    /// Looks whether these may be folded in together.
    pub(super) fn check_together<R: ReadAt>(
        &self,
        admitted: &[&Admitted<R>],
    ) -> Result<(), AggregateError> {
        let mut numbered = (0..).zip(admitted);
        numbered.try_for_each(|(before, admitted)| self.check_admitted(admitted, before))
    }

    fn add<E: Send>(&mut self, addends: &Addends<impl ReadValues<E> + Sync>) -> Result<(), E> {
        let (scale, layout) = (self.fixed.scale(), &self.layout);
        let modules = self
            .sums
            .par_iter_mut()
            .zip(self.products.modules())
            .enumerate();
        modules.try_for_each_init(Vec::new, |values, (module, (sums, sketch))| {
            let range = layout.module_range(module);
            sums.resize(range.len(), 0);
            values.resize(range.len(), 0.0);
            let mut module = ModuleSum {
                range,
                sums,
                sketch,
            };
            addends.add_to(&mut module, values, scale)
        })?;
        self.count(addends);
        Ok(())
    }

    /// Takes note of what was added.
    pub(super) fn count<F>(&mut self, addends: &Addends<F>) {
        let factors = &addends.factors;
        self.participants += factors.len() as u32;
        self.total_weight += factors.iter().map(|factors| factors.weight).sum::<u64>();
        let within = factors.iter().filter(|factors| factors.share >= 1.0);
        self.within_clip += within.count() as u32;
    }

    /// Looks whether an update of this layout and weight may be the last of so many more.
    fn check(
        &self,
        layout: &Arc<AdapterLayout>,
        weight: u64,
        more: u32,
    ) -> Result<(), AggregateError> {
        if !Arc::ptr_eq(&self.layout, layout) && &self.layout != layout {
            return Err(AggregateError::LayoutMismatch);
        }
        let limit = self.fixed.weight_max();
        if !(1..=limit).contains(&weight) {
            return Err(AggregateError::Weight {
                found: weight,
                limit,
            });
        }
        let limit = self.fixed.participants_max();
        if limit < self.participants.saturating_add(more) {
            return Err(AggregateError::TooManyParticipants { limit });
        }
        Ok(())
    }

    fn check_values(&self, update: &Adapter) -> Result<(), AggregateError> {
        let limit = self.fixed.norm_max();
        let outside = |&value: &f32| {
            f64::from(value)
                .abs()
                .partial_cmp(&limit)
                .is_none_or(|order| order.is_gt())
        };
        let Some(position) = update.values().iter().position(outside) else {
            return Ok(());
        };
        let (module, factor, index) = self.layout.locate(position);
        Err(AggregateError::Value {
            module: module.name.clone(),
            factor,
            index,
            limit,
        })
    }
}

/// Gives updates that lie in bytes for adding; those longer than `clip_norm` are shrunk to it.
pub(super) fn addends<R: ReadAt>(
    admitted: &[&Admitted<R>],
    clip_norm: f64,
) -> Addends<impl ReadValues<FoldError>> {
    let share = |norm: f64| {
        if norm <= clip_norm {
            1.0
        } else {
            clip_norm / norm
        }
    };
    let factors = admitted.iter().map(|admitted| Factors {
        weight: admitted.weight,
        share: share(admitted.norm()),
    });
    Addends {
        factors: factors.collect(),
        read: |update: usize, range: Range<usize>, values: &mut [f32]| {
            let read = admitted[update].update.read(range.start, values);
            read.map_err(|source| FoldError::Read { update, source })
        },
    }
}
