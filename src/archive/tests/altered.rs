//! Bundles that were cut or altered: an error or the truth, nothing else.

use proptest::prelude::*;

use super::*;

fn bundle(place: &Place) -> (PathBuf, Vec<Sample>) {
    let path = place.path("it");
    let samples = vec![Sample::image("a"), Sample::image("b")];
    create(&path, Form::Bundle, &[(&samples[0], "example.com/a:1")]);
    add(&ArchiveWriter::append(&path).expect("append"), &[(&samples[1], "example.com/b:1")]);
    (path, samples)
}

/// Reads everything that `path` says it has; what comes must be true.
fn read_everything(path: &Path, samples: &[Sample], what: &str) -> Result<usize, Error> {
    let archive = Archive::open(path)?;
    let names = names(&archive);
    assert!(names.iter().all(|name| name.starts_with("example.com/")), "{what}: {names:?}");
    for sample in &samples[..archive.images().len()] {
        for (descriptor, bytes) in &sample.blobs {
            assert_eq!(&archive.read(&descriptor.digest, 1 << 20)?, bytes, "{what}");
        }
    }
    Ok(archive.images().len())
}

#[test]
fn every_cut_is_noticed() {
    let place = Place::new();
    let (path, samples) = bundle(&place);
    let whole = fs::read(&path).expect("read");
    assert_eq!(read_everything(&path, &samples, "whole").expect("it is whole"), 2);
    for length in 0..whole.len() {
        // The edges of every block, some in between.
        if length % 512 > 1 && length % 61 != 0 && whole.len() - length > 16 {
            continue;
        }
        fs::write(&path, &whole[..length]).expect("written");
        let read = read_everything(&path, &samples, &format!("cut at {length}"));
        assert!(read.is_err(), "cut at {length} of {}", whole.len());
    }
}

#[test]
fn every_altered_byte_is_noticed_by_verification() {
    let place = Place::new();
    let (path, samples) = bundle(&place);
    let whole = fs::read(&path).expect("read");
    Archive::open(&path).expect("open").verify().expect("it is whole");
    let mut bytes = whole.clone();
    for at in 0..whole.len() {
        // Eleven shares no divisor with the size of blocks: every field of a header has its turn.
        if at % 11 != 0 && at > 10 && whole.len() - at > 16 {
            continue;
        }
        bytes[at] ^= 1 << (at % 8);
        fs::write(&path, &bytes).expect("written");
        let _ = read_everything(&path, &samples, &format!("altered at {at}"));
        let verified = Archive::open(&path).and_then(|archive| archive.verify());
        assert!(verified.is_err(), "altered at {at}");
        bytes[at] = whole[at];
    }
}

#[test]
fn a_newer_bundle_is_refused_by_name() {
    let place = Place::new();
    let (path, _) = bundle(&place);
    let mut bytes = fs::read(&path).expect("read");
    let at = bytes.windows(11).position(|window| window == b"\"version\":1").expect("the marker");
    bytes[at + 10] = b'2';
    fs::write(&path, &bytes).expect("written");
    let refused = Archive::open(&path).expect_err("it is newer");
    assert!(matches!(refused, Error::NewerVersion { found: 2, known: 1, .. }), "{refused}");
    assert!(ArchiveWriter::append(&path).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn several_alterations_at_once_never_give_other_bytes(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let place = Place::new();
        let (path, samples) = bundle(&place);
        let mut bytes = fs::read(&path).expect("read");
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        fs::write(&path, &bytes).expect("written");
        let _ = read_everything(&path, &samples, "altered");
    }
}
