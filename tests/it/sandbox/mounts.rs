//! What a step asks to be mounted.

use std::io::{Read as _, Write as _};

use rpub::sandbox::{
    ChangeSet, FileOwner, Handover, Limit, LimitedResource, MountAccess, MountSource, Passed,
    SecretPart, SecretVariable, Security, StepIo, StepMount,
};

use super::*;

fn mount(target: &str, source: MountSource) -> StepMount {
    StepMount { target: target.to_owned(), source }
}

fn owner(mode: u32, uid: u32, gid: u32) -> FileOwner {
    FileOwner { mode, uid, gid }
}

impl Sandbox {
    /// A tree of two layers: `/a/file`, `/a/link` to the root, `/a/out` up and away, `/top`.
    fn tree(&self, path: &str, access: MountAccess) -> MountSource {
        let (below, above) = (self.path("below"), self.path("above"));
        if !below.exists() {
            fs::create_dir_all(below.join("a")).unwrap();
            fs::create_dir_all(above.join("a")).unwrap();
            fs::write(below.join("a/file"), "below").unwrap();
            fs::write(above.join("a/file"), "above").unwrap();
            fs::write(below.join("top"), "top").unwrap();
            symlink("/", below.join("a/link")).unwrap();
            symlink("../../../../../../../../../", below.join("a/out")).unwrap();
            for path in ["", "a"] {
                for layer in [&below, &above] {
                    fs::set_permissions(layer.join(path), Permissions::from_mode(0o755)).unwrap();
                }
            }
        }
        MountSource::Tree {
            layers: vec![below, above],
            indexes: vec![],
            path: path.to_owned(),
            access,
        }
    }

    fn sh_with(&self, name: &str, mounts: Vec<StepMount>, script: &str) -> Ran {
        let mut request = self.request(name, &["/bin/sh", "-c", script]);
        request.mounts = mounts;
        self.run(request)
    }

    /// Runs with secrets and takes what the step passes out.
    fn run_with(&self, request: RunRequest, secrets: &str, take: impl FnOnce(Handover)) -> Ran {
        let upper = request.step_directory.join("upper");
        let (mut reader, writer) = std::io::pipe().unwrap();
        let (handover, steps_end) = Handover::pair().unwrap();
        let passes = request.has_terminal
            || request.mounts.iter().any(|m| matches!(m.source, MountSource::Agent { .. }));
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(secrets.as_bytes()).unwrap();
        let io = StepIo {
            output: writer.into(),
            secrets: (!secrets.is_empty()).then(|| file.into()),
            handover: passes.then_some(steps_end),
        };
        let running = self.worker.begin_run(request, &io).unwrap();
        drop(io);
        take(handover);
        let mut output = String::new();
        reader.read_to_string(&mut output).unwrap();
        Ran { exit: running.wait(), output, upper }
    }
}

#[test]
fn a_bound_tree_is_merged_and_read_only() {
    let Some(sandbox) = Sandbox::start() else { return };
    let mounts = vec![
        mount("/new/place", sandbox.tree("/a", MountAccess::ReadOnly)),
        mount("/some/file", sandbox.tree("/top", MountAccess::ReadOnly)),
    ];
    let script = "cat /new/place/file /some/file; touch /new/place/x; echo y > /some/file; true";
    let ran = sandbox.sh_with("step", mounts, script).succeeds();
    assert!(ran.output.starts_with("abovetop"), "{}", ran.output);
    assert_eq!(ran.output.matches("Read-only file system").count(), 2, "{}", ran.output);
    assert_eq!(ran.changes(), [""; 0], "mount points do not stay");
}

#[test]
fn what_is_written_to_a_bound_tree_is_dropped() {
    let Some(sandbox) = Sandbox::start() else { return };
    let mounts = vec![mount("/place", sandbox.tree("/", MountAccess::ReadWrite))];
    let script = "echo new > /place/a/file; rm /place/top; ls /place; cat /place/a/file";
    let ran = sandbox.sh_with("step", mounts, script).succeeds();
    assert_eq!(ran.output, "a\nnew\n");
    assert_eq!(ran.changes(), [""; 0]);
    assert_eq!(fs::read_to_string(sandbox.path("above/a/file")).unwrap(), "above");
    let mounts = vec![mount("/place", sandbox.tree("/top", MountAccess::ReadWrite))];
    let ran = sandbox.sh_with("file", mounts, "echo new > /place; cat /place").succeeds();
    assert_eq!(ran.output, "new\n");
    assert_eq!(fs::read_to_string(sandbox.path("below/top")).unwrap(), "top");
}

#[test]
fn links_in_sources_and_targets_stay_inside() {
    let Some(sandbox) = Sandbox::start() else { return };
    for (number, path) in ["/a/link", "/a/out", "/../../.."].into_iter().enumerate() {
        let mounts = vec![mount("/place", sandbox.tree(path, MountAccess::ReadOnly))];
        let ran = sandbox.sh_with(&format!("inside{number}"), mounts, "ls /place").succeeds();
        assert_eq!(ran.output, "a\ntop\n", "{path}");
    }
    for path in ["/absent", "/a/link/proc", "/top/below"] {
        let mounts = vec![mount("/place", sandbox.tree(path, MountAccess::ReadOnly))];
        let error = sandbox.sh_with(&format!("absent{}", path.len()), mounts, "true").exit;
        assert!(
            matches!(&error, Err(Error::MountSourceNotFound { path: p }) if p == path),
            "{error:?}"
        );
    }
    // A link in the image where the mount goes: it is followed in the image.
    symlink("../../../../../tmp/host", sandbox.path("base/lead")).unwrap();
    let made = sandbox.sh("made", "mkdir /tmp/host").succeeds();
    let mut request = sandbox.request("target", &["/bin/ls", "/tmp/host"]);
    request.layers.push(made.upper);
    request.mounts = vec![mount("/lead", sandbox.tree("/", MountAccess::ReadOnly))];
    assert_eq!(sandbox.run(request).succeeds().output, "a\ntop\n");
    assert!(!Path::new("/tmp/host").exists());
}

#[test]
fn a_file_is_not_mounted_on_a_directory() {
    let Some(sandbox) = Sandbox::start() else { return };
    let mounts = vec![mount("/data", sandbox.tree("/top", MountAccess::ReadOnly))];
    let error = sandbox.sh_with("step", mounts, "true").exit.unwrap_err();
    assert_eq!(
        error.to_string(),
        "failed to mount `/data`: it is a directory in the image, and a file is to be mounted on it"
    );
}

#[test]
fn a_directory_of_the_host_keeps_what_is_written() {
    let Some(sandbox) = Sandbox::start() else { return };
    let directory = sandbox.path("kept");
    fs::create_dir(&directory).unwrap();
    let source = |access| MountSource::Directory { path: directory.clone(), access };
    let first = vec![mount("/cache/deep", source(MountAccess::ReadWrite))];
    let ran = sandbox.sh_with("first", first, "echo x > /cache/deep/f; chown 7 /cache/deep/f");
    assert_eq!(ran.succeeds().changes(), [""; 0]);
    let second = vec![mount("/data", source(MountAccess::ReadOnly))];
    let ran =
        sandbox.sh_with("second", second, "cat /data/f; stat -c %u /data/f; touch /data/g; true");
    assert!(ran.output.starts_with("x\n7\n"), "{}", ran.output);
    assert!(ran.output.contains("Read-only"), "{}", ran.output);
}

#[test]
fn memory_has_a_size_and_the_mode_of_its_place() {
    let Some(sandbox) = Sandbox::start() else { return };
    let mounts = vec![
        mount("/tmp", MountSource::Tmpfs { size_bytes: Some(8192) }),
        mount("/data", MountSource::Tmpfs { size_bytes: None }),
        mount("/fresh", MountSource::Tmpfs { size_bytes: None }),
    ];
    let script = "stat -c %a /tmp /data /fresh; test ! -e /data/old; \
                  cat /bin/busybox > /tmp/big; stat -c %s /tmp/big";
    let ran = sandbox.sh_with("step", mounts, script).succeeds();
    assert!(ran.output.starts_with("1777\n755\n1777\n"), "{}", ran.output);
    assert!(ran.output.contains("No space left"), "{}", ran.output);
    assert!(ran.output.ends_with("8192\n"), "{}", ran.output);
    assert_eq!(ran.changes(), [""; 0]);
}

#[test]
fn secrets_are_files_and_variables() {
    let Some(sandbox) = Sandbox::start() else { return };
    let part = |offset, length| SecretPart { offset, length };
    let script = "cat /run/secrets/one /two; echo; stat -c '%a %u:%g' /run/secrets/one /two; \
                  echo $THREE; echo x > /two; rm /run/secrets/one; true";
    let mut request = sandbox.request("step", &["/bin/sh", "-c", script]);
    let secret = |part, owner| MountSource::Secret { part, owner };
    request.mounts = vec![
        mount("/run/secrets/one", secret(part(0, 3), owner(0o400, 0, 0))),
        mount("/two", secret(part(3, 3), owner(0o440, 1000, 29))),
    ];
    request.secret_env = vec![SecretVariable { name: "THREE".to_owned(), part: part(6, 5) }];
    request.env.push("THREE=overridden".to_owned());
    let ran = sandbox.run_with(request, "onetwothree", drop).succeeds();
    assert!(ran.output.starts_with("onetwo\n400 0:0\n440 1000:29\nthree\n"), "{}", ran.output);
    assert!(ran.output.contains("Read-only file system"), "{}", ran.output);
    assert_eq!(ran.changes(), [""; 0]);
}

/// What is said through the socket, `secrets::the_users_agent_is_forwarded` shows.
#[test]
fn an_agents_socket_is_there_and_its_listener_is_handed_over() {
    let Some(sandbox) = Sandbox::start() else { return };
    let script = "stat -c '%F %a %u:%g' /run/agent";
    let mut request = sandbox.request("step", &["/bin/sh", "-c", script]);
    request.mounts =
        vec![mount("/run/agent", MountSource::Agent { owner: owner(0o600, 1000, 29) })];
    let take = |handover: Handover| {
        let Some(Passed::Agent { mount: 0, listener }) = handover.next().unwrap() else {
            panic!("no agent");
        };
        assert!(handover.next().unwrap().is_none());
        // Only a socket that listens says that nobody has come yet.
        listener.set_nonblocking(true).unwrap();
        assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    };
    let ran = sandbox.run_with(request, "", take).succeeds();
    assert_eq!(ran.output, "socket 600 1000:29\n");
    assert_eq!(ran.changes(), [""; 0]);
}

#[test]
fn scripts_are_executable_and_read_only() {
    let Some(sandbox) = Sandbox::start() else { return };
    let files = vec![("EOF".to_owned(), "#!/bin/sh\necho from $0; echo x > $0\n".to_owned())];
    let mut request = sandbox.request("step", &["/dev/pipes/EOF"]);
    request.mounts = vec![mount("/dev/pipes", MountSource::Scripts { files })];
    let ran = sandbox.run(request);
    assert!(ran.output.starts_with("from /dev/pipes/EOF\n"), "{}", ran.output);
    assert!(ran.output.contains("Read-only"), "{}", ran.output);
    assert_eq!(ran.changes(), [""; 0]);
}

#[test]
fn mounts_nest_and_mount_points_leave_no_trace() {
    let Some(sandbox) = Sandbox::start() else { return };
    let directory = sandbox.path("kept");
    fs::create_dir(&directory).unwrap();
    let before = fs::metadata(sandbox.path("base/data")).unwrap().mtime();
    let mounts = vec![
        mount(
            "/data/a/b",
            MountSource::Directory { path: directory, access: MountAccess::ReadWrite },
        ),
        mount("/data/a/b/c/file", sandbox.tree("/top", MountAccess::ReadOnly)),
        mount("/data/a/d", MountSource::Tmpfs { size_bytes: None }),
        mount("/data/kept/e", MountSource::Tmpfs { size_bytes: None }),
    ];
    let script = "cat /data/a/b/c/file; touch /data/kept/own; stat -c %Y /data";
    let ran = sandbox.sh_with("step", mounts, script).succeeds();
    assert_eq!(ran.output, format!("top{before}\n"));
    assert_eq!(ran.changes(), ["data", "data/kept", "data/kept/own"]);
    assert_eq!(fs::metadata(ran.upper.join("data")).unwrap().mtime(), before);
}

#[test]
fn mount_points_deep_in_a_directory_of_the_image_leave_no_trace() {
    let Some(sandbox) = Sandbox::start() else { return };
    let mounts = vec![
        mount("/data/a/b/file", sandbox.tree("/top", MountAccess::ReadOnly)),
        mount("/root/c", MountSource::Tmpfs { size_bytes: None }),
    ];
    let ran = sandbox.sh_with("step", mounts, "cat /data/a/b/file").succeeds();
    assert_eq!(ran.changes(), [""; 0]);
}

#[test]
fn insecure_steps_may_mount() {
    let Some(sandbox) = Sandbox::start() else { return };
    let script = "mkdir /m && mount -t tmpfs none /m && unshare -m true && echo mounted; \
                  grep CapEff /proc/self/status; umount /m";
    let mut request = sandbox.request("step", &["/bin/sh", "-c", script]);
    request.security = Security::Insecure;
    let ran = sandbox.run(request).succeeds();
    let lines: Vec<&str> = ran.output.lines().collect();
    assert_eq!(lines[0], "mounted");
    assert!(!lines[1].ends_with("a80425fb"), "{lines:?}");
}

#[test]
fn limits_and_shared_memory_are_set_as_far_as_allowed() {
    let Some(sandbox) = Sandbox::start() else { return };
    let script = "ulimit -n; ulimit -H -n; ulimit -c; df -k /dev/shm | grep -c 1024";
    let mut request = sandbox.request("step", &["/bin/sh", "-c", script]);
    let limit = |resource, soft, hard| Limit { resource, soft, hard };
    request.limits = vec![
        limit(LimitedResource::Nofile, Some(77), Some(99)),
        limit(LimitedResource::Core, Some(0), Some(0)),
        limit(LimitedResource::Nproc, None, None),
    ];
    request.shm_bytes = Some(1 << 20);
    request.args[2] = script.replace("df", "/bin/busybox df");
    assert_eq!(sandbox.run(request).succeeds().output, "77\n99\n0\n1\n");
}

#[test]
fn a_kept_change_set_is_gone_on_with_at_a_terminal() {
    let Some(sandbox) = Sandbox::start() else { return };
    let first = sandbox.sh("step", "echo x > /left; exit 1");
    assert_eq!(first.exit.unwrap(), Exit::Code(1));
    let script = "read line; test -t 0 && test -t 1 && echo got $line; cat /left";
    let mut request = sandbox.request("step", &["/bin/sh", "-c", script]);
    request.change_set = ChangeSet::Kept;
    request.has_terminal = true;
    let mut said = String::new();
    let take = |handover: Handover| {
        let Some(Passed::Terminal(master)) = handover.next().unwrap() else {
            panic!("no terminal");
        };
        let mut master = std::fs::File::from(master);
        master.write_all(b"line\n").unwrap();
        let mut bytes = Vec::new();
        // The end of a terminal is an error.
        let _ = master.read_to_end(&mut bytes);
        said = String::from_utf8(bytes).unwrap();
    };
    sandbox.run_with(request, "", take).succeeds();
    assert!(said.ends_with("got line\r\nx\r\n"), "{said:?}");
}
