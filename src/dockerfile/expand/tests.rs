use proptest::prelude::*;

use crate::dockerfile::{expand_heredoc, expand_word, expand_word_noting, expand_words};

fn lookup(name: &str) -> Option<String> {
    let value = match name {
        "a" => "hello",
        "e" => "",
        "path" => "/usr/local/bin/tool.tar.gz",
        "two" => "x  y",
        "who" => "world",
        "1" => "one",
        "ä" => "umlaut",
        "star" => "a*c",
        _ => return None,
    };
    Some(value.to_owned())
}

#[test]
fn words_expand() {
    for (word, expected) in [
        ("", ""),
        ("plain", "plain"),
        ("$a", "hello"),
        ("${a}", "hello"),
        ("$unset", ""),
        ("x${unset}y", "xy"),
        ("'$a'", "$a"),
        ("\"$a\"", "hello"),
        (r#""\$a \" \\ \n""#, r#"$a " \ \n"#),
        (r"\$a", "$a"),
        (r"\a", "a"),
        (r"end\", "end"),
        ("$", "$"),
        ("a$ b", "a$ b"),
        ("$1x", "onex"),
        ("$10", ""),
        ("$ä", "umlaut"),
        ("${unset:-d}", "d"),
        ("${e:-d}", "d"),
        ("${e-d}", ""),
        ("${unset-d}", "d"),
        ("${a:+d}", "d"),
        ("${e:+d}", ""),
        ("${e+d}", "d"),
        ("${unset+d}", ""),
        ("${unset:-${who}}", "world"),
        ("${unset:-${unset:-'deep $a'}}", "deep $a"),
        ("${unset:-\"a}b\"}", "a}b"),
        (r"${unset:-a\}b}", "a}b"),
        ("${a:?no}", "hello"),
        ("${path#*/}", "usr/local/bin/tool.tar.gz"),
        ("${path##*/}", "tool.tar.gz"),
        ("${path%.*}", "/usr/local/bin/tool.tar"),
        ("${path%%.*}", "/usr/local/bin/tool"),
        ("${path#x}", "/usr/local/bin/tool.tar.gz"),
        ("${a%?}", "hell"),
        (r"${star#a\*}", "c"),
        (r"${star%\*c}", "a"),
        (r"${path/\/usr/}", "/local/bin/tool.tar.gz"),
        ("${a/l/L}", "heLlo"),
        ("${a//l/L}", "heLLo"),
        ("${a/l*/p}", "hep"),
        ("${a//l/$1}", "heoneoneo"),
        ("${a/[l]/x}", "hello"),
        ("${unset/a/b}", ""),
        ("$$", ""),
        ("$?x", "x"),
    ] {
        assert_eq!(expand_word(word, '\\', &lookup).as_deref(), Ok(expected), "{word}");
    }
}

#[test]
fn backtick_escapes_when_told() {
    assert_eq!(expand_word(r"C:\$a`$a", '`', &lookup).unwrap(), r"C:\hello$a");
}

#[test]
fn faults_have_buildkits_words() {
    for (word, expected) in [
        ("${", "syntax error: missing '}'"),
        ("${a", "syntax error: missing '}'"),
        ("${a:-b", "syntax error: missing '}'"),
        ("${a:", "syntax error: missing '}'"),
        ("${}", "syntax error: bad substitution"),
        ("${{a}}", "syntax error: bad substitution"),
        ("${:a}", "syntax error: bad substitution"),
        ("${a:x}", "unsupported modifier (:x) in substitution"),
        ("${a:#x}", "unsupported modifier (:#) in substitution"),
        ("${a=x}", "unsupported modifier (=) in substitution"),
        ("${unset:?}", "unset: is not allowed to be unset"),
        ("${e:?}", "e: is not allowed to be empty"),
        ("${unset?gone wrong}", "unset: gone wrong"),
        ("${a/b}", "syntax error: missing '/' in ${}"),
        ("${a/b/c", "syntax error: missing '}'"),
        ("'a", "unexpected end of statement while looking for matching single-quote"),
        ("\"a", "unexpected end of statement while looking for matching double-quote"),
        (r"${a#\x}", r"invalid pattern (\x) in substitution: invalid escape '\x'"),
    ] {
        let error = expand_word(word, '\\', &lookup).expect_err(word);
        assert_eq!(error.message, expected, "{word}");
        assert!(error.to_string().starts_with("failed to process "), "{error}");
    }
}

#[test]
fn words_split_outside_quotes_after_expansion() {
    for (word, expected) in [
        ("a b", &["a", "b"][..]),
        ("$two", &["x", "y"]),
        ("\"$two\"", &["x  y"]),
        ("'a b' c", &["a b", "c"]),
        (r"a\ b", &["a b"]),
        ("  ", &[]),
        ("''", &[]),
    ] {
        assert_eq!(expand_words(word, '\\', &lookup).unwrap(), expected, "{word}");
    }
}

#[test]
fn heredocs_keep_quotes() {
    let body = "it's \"$a\" \\$a\n";
    assert_eq!(expand_heredoc(body, &lookup).unwrap(), "it's \"hello\" $a\n");
}

#[test]
fn undefined_variables_are_told_once_and_operators_excuse() {
    let expanded = expand_word_noting("$x ${y:-1} ${x} ${z%a} $a", '\\', &lookup).unwrap();
    assert_eq!(expanded.undefined, ["x", "z"]);
}

#[test]
fn deep_nesting_is_refused() {
    let word = "${x:-".repeat(10_000);
    assert!(expand_word(&word, '\\', &lookup).is_err());
}

proptest! {
    #[test]
    fn any_text_expands_or_is_refused(text in r#"([$ {}:/#%?+*'"\\a-c0-9ä-]|\PC){0,40}"#) {
        if let Err(error) = expand_words(&text, '\\', &lookup) {
            prop_assert!(!error.message.is_empty());
        }
        if let Err(error) = expand_word(&text, '`', &lookup) {
            prop_assert!(!error.message.is_empty());
        }
        let heredoc = expand_heredoc(&text, &lookup);
        if !text.contains(['$', '\\']) {
            prop_assert_eq!(heredoc.unwrap(), text);
        }
    }

    #[test]
    fn quoting_protects(text in "[^']{0,40}") {
        prop_assert_eq!(expand_word(&format!("'{text}'"), '\\', &lookup).unwrap(), text);
    }
}
