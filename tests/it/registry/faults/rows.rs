//! Everything that can go wrong with an answer: the rows of the table.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Timestamp;

use super::fault::{Does, Fault};
use super::kind::Kind;
use super::ways;
use super::wire::{At, Reply, Travel};

/// Returns all rows, in the order of the table.
pub(super) fn faults() -> Vec<Fault> {
    let groups = [cuts(), travels(), bodies(), contents(), frames(), digests()];
    let more = [statuses(), waits(), ways::challenges(), ways::redirects()];
    let last = [ways::locations(), ways::ranges()];
    groups.into_iter().chain(more).chain(last).flatten().collect()
}

fn cuts() -> Vec<Fault> {
    let everywhere: fn(Kind) -> bool = |_| true;
    let places = [
        ("cut before the head", At::Nothing, everywhere),
        ("cut in the head", At::HalfTheHead, everywhere),
        ("cut after the head", At::Head, Kind::is_answered_at_length),
        ("cut after the first byte", At::FirstByte, Kind::is_answered_at_length),
        ("cut in the middle", At::HalfTheBody, Kind::is_answered_at_length),
        ("cut before the last byte", At::AllButOneByte, Kind::is_answered_at_length),
    ];
    let mut rows = Vec::new();
    for (name, at, fits) in places {
        let cut = Fault::travels(name, Travel::Cut(at)).fits(fits);
        rows.extend([cut.clone().once(), cut.always()]);
    }
    let name = "hung up before the request's body";
    let hung = Fault { does: Does::HangsUp, ..Fault::travels(name, Travel::Whole) };
    let hung = hung.fits(Kind::sends);
    rows.extend([hung.clone().once(), hung.always()]);
    rows
}

fn travels() -> Vec<Fault> {
    let at_length = Kind::is_answered_at_length;
    vec![
        Fault::travels("byte by byte", Travel::Drip),
        Fault::travels("no length, ended by the connection", Travel::Unframed).fits(at_length),
        Fault::travels("in chunks", Travel::Chunked).fits(at_length),
        Fault::travels("an interim answer first", Travel::Interim),
        Fault::travels("the answer twice", Travel::Twice),
        Fault::travels("not HTTP", Travel::Garbage).once(),
        Fault::travels("not HTTP", Travel::Garbage).always(),
        Fault::travels("silence", Travel::Stall(At::Nothing)).once().in_short(),
        Fault::travels("silence", Travel::Stall(At::Nothing)).always().in_short(),
        Fault::travels("silence in the head", Travel::Stall(At::HalfTheHead)).always().in_short(),
        Fault::travels("silence in the body", Travel::Stall(At::HalfTheBody))
            .once()
            .in_short()
            .fits(at_length),
        Fault::travels("silence in the body", Travel::Stall(At::HalfTheBody))
            .always()
            .in_short()
            .fits(at_length),
        Fault::travels("byte by byte without an end", Travel::DripForever)
            .in_short()
            .fits(at_length),
        Fault::instead("HTML with 200 byte by byte without an end", |_, _| html(200))
            .in_short()
            .without_end(),
        Fault::says("404 byte by byte without an end", 404).in_short().without_end(),
        Fault::says("500 byte by byte without an end", 500).in_short().without_end(),
        Fault::travels("interim answers without an end", Travel::EndlessInterim).in_short(),
        Fault::travels("endless head", Travel::EndlessHead),
        Fault::travels("endless body", Travel::EndlessBody).fits(at_length),
        Fault::instead("endless HTML with 200", |_, _| html(200)).endless(),
        Fault::says("endless body with 404", 404).endless(),
        Fault::says("endless body with 500", 500).endless(),
    ]
}

fn html(status: u16) -> Reply {
    let page = "<!DOCTYPE html>\n<html><title>Gateway</title><body>Sign in</body></html>\n";
    Reply::new(status).header("content-type", "text/html; charset=utf-8").body(page)
}

fn bodies() -> Vec<Fault> {
    let deep = || "[".repeat(200_000);
    let json = Kind::has_json;
    vec![
        Fault::instead("HTML with 200", |_, _| html(200)),
        Fault::instead("HTML with 404", |_, _| html(404)),
        Fault::instead("HTML with 503", |_, _| html(503)),
        Fault::instead("nothing with 200", |_, _| Reply::new(200)),
        Fault::changes("JSON cut short", |reply| {
            let half = reply.body.len() / 2;
            let body = reply.body[..half].to_vec();
            reply.body(body)
        })
        .fits(json),
        Fault::changes("JSON of 200000 levels", move |reply| reply.body(deep())).fits(json),
        Fault::changes("JSON of another shape", |reply| reply.body(r#"["a",1]"#)).fits(json),
        Fault::changes("JSON with a key twice", |reply| {
            let text = String::from_utf8(reply.body.clone()).unwrap();
            let twice = text.replacen('{', r#"{"token":"s3cr3t-x","schemaVersion":2,"#, 1);
            reply.body(twice)
        })
        .fits(json),
        Fault::changes("bytes that are no text", |reply| reply.body([0xff, 0xfe, 0, 0xc3, 0x28]))
            .fits(json),
        Fault::changes("a token of 2 MiB", |reply| {
            reply.body(format!(r#"{{"token":"{}"}}"#, "t".repeat(2 << 20)))
        })
        .fits(Kind::gets_token),
        Fault::changes("a token with a line's end in it", |reply| {
            reply.body(r#"{"token":"a\r\nx: y"}"#)
        })
        .fits(Kind::gets_token),
        Fault::changes("a token that is no text", |reply| reply.body(r#"{"token":7}"#))
            .fits(Kind::gets_token),
        Fault::changes("a token that ended long ago", |reply| {
            let text = String::from_utf8(reply.body.clone()).unwrap();
            let extra = r#""expires_in":-5,"issued_at":"1970-01-01T00:00:00Z""#;
            reply.body(text.replace(r#""expires_in":300"#, extra))
        })
        .fits(Kind::gets_token),
        Fault::changes("a manifest of 9 MiB", |reply| {
            let padding = " ".repeat(9 << 20);
            let body = [&reply.body[..], padding.as_bytes()].concat();
            reply.body(body)
        })
        .fits(Kind::gets_manifest),
        Fault::changes("a manifest of schema 1", |reply| {
            let body = r#"{"schemaVersion":1,"name":"team/app","fsLayers":[],"signatures":[]}"#;
            let kind = "application/vnd.docker.distribution.manifest.v1+prettyjws";
            reply.header("content-type", kind).body(body)
        })
        .fits(|kind| kind.gets_manifest() || kind == Kind::ManifestHead),
        Fault::changes("a manifest of another type", |reply| {
            reply.header("content-type", "application/vnd.example.manifest.v7+json")
        })
        .fits(|kind| kind.gets_manifest() || kind == Kind::ManifestHead),
    ]
}

fn contents() -> Vec<Fault> {
    let at_length = Kind::is_answered_at_length;
    vec![
        Fault::changes("a byte changed", |mut reply| {
            let at = reply.body.len() / 2;
            reply.body[at] ^= 1;
            reply
        })
        .fits(at_length),
        Fault::changes("a byte too many", |mut reply| {
            reply.body.push(b' ');
            reply
        })
        .fits(at_length),
        Fault::changes("a byte too few", |mut reply| {
            reply.body.pop();
            reply
        })
        .fits(at_length),
        Fault::changes("a byte too many, in chunks", |mut reply| {
            reply.body.push(b' ');
            reply
        })
        .fits(at_length)
        .in_chunks(),
        Fault::changes("a byte too few, in chunks", |mut reply| {
            reply.body.pop();
            reply
        })
        .fits(at_length)
        .in_chunks(),
    ]
}

fn frames() -> Vec<Fault> {
    let at_length = Kind::is_answered_at_length;
    vec![
        Fault::changes("a length too long", |reply| {
            let length = reply.body.len() + 1;
            reply.header("content-length", length.to_string())
        })
        .fits(at_length)
        .and_cut(),
        Fault::changes("a length that is no number", |reply| {
            reply.header("content-length", "many")
        }),
        Fault::changes("no length", |reply| Reply { says_length: false, ..reply })
            .fits(Kind::asks_for_head),
        Fault::changes("gzip", |reply| {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(&reply.body).unwrap();
            reply.header("content-encoding", "gzip").body(encoder.finish().unwrap())
        })
        .fits(at_length),
    ]
}

fn digests() -> Vec<Fault> {
    let digests = Kind::names_digest;
    vec![
        Fault::changes("no type", |reply| reply.without("content-type")),
        Fault::changes("the type of plain text", |reply| {
            reply.header("content-type", "text/plain")
        }),
        Fault::changes("another digest", |reply| {
            reply.header("docker-content-digest", format!("sha256:{}", "0".repeat(64)))
        })
        .fits(digests),
        Fault::changes("a digest that is none", |reply| {
            reply.header("docker-content-digest", "sha256:../../etc/passwd")
        })
        .fits(digests),
        Fault::changes("no digest", |reply| reply.without("docker-content-digest")).fits(digests),
        Fault::changes("a header of 1 MiB", |reply| reply.header("x-more", "y".repeat(1 << 20))),
        Fault::changes("500 headers", |mut reply| {
            reply.headers.extend((0..500).map(|at| (format!("x-{at}"), "y".to_owned())));
            reply
        }),
    ]
}

fn statuses() -> Vec<Fault> {
    let mut rows = Vec::new();
    for status in [400, 402, 403, 404, 405, 406, 409, 410, 413, 415, 416, 422, 451, 501, 507, 520] {
        rows.push(Fault::says(&status.to_string(), status).always());
    }
    rows.push(Fault::says("403", 403).once());
    let done = Fault::changes("500 though it is done", |reply| Reply { status: 500, ..reply });
    let done = done.fits(Kind::changes);
    rows.extend([done.clone().once(), done.always()]);
    let name = "201 though nothing is done";
    rows.push(Fault::instead(name, |_, _| Reply::new(201)).fits(Kind::puts_manifest));
    for status in [408, 500, 502, 503, 504] {
        let fault = Fault::says(&status.to_string(), status);
        rows.extend([fault.clone().once(), fault.clone().twice(), fault.always()]);
    }
    for status in [200, 201, 202, 204, 206, 304] {
        let name = format!("{status} where it is not usual");
        rows.push(Fault::changes(&name, move |reply| Reply { status, ..reply }));
    }
    rows
}

const HOUR: i64 = 3600;

fn waits() -> Vec<Fault> {
    let limited = |name: &str, status: u16, after: fn() -> String| {
        Fault::instead(name, move |_, _| {
            Reply::error(status, if status == 429 { "TOOMANYREQUESTS" } else { "UNAVAILABLE" })
                .header("retry-after", after())
        })
    };
    let date = |seconds: i64| {
        let time = Timestamp::now().checked_add(jiff::SignedDuration::from_secs(seconds)).unwrap();
        time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
    };
    let in_an_hour: fn() -> String = || HOUR.to_string();
    let rows = [
        Fault::says("429", 429).once(),
        Fault::says("429", 429).always(),
        limited("429 for 1 second", 429, || "1".to_owned()).once(),
        limited("429 until a date that has passed", 429, || {
            "Sun, 06 Nov 1994 08:49:37 GMT".to_owned()
        })
        .once(),
        limited("429 until soon", 429, || "soon".to_owned()).once(),
        limited("429 for more seconds than there are", 429, || "9".repeat(30)).once(),
        limited("429 for an hour", 429, in_an_hour).always(),
        limited("503 for an hour", 503, in_an_hour).always(),
    ];
    let dated = Fault::instead("429 until a date in an hour", move |_, _| {
        Reply::error(429, "TOOMANYREQUESTS").header("retry-after", date(HOUR))
    });
    let hidden = Fault::instead("403 that means too many requests", |_, _| {
        Reply::error(403, "TOOMANYREQUESTS")
    });
    rows.into_iter().chain([dated.always(), hidden.always()]).collect()
}
