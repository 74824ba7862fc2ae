//! The layers that a step stands on.

use std::ops::Deref;

use crate::build::layer::Layer;
use crate::image::{ChainId, DiffId};

/// Layers, the lowest first, with their chainID: every step asks for it, and making it anew of all
/// layers each time would cost more with every step.
#[derive(Debug, Clone, Default)]
pub(super) struct Stack {
    layers: Vec<Layer>,
    chain: Option<ChainId>,
}

impl Stack {
    /// Returns the chainID; `None` when there are no layers.
    pub(super) fn chain(&self) -> Option<ChainId> {
        self.chain.clone()
    }

    /// Puts a layer on top.
    pub(super) fn push(&mut self, layer: Layer) {
        self.chain = Some(ChainId::on(self.chain.as_ref(), &layer.diff_id));
        self.layers.push(layer);
    }

    /// Returns the layers alone.
    pub(super) fn into_layers(self) -> Vec<Layer> {
        self.layers
    }
}

impl From<Vec<Layer>> for Stack {
    fn from(layers: Vec<Layer>) -> Self {
        let chain = chain_of(&layers);
        Self { layers, chain }
    }
}

impl Deref for Stack {
    type Target = [Layer];

    fn deref(&self) -> &[Layer] {
        &self.layers
    }
}

/// Returns the chainID of `layers`.
pub(super) fn chain_of(layers: &[Layer]) -> Option<ChainId> {
    let diff_ids: Vec<DiffId> = layers.iter().map(|layer| layer.diff_id.clone()).collect();
    ChainId::of(&diff_ids)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{Descriptor, Digest, media_type};

    #[test]
    fn the_chain_grows_with_the_layers() {
        let layer = |name: &str| Layer {
            descriptor: Descriptor::of(media_type::OCI_LAYER_GZIP, name.as_bytes()),
            diff_id: DiffId(Digest::of(name.as_bytes())),
            created: None,
        };
        let mut stack = Stack::default();
        assert_eq!(stack.chain(), None);
        for name in ["a", "b", "c"] {
            stack.push(layer(name));
            assert_eq!(stack.chain(), chain_of(&stack), "{name}");
        }
        assert_eq!(Stack::from(stack.to_vec()).chain(), stack.chain());
        assert_eq!(stack.into_layers().len(), 3);
    }
}
