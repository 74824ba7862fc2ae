//! Tests of the whole way: tar to blob and back.

use std::io::{self, Read, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;

use crate::blob::Mismatch;
use crate::image::{DiffId, Digest};

use super::{Compression, CorruptData, LayerWriter, SealedLayer, VerifiedTar, decompress};

const ALL: [Compression; 5] = [
    Compression::Gzip(1),
    Compression::Gzip(Compression::DEFAULT_GZIP_LEVEL),
    Compression::Gzip(0),
    Compression::Zstd(3),
    Compression::None,
];

/// Bytes with text, zeros and noise in stretches, as a tar has them.
fn mixed(count: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut bytes = Vec::with_capacity(count + 100_000);
    while bytes.len() < count {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let stretch = usize::try_from(state % 100_000).unwrap();
        match state % 3 {
            0 => bytes.resize(bytes.len() + stretch, 0),
            1 => {
                let line = format!("line {state} of a file that compresses\n");
                bytes.extend(line.bytes().cycle().take(stretch));
            }
            _ => {
                let mut noise = state;
                bytes.extend(
                    std::iter::repeat_with(|| {
                        noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        noise.to_le_bytes()[6]
                    })
                    .take(stretch),
                );
            }
        }
    }
    bytes.truncate(count);
    bytes
}

fn compress(tar: &[u8], compression: Compression, threads: usize) -> (SealedLayer, Vec<u8>) {
    let mut writer = LayerWriter::with_threads(Vec::new(), compression, threads);
    writer.write_all(tar).unwrap();
    writer.finish_with_output().unwrap()
}

fn read_all(blob: &[u8]) -> io::Result<Vec<u8>> {
    let mut tar = Vec::new();
    decompress(blob)?.read_to_end(&mut tar)?;
    Ok(tar)
}

#[test]
fn digests_and_sizes_are_those_of_the_bytes() {
    for compression in ALL {
        for size in [0, 1, 1024, 512 * 1024, 512 * 1024 + 1, 3_000_000, 9_000_000] {
            let tar = mixed(size, 7);
            let (layer, blob) = compress(&tar, compression, 3);
            assert_eq!((&layer.digest, layer.size), (&Digest::of(&blob), blob.len() as u64));
            assert_eq!(layer.diff_id, DiffId(Digest::of(&tar)), "{compression:?} {size}");
            assert_eq!(layer.uncompressed_size, size as u64);
            assert_eq!(layer.media_type, compression.media_type());
            assert!(read_all(&blob).unwrap() == tar, "{compression:?} {size}");
        }
    }
}

#[test]
fn gzip_is_members_that_others_read() {
    let tar = mixed(5_000_000, 11);
    let (_, blob) = compress(&tar, Compression::default(), 2);
    let mut members = Vec::new();
    let mut rest = &blob[..];
    while !rest.is_empty() {
        // No name and no time.
        assert_eq!(rest[..8], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0]);
        let mut decoder = flate2::bufread::GzDecoder::new(rest);
        decoder.read_to_end(&mut members).unwrap();
        rest = decoder.into_inner();
    }
    assert!(members == tar);

    let Ok(mut gzip) =
        Command::new("gzip").arg("-dc").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()
    else {
        println!("SKIPPED: no gzip program");
        return;
    };
    let mut stdin = gzip.stdin.take().unwrap();
    let feeder = std::thread::spawn(move || stdin.write_all(&blob).unwrap());
    let output = gzip.wait_with_output().unwrap();
    feeder.join().unwrap();
    assert!(output.status.success() && output.stdout == tar);
}

#[test]
fn noise_is_stored_and_text_is_not() {
    let mut state = 1_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state.to_le_bytes()[7]
    })
    .take(2_000_000)
    .collect();
    let (layer, _) = compress(&noise, Compression::default(), 2);
    assert!(layer.size < 2_000_000 + 2_000_000 / 1000, "{}", layer.size);
    let (layer, _) = compress(&b"some text\n".repeat(200_000), Compression::default(), 2);
    assert!(layer.size < 20_000, "{}", layer.size);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn threads_and_cuts_do_not_change_the_bytes(
        size in 0_usize..4_000_000,
        seed in any::<u64>(),
        cut in 1_usize..700_000,
        level in 0_u32..=6,
    ) {
        let tar = mixed(size, seed);
        let compression = Compression::Gzip(level);
        let (expected, blob) = compress(&tar, compression, 1);
        prop_assert!(read_all(&blob).unwrap() == tar);
        for threads in [2, 7] {
            let mut writer = LayerWriter::with_threads(Vec::new(), compression, threads);
            for piece in tar.chunks(cut) {
                writer.write_all(piece).unwrap();
                writer.flush().unwrap();
            }
            let (layer, bytes) = writer.finish_with_output().unwrap();
            prop_assert_eq!(&layer, &expected);
            prop_assert!(bytes == blob);
        }
    }
}

/// Words in no order: many short matches of equal length, which show what a compressor remembers.
fn words(count: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut bytes = Vec::with_capacity(count + 20);
    while bytes.len() < count {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.extend(format!("{} ", (state >> 40) % 3000).bytes());
    }
    bytes.truncate(count);
    bytes
}

#[test]
fn a_block_does_not_depend_on_what_its_thread_had_before() {
    let tar: Vec<u8> = (0..40).flat_map(|at| words(150_000 + at * 977, at as u64)).collect();
    for level in [1, 3, 6] {
        let alone = compress(&tar, Compression::Gzip(level), 1);
        assert!(read_all(&alone.1).unwrap() == tar);
        for threads in [2, 3, 4, 7] {
            let (layer, _) = compress(&tar, Compression::Gzip(level), threads);
            assert_eq!(layer, alone.0, "level {level}, {threads} threads");
        }
    }
}

#[test]
fn zstd_does_not_depend_on_threads() {
    let tar = mixed(13_000_000, 5);
    let expected = compress(&tar, Compression::Zstd(3), 1);
    for threads in [2, 7] {
        assert!(compress(&tar, Compression::Zstd(3), threads) == expected);
    }
}

/// Fails after some bytes, and counts how many of its kind are alive.
struct Broken(usize, Arc<AtomicUsize>);

impl Broken {
    fn new(after: usize, alive: &Arc<AtomicUsize>) -> Self {
        alive.fetch_add(1, Ordering::SeqCst);
        Self(after, Arc::clone(alive))
    }
}

impl Drop for Broken {
    fn drop(&mut self) {
        self.1.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Write for Broken {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0 < bytes.len() {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "no space"));
        }
        self.0 -= bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_failing_writer_fails_the_layer() {
    let alive = Arc::new(AtomicUsize::new(0));
    let tar = mixed(30_000_000, 9);
    for compression in ALL {
        for threads in [1, 2, 7] {
            for after in [0, 5, 1_000_000] {
                let broken = Broken::new(after, &alive);
                let mut writer = LayerWriter::with_threads(broken, compression, threads);
                let error = writer.write_all(&tar).err();
                let error = match error {
                    Some(error) => {
                        assert!(writer.write(&[0]).is_err(), "goes on after a failure");
                        assert!(writer.finish().is_err());
                        error
                    }
                    None => writer.finish().unwrap_err(),
                };
                assert_eq!(error.kind(), io::ErrorKind::StorageFull, "{compression:?} {threads}");
            }
        }
    }
    assert_eq!(alive.load(Ordering::SeqCst), 0, "a writer was kept");
}

#[test]
fn giving_up_ends_the_threads() {
    let alive = Arc::new(AtomicUsize::new(0));
    let mut writer =
        LayerWriter::with_threads(Broken::new(usize::MAX, &alive), Compression::default(), 3);
    writer.write_all(&mixed(4_000_000, 1)).unwrap();
    drop(writer);
    assert_eq!(alive.load(Ordering::SeqCst), 0, "the writer outlives the layer");
}

fn with_program(program: &str, tar: &[u8]) -> Option<Vec<u8>> {
    let mut child = Command::new(program)
        .arg("-c")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .ok()?;
    let (mut stdin, tar) = (child.stdin.take()?, tar.to_vec());
    let feeder = std::thread::spawn(move || stdin.write_all(&tar));
    let output = child.wait_with_output().ok()?;
    feeder.join().ok()?.ok()?;
    output.status.success().then_some(output.stdout)
}

#[test]
fn reads_what_the_usual_programs_write() {
    let tar = mixed(1_500_000, 21);
    for program in ["gzip", "zstd", "bzip2", "xz"] {
        let Some(blob) = with_program(program, &tar) else {
            println!("SKIPPED: no {program} program");
            continue;
        };
        assert!(read_all(&blob).unwrap() == tar, "{program}");
        let twice = [&blob[..], &blob[..]].concat();
        assert!(read_all(&twice).unwrap() == [&tar[..], &tar[..]].concat(), "{program} twice");
        for cut in [blob.len() - 1, blob.len() / 2, 20] {
            let error = read_all(&blob[..cut]).unwrap_err();
            assert!(corrupt(&error).is_some(), "{program} cut at {cut}: {error:?}");
        }
        let mut wrong = blob.clone();
        let middle = wrong.len() / 2;
        wrong[middle] ^= 0x55;
        if let Ok(bytes) = read_all(&wrong) {
            // Only zstd's frames may lack a checksum; the diffID finds what they do not.
            assert!(program == "zstd" && bytes != tar, "{program}: damage went unseen");
        }
    }
    assert_eq!(read_all(b"plain").unwrap(), b"plain");
    assert_eq!(read_all(b"").unwrap(), b"");
}

fn corrupt(error: &io::Error) -> Option<&CorruptData> {
    error.get_ref()?.downcast_ref()
}

#[test]
fn an_error_of_the_source_stays_what_it_is() {
    struct Fails;
    impl Read for Fails {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::new(io::ErrorKind::InvalidData, "from below"))
        }
    }
    let (_, blob) = compress(&mixed(1_000_000, 2), Compression::default(), 1);
    let reader = io::Cursor::new(blob[..blob.len() / 2].to_vec()).chain(Fails);
    let error = decompress(reader).unwrap().read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(error.to_string(), "from below");
}

#[test]
fn verified_tar_accepts_only_the_expected_tar() {
    let tar = mixed(3_000_000, 13);
    let (layer, blob) = compress(&tar, Compression::default(), 2);

    let mut reader =
        VerifiedTar::new(io::Cursor::new(blob.clone()), layer.diff_id.clone()).unwrap();
    let mut start = vec![0; 1_000_000];
    reader.read_exact(&mut start).unwrap();
    assert!(start == tar[..1_000_000]);
    assert_eq!(reader.finish().unwrap(), 3_000_000);

    let other = DiffId(Digest::of(b"other"));
    let error = VerifiedTar::new(io::Cursor::new(blob.clone()), other).unwrap().finish();
    let error = error.unwrap_err();
    assert!(error.get_ref().unwrap().is::<Mismatch>(), "{error:?}");

    let cut = io::Cursor::new(blob[..blob.len() - 9].to_vec());
    let mut reader = VerifiedTar::new(cut, layer.diff_id.clone()).unwrap();
    let error = reader.read_to_end(&mut Vec::new()).unwrap_err();
    assert!(corrupt(&error).is_some(), "{error:?}");
    assert!(reader.finish().is_err());

    drop(VerifiedTar::new(io::Cursor::new(blob), layer.diff_id).unwrap());
}
