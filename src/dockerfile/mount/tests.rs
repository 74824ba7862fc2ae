use crate::dockerfile::error::Error;
use crate::dockerfile::mount::{Mount, MountKind, MountSpec, Sharing};
use crate::dockerfile::source::{Span, Word};

fn mount(text: &str) -> Result<Mount, Error> {
    Mount::parse(&Word { text: text.to_owned(), span: Span::default() })
}

fn spec(text: &str) -> MountSpec {
    mount(text).unwrap().resolve(&|value| Ok(value.replace('$', "v"))).unwrap()
}

#[test]
fn mounts_have_types_and_defaults() {
    let bind = spec("target=/x");
    assert_eq!((bind.kind, bind.read_only), (MountKind::Bind, true));
    assert!(!spec("target=/x,rw").read_only);
    let cache = spec("type=cache,dst=/$a,sharing=locked,mode=0700,uid=5,id=x");
    assert_eq!(cache.target.as_deref(), Some("/va"));
    assert_eq!((cache.mode, cache.uid, cache.read_only), (Some(0o700), Some(5), false));
    assert_eq!(cache.sharing, Some(Sharing::Locked));
    let secret = spec("type=secret,id=token,required,env=TOKEN");
    assert!(secret.required);
    assert_eq!(secret.env.as_deref(), Some("TOKEN"));
    assert_eq!(spec("type=tmpfs,target=/t,size=1.5k").size, Some(1536));
    assert_eq!(spec("\"source=a,b\",target=/x").source.as_deref(), Some("a,b"));
}

#[test]
fn bad_mounts_are_refused() {
    for (text, expected) in [
        ("type=bnd", "unsupported mount type \"bnd\" (did you mean bind?)"),
        ("trget=/x", "unexpected key 'trget' in 'trget=/x' (did you mean target?)"),
        (
            "from=$x,target=/y",
            "'from' doesn't support variable expansion, define alias stage instead",
        ),
        ("target", "invalid field 'target' must be a key=value pair"),
        ("size=4", "unexpected key 'size' for mount type 'bind'"),
        ("type=tmpfs,size=x", "invalid value for size: x"),
        ("uid=1", "uid not allowed for \"bind\" type mounts"),
        ("type=cache,mode=9", "invalid value 9 for mode"),
        ("type=secret", "invalid secret mount. one of source, target required"),
        ("sharing=shared", "invalid cache sharing set for bind mount"),
        ("ro=maybe", "invalid value for ro: maybe"),
        ("a\"b", "failed to parse csv mounts: bare \" in non-quoted field"),
    ] {
        assert_eq!(mount(text).unwrap_err().to_string(), expected, "{text}");
    }
}
