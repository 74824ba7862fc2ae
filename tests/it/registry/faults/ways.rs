//! Rows about where a client is sent: challenges, redirects, upload locations, ranges.

use super::fault::{Fault, Setting};
use super::kind::Kind;
use super::wire::Reply;
use super::world::blob;

pub(super) fn challenges() -> Vec<Fault> {
    let asks = |name: &str, challenge: fn(&Setting) -> String| {
        Fault::instead(name, move |setting, _| {
            Reply::error(401, "UNAUTHORIZED").header("www-authenticate", challenge(setting))
        })
        .fits(Kind::is_registrys)
    };
    let proper: fn(&Setting) -> String =
        |setting| format!("Bearer realm=\"{}/token\",service=\"s\"", setting.own);
    vec![
        asks("401", proper).once().fits(|kind| kind.is_registrys() && kind != Kind::Ping),
        asks("401", proper).always().fits(|kind| kind.is_registrys() && kind != Kind::Ping),
        Fault::says("401 without a challenge", 401).once(),
        Fault::says("401 without a challenge", 401).always(),
        asks("401 in words nobody knows", |_| "Negotiate abc==".to_owned()).always(),
        asks("401 in broken words", |_| "Bearer realm=\"http://".to_owned()).always(),
        asks("401 for Basic", |_| "Basic realm=\"r\"".to_owned()).always(),
        asks("401 with a realm that is no URL", |_| "Bearer realm=\"http://[\"".to_owned())
            .always(),
        asks("401 with a realm of another scheme", |_| {
            "Bearer realm=\"file:///etc/passwd\"".to_owned()
        })
        .always(),
        asks("401 with a relative realm", |_| "Bearer realm=\"/token\"".to_owned())
            .once()
            .fits(|kind| kind.is_registrys() && kind != Kind::Ping),
        asks("401 for more scopes", |setting| {
            let realm = format!("{}/token", setting.own);
            format!(
                "Bearer realm=\"{realm}\",scope=\"repository:team/app:pull,push \
                 repository:more:pull\",error=\"insufficient_scope\""
            )
        })
        .once()
        .fits(|kind| kind.is_registrys() && kind != Kind::Ping),
        asks("401 with a scope of 100 kB", |setting| {
            format!("Bearer realm=\"{}/token\",scope=\"{}\"", setting.own, "x".repeat(100_000))
        })
        .once()
        .fits(|kind| kind.is_registrys() && kind != Kind::Ping),
        asks("401 with a realm at plain HTTP elsewhere", |setting| {
            format!("Bearer realm=\"{}/token\"", setting.other)
        })
        .always()
        .over_tls(),
    ]
}

pub(super) fn redirects() -> Vec<Fault> {
    let elsewhere = |setting: &Setting, same: &str| {
        let mark = if same.contains('?') { '&' } else { '?' };
        format!("{}{same}{mark}signature=s3cr3t", setting.other)
    };
    let mut rows: Vec<Fault> = [301, 302, 303, 307, 308]
        .map(|status| Fault::redirects(&format!("{status} elsewhere"), status, elsewhere))
        .into();
    rows.extend([
        Fault::redirects("307 elsewhere, where one must log in", 307, |setting, same| {
            format!("{}{same}", setting.asking)
        }),
        Fault::redirects("307 without an end", 307, |setting, same| {
            format!("{}{same}", setting.own)
        }),
        Fault::redirects("307 to a relative place", 307, |_, same| same.to_owned()).once(),
        Fault::instead("307 to nowhere", |_, _| Reply::new(307)),
        Fault::redirects("307 to what is no URL", 307, |_, _| "http://[".to_owned()),
        Fault::redirects("307 to a file", 307, |_, _| "file:///etc/passwd".to_owned()),
        Fault::redirects("307 to bytes that are no text", 307, |_, _| {
            "http://\u{1f4a5}".to_owned()
        }),
        Fault::redirects("307 to where nobody listens", 307, |_, _| "http://127.0.0.1:1/".into()),
        Fault::redirects("307 from TLS to plain HTTP", 307, elsewhere).over_tls(),
        Fault::redirects("307 from TLS to itself by plain HTTP", 307, |setting, same| {
            format!("{}{same}", setting.own.replace("https", "http"))
        })
        .over_tls(),
    ]);
    rows
}

pub(super) fn locations() -> Vec<Fault> {
    vec![
        Fault::changes("no location", |reply| reply.without("location"))
            .fits(Kind::is_told_location),
        Fault::leads("a location of the whole", |setting, path| format!("{}{path}", setting.own)),
        Fault::leads("a location without a scheme", |setting, path| {
            format!("{}{path}", setting.own.trim_start_matches("http://"))
        }),
        Fault::leads("a location with a user and a fragment", |setting, path| {
            format!("{}{path}#f", setting.own.replace("//", "//user:s3cr3t@"))
        }),
        Fault::leads("a location elsewhere", |setting, path| format!("{}{path}", setting.other)),
        Fault::leads("a location elsewhere, where one must log in", |setting, path| {
            format!("{}{path}", setting.asking)
        }),
        Fault::leads("a location that is no URL", |_, _| "http://[".to_owned()),
        Fault::leads("a location that is a file", |_, _| "file:///etc/passwd".to_owned()),
        Fault::leads("a location of no upload", |_, _| "/v2/new/app/blobs/uploads/77".to_owned()),
        Fault::leads("a location from TLS at plain HTTP", |setting, path| {
            format!("{}{path}", setting.other)
        })
        .over_tls(),
    ]
}

pub(super) fn ranges() -> Vec<Fault> {
    let says = |name: &str, range: fn(usize, usize) -> String| {
        Fault::changes(name, move |reply| {
            let total = blob().len();
            let first = total - reply.body.len();
            reply.header("content-range", range(first, total))
        })
        .fits(Kind::gets_range)
    };
    vec![
        Fault::changes("the range is ignored", |reply| {
            let reply = Reply { status: 200, ..reply.without("content-range") };
            reply.body(blob())
        })
        .fits(Kind::gets_range),
        Fault::changes("the whole as if it were the range", |reply| reply.body(blob()))
            .fits(Kind::gets_range),
        says("a range that begins later", |first, total| {
            format!("bytes {}-{}/{total}", first + 1, total - 1)
        }),
        says("a range that begins earlier", |first, total| {
            format!("bytes {}-{}/{total}", first - 1, total - 1)
        }),
        says("a range of a longer blob", |first, total| {
            format!("bytes {first}-{total}/{}", total + 1)
        }),
        says("a range without a unit", |first, total| format!("{first}-{}/{total}", total - 1)),
        says("a range of unknown length", |first, total| format!("bytes {first}-{}/*", total - 1)),
        says("a range that is none", |_, _| "bytes */*".to_owned()),
        Fault::changes("no range", |reply| reply.without("content-range")).fits(Kind::gets_range),
        Fault::changes("two ranges in parts", |reply| {
            let body = [b"--x\r\n\r\n", &reply.body[..], b"\r\n--x--"].concat();
            reply
                .without("content-range")
                .header("content-type", "multipart/byteranges; boundary=x")
                .body(body)
        })
        .fits(Kind::gets_range),
    ]
}
