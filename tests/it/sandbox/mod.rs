//! The worker and its steps, on a root file system of nothing but busybox.

use std::fs::Permissions;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fs_err as fs;
use rpub::image::{DiffId, Digest};
use rpub::layer::{
    Compression, CopyInput, CopyRequest, Entry, EntryKind, IndexBuilder, LayerTar, PathIndex,
};
use rpub::sandbox::{
    CopyFromRequest, Error, Exit, Network, RunFiles, RunRequest, SealRequest, UnpackRequest,
    Worker, WorkerOptions,
};

use crate::context::skip;

mod mounts;

const BUSYBOX: &str = "/bin/busybox";

/// A worker, a base layer, and places for steps.
struct Sandbox {
    worker: Worker,
    root: tempfile::TempDir,
}

/// What one step did.
#[derive(Debug)]
struct Ran {
    exit: Result<Exit, Error>,
    output: String,
    upper: PathBuf,
}

impl Sandbox {
    /// Starts a worker, or says why this machine cannot.
    fn start() -> Option<Self> {
        if !Path::new(BUSYBOX).exists() {
            skip("no `/bin/busybox` (package busybox-static)");
            return None;
        }
        let program = PathBuf::from(env!("CARGO_BIN_EXE_rpub"));
        let worker = match Worker::start(&WorkerOptions { program }) {
            Ok(worker) => worker,
            Err(Error::Isolation(isolation)) => {
                skip(&isolation.cause());
                return None;
            }
            Err(error) => panic!("{error:?}"),
        };
        let root = tempfile::tempdir().unwrap();
        let sandbox = Self { worker, root };
        sandbox.make_base();
        Some(sandbox)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn make_base(&self) {
        let base = self.path("base");
        for directory in ["bin", "etc", "tmp", "proc", "dev", "sys", "root", "data"] {
            fs::create_dir_all(base.join(directory)).unwrap();
        }
        fs::copy(BUSYBOX, base.join("bin/busybox")).unwrap();
        let applets = "sh echo cat id true false sleep kill mkdir touch ls stat chown chmod mknod rm pwd \
                       env mount unshare grep hostname cp ln ip wget ps mkfifo umount test nc";
        for applet in applets.split_whitespace() {
            symlink("busybox", base.join("bin").join(applet)).unwrap();
        }
        fs::write(
            base.join("etc/passwd"),
            "root::0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n",
        )
        .unwrap();
        fs::write(base.join("etc/group"), "root:x:0:\napp:x:1000:\naudio:x:29:app\n").unwrap();
        fs::write(base.join("data/old"), "old").unwrap();
        for path in ["", "bin", "etc", "root", "data"] {
            fs::set_permissions(base.join(path), Permissions::from_mode(0o755)).unwrap();
        }
        fs::set_permissions(base.join("tmp"), Permissions::from_mode(0o1777)).unwrap();
    }

    fn request(&self, name: &str, args: &[&str]) -> RunRequest {
        RunRequest {
            layers: vec![self.path("base")],
            indexes: vec![],
            snapshots_directory: self.path("snapshots"),
            step_directory: self.path(name),
            args: args.iter().map(ToString::to_string).collect(),
            env: vec!["PATH=/bin".to_owned()],
            cwd: "/".to_owned(),
            user: String::new(),
            hostname: "buildkitsandbox".to_owned(),
            network: Network::Host,
            files: RunFiles {
                resolv_conf: "nameserver 192.0.2.1\n".to_owned(),
                hosts: "127.0.0.1 localhost\n".to_owned(),
            },
            ..RunRequest::default()
        }
    }

    fn run(&self, request: RunRequest) -> Ran {
        let upper = request.step_directory.join("upper");
        let (mut reader, writer) = std::io::pipe().unwrap();
        let collector = std::thread::spawn(move || {
            let mut output = String::new();
            reader.read_to_string(&mut output).unwrap();
            output
        });
        let exit = self.worker.run(request, OwnedFd::from(writer).into());
        Ran { exit, output: collector.join().unwrap(), upper }
    }

    fn sh(&self, name: &str, script: &str) -> Ran {
        self.run(self.request(name, &["/bin/sh", "-c", script]))
    }

    fn sh_as(&self, name: &str, user: &str, script: &str) -> Ran {
        let mut request = self.request(name, &["/bin/sh", "-c", script]);
        user.clone_into(&mut request.user);
        self.run(request)
    }

    fn file(&self, name: &str) -> OwnedFd {
        std::fs::File::from(fs::File::create(self.path(name)).unwrap()).into()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // Only the worker may delete what belongs to mapped ids.
        let inside = fs::read_dir(self.root.path()).unwrap().map(|entry| entry.unwrap().path());
        let _ = self.worker.remove(inside.collect());
    }
}

impl Ran {
    #[track_caller]
    fn succeeds(self) -> Self {
        let is_success = matches!(self.exit, Ok(Exit::Code(0)));
        assert!(is_success, "{:?}: {}", self.exit, self.output);
        self
    }

    /// Names in the change set, sorted.
    fn changes(&self) -> Vec<String> {
        fn walk(directory: &Path, upper: &Path, names: &mut Vec<String>) {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                names.push(path.strip_prefix(upper).unwrap().display().to_string());
                if path.symlink_metadata().unwrap().is_dir() {
                    walk(&path, upper, names);
                }
            }
        }
        let mut names = Vec::new();
        walk(&self.upper, &self.upper, &mut names);
        names.sort();
        names
    }
}

#[test]
fn writes_land_in_the_change_set() {
    let Some(sandbox) = Sandbox::start() else { return };
    let script = "echo hi > /made; mkdir /d; echo x > /d/f; rm /data/old; chown app:29 /made; \
                  chmod 640 /made; stat -c '%u:%g %a' /made";
    let ran = sandbox.sh("step", script).succeeds();
    assert_eq!(ran.output, "1000:29 640\n");
    assert_eq!(ran.changes(), ["d", "d/f", "data", "data/old", "made"]);
    let whiteout = fs::symlink_metadata(ran.upper.join("data/old")).unwrap();
    assert_eq!((whiteout.rdev(), whiteout.mode() & 0o170_000), (0, 0o020_000));
    assert_eq!(fs::metadata(sandbox.path("base/data/old")).unwrap().len(), 3);
}

#[test]
fn a_step_that_changes_nothing_leaves_nothing() {
    let Some(sandbox) = Sandbox::start() else { return };
    let before = fs::metadata(sandbox.path("base/etc")).unwrap().mtime();
    let ran = sandbox
        .sh("step", "cat /etc/resolv.conf /etc/hosts /etc/hostname; hostname; stat -c %Y /etc");
    let ran = ran.succeeds();
    let expected = format!(
        "nameserver 192.0.2.1\n127.0.0.1 localhost\nbuildkitsandbox\nbuildkitsandbox\n{before}\n"
    );
    assert_eq!(ran.output, expected);
    assert_eq!(ran.changes(), [""; 0]);
}

#[test]
fn provided_files_stay_out_of_the_layer() {
    let Some(sandbox) = Sandbox::start() else { return };
    let ran = sandbox.sh("step", "echo x > /etc/resolv.conf; echo new > /etc/new; true").succeeds();
    assert!(ran.output.contains("Read-only file system"), "{}", ran.output);
    assert_eq!(ran.changes(), ["etc", "etc/new"]);
    let mut scratch = sandbox.request("scratch", &["/busybox", "true"]);
    fs::create_dir(sandbox.path("bare")).unwrap();
    fs::copy(BUSYBOX, sandbox.path("bare/busybox")).unwrap();
    scratch.layers = vec![sandbox.path("bare")];
    assert_eq!(sandbox.run(scratch).succeeds().changes(), [""; 0]);
}

#[test]
fn exit_codes_and_signals_are_told() {
    let Some(sandbox) = Sandbox::start() else { return };
    assert_eq!(sandbox.sh("code", "exit 3").exit.unwrap(), Exit::Code(3));
    assert_eq!(sandbox.sh("signal", "kill -9 $$").exit.unwrap(), Exit::Signal(9));
    assert_eq!(sandbox.sh("term", "kill -15 $$").exit.unwrap(), Exit::Signal(15));
    let table = [
        ("nope", 127, "exec: \"nope\": executable file not found in $PATH\n"),
        ("/nope", 127, "exec: \"/nope\": stat /nope: no such file or directory\n"),
        ("/etc/passwd", 126, "exec: \"/etc/passwd\": permission denied\n"),
        ("/etc", 126, "exec: \"/etc\": permission denied\n"),
    ];
    for (number, (program, code, text)) in table.into_iter().enumerate() {
        let ran = sandbox.run(sandbox.request(&format!("exec{number}"), &[program]));
        assert_eq!(ran.exit.unwrap(), Exit::Code(code), "{program}");
        assert_eq!(ran.output, text);
    }
}

#[test]
fn output_keeps_its_order_and_input_is_empty() {
    let Some(sandbox) = Sandbox::start() else { return };
    let ran = sandbox.sh("step", "echo a; echo b >&2; echo c; cat; echo d >&2").succeeds();
    assert_eq!(ran.output, "a\nb\nc\nd\n");
}

#[test]
fn what_stays_in_the_background_dies() {
    let Some(sandbox) = Sandbox::start() else { return };
    let began = Instant::now();
    let script = "sleep 600 & (setsid sleep 601 &) ; nohup sleep 602 >/dev/null 2>&1 & echo done";
    let ran = sandbox.sh("step", script).succeeds();
    assert!(ran.output.contains("done"));
    assert!(began.elapsed() < Duration::from_secs(60), "waited for a background process");
    let processes = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| fs::read_to_string(entry.unwrap().path().join("cmdline")).ok());
    let left: Vec<_> = processes.filter(|line| line.starts_with("sleep\x00602")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn the_working_directory_is_made() {
    let Some(sandbox) = Sandbox::start() else { return };
    let mut request = sandbox.request("step", &["/bin/sh", "-c", "pwd; stat -c '%u %a' /a /a/b"]);
    "/a/b".clone_into(&mut request.cwd);
    "app".clone_into(&mut request.user);
    let ran = sandbox.run(request).succeeds();
    assert_eq!(ran.output, "/a/b\n0 755\n0 755\n");
}

#[test]
fn users_are_looked_up_in_the_image() {
    let Some(sandbox) = Sandbox::start() else { return };
    let script = "echo $(id -u):$(id -g) $(id -G) $HOME; grep Cap /proc/self/status";
    let lines = |ran: Ran| -> Vec<String> { ran.output.lines().map(str::to_owned).collect() };
    let named = lines(sandbox.sh_as("named", "app", script).succeeds());
    assert_eq!(named[0], "1000:1000 1000 29 /home/app");
    assert!(named[2].ends_with("0000000000000000"), "{named:?}");
    let numbered = lines(sandbox.sh_as("numbered", "4321:8", script).succeeds());
    assert_eq!(numbered[0], "4321:8 8 /");
    let root = lines(sandbox.sh("root", script).succeeds());
    assert_eq!(root[0], "0:0 0 /root");
    assert!(root[2].ends_with("a80425fb") && root[4].ends_with("a80425fb"), "{root:?}");
    let unknown = sandbox.sh_as("unknown", "nobody-here", "true").exit;
    assert!(matches!(unknown, Err(Error::UnknownUser { name }) if name == "nobody-here"));
    let unknown = sandbox.sh_as("unknown2", "app:nogroup", "true").exit;
    assert!(matches!(unknown, Err(Error::UnknownGroup { name }) if name == "nogroup"));
}

#[test]
fn setuid_programs_work() {
    let Some(sandbox) = Sandbox::start() else { return };
    // busybox gives the right up for every applet but those that need it: `su` is one.
    let script = "mkdir /s && cp /bin/busybox /s && chmod 4755 /s/busybox; \
                  grep NoNew /proc/self/status";
    let made = sandbox.sh("made", script).succeeds();
    assert_eq!(made.output.trim(), "NoNewPrivs:\t0");
    let mut request = sandbox.request("used", &["/s/busybox", "su", "-c", "id -u"]);
    request.layers.push(made.upper);
    "app".clone_into(&mut request.user);
    assert_eq!(sandbox.run(request).succeeds().output, "0\n");
}

#[test]
fn devices_and_masks_are_as_in_docker() {
    let Some(sandbox) = Sandbox::start() else { return };
    let script = "echo x > /dev/null && test -c /dev/zero && test -d /dev/pts && test -d /dev/shm \
                  && test -e /dev/ptmx && echo err > /dev/stderr; ls /sys/firmware /proc/acpi 2>/dev/null; \
                  cat /proc/keys /proc/timer_list 2>/dev/null; echo 1 > /proc/sys/kernel/printk; \
                  touch /sys/x; echo $(ls /proc | grep -c '^[0-9]')";
    let ran = sandbox.sh("step", script);
    assert!(ran.output.starts_with("err\n"), "{}", ran.output);
    for path in ["/proc/sys/kernel/printk", "/sys/x"] {
        assert!(ran.output.contains(&format!("{path}: Read-only file system")), "{}", ran.output);
    }
    let seen: u32 = ran.output.lines().last().unwrap().parse().unwrap();
    assert!(seen <= 5, "the step sees {seen} processes: {}", ran.output);
}

#[test]
fn dangerous_calls_are_refused() {
    let Some(sandbox) = Sandbox::start() else { return };
    let script = "mkdir /m; mount -t tmpfs none /m; unshare -r true; unshare -m true; \
                  mknod /n b 8 0; umount /proc; hostname other; hostname";
    let ran = sandbox.sh("step", script);
    let refused = ran.output.matches("Operation not permitted").count();
    assert!(refused >= 3, "{}", ran.output);
    assert!(ran.output.contains("unshare"), "{}", ran.output);
    assert!(ran.output.ends_with("buildkitsandbox\n"), "{}", ran.output);
    let other = sandbox.sh("other", "mkfifo /f && ln /f /g && echo threads | cat").succeeds();
    assert_eq!(other.changes(), ["f", "g"]);
}

#[test]
fn no_network_means_loopback_only() {
    let Some(sandbox) = Sandbox::start() else { return };
    let script =
        "cat /proc/net/dev | grep -c ':'; ip addr show lo | grep -c 'UP'; ls /sys/class/net";
    let mut request = sandbox.request("step", &["/bin/sh", "-c", script]);
    request.network = Network::None;
    let ran = sandbox.run(request);
    assert_eq!(ran.output, "1\n1\nlo\n");
}

#[test]
fn steps_run_side_by_side() {
    let Some(sandbox) = Sandbox::start() else { return };
    std::thread::scope(|scope| {
        for number in 0..6 {
            let sandbox = &sandbox;
            scope.spawn(move || {
                let ran =
                    sandbox.sh(&format!("step{number}"), &format!("echo {number}; exit {number}"));
                assert_eq!(ran.output, format!("{number}\n"));
                assert_eq!(ran.exit.unwrap(), Exit::Code(number));
            });
        }
    });
}

#[test]
fn a_cancelled_step_ends_with_everything_it_started() {
    let Some(sandbox) = Sandbox::start() else { return };
    let request = sandbox.request("step", &["/bin/sh", "-c", "echo up; sleep 700 & sleep 701"]);
    let (mut reader, writer) = std::io::pipe().unwrap();
    let running = sandbox.worker.begin_run(request, &OwnedFd::from(writer).into()).unwrap();
    let mut first = [0; 3];
    reader.read_exact(&mut first).unwrap();
    let canceller = running.canceller();
    canceller.cancel();
    assert!(matches!(running.wait(), Err(Error::Canceled)));
    let mut rest = String::new();
    reader.read_to_string(&mut rest).unwrap();
    canceller.cancel();
    sandbox.sh("next", "true").succeeds();
}

#[test]
fn the_death_of_the_worker_is_an_error_and_no_hang() {
    let Some(sandbox) = Sandbox::start() else { return };
    let request = sandbox.request("step", &["/bin/sh", "-c", "echo up; sleep 702"]);
    let (mut reader, writer) = std::io::pipe().unwrap();
    let running = sandbox.worker.begin_run(request, &OwnedFd::from(writer).into()).unwrap();
    let mut first = [0; 3];
    reader.read_exact(&mut first).unwrap();
    let pid = sandbox.worker.process_id().to_string();
    let killed = std::process::Command::new("/bin/busybox").args(["kill", "-9", &pid]).status();
    assert!(killed.unwrap().success());
    assert!(matches!(running.wait(), Err(Error::WorkerDied { .. })));
    assert!(matches!(sandbox.worker.remove(vec![]), Err(Error::WorkerDied { .. })));
    // The output ends: no process of the step is left to hold it.
    let mut rest = String::new();
    reader.read_to_string(&mut rest).unwrap();
}

#[test]
fn dropping_the_worker_ends_its_steps() {
    let Some(sandbox) = Sandbox::start() else { return };
    let request = sandbox.request("step", &["/bin/sh", "-c", "echo up; sleep 703"]);
    let (mut reader, writer) = std::io::pipe().unwrap();
    let running = sandbox.worker.begin_run(request, &OwnedFd::from(writer).into()).unwrap();
    let mut first = [0; 3];
    reader.read_exact(&mut first).unwrap();
    drop(sandbox);
    let mut rest = String::new();
    reader.read_to_string(&mut rest).unwrap();
    assert!(matches!(running.wait(), Err(Error::WorkerDied { .. })));
}

#[test]
fn a_sealed_step_is_a_layer_and_a_snapshot_that_unpacks_to_the_same() {
    let Some(sandbox) = Sandbox::start() else { return };
    let script = "mkdir /d; echo x > /d/f; chown 7:8 /d/f; ln -s f /d/l; rm /data/old";
    let ran = sandbox.sh("step", script).succeeds();
    let (snapshots, paths) = (sandbox.path("snapshots"), sandbox.path("paths"));
    let request = SealRequest {
        upper: ran.upper.clone(),
        compression: Compression::default(),
        latest_mtime: None,
        snapshots_directory: snapshots.clone(),
        paths_directory: paths.clone(),
    };
    let layer = sandbox.worker.seal(request, sandbox.file("blob")).unwrap();
    let blob = fs::read(sandbox.path("blob")).unwrap();
    assert_eq!((Digest::of(&blob), blob.len() as u64), (layer.digest.clone(), layer.size));
    assert!(!ran.upper.exists());
    let hex = layer.diff_id.0.hex();
    assert_eq!(fs::read_to_string(snapshots.join(hex).join("d/f")).unwrap(), "x\n");
    let index = PathIndex::load(&paths.join(hex)).unwrap().unwrap();
    assert!(index.get(Path::new("data/old")).unwrap().is_whiteout());

    let unpack = |name: &str, diff_id: &DiffId| {
        let request = UnpackRequest {
            diff_id: diff_id.clone(),
            temporary: sandbox.path("temporary"),
            target: sandbox.path(name),
            index: sandbox.path("unpacked-index"),
        };
        let blob = std::fs::File::from(fs::File::open(sandbox.path("blob")).unwrap());
        sandbox.worker.unpack(request, blob.into())
    };
    unpack("unpacked", &layer.diff_id).unwrap();
    let wrong = unpack("wrong", &DiffId(Digest::of(b"other")));
    assert!(matches!(wrong, Err(Error::Corrupt { .. })), "{wrong:?}");
    assert!(!sandbox.path("wrong").exists() && !sandbox.path("temporary").exists());

    let script = "stat -c '%n %u:%g' /d/f; test ! -e /data/old; cat /d/l";
    for (number, top) in [snapshots.join(hex), sandbox.path("unpacked")].into_iter().enumerate() {
        let mut request = sandbox.request(&format!("on{number}"), &["/bin/sh", "-c", script]);
        request.layers.push(top);
        assert_eq!(sandbox.run(request).succeeds().output, "/d/f 7:8\nx\n");
    }
}

#[test]
fn files_are_copied_from_a_merged_stack() {
    let Some(sandbox) = Sandbox::start() else { return };
    let ran =
        sandbox.sh("step", "echo new > /data/new; chown 5:6 /data/new; rm /data/old").succeeds();
    let request = CopyFromRequest {
        layers: vec![sandbox.path("base"), ran.upper],
        indexes: vec![],
        destination_indexes: vec![],
        snapshots_directory: sandbox.path("snapshots"),
        paths_directory: sandbox.path("paths"),
        copy: CopyRequest {
            sources: vec![CopyInput::path("/data")],
            destination: "/copied/".to_owned(),
            keep_ownership: true,
            ..CopyRequest::default()
        },
        compression: Compression::None,
        latest_mtime: None,
    };
    let key = sandbox.worker.copy_digest(request.clone()).unwrap();
    assert_eq!(sandbox.worker.copy_digest(request.clone()).unwrap(), key);
    let layer = sandbox.worker.copy_from(request.clone(), sandbox.file("blob")).unwrap();
    let index =
        PathIndex::load(&sandbox.path("paths").join(layer.diff_id.0.hex())).unwrap().unwrap();
    let entry = index.get(Path::new("copied/new")).unwrap().entry().unwrap();
    assert_eq!((entry.uid, entry.gid), (5, 6));
    assert!(index.get(Path::new("copied/old")).is_none());
    let mut missing = request;
    missing.copy.sources = vec![CopyInput::path("/absent")];
    let error = sandbox.worker.copy_digest(missing);
    assert!(matches!(error, Err(Error::CopySourceNotFound { .. })), "{error:?}");
}

#[test]
fn directories_that_a_layer_does_not_list_keep_their_metadata() {
    let Some(sandbox) = Sandbox::start() else { return };
    let directory =
        Entry { uid: 7, gid: 8, ..Entry::new("data/deep", EntryKind::Directory, 0o2710) };
    let mut below = LayerTar::new(Vec::new());
    below.append(&Entry::new("data", EntryKind::Directory, 0o755), None).unwrap();
    below.append(&directory, None).unwrap();
    let mut above = LayerTar::new(Vec::new());
    let file = Entry::new("data/deep/file", EntryKind::File { size: 2 }, 0o644);
    above.append(&file, Some(&mut &b"x\n"[..])).unwrap();
    let mut request = sandbox.request("step", &["/bin/stat", "-c", "%u:%g %a", "/data/deep"]);
    request.indexes.push(sandbox.path("base-index"));
    IndexBuilder::default().finish().unwrap().save(&sandbox.path("base-index")).unwrap();
    for (name, tar) in [("below", below), ("above", above)] {
        let tar = tar.finish().unwrap().0;
        let (target, index) = (sandbox.path(name), sandbox.path(&format!("{name}-index")));
        fs::write(sandbox.path("tar"), &tar).unwrap();
        let unpack = UnpackRequest {
            diff_id: DiffId(Digest::of(&tar)),
            temporary: sandbox.path("temporary"),
            target: target.clone(),
            index: index.clone(),
        };
        let source = std::fs::File::from(fs::File::open(sandbox.path("tar")).unwrap());
        sandbox.worker.unpack(unpack, source.into()).unwrap();
        request.layers.push(target);
        request.indexes.push(index);
    }
    assert_eq!(sandbox.run(request).succeeds().output, "7:8 2710\n");
    assert_eq!(fs::read_dir(sandbox.path("snapshots/fixups")).unwrap().count(), 1);
}

/// Not a test of speed, but a figure: what a step costs when nothing is in it.
#[test]
fn many_steps_in_a_row() {
    let Some(sandbox) = Sandbox::start() else { return };
    let mut times = Vec::new();
    for number in 0..50 {
        let request = sandbox.request(&format!("step{number}"), &["/bin/true"]);
        let (_reader, writer) = std::io::pipe().unwrap();
        let began = Instant::now();
        let exit = sandbox.worker.run(request, OwnedFd::from(writer).into());
        times.push(began.elapsed());
        assert_eq!(exit.unwrap(), Exit::Code(0));
    }
    times.sort();
    eprintln!("RUN true: median {:?}, least {:?}", times[25], times[0]);
}
