use std::path::Path;

use super::*;
use crate::layer::Member;

/// Makes a layer of words: `name` a file that contains its name and the layer's number, `name/` a
/// directory, `a>b` a hard link, `a@b` a symbolic link, `-name` a deletion, `name/*` opaque.
fn layer(number: u8, words: &str) -> Vec<u8> {
    let mut tar = LayerTar::new(Vec::new());
    for word in words.split_whitespace() {
        if let Some(path) = word.strip_prefix('-') {
            tar.whiteout(Path::new(path)).unwrap();
        } else if let Some(path) = word.strip_suffix("/*") {
            tar.opaque(Path::new(path)).unwrap();
        } else if let Some(path) = word.strip_suffix('/') {
            let entry = Entry::new(path, EntryKind::Directory, 0o700 + u32::from(number));
            tar.append(&entry, None).unwrap();
        } else if let Some((path, target)) = word.split_once('>') {
            let entry = Entry::new(path, EntryKind::HardLink { target: target.into() }, 0o600);
            tar.append(&entry, None).unwrap();
        } else if let Some((path, target)) = word.split_once('@') {
            let entry = Entry::new(path, EntryKind::Symlink { target: target.into() }, 0o777);
            tar.append(&entry, None).unwrap();
        } else {
            let content = format!("{word}{number}");
            let kind = EntryKind::File { size: content.len() as u64 };
            let entry = Entry::new(word, kind, 0o600);
            tar.append(&entry, Some(&mut content.as_bytes())).unwrap();
        }
    }
    tar.finish().unwrap().0
}

fn merge(into: MergeInto, layers: &[&str]) -> String {
    let mut merge = Merge::new(tempfile::tempfile().unwrap(), into);
    for (number, words) in layers.iter().enumerate() {
        merge.add(&layer(u8::try_from(number).unwrap(), words)[..]).unwrap();
    }
    let mut out = LayerTar::new(Vec::new());
    merge.write(Times::Keep, Path::new(""), &mut out).unwrap();
    let tar = out.finish().unwrap().0;
    let mut reader = TarReader::new(&tar[..]);
    let mut shown = Vec::new();
    while let Some(member) = reader.next_member().unwrap() {
        let mut content = String::new();
        reader.read_to_string(&mut content).unwrap();
        shown.push(show(&member, &content));
    }
    shown.join(" ")
}

fn show(member: &Member, content: &str) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let path = text(&member.path);
    match member.typeflag {
        b'5' => format!("{path}{}", member.mode & 7),
        b'1' => format!("{path}>{}", text(&member.link)),
        b'2' => format!("{path}@{}", text(&member.link)),
        _ if path.contains(".wh.") => path,
        _ => format!("{path}={content}"),
    }
}

#[test]
fn upper_layers_win_and_the_result_is_sorted() {
    let tree = |layers| merge(MergeInto::Tree, layers);
    assert_eq!(tree(&["b a/ a/x a-b", "a/ c"]), "a/1 a/x=a/x0 a-b=a-b0 b=b0 c=c1");
    assert_eq!(tree(&["a/ a/x", "a"]), "a=a1");
    assert_eq!(tree(&["a", "a/ a/x"]), "a/1 a/x=a/x1");
    assert_eq!(tree(&["a/b/c"]), "a/5 a/b/5 a/b/c=a/b/c0");
    assert_eq!(tree(&["a/ a/x", "a/y"]), "a/0 a/x=a/x0 a/y=a/y1");
}

#[test]
fn deletions_take_effect_in_a_tree() {
    let tree = |layers| merge(MergeInto::Tree, layers);
    assert_eq!(tree(&["a b/ b/x b/y", "-a -b/x"]), "b/0 b/y=b/y0");
    assert_eq!(tree(&["b/ b/x", "b/ b/* b/z"]), "b/1 b/z=b/z1");
    assert_eq!(tree(&["b/ b/x", "b/ b/z b/*"]), "b/1 b/z=b/z1");
    assert_eq!(tree(&["b/ b/x", "-b", "b/ b/n"]), "b/2 b/n=b/n2");
    assert_eq!(tree(&["a", "-never a"]), "a=a1");
}

#[test]
fn hard_links_survive_the_end_of_their_first_name() {
    let tree = |layers| merge(MergeInto::Tree, layers);
    assert_eq!(tree(&["a b>a c>a"]), "a=a0 b>a c>a");
    assert_eq!(tree(&["a b>a c>a", "-a"]), "b=a0 c>b");
    assert_eq!(tree(&["a b>a c>a", "a"]), "a=a1 b=a0 c>b");
}

#[test]
fn names_lead_through_links_but_never_out() {
    let tree = |layers| merge(MergeInto::Tree, layers);
    assert_eq!(
        tree(&["usr/ usr/lib/ lib@usr/lib", "lib/x"]),
        "lib@usr/lib usr/0 usr/lib/0 usr/lib/x=lib/x1"
    );
    assert_eq!(tree(&["up@../../etc up/x"]), "etc/5 etc/x=up/x0 up@../../etc");
    let mut endless = Merge::new(tempfile::tempfile().unwrap(), MergeInto::Tree);
    let error = endless.add(&layer(0, "a@b b@a a/x")[..]).unwrap_err();
    assert!(matches!(error, Error::LinkLoop(_)), "{error}");
}

#[test]
fn a_merged_layer_does_what_its_layers_did() {
    let one = |layers| merge(MergeInto::Layer, layers);
    assert_eq!(one(&["a", "-a"]), ".wh.a");
    assert_eq!(one(&["-a", "a"]), "a=a1");
    assert_eq!(one(&["-a", "a/ a/x"]), "a/1 a/.wh..wh..opq a/x=a/x1");
    assert_eq!(one(&["a/ a/x", "a/ a/*"]), "a/1 a/.wh..wh..opq");
    assert_eq!(one(&["a/ a/x", "-a/x a/y"]), "a/0 a/.wh.x a/y=a/y1");
    assert_eq!(one(&["a", "a/ a/x"]), "a/1 a/.wh..wh..opq a/x=a/x1");
    assert_eq!(one(&["-a/b", "a/b/c"]), "a/b/5 a/b/.wh..wh..opq a/b/c=a/b/c1");
}
