//! Whether clients can lay an adapter out: the same projections in every layer, from the first one on.
//!
//! A run plan names projections, and each client lays them out over all layers of its base model. How many those are is not known
//! here, so an adapter that only lacks the last layers is declined by the clients.

use std::collections::BTreeMap;

use aggregation::AdapterLayout;

/// Says which layer is not as the first one, if there is such a layer. Modules are named as `peft::load` lets them be.
pub(super) fn check(layout: &AdapterLayout) -> Result<(), String> {
    let mut layers: BTreeMap<u64, Vec<&str>> = BTreeMap::new();
    for module in layout.modules() {
        let layer = module.name.split('.').nth(2);
        let layer = layer.and_then(|number| number.parse().ok());
        let (Some(layer), Some((_, projection))) = (layer, module.name.rsplit_once('.')) else {
            return Err(format!("{} is in no layer", module.name));
        };
        layers.entry(layer).or_default().push(projection);
    }
    let mut first: Option<&Vec<&str>> = None;
    for (number, (&layer, projections)) in (0..).zip(&layers) {
        if layer != number {
            return Err(format!(
                "it adapts layer {layer} and nothing in layer {number}"
            ));
        }
        let first = *first.get_or_insert(projections);
        if projections != first {
            let (here, there) = (projections.join(", "), first.join(", "));
            return Err(format!(
                "it adapts {here} in layer {layer} and {there} in layer 0"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use aggregation::ModuleLayout;

    use super::*;

    fn checked(modules: &[(u32, &str)]) -> Result<(), String> {
        let modules = modules.iter().map(|(layer, projection)| ModuleLayout {
            name: format!("model.layers.{layer}.self_attn.{projection}"),
            in_features: 3,
            out_features: 2,
        });
        check(&AdapterLayout::new(2, 4.0, false, modules.collect()).unwrap())
    }

    #[test]
    fn same_projections_in_every_layer_are_what_clients_lay_out() {
        let mut modules = Vec::new();
        for layer in 0..12 {
            modules.extend([(layer, "q_proj"), (layer, "v_proj")]);
            assert_eq!(checked(&modules), Ok(()), "{layer}");
        }
    }

    #[test]
    fn layer_that_is_left_out_or_is_another_is_named() {
        for (modules, expected) in [
            (
                &[(8, "q_proj"), (9, "q_proj")][..],
                "it adapts layer 8 and nothing in layer 0",
            ),
            (
                &[(0, "q_proj"), (2, "q_proj")],
                "it adapts layer 2 and nothing in layer 1",
            ),
            (
                &[(0, "q_proj"), (0, "v_proj"), (1, "q_proj")],
                "it adapts q_proj in layer 1 and q_proj, v_proj in layer 0",
            ),
        ] {
            assert_eq!(checked(modules), Err(expected.to_owned()));
        }
    }
}
