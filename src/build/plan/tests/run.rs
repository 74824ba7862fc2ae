use super::*;

fn run(text: &str) -> Run {
    runs(&plan(text))[0].clone()
}

#[test]
fn a_program_as_here_document_becomes_a_file() {
    let step = run("FROM base\nRUN <<-EOF\n\t#!/usr/bin/env python3\n\tprint(1)\nEOF\n");
    let script = step.script.expect("a file");
    assert_eq!(script.path, "/dev/pipes/EOF");
    assert_eq!(script.content, "#!/usr/bin/env python3\nprint(1)\n");
    assert_eq!(step.args, ["/bin/sh", "-c", "/dev/pipes/EOF"]);
    let step = run("FROM base\nRUN <<EOF\necho $A\nEOF\n");
    assert_eq!((step.script, step.args[2].as_str()), (None, "echo $A\n"));
    assert_eq!(refusal("FROM base\nRUN <<a/b\n#!x\na/b\n").1, "2:5");
}

#[test]
fn host_names_and_hosts_are_the_builds() {
    let mut options = options();
    options.hosts = vec![("db".to_owned(), "10.0.0.5".to_owned())];
    let text = "FROM base\nRUN c\n";
    let run = |options: &PlanOptions| {
        let plan = plan_with(text, options, &RuntimeConfig::default()).expect("valid");
        runs(&plan)[0].clone()
    };
    let step = run(&options);
    assert_eq!(step.hostname, "buildkitsandbox");
    assert_eq!(step.hosts, options.hosts);
    options.build_args.insert("BUILDKIT_SANDBOX_HOSTNAME".to_owned(), "me".to_owned());
    assert_eq!(run(&options).hostname, "me");
}

#[test]
fn network_and_security_need_permission() {
    for (flag, entitlement) in
        [("network=host", "network.host"), ("security=insecure", "security.insecure")]
    {
        let text = format!("FROM base\nRUN --{flag} c\n");
        let error = plan_with(&text, &options(), &RuntimeConfig::default()).expect_err("refused");
        let Error::Refused { message, hint, span } = error else { panic!("{error}") };
        assert_eq!(message, format!("{entitlement} is not allowed"));
        assert!(hint.is_some_and(|hint| hint.contains(&format!("--allow {entitlement}"))));
        assert_eq!(span.map(|span| span.position(&text).column), Some(5));
        let mut allowing = options();
        allowing.allowed = Allowed { network_host: true, security_insecure: true };
        assert!(plan_with(&text, &allowing, &RuntimeConfig::default()).is_ok());
    }
    let text = "FROM base\nRUN --network=none --security=sandbox c\n";
    let step = run(text);
    assert_eq!((step.network, step.security), (Network::None, Security::Sandbox));
    assert_eq!(refusal("FROM base\nRUN --device=gpu c\n").1, "2:5");
}
