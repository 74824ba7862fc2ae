//! `RUN --mount` and what else a step gets, from the Dockerfile to the pushed layer.

use std::path::Path;
use std::time::Duration;

use flate2::read::MultiGzDecoder;
use fs_err as fs;

use crate::context::{Output, Role, TestCommand, World, has_tools};

/// A build context in a world.
pub(crate) struct Project {
    pub(crate) world: World,
}

impl Project {
    pub(crate) fn new(role: Role, dockerfile: &str) -> Option<Self> {
        let world = World::new(role)?;
        world.dockerfile("app", dockerfile);
        Some(Self { world })
    }

    pub(crate) fn unprivileged(dockerfile: &str) -> Option<Self> {
        Self::new(Role::Unprivileged, dockerfile)
    }

    pub(crate) fn command(&self, args: &[&str]) -> TestCommand {
        let directory = self.world.context.path("app");
        self.world.build_push("team/app:1", &directory).arg("--progress=plain").args(args)
    }

    #[track_caller]
    pub(crate) fn builds(&self, args: &[&str]) -> String {
        let output = self.command(args).run();
        output.expect_code(0);
        output.stderr.clone()
    }

    #[track_caller]
    pub(crate) fn fails(&self, args: &[&str]) -> String {
        let output = self.command(args).run();
        assert_ne!(output.status.code(), Some(0), "{output}");
        output.stderr.clone()
    }

    /// Returns the names in the layers that the build added to busybox.
    pub(crate) fn new_names(&self) -> Vec<String> {
        let (_, base) = self.world.hub.manifest("library/busybox", "latest").unwrap();
        let (_, manifest) = self.world.registry.manifest("team/app", "1").unwrap();
        let below = base["layers"].as_array().unwrap().len();
        let mut names = Vec::new();
        for layer in &manifest["layers"].as_array().unwrap()[below..] {
            let blob = self.world.registry.blob("team/app", layer["digest"].as_str().unwrap());
            let mut tar = tar::Archive::new(MultiGzDecoder::new(blob.as_slice()));
            names.extend(
                tar.entries()
                    .unwrap()
                    .map(|entry| entry.unwrap().path().unwrap().display().to_string()),
            );
        }
        names.sort();
        names
    }
}

fn for_each_role(dockerfile: &str, test: impl Fn(Project)) {
    for role in [Role::Unprivileged, Role::Root] {
        if let Some(project) = Project::new(role, dockerfile) {
            test(project);
        }
    }
}

#[test]
fn files_of_the_context_are_bound() {
    let dockerfile = "FROM busybox\n\
        WORKDIR /work\n\
        RUN --mount=target=. --mount=type=bind,source=dir/one,target=/deep/file \
            ls; cat dir/one /deep/file; stat -c '%u:%g' dir dir/one; touch new || echo refused\n\
        RUN --mount=type=bind,target=/src,rw echo x > /src/made && cat /src/made\n";
    for_each_role(dockerfile, |project| {
        project.world.context.write("app/dir/one", "content\n");
        project.world.context.write("app/ignored", "x");
        project.world.context.write("app/.dockerignore", "ignored\n");
        let said = project.builds(&[]);
        for line in ["content", "0:0", "refused", "x"] {
            assert!(said.lines().any(|l| l.ends_with(&format!(" {line}"))), "{line}: {said}");
        }
        assert!(!said.lines().any(|line| line.ends_with(" ignored")), "{said}");
        assert_eq!(project.new_names(), ["work/"]);
        assert!(!project.world.context.path("app/made").exists());
    });
}

#[test]
fn files_of_stages_and_images_are_bound() {
    let dockerfile = "FROM busybox AS make\n\
        RUN mkdir -p /out/sub && echo made > /out/sub/file && chown 7:8 /out/sub/file \
            && ln -s / /out/root && ln -s ../../../../.. /out/up\n\
        FROM busybox\n\
        RUN --mount=from=make,source=/out/sub,target=/a --mount=from=make,source=/out/sub/file,target=/b \
            --mount=from=busybox,target=/image --mount=from=make,source=/out/up,target=/up \
            cat /a/file /b; stat -c '%u:%g' /a/file; ls /image/bin/busybox; ls -d /up/out; \
            ls /up/proc /up/sys; touch /a/x || echo refused\n";
    for_each_role(dockerfile, |project| {
        let said = project.builds(&[]);
        for line in ["made", "7:8", "/image/bin/busybox", "/up/out", "refused"] {
            assert!(said.lines().any(|l| l.ends_with(&format!(" {line}"))), "{line}: {said}");
        }
        assert_eq!(project.new_names(), [""; 0]);
    });
}

#[test]
fn what_is_bound_counts_by_content() {
    let dockerfile = "FROM busybox AS make\n\
        ARG STAMP\n\
        RUN mkdir /out && echo same > /out/file && echo $STAMP > /stamp\n\
        FROM busybox\n\
        RUN --mount=from=make,source=/out,target=/in --mount=source=read,target=/read \
            cat /in/file /read\n";
    let Some(project) = Project::unprivileged(dockerfile) else { return };
    project.world.context.write("app/read", "one");
    let outcomes = |args: &[&str]| -> Vec<bool> {
        let said = project.builds(args);
        let lines = said.lines().filter(|line| line.starts_with('#'));
        lines
            .filter(|line| line.contains("CACHED") || line.contains("DONE"))
            .map(|line| line.contains("CACHED"))
            .collect()
    };
    assert_eq!(outcomes(&["--build-arg=STAMP=1"]), [false, false]);
    assert_eq!(outcomes(&["--build-arg=STAMP=1"]), [true, true]);
    assert_eq!(outcomes(&["--build-arg=STAMP=2"]), [false, true], "the part is the same");
    project.world.context.write("app/other", "not mounted");
    assert_eq!(outcomes(&["--build-arg=STAMP=2"]), [true, true]);
    project.world.context.write("app/read", "two");
    assert_eq!(outcomes(&["--build-arg=STAMP=2"]), [true, false]);
}

#[test]
fn missing_sources_are_refused_where_they_stand() {
    let table = [
        (
            "RUN --mount=source=fiel,target=/a true",
            "\"/fiel\": not found",
            Some("did you mean `file`"),
        ),
        ("RUN --mount=source=hidden,target=/a true", "\"/hidden\": not found", Some("excludes it")),
        ("RUN --mount=from=busybox,source=/no,target=/a true", "\"/no\": not found", None),
        ("RUN --mount=type=cache,source=/no,target=/a true", "\"/no\": not found", None),
    ];
    let Some(project) = Project::unprivileged("") else { return };
    project.world.context.write("app/file", "");
    project.world.context.write("app/hidden", "");
    project.world.context.write("app/.dockerignore", "hidden\n");
    for (line, message, hint) in table {
        project.world.dockerfile("app", &format!("FROM busybox\n{line}\n"));
        let said = project.fails(&[]);
        assert!(said.contains(message) && said.contains("Dockerfile:2"), "{said}");
        assert!(hint.is_none_or(|hint| said.contains(hint)), "{said}");
    }
}

#[test]
fn caches_are_kept_between_builds_and_out_of_layers() {
    let dockerfile = "FROM busybox\n\
        ARG N\n\
        RUN --mount=type=cache,target=/cache,uid=5,gid=6,mode=0750 \
            stat -c '%u:%g %a' /cache; echo $N >> /cache/log; cat /cache/log | tr '\\n' ','\n\
        RUN --mount=type=cache,target=/cache,uid=5,gid=6,mode=0750,ro \
            touch /cache/x || echo refused\n";
    for_each_role(dockerfile, |project| {
        let first = project.builds(&["--build-arg=N=1"]);
        assert!(first.contains("5:6 750") && first.contains(" 1,"), "{first}");
        assert!(first.contains(" refused"), "{first}");
        let second = project.builds(&["--build-arg=N=2"]);
        assert!(second.contains(" 1,2,"), "{second}");
        assert_eq!(project.new_names(), [""; 0]);
        let spaced = project.builds(&["--build-arg=N=3", "--build-arg=BUILDKIT_CACHE_MOUNT_NS=x"]);
        assert!(spaced.contains(" 3,"), "{spaced}");
        // As in BuildKit, who wants nothing old gets no old caches either.
        let anew = project.builds(&["--build-arg=N=4", "--no-cache"]);
        assert!(anew.contains(" 4,"), "{anew}");
    });
}

#[test]
fn a_new_cache_begins_with_files_of_a_stage() {
    let dockerfile = "FROM busybox AS seed\n\
        RUN mkdir -p /s/d && echo a > /s/d/f && chown 3:4 /s/d/f && chmod 700 /s && chown 9 /s \
            && ln -s / /s/out\n\
        FROM busybox\n\
        ARG N\n\
        RUN --mount=type=cache,id=x,target=/c,from=seed,source=/s \
            stat -c '%n %u:%g %a' /c /c/d/f; ls /c/out/bin >/dev/null; echo $N >> /c/d/f; \
            cat /c/d/f | tr '\\n' ','\n";
    let Some(project) = Project::unprivileged(dockerfile) else { return };
    let said = project.builds(&["--build-arg=N=b"]);
    for text in ["/c 9:0 700", "/c/d/f 3:4 644", " a,b,"] {
        assert!(said.contains(text), "{text}: {said}");
    }
    assert!(project.builds(&["--build-arg=N=c"]).contains(" a,b,c,"));
}

/// Two builds at once: what the second one saw, and whether it waited.
fn two_at_once(sharing: &str) -> Option<(Output, Output)> {
    let dockerfile = format!(
        "FROM busybox\nARG ME\n\
         RUN --mount=type=cache,id=c,target=/c,sharing={sharing} \
             echo $ME >> /c/log; \
             if [ $ME = first ]; then \
               echo st''arted; for i in $(seq 300); do [ -e /c/second ] && break; \
               [ {sharing} != shared ] && [ $i -gt 10 ] && break; sleep 0.1; done; \
             else touch /c/second; fi; \
             echo saw: $(cat /c/log | tr '\\n' ',')\n"
    );
    let project = Project::unprivileged(&dockerfile)?;
    let mut first = project.command(&["--build-arg=ME=first"]).spawn();
    assert!(first.wait_for_error(" started", Duration::from_secs(60)), "it does not start");
    let second = project.command(&["--build-arg=ME=second"]).run();
    second.expect_code(0);
    let first = first.finish();
    first.expect_code(0);
    Some((first, second))
}

#[test]
fn shared_caches_are_used_at_the_same_time() {
    let Some((first, second)) = two_at_once("shared") else { return };
    assert!(first.stderr.contains("saw: first,second,"), "{first}");
    assert!(second.stderr.contains("saw: first,second,"), "{second}");
}

#[test]
fn a_private_cache_is_nobody_elses() {
    let Some((first, second)) = two_at_once("private") else { return };
    assert!(first.stderr.contains("saw: first,"), "{first}");
    assert!(!first.stderr.contains("saw: first,second"), "{first}");
    assert!(second.stderr.contains("saw: second,"), "{second}");
}

#[test]
fn a_locked_cache_is_waited_for() {
    let Some((first, second)) = two_at_once("locked") else { return };
    assert!(!first.stderr.contains("saw: first,second"), "{first}");
    assert!(second.stderr.contains("saw: first,second,"), "{second}");
    assert!(second.stderr.contains("waits for the cache `c`"), "{second}");
}

#[test]
fn a_killed_build_frees_its_cache() {
    let dockerfile = "FROM busybox\nARG ME\n\
        RUN --mount=type=cache,id=c,target=/c,sharing=locked \
            if [ $ME = first ]; then echo st''arted; sleep 600; fi; echo had it\n";
    let Some(project) = Project::unprivileged(dockerfile) else { return };
    let mut first = project.command(&["--build-arg=ME=first"]).spawn();
    assert!(first.wait_for_error(" started", Duration::from_secs(60)), "it does not start");
    first.kill();
    assert!(project.builds(&["--build-arg=ME=second"]).contains(" had it"));
}

#[test]
fn two_steps_of_a_build_take_turns_with_a_locked_cache() {
    let dockerfile = "FROM busybox AS a\n\
        RUN --mount=type=cache,id=x,target=/x,sharing=locked \
            --mount=type=cache,id=y,target=/y,sharing=locked \
            mkdir /x/busy && sleep 0.2 && rmdir /x/busy\n\
        FROM busybox AS b\n\
        RUN --mount=type=cache,id=y,target=/1,sharing=locked \
            --mount=type=cache,id=x,target=/2,sharing=locked \
            --mount=type=cache,id=x,target=/same,sharing=locked \
            mkdir /2/busy && ls -d /same/busy && sleep 0.2 && rmdir /2/busy\n\
        FROM busybox\n\
        COPY --from=a /etc/passwd /1\n\
        COPY --from=b /etc/passwd /2\n";
    let Some(project) = Project::unprivileged(dockerfile) else { return };
    project.builds(&[]);
}

#[test]
fn memory_scripts_and_nested_mounts_leave_nothing() {
    let dockerfile = "FROM busybox\n\
        RUN mkdir -p /data && touch -d 2020-02-02 /data && echo a > /data/a\n\
        RUN --mount=type=tmpfs,target=/data/t,size=64k --mount=type=cache,target=/data/t/c \
            --mount=type=secret,id=none,target=/data/none \
            cat /dev/zero > /data/t/big 2>/dev/null; stat -c %s /data/t/big; ls /data\n\
        RUN <<EOF\n\
        #!/bin/sh\n\
        echo script $0; touch $0 || echo refused\n\
        EOF\n";
    for_each_role(dockerfile, |project| {
        let said = project.builds(&[]);
        assert!(said.contains(" 65536"), "{said}");
        assert!(said.contains(" script /dev/pipes/EOF") && said.contains("refused"), "{said}");
        assert!(!said.contains(" none"), "{said}");
        assert_eq!(project.new_names(), ["data/", "data/a"]);
    });
}

#[test]
fn steps_get_hosts_limits_memory_and_a_name() {
    let dockerfile = "FROM busybox\n\
        RUN cat /etc/hosts; hostname; ulimit -n; df -k /dev/shm | tail -1; umask; echo home $HOME\n";
    let Some(project) = Project::unprivileged(dockerfile) else { return };
    let said = project.builds(&[
        "--add-host=db:10.1.2.3",
        "--add-host=me=host-gateway",
        "--ulimit=nofile=77:99",
        "--shm-size=1m",
        "--build-arg=BUILDKIT_SANDBOX_HOSTNAME=box",
    ]);
    for text in ["10.1.2.3\tdb", "127.0.0.1\tme", " box", " 77", " 1024 ", " 0022", " home /root"] {
        assert!(said.contains(text), "{text}: {said}");
    }
    let again = project.builds(&[
        "--add-host=db:10.9.9.9",
        "--add-host=me=host-gateway",
        "--build-arg=BUILDKIT_SANDBOX_HOSTNAME=box",
    ]);
    assert!(again.contains("CACHED"), "addresses are not in the key: {again}");
}

#[test]
fn an_insecure_step_needs_leave_and_may_mount() {
    let dockerfile = "FROM busybox\n\
        RUN --security=insecure mkdir /m && mount -t tmpfs none /m && echo mounted\n";
    let Some(project) = Project::unprivileged(dockerfile) else { return };
    let said = project.fails(&[]);
    assert!(said.contains("security.insecure is not allowed"), "{said}");
    assert!(project.builds(&["--allow=security.insecure"]).contains(" mounted"));
}

#[test]
fn old_flags_are_taken_with_a_warning() {
    let Some(project) = Project::unprivileged("FROM busybox\nRUN true\n") else { return };
    let flags = [
        "--rm",
        "--force-rm=true",
        "--compress",
        "-m",
        "1g",
        "--memory-swap=-1",
        "--cpu-shares=2",
        "--cpu-period=1",
        "--cpu-quota=-1",
        "--cpuset-cpus=0",
        "--cpuset-mems=0",
        "--cgroup-parent=/x",
        "--isolation=default",
        "--security-opt=seccomp=unconfined",
    ];
    let said = project.builds(&flags);
    assert_eq!(said.matches("has no effect").count(), flags.len() - 1, "{said}");
}

#[test]
fn a_failed_step_leaves_earlier_ones_cached() {
    let Some(project) = Project::unprivileged("FROM busybox\nRUN echo a > /a\nRUN exit 7\n") else {
        return;
    };
    assert!(
        project.fails(&[]).contains("exit code: 7") || project.fails(&[]).contains("exit code 7")
    );
    project.world.dockerfile("app", "FROM busybox\nRUN echo a > /a\nRUN true\n");
    assert!(project.builds(&[]).contains("CACHED"));
}

#[test]
fn a_shell_on_error_needs_a_terminal() {
    let Some(project) = Project::unprivileged("FROM busybox\nRUN false\n") else { return };
    let said = project.fails(&["--shell-on-error"]);
    assert!(said.contains("needs a terminal"), "{said}");
}

#[test]
fn a_shell_opens_where_a_step_failed() {
    if !has_tools(&["script"]) {
        return;
    }
    let dockerfile = "FROM busybox\n\
        RUN echo earlier > /earlier\n\
        WORKDIR /w\n\
        ENV MARK=marked\n\
        RUN --mount=type=cache,target=/c --mount=type=secret,id=s,env=S \
            echo left > /left; echo kept > /c/f; exit 3\n";
    let Some(project) = Project::unprivileged(dockerfile) else { return };
    let typed =
        "cat /left /earlier /c/f; echo is$MARK in $(pwd) $S; test -t 0 && echo at''tty; exit\n";
    let directory = project.world.context.path("app").display().to_string();
    let program = crate::context::program().display().to_string();
    let build = format!(
        "{program} build --shell-on-error --progress=plain --secret id=s,env=S {directory}"
    );
    let command = project.world.context.command("script").args(["-qec", &build, "/dev/null"]);
    let output = command.env("S", "told").input(typed).run();
    let said = output.stdout.replace('\r', "");
    for text in ["left\nearlier\nkept\n", "ismarked in /w told", "attty", "exit code: 3"] {
        assert!(said.contains(text) || said.contains(&text.replace(": ", " ")), "{text}: {said}");
    }
    assert_eq!(output.status.code(), Some(1), "{output}");
}

/// Returns the files below a directory.
pub(crate) fn files_below(directory: &Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let kind = fs::symlink_metadata(&path).unwrap().file_type();
        if kind.is_dir() {
            files.extend(files_below(&path));
        } else if kind.is_file() {
            files.push(path);
        }
    }
    files
}
