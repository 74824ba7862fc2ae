//! How a blob is divided into requests. Decisions only.

use super::StatusError;
use super::quirks::RangedPatch;

const MIB: u64 = 1 << 20;
/// The size of a part. With a registry that keeps only what a whole request brought, no more than
/// this is sent again after a cut; a round trip for each is not felt.
pub(super) const PART_BYTES: u64 = 64 * MIB;
/// What is tried when a body was too large: below Cloudflare's limit of 100 MB; below what gateways
/// of 20 MB and of 10 MB have; nginx's default. Amazon's registry takes no less than 5 MiB.
const LADDER: [u64; 5] = [PART_BYTES, 16 * MIB, 5 * MIB, MIB, MIB / 4];

/// What is to be sent, and what is known about where it goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Need {
    pub(super) size: u64,
    /// Where the next byte goes.
    pub(super) offset: u64,
    /// The largest body that may be sent.
    pub(super) limit: Option<u64>,
    pub(super) ranged: RangedPatch,
    /// The smallest part that is taken, but for the last one.
    pub(super) min_part: u64,
}

/// How to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// One `PUT` with everything: what most registries understand, in the fewest round trips.
    Whole,
    /// `PATCH`es of at most so many bytes, then a `PUT` without any.
    Parts(u64),
}

impl Need {
    /// Returns how to go on.
    ///
    /// In parts: what was begun in parts, what is larger than a body may be, and what is worth
    /// going on with after this process was killed, where that works.
    pub(super) fn way(&self) -> Way {
        let most = self.limit.unwrap_or(PART_BYTES).min(PART_BYTES).max(self.min_part).max(1);
        let is_limited = self.limit.is_some_and(|limit| self.size > limit);
        match self.ranged {
            RangedPatch::Unusable => Way::Whole,
            _ if self.offset > 0 || is_limited => Way::Parts(most),
            RangedPatch::Resumable if is_resumable(self.size) => Way::Parts(most),
            RangedPatch::Resumable | RangedPatch::Fragile => Way::Whole,
        }
    }
}

/// Returns whether a blob of `size` bytes is worth going on with in a later run.
pub(super) fn is_resumable(size: u64) -> bool {
    size > PART_BYTES
}

/// Returns what to try after a body of `refused` bytes was too large; `None` when nothing is left.
pub(super) fn smaller(refused: u64, min_part: u64) -> Option<u64> {
    LADDER.into_iter().find(|step| *step < refused && *step >= min_part)
}

/// Returns where to go on after the bytes from `start` to `end` were sent and taken, when the
/// registry says that it has `received` in all. `None` when that makes no sense: the registry lost
/// what it said it took (seen with Amazon's, aws/containers-roadmap issue 2831).
pub(super) fn next_offset(start: u64, end: u64, received: Option<u64>) -> Option<u64> {
    match received {
        None => Some(end),
        Some(received) if received > start && received <= end => Some(received),
        Some(_) => None,
    }
}

/// Returns whether an answer says that the body was too large.
///
/// Proxies say 413, mostly with a page of HTML; GitHub's registry says 416, and others 400, with a
/// text.
pub(super) fn is_too_large(error: &StatusError) -> bool {
    const WORDS: [&str; 4] = ["exceed", "too large", "too big", "size limit"];
    match error.status.as_u16() {
        413 => true,
        400 | 416 => error.errors.iter().any(|(_, message)| {
            let message = message.to_ascii_lowercase();
            WORDS.iter().any(|word| message.contains(word))
        }),
        _ => false,
    }
}

/// Returns whether an answer to one of several parts means that another way may be taken.
pub(super) fn refuses_parts(error: &StatusError) -> bool {
    matches!(error.status.as_u16(), 400 | 404 | 405 | 411 | 415 | 416 | 422 | 501)
}

#[cfg(test)]
mod tests {
    use http::{Method, StatusCode};
    use proptest::prelude::*;

    use super::*;
    use crate::registry::error::Limit;

    fn need(size: u64) -> Need {
        Need { size, offset: 0, limit: None, ranged: RangedPatch::Resumable, min_part: 0 }
    }

    #[test]
    fn a_blob_goes_whole_unless_something_speaks_for_parts() {
        assert_eq!(need(0).way(), Way::Whole);
        assert_eq!(need(PART_BYTES).way(), Way::Whole);
        assert_eq!(need(PART_BYTES + 1).way(), Way::Parts(PART_BYTES));
        let fragile = Need { ranged: RangedPatch::Fragile, ..need(PART_BYTES + 1) };
        assert_eq!(fragile.way(), Way::Whole);
        let limited = Need { limit: Some(MIB), ..fragile };
        assert_eq!(limited.way(), Way::Parts(MIB));
        assert_eq!(Need { min_part: 5 * MIB, ..limited }.way(), Way::Parts(5 * MIB));
        assert_eq!(Need { ranged: RangedPatch::Unusable, ..limited }.way(), Way::Whole);
        assert_eq!(Need { size: MIB, ..limited }.way(), Way::Whole);
        assert_eq!(Need { offset: 3, ..need(9) }.way(), Way::Parts(PART_BYTES));
    }

    #[test]
    fn what_is_too_large_gets_smaller_to_an_end() {
        let mut size = u64::MAX;
        let mut steps = Vec::new();
        while let Some(next) = smaller(size, 0) {
            steps.push(next);
            size = next;
        }
        assert_eq!(steps, LADDER);
        assert_eq!(smaller(5 * MIB, 5 * MIB), None);
    }

    #[test]
    fn an_offset_is_believed_when_it_makes_sense() {
        assert_eq!(next_offset(10, 20, Some(20)), Some(20));
        assert_eq!(next_offset(10, 20, None), Some(20));
        assert_eq!(next_offset(10, 20, Some(15)), Some(15));
        assert_eq!(next_offset(10, 20, Some(10)), None);
        assert_eq!(next_offset(10, 20, Some(21)), None);
    }

    #[test]
    fn complaints_about_size_are_told_from_others() {
        let error = |status: u16, message: &str| StatusError {
            method: Method::PATCH,
            url: String::new(),
            status: StatusCode::from_u16(status).unwrap(),
            errors: vec![(String::new(), message.to_owned())],
            request_id: None,
            limit: Limit::None,
            retry_after: None,
            answered: jiff::Timestamp::UNIX_EPOCH,
        };
        let limit = "Content Range size exceeds the maximum permissible limit of 4.00MiB";
        assert!(is_too_large(&error(416, limit)));
        assert!(is_too_large(&error(413, "")));
        assert!(!is_too_large(&error(416, "invalid content range")));
        assert!(!is_too_large(&error(403, "too large")));
    }

    proptest! {
        #[test]
        fn parts_cover_a_blob_in_order(size in 0_u64..1 << 40, limit in 1_u64..1 << 30) {
            let mut need = Need { limit: Some(limit), ..need(size) };
            let mut requests = 0_u64;
            while let Way::Parts(most) = need.way() {
                if need.offset == size || requests > 100 {
                    break;
                }
                let end = size.min(need.offset + most);
                prop_assert!(end > need.offset && end - need.offset <= limit);
                need.offset = end;
                requests += 1;
            }
        }
    }
}
