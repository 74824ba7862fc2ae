//! What the program does with registries: logins, transfers, objects, faults.

mod auth;
mod uploads;
