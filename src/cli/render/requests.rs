//! What is said of requests to registries: that they are tried again, that they wait, what is left
//! of a quota, what counts when none is made.

use jiff::Timestamp;

use crate::event::Event;

use super::text::{age, seconds};

/// Returns the line for an event about requests; `None` for all others.
pub(super) fn line(event: &Event) -> Option<String> {
    match event {
        Event::Retrying { what, reason, attempt, delay } => {
            Some(format!("{what}: {reason}; try {attempt} in {}", seconds(*delay)))
        }
        Event::Waiting { what, delay } => {
            let time = seconds(*delay);
            Some(format!("`{what}` asks for a pause: nothing is sent to it for {time}"))
        }
        Event::RateLimit { registry, remaining, limit, window_seconds } => {
            let limit = limit.map(|limit| format!(" of {limit}")).unwrap_or_default();
            let window = window_seconds.map(|time| format!(" of those in {}", window(time)));
            let window = window.unwrap_or_default();
            Some(format!("`{registry}`: {remaining}{limit} pulls are left{window}"))
        }
        Event::LastSeen { name, digest, at } => {
            let age = age(Timestamp::now().as_second() - at.as_second()).to_lowercase();
            Some(format!("offline: `{name}` as of {age} ({})", digest.short()))
        }
        _ => None,
    }
}

fn window(seconds: u64) -> String {
    match seconds {
        _ if seconds >= 3600 && seconds.is_multiple_of(3600) => format!("{}h", seconds / 3600),
        _ if seconds >= 60 && seconds.is_multiple_of(60) => format!("{}m", seconds / 60),
        _ => format!("{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_say_what_is_known() {
        let quota = |limit, window_seconds| {
            let registry = "docker.io".to_owned();
            line(&Event::RateLimit { registry, remaining: 76, limit, window_seconds }).unwrap()
        };
        let full = "`docker.io`: 76 of 100 pulls are left of those in 6h";
        assert_eq!(quota(Some(100), Some(21600)), full);
        assert_eq!(quota(None, None), "`docker.io`: 76 pulls are left");
    }
}
