//! From a round's sum to the adapter that follows, in one pass: the round's last updates are added on the way.
//!
//! Each module's sum is turned into its mean while it is in the processor's cache, and dropped. So a round whose updates all wait for
//! its end never has its sum in memory, nor the mean.

use std::sync::Arc;

use rayon::prelude::*;

use super::folding::{ModuleSum, addends};
use super::{AggregateError, FedAvg, FoldError};
use crate::adapter::{Adapter, all_finite, squared_norm};
use crate::admission::Admitted;
use crate::encoded::ReadAt;
use crate::inexactness;
use crate::strategy::fixed_point::decode_means;

/// The adapter that follows a round, and how far it is from the one before.
#[derive(Debug, Clone)]
pub struct Next {
    /// The global adapter plus the mean update.
    pub adapter: Adapter,
    /// The Euclidean norm of the mean update.
    pub update_norm: f64,
    /// As [`FedAvg::inexactness`] gives it.
    pub inexactness: f64,
}

/// Room for one module, which a thread uses again for the next.
#[derive(Default)]
struct Room {
    zeros: Vec<i64>,
    values: Vec<f32>,
}

impl FedAvg {
    /// The adapter that follows `global`, once these updates are added as [`Self::fold_together`] does.
    ///
    /// # Errors
    /// [`FoldError::Refused`] if one of the updates cannot be added, if there is none in the sum, if `global` has another
    /// layout or a value leaves the range of f32; [`FoldError::Read`] if an update cannot be read any more.
    pub fn into_next<R: ReadAt>(
        mut self,
        last: &[&Admitted<R>],
        clip_norm: f64,
        global: &Adapter,
    ) -> Result<Next, FoldError> {
        self.check_together(last)?;
        let last = addends(last, clip_norm);
        self.count(&last);
        if self.participants == 0 {
            return Err(AggregateError::Empty.into());
        }
        let layout = &self.layout;
        if !Arc::ptr_eq(layout, global.layout()) && layout != global.layout() {
            return Err(AggregateError::LayoutMismatch.into());
        }
        let (scale, weight) = (self.fixed.scale(), self.total_weight);
        let mut values = vec![0.0; layout.parameters()];
        let modules = layout.split(&mut values).into_par_iter().zip(self.sums);
        let modules = modules.zip(self.products.modules()).enumerate();
        let measured = modules.map_init(Room::default, |room, (module, parts)| {
            let ((next, mut sums), sketch) = parts;
            let range = layout.module_range(module);
            let before = &global.values()[range.clone()];
            let Room { zeros, values } = room;
            values.resize(range.len(), 0.0);
            if sums.is_empty() {
                // Nothing was added before.
                zeros.clear();
                zeros.resize(range.len(), 0);
            }
            let mut module = ModuleSum {
                sums: if sums.is_empty() { zeros } else { &mut sums },
                range,
                sketch,
            };
            last.add_to(&mut module, values, scale)?;
            // The room's values are the mean's from here on.
            decode_means(values, module.sums, weight as i64, scale);
            for ((next, before), mean) in next.iter_mut().zip(before).zip(values.iter()) {
                *next = before + mean;
            }
            let parts = module.sketch.parts(values, next, weight);
            Ok((squared_norm(values), all_finite(next), parts))
        });
        // In order: the figures do not depend on the number of cores.
        let measured: Vec<_> = measured.collect::<Result<_, FoldError>>()?;
        let update_norm = measured.iter().map(|one| one.0).sum::<f64>().sqrt();
        let is_finite = measured.iter().all(|one| one.1);
        let inexactness = inexactness::relative(measured.into_iter().map(|one| one.2));
        let adapter = Adapter::from_examined(Arc::clone(layout), values, is_finite);
        Ok(Next {
            adapter: adapter.map_err(AggregateError::Next)?,
            update_norm,
            inexactness,
        })
    }
}
