use super::*;
use crate::dockerfile::Sharing;

fn mounts(text: &str) -> Vec<RunMount> {
    runs(&plan(text)).iter().flat_map(|run| run.mounts.clone()).collect()
}

fn mount(flags: &str) -> RunMount {
    let mut mounts = mounts(&format!("FROM base\nWORKDIR /w\nARG A=x\nRUN --mount={flags} c\n"));
    assert_eq!(mounts.len(), 1);
    mounts.remove(0)
}

fn file(target: &str, mode: u32, uid: u32, gid: u32) -> MountedFile {
    MountedFile { target: target.to_owned(), mode, uid, gid }
}

#[test]
fn binds_have_targets_and_origins() {
    let bind = |target: &str, from, source: &str, access| RunMount::Bind {
        target: target.to_owned(),
        from,
        source: source.to_owned(),
        access,
    };
    let context = Origin::Context(0);
    let read_only = Access::ReadOnly;
    assert_eq!(mount("target=/x"), bind("/x", context, "/", read_only));
    assert_eq!(mount("target=x,source=../a/./b"), bind("/w/x", context, "/a/b", read_only));
    assert_eq!(mount("dst=/$A,src=$A,rw"), bind("/x", context, "/x", Access::ReadWrite));
    let text = "FROM a AS one\nFROM base\nRUN --mount=from=one,target=/x c\n\
                RUN --mount=from=0,target=/x c\nRUN --mount=from=img,target=/x c\n\
                RUN --mount=from=scratch,target=/x c\n";
    let plan = plan(text);
    assert_eq!(plan.stages.len(), 2);
    let names: Vec<String> = plan.bases.iter().map(|base| base.reference.familiar()).collect();
    let image = names.iter().position(|name| name == "img:latest").expect("resolved");
    let mounts: Vec<&RunMount> = runs(&plan).iter().flat_map(|run| &run.mounts).collect();
    assert_eq!(*mounts[0], bind("/x", Origin::Stage(0), "/", read_only));
    assert_eq!(mounts[1], mounts[0]);
    assert_eq!(*mounts[2], bind("/x", Origin::Image(image), "/", read_only));
    assert_eq!(*mounts[3], RunMount::Tmpfs { target: "/x".to_owned(), size_bytes: None });
    assert!(plan.contexts.is_empty());
}

#[test]
fn caches_are_named_after_their_target() {
    let RunMount::Cache { target, id, sharing, from, source, mode, uid, gid, access } =
        mount("type=cache,target=/root/./$A")
    else {
        panic!("no cache")
    };
    assert_eq!((target.as_str(), id.as_str()), ("/root/x", "/root/x"));
    assert_eq!((sharing, from, source.as_str()), (Sharing::Shared, None, "/"));
    assert_eq!((mode, uid, gid, access), (0o755, 0, 0, Access::ReadWrite));
    let id = |flags: &str| match mount(flags) {
        RunMount::Cache { id, target, .. } => (id, target),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        id("type=cache,target=node_modules"),
        ("node_modules".into(), "/w/node_modules".into())
    );
    assert_eq!(id("type=cache,target=/a,id=b-$A"), ("b-x".into(), "/a".into()));
    let mut options = options();
    options.build_args.insert("BUILDKIT_CACHE_MOUNT_NS".to_owned(), "ns".to_owned());
    let text = "FROM base\nRUN --mount=type=cache,id=b,target=/a,sharing=locked,from=seed,source=/s,\
                mode=0700,uid=1,gid=2,ro c\n";
    let plan = plan_with(text, &options, &RuntimeConfig::default()).expect("valid");
    let RunMount::Cache { id, sharing, from, source, mode, uid, gid, access, .. } =
        runs(&plan)[0].mounts[0].clone()
    else {
        panic!("no cache")
    };
    assert_eq!((id.as_str(), sharing, source.as_str()), ("ns/b", Sharing::Locked, "/s"));
    assert!(matches!(from, Some(Origin::Image(_))));
    assert_eq!((mode, uid, gid, access), (0o700, 1, 2, Access::ReadOnly));
}

#[test]
fn secrets_appear_where_they_are_wanted() {
    let secret = |id: &str, file, env: Option<&str>, required| RunMount::Secret {
        id: id.to_owned(),
        file,
        env: env.map(str::to_owned),
        required,
    };
    for (flags, expected) in [
        ("id=a", secret("a", Some(file("/run/secrets/a", 0o400, 0, 0)), None, false)),
        ("id=a/b", secret("a/b", Some(file("/run/secrets/b", 0o400, 0, 0)), None, false)),
        ("source=a", secret("a", Some(file("/run/secrets/a", 0o400, 0, 0)), None, false)),
        ("target=/x/y", secret("y", Some(file("/x/y", 0o400, 0, 0)), None, false)),
        ("id=a,env=E", secret("a", None, Some("E"), false)),
        (
            "id=a,env=E,target=/t,required",
            secret("a", Some(file("/t", 0o400, 0, 0)), Some("E"), true),
        ),
        (
            "id=a,mode=0444,uid=5,gid=6",
            secret("a", Some(file("/run/secrets/a", 0o444, 5, 6)), None, false),
        ),
    ] {
        assert_eq!(mount(&format!("type=secret,{flags}")), expected, "{flags}");
    }
}

#[test]
fn agents_get_sockets_by_number() {
    let text = "FROM base\nRUN --mount=type=ssh --mount=type=ssh,id=other,required \
                --mount=type=ssh,target=/s,uid=9 c\n";
    let ssh = |id: &str, socket, required| RunMount::Ssh { id: id.to_owned(), socket, required };
    assert_eq!(
        mounts(text),
        [
            ssh("default", file("/run/buildkit/ssh_agent.0", 0o600, 0, 0), false),
            ssh("other", file("/run/buildkit/ssh_agent.1", 0o600, 0, 0), true),
            ssh("default", file("/s", 0o600, 9, 0), false),
        ]
    );
    let size = RunMount::Tmpfs { target: "/t".to_owned(), size_bytes: Some(64 << 20) };
    assert_eq!(mount("type=tmpfs,target=/t,size=64m"), size);
}

#[test]
fn bad_mounts_are_refused_at_the_flag() {
    for (flags, message) in [
        ("target=/", "invalid mount target \"/\""),
        ("target=$NOPE", "a bind mount needs a target"),
        ("source=x", "a bind mount needs a target"),
        ("type=cache", "a cache mount needs a target"),
        ("type=tmpfs", "a tmpfs mount needs a target"),
        ("type=ssh,source=x", "ssh does not support source"),
        ("type=secret,id=$NOPE", "invalid secret mount. one of source, target required"),
        ("type=$A,target=/x", "unsupported mount type \"x\""),
        ("from=here,target=/x", "circular dependency detected on stage: here"),
    ] {
        let text = format!("FROM base AS here\nARG A=x\nRUN --mount={flags} c\n");
        assert_eq!(refusal(&text), (message.to_owned(), "3:5".to_owned()), "{flags}");
    }
}
