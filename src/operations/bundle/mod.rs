//! Bundles: one file with many images of many registries, made where there is a network and loaded
//! where there is none. What such a file is like is told in the room `archive`.
//!
//! A delta bundle leaves out what an [`Inventory`] says that the other side has.

mod closure;
mod compare;
mod create;
mod inventory;
mod list;
mod load;
mod names;

pub use compare::{BundleChange, BundleDifference, compare_bundles};
pub use create::{BundleReport, BundleRequest, BundleSource, Destination, fill_bundle};
pub use inventory::{Inventory, InventorySource, take_inventory};
pub use list::{BundleContent, BundledImage, Verified, list_bundle, verify_bundle};
pub use load::{LoadReport, LoadRequest, LoadTo, Loaded, load_bundle};
pub use names::{NameMap, NameRule};
