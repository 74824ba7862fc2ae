//! The words for how layers are compressed, as buildx has them.

use crate::layer::Compression;
use crate::operations::{Error, Kind};

/// The zstd level when none is given: zstd's own default.
const DEFAULT_ZSTD_LEVEL: i32 = 3;

/// Reads a kind of compression, gzip when there is none, and its level.
///
/// # Errors
///
/// When it is none of those that there are, or has no such level.
pub fn read(name: Option<&str>, level: Option<&str>) -> Result<Compression, Error> {
    let level_within = |range: std::ops::RangeInclusive<i32>, default: i32| {
        let Some(text) = &level else { return Ok(default) };
        text.parse().ok().filter(|level| range.contains(level)).ok_or_else(|| {
            let (least, most) = (range.start(), range.end());
            let message = format!("invalid compression-level `{text}`");
            Error::new(Kind::Settings, message)
                .hint(format!("give a number from {least} to {most}"))
        })
    };
    let default = i32::try_from(Compression::DEFAULT_GZIP_LEVEL).unwrap_or_default();
    match name {
        None | Some("gzip") => {
            let level = level_within(0..=9, default)?;
            Ok(Compression::Gzip(u32::try_from(level).unwrap_or_default()))
        }
        Some("zstd") => Ok(Compression::Zstd(level_within(1..=22, DEFAULT_ZSTD_LEVEL)?)),
        Some("uncompressed") => Ok(Compression::None),
        Some("estargz") => {
            let message = "`compression=estargz` is not supported: its layers are for snapshotters \
                           that load files one by one";
            Err(Error::new(Kind::Settings, message).hint("use gzip or zstd"))
        }
        Some(other) => {
            let message = format!("unsupported layer compression type `{other}`");
            Err(Error::new(Kind::Settings, message).hint("use gzip, zstd or uncompressed"))
        }
    }
}
