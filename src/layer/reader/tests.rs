use proptest::prelude::*;

use super::*;
use crate::layer::{Entry, EntryKind, LayerTar};

proptest! {
    #[test]
    fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
        let mut reader = TarReader::new(bytes.as_slice());
        let mut members = 0;
        while let Ok(Some(_)) = reader.next_member() {
            members += 1;
        }
        prop_assert!(members <= bytes.len() / 512, "each member has a header of its own");
    }

    /// A valid archive with some bytes changed, and checksums made right again.
    #[test]
    fn damaged_archives_never_panic(
        changes in prop::collection::vec((0..3072_usize, any::<u8>()), 1..12)
    ) {
        let mut tar = LayerTar::new(Vec::new());
        let mut entry = Entry::new("n".repeat(200), EntryKind::File { size: 700 }, 0o644);
        entry.xattrs.insert(b"user.a".to_vec(), b"value".to_vec());
        tar.append(&entry, Some(&mut [1; 700].as_slice())).unwrap();
        let (mut bytes, _) = tar.finish().unwrap();
        for (at, value) in changes {
            bytes[at] = value;
        }
        for block in bytes.chunks_exact_mut(512) {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
        let mut reader = TarReader::new(bytes.as_slice());
        for _ in 0..10 {
            let Ok(Some(member)) = reader.next_member() else { break };
            if let Ok(entry) = member.entry() {
                let is_plain = |part| matches!(part, std::path::Component::Normal(_));
                prop_assert!(entry.path.components().all(is_plain), "{:?}", entry.path);
            }
            let mut content = Vec::new();
            if member.size < 1 << 20 && reader.read_to_end(&mut content).is_ok() {
                prop_assert_eq!(content.len() as u64, member.size);
            }
        }
    }

    #[test]
    fn any_name_and_number_survives(
        names in prop::collection::vec("[^/\0]{1,120}", 1..4),
        mode in 0..=0o7777_u32, uid: u32, mtime: i64,
        value in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let path = names.join("/");
        prop_assume!(!names.iter().any(|n| n == "." || n == ".." || n.starts_with(".wh.")));
        let mut entry = Entry::new(&path, EntryKind::File { size: 2 }, mode);
        (entry.uid, entry.mtime) = (uid, mtime);
        entry.xattrs.insert(b"user.x".to_vec(), value);
        let mut tar = LayerTar::new(Vec::new());
        tar.append(&entry, Some(&mut b"xy".as_slice())).unwrap();
        let (bytes, _) = tar.finish().unwrap();
        let mut reader = TarReader::new(bytes.as_slice());
        let member = reader.next_member().unwrap().unwrap();
        prop_assert_eq!(member.entry().unwrap(), entry);
    }
}

#[test]
fn numbers_beyond_octal_and_times_are_read() {
    assert_eq!(fields::seconds(b"-1.5"), Some(-2));
    assert_eq!(fields::seconds(b"-1.000"), Some(-1));
    assert_eq!(fields::seconds(b"12.999"), Some(12));
    assert_eq!(fields::seconds(b"1.x"), None);
    assert_eq!(fields::seconds(b""), None);
    let parsed = fields::records(b"13 path=a\nb=\n5 a=\n", 0).unwrap();
    let expected = [(b"path".to_vec(), b"a\nb=".to_vec()), (b"a".to_vec(), Vec::new())];
    assert_eq!(parsed, expected);
    for bad in [&b"5 a=1"[..], b"99 a=1\n", b"x a=1\n", b"6 a=1x", b"5 a1\n", b"0 a=1\n", b"7"] {
        assert!(fields::records(bad, 0).is_err(), "{bad:?}");
    }
}
