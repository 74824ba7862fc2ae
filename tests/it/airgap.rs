//! The tutorial's Flask image across an air gap: locked and fetched on one side, carried as a bundle,
//! loaded, built and pushed on the other, where a network namespace has no interface but the loopback.

use serde_json::Value;

use crate::context::{Registry, RegistryOptions, Role, Unpacked, World, has_tools, verify_image};

/// The tutorial's Dockerfile with the wheels in its build context: no fetch brings what a step installs
/// from a package index.
const DOCKERFILE: &str = "\
FROM python:3.10

COPY wheels /wheels
RUN pip install --no-index --find-links=/wheels Flask

WORKDIR /app
COPY main.py /app/main.py

EXPOSE 5000
ENV FLASK_APP=main.py
CMD [\"flask\", \"run\", \"--host=0.0.0.0\"]
";

const WHEELS: &str = "\
FROM python:3.10 AS wheels
RUN pip download --quiet --dest /wheels Flask
FROM scratch
COPY --from=wheels /wheels /
";

/// What is done on the far side, as its user: `$1` is rpub, `$2` the image's name. The port is the
/// name space's own.
const FAR_SIDE: &str = r#"
set -eu
docker-registry serve far/registry.yml >far/registry.log 2>&1 &
registry=$!
trap 'kill $registry' EXIT
until curl --silent --output /dev/null http://127.0.0.1:5000/v2/; do
    kill -0 $registry
    sleep 0.05
done
busybox ip -o link | cut -d: -f2 >far/interfaces
"$1" bundle load carried.bundle
"$1" build --offline --locked -t "$2" app
"$1" push "$2"
"#;

#[test]
fn the_tutorial_crosses_an_air_gap() {
    let Some(world) = World::new(Role::Unprivileged) else { return };
    if !has_tools(&["unshare", "busybox", "curl"]) {
        return;
    }
    let context = &world.context;
    context.fixture("tutorials/c", "app");
    context.write("app/Dockerfile", DOCKERFILE);
    world.dockerfile("make-wheels", WHEELS);
    context.rpub(["build", "-o", "app/wheels", "make-wheels"]).success();

    let near = context.path("near");
    let near = near.to_str().unwrap();
    context.rpub(["lock", "app", "--store", near]).success();
    let fetch = ["fetch", "-f", "app/Dockerfile", "--locked", "--store", near];
    let fetched = context.rpub(fetch).success();
    assert!(fetched.line().starts_with("python:3.10@sha256:"), "{fetched}");
    let create = ["bundle", "create", "-o", "carried.bundle", "--lock", "app/rpub.lock"];
    context.rpub(create).args(["--platform=local", "--store", near]).success();
    context.rpub(["bundle", "verify", "carried.bundle"]).success();

    let storage = context.directory("far/registry");
    let settings = format!(
        "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {:?}}}}}\n\
         http: {{addr: \"127.0.0.1:5000\"}}\n",
        storage.display().to_string()
    );
    context.write("far/registry.yml", settings);
    let Some(far) = context.without_network("sh") else { return };
    let far = far.env("RPUB_STORE", context.path("far/store"));
    let built = far.args(["-c", FAR_SIDE, "sh"]).arg(crate::context::program());
    let built = built.arg("127.0.0.1:5000/app:1").success();
    let interfaces = fs_err::read_to_string(context.path("far/interfaces")).unwrap();
    assert_eq!(interfaces.trim(), "lo", "{interfaces}");

    let options = RegistryOptions { read_only: Some(storage), ..RegistryOptions::default() };
    let registry = Registry::start(context, &options);
    let (digest, _) = registry.manifest("app", "1").unwrap();
    assert!(built.stdout.ends_with(&format!("127.0.0.1:5000/app:1@{digest}\n")), "{built}");
    let config: Value = verify_image(&registry, "app", "1");
    assert_eq!(config["config"]["WorkingDir"], "/app");
    let Some(image) = Unpacked::new(context, &registry, "app:1") else { return };
    assert_eq!(image.answer(5000), "Hello from tutorial c\n");
}
