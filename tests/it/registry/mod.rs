//! What the program does with registries: logins, transfers, objects, faults.

mod archives;
mod artifacts;
mod auth;
mod copies;
mod downloads;
mod editing;
mod faults;
mod hosts;
mod index;
mod interop;
mod layers;
mod logins;
mod manifest_diff;
mod mutate;
mod objects;
mod parts;
mod rows;
mod uploads;
mod validate;
