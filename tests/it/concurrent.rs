//! Several commands at once on one store.

use crate::context::{Role, World, verify_image, verify_store};

#[test]
fn two_builds_at_once_are_both_right() {
    let Some(world) = World::new(Role::Unprivileged) else { return };
    for round in 0..3 {
        let builds: Vec<_> = ["one", "two"]
            .map(|name| {
                let text = format!(
                    "FROM busybox\nCOPY file /file\nRUN echo {name}-{round} > /made\nCMD [\"{name}\"]\n"
                );
                let directory = world.dockerfile(name, &text);
                world.context.write(format!("{name}/file"), format!("{name} {round}"));
                world.build_push(&format!("{name}:{round}"), &directory).spawn()
            })
            .into_iter()
            .collect();
        for build in builds {
            build.finish().expect_code(0);
        }
        for name in ["one", "two"] {
            let config = verify_image(&world.registry, name, &round.to_string());
            assert_eq!(config["config"]["Cmd"][0], name);
        }
    }
    assert_eq!(
        verify_store(&world.context.store()).iter().filter(|name| name.contains("one")).count(),
        3
    );
}

#[test]
fn the_same_build_four_times_at_once_is_right() {
    let Some(world) = World::new(Role::Unprivileged) else { return };
    let directory = world.dockerfile("app", "FROM python:3.10\nRUN echo hi > /made\n");
    let names = ["a:1", "b:1", "c:1", "d:1"];
    let builds: Vec<_> =
        names.iter().map(|name| world.build_push(name, &directory).spawn()).collect();
    for build in builds {
        build.finish().expect_code(0);
    }
    for name in ["a", "b", "c", "d"] {
        verify_image(&world.registry, name, "1");
    }
    verify_store(&world.context.store());
}
