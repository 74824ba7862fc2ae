//! What the program does with registries: logins, transfers, objects, faults.

mod artifacts;
mod auth;
mod downloads;
mod editing;
mod faults;
mod index;
mod layers;
mod mutate;
mod objects;
mod rows;
mod uploads;
