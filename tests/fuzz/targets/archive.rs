//! Any file opens as an archive or is refused; what is read from it has its digest.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rpub::archive::Archive;

fuzz_target!(|bytes: &[u8]| {
    let Ok(root) = tempfile::tempdir() else { return };
    let path = root.path().join("archive");
    if std::fs::write(&path, bytes).is_err() {
        return;
    }
    let Ok(archive) = Archive::open(&path) else { return };
    let _ = archive.verify();
    for image in archive.images() {
        let digest = &image.descriptor.digest;
        if let Ok(read) = archive.read(digest, 1 << 20) {
            assert_eq!(digest.of_same_algorithm(&read), *digest);
        }
        let _ = archive.manifest(digest, Some(&image.descriptor.media_type));
    }
    let _ = archive.find(None);
});
