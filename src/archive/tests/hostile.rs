//! Tars made to do harm.

use proptest::prelude::*;

use super::*;
use crate::archive::tar::{BLOCK, Kind, Step, TarIndex, Walk, header};

/// Opens `bytes` as an archive.
fn open(bytes: &[u8]) -> Result<Archive, Error> {
    let place = Place::new();
    let path = place.path("it");
    fs::write(&path, bytes).expect("written");
    Archive::open(&path)
}

/// A header whose size field is `field`, and its sum right.
fn with_size(path: &str, kind: u8, field: &[u8; 12]) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
    header.as_old_mut().size = *field;
    header.as_old_mut().linkflag = [kind];
    header.set_cksum();
    header.as_bytes().to_vec()
}

fn base_256(first: u8, rest: u64) -> [u8; 12] {
    let mut field = [0; 12];
    field[0] = first;
    field[4..].copy_from_slice(&rest.to_be_bytes());
    field
}

#[test]
fn sizes_that_are_not_there_are_errors() {
    for field in [
        *b"77777777777\0",
        *b"-0000000001\0",
        *b"9999 hello!!",
        base_256(0x80, u64::MAX),
        base_256(0x80, u64::MAX - 511),
        base_256(0xff, u64::MAX),
        base_256(0x80, 1 << 40),
        [0xff; 12],
        [0x81; 12],
    ] {
        for kind in *b"0xgLKS7" {
            let mut bytes = with_size("index.json", kind, &field);
            bytes.extend([0; 2048]);
            let opened = open(&bytes);
            assert!(opened.is_err(), "{field:?} {}", char::from(kind));
        }
    }
}

#[test]
fn names_are_found_however_they_are_written() {
    let place = Place::new();
    let (a, path) = (Sample::image("a"), place.path("it"));
    create(&path, Form::Oci, &[(&a, "example.com/a:1")]);
    // GNU's own long names, and pax records, before short names that are wrong.
    let digest = Digest::of(b"hello");
    let name = format!("./blobs//sha256/{}", digest.hex());
    for (kind, content) in
        [(b'L', format!("{name}\0")), (b'x', format!("{} path={name}\n", name.len() + 9))]
    {
        let mut bytes = fs::read(&path).expect("read");
        let size = format!("{:011o}\0", content.len());
        bytes.truncate(bytes.len() - 1024);
        bytes.extend(with_size("long", kind, size.as_bytes().try_into().expect("12")));
        bytes.extend(content.as_bytes());
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes.extend(header("other", Kind::File, 5, 0));
        bytes.extend(b"hello");
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes.extend([0; 1024]);
        let archive = open(&bytes).expect("open");
        assert_eq!(archive.read(&digest, 10).expect("read"), b"hello", "{}", char::from(kind));
        a.expect_in(&archive);
    }
}

#[test]
fn of_two_members_with_one_name_the_later_counts() {
    let place = Place::new();
    let (a, b) = (Sample::image("a"), Sample::image("b"));
    let [first, second] = [&a, &b].map(|sample| {
        let path = place.path("it");
        create(&path, Form::Oci, &[(sample, "example.com/a:1")]);
        fs::read(&path).expect("read")
    });
    let both = [&first[..first.len() - 1024], &second[..]].concat();
    let archive = open(&both).expect("open");
    assert_eq!(archive.find(None).expect("one").descriptor, b.top);
    b.expect_in(&archive);
}

#[test]
fn members_without_end_are_too_many() {
    let place = Place::new();
    let path = place.path("it");
    let member = header("x", Kind::File, 0, 0);
    fs::write(&path, member.repeat(200_001)).expect("written");
    let refused = Archive::open(&path).expect_err("too many");
    assert!(matches!(refused, Error::TooMany { .. }), "{refused}");
}

#[test]
fn other_files_are_named() {
    for (bytes, expected) in [
        (&b""[..], "holds no images"),
        (b"hello", "is cut short"),
        (&[b'x'; 4096], "is damaged at byte 0"),
        (&[0; 4096], "holds no images"),
        (b"\x1f\x8b not gzip", "cannot be unpacked"),
    ] {
        let refused = open(bytes).expect_err("it is no archive");
        assert!(refused.to_string().contains(expected), "{refused}");
    }
    let place = Place::new();
    fs::create_dir(place.path("empty")).expect("made");
    let refused = Archive::open(&place.path("empty")).expect_err("it is empty");
    assert!(refused.to_string().contains("it is no image layout"), "{refused}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_blocks_are_walked_to_an_end(
        blocks in prop::collection::vec((0..4u8, any::<[u8; 12]>(), any::<u8>(), any::<u8>()), 1..12),
    ) {
        let mut bytes = Vec::new();
        for (what, size, kind, fill) in blocks {
            match what {
                0 => bytes.extend(with_size("index.json", kind, &size)),
                1 => {
                    let small = format!("{:011o}\0", u32::from(fill) * 8);
                    let kind = b"0125xgLKS"[usize::from(kind) % 9];
                    bytes.extend(with_size("a/b", kind, small.as_bytes().try_into().expect("12")));
                }
                2 => bytes.extend([fill; 512]),
                _ => bytes.extend([0; 512]),
            }
        }
        let place = Place::new();
        let path = place.path("it");
        fs::write(&path, &bytes).expect("written");
        let file = fs::File::open(&path).expect("open").into_parts().0;
        let mut walk = Walk::new(&file, bytes.len() as u64, 0);
        for _ in 0..=bytes.len() as u64 / BLOCK {
            match walk.step() {
                Ok(Step::Eof) | Err(_) => break,
                Ok(Step::Member(member)) => {
                    prop_assert!(member.data + member.size <= bytes.len() as u64);
                }
                Ok(Step::End(_)) => {}
            }
        }
        let _ = TarIndex::read(&file, bytes.len() as u64, &path);
    }
}
