//! Bundles: one file with many images of many registries, made where there is a network and loaded
//! where there is none. What such a file is like is told in the room `archive`.
//!
//! A delta bundle leaves out what an [`Inventory`] says that the other side has.

mod closure;
mod compare;
mod inventory;
mod list;

pub use compare::{BundleChange, BundleDifference, compare_bundles};
pub use inventory::{Inventory, InventorySource, take_inventory};
pub use list::{BundleContent, BundledImage, Verified, list_bundle, verify_bundle};
