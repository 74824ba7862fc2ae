//! Credentials in files and helpers that tests make.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::helper::Helper;
use super::*;
use crate::image::{Reference, RegistryName, Repository};

fn at(path: &Path) -> Credentials {
    Credentials::new(Locations {
        docker_config: Some(path.to_owned()),
        helper_timeout: Duration::from_millis(500),
        ..Locations::default()
    })
}

fn only(file: LoginFile) -> Credentials {
    Credentials::new(Locations { only: Some(file), ..Locations::default() })
}

fn repository(text: &str) -> Repository {
    text.parse::<Reference>().unwrap().repository
}

fn login(registry: &str, username: &str, secret: &str) -> Login {
    Login {
        registry: registry.parse().unwrap(),
        username: username.to_owned(),
        secret: Secret::new(secret.to_owned()),
        in_keyring: false,
    }
}

/// Wire row H2: the legacy key is written for Docker's registry, and its other keys go.
/// Wire row H5: unknown keys stay, links are followed, the file is private and written as a whole.
#[test]
fn login_keeps_unknown_keys_follows_links_and_is_private() {
    let directory = tempfile::tempdir().unwrap();
    let real = directory.path().join("real.json");
    let link = directory.path().join("config.json");
    fs_err::write(&real, r#"{"psFormat":"x","auths":{"docker.io":{"auth":"YTpi"}}}"#).unwrap();
    symlink("real.json", &link).unwrap();
    let saved = at(&link).login(&login("docker.io", "user", "p:w")).unwrap();
    assert_eq!(saved.saved, Saved::File(link.clone()));
    assert!(link.symlink_metadata().unwrap().is_symlink());
    assert_eq!(real.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let text = fs_err::read_to_string(&real).unwrap();
    assert!(text.contains("psFormat") && !text.contains("\"docker.io\""), "{text}");
    assert!(text.contains("\"https://index.docker.io/v1/\""), "{text}");
    let expected = Credential::of("user", Secret::new("p:w".to_owned()));
    assert_eq!(at(&link).lookup(&repository("alpine")).unwrap(), Some(expected));
    let registry: RegistryName = "docker.io".parse().unwrap();
    assert_eq!(at(&link).logout(&registry).unwrap().keys, ["https://index.docker.io/v1/"]);
    assert!(at(&link).logout(&registry).unwrap().keys.is_empty());
    assert_eq!(at(&link).lookup(&repository("alpine")).unwrap(), None);
    assert_eq!(fs_err::read_dir(directory.path()).unwrap().count(), 2);
}

/// Wire row H5: a link to nothing makes the file that it points to.
#[test]
fn a_dangling_link_is_followed() {
    let directory = tempfile::tempdir().unwrap();
    let link = directory.path().join("config.json");
    symlink("elsewhere/real.json", &link).unwrap();
    at(&link).login(&login("r.example", "u", "p")).unwrap();
    assert!(link.symlink_metadata().unwrap().is_symlink());
    assert!(directory.path().join("elsewhere/real.json").is_file());
    symlink("loop.json", directory.path().join("loop.json")).unwrap();
    let error = at(&directory.path().join("loop.json")).login(&login("r.example", "u", "p"));
    assert!(matches!(error, Err(Error::File { .. })), "{error:?}");
}

#[test]
fn login_makes_the_directory_and_a_broken_file_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("new/config.json");
    at(&path).login(&login("localhost:5000", "u", "p")).unwrap();
    assert!(at(&path).lookup(&repository("localhost:5000/x")).unwrap().is_some());
    fs_err::write(&path, "{").unwrap();
    assert!(matches!(at(&path).lookup(&repository("x")), Err(Error::Json { .. })));
    assert!(at(&path).login(&login("localhost:5000", "u", "p")).is_err());
    assert_eq!(fs_err::read_to_string(&path).unwrap(), "{");
    let huge = fs_err::File::create(&path).unwrap();
    huge.set_len(17 << 20).unwrap();
    assert!(matches!(at(&path).lookup(&repository("x")), Err(Error::File { .. })));
}

/// Logins of many processes at once are all kept.
#[test]
fn logins_do_not_overwrite_each_other() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.json");
    std::thread::scope(|scope| {
        for number in 0..8 {
            let path = &path;
            scope.spawn(move || at(path).login(&login(&format!("r{number}.example"), "u", "p")));
        }
    });
    for number in 0..8 {
        let name = repository(&format!("r{number}.example/x"));
        assert!(at(&path).lookup(&name).unwrap().is_some(), "{number}");
    }
}

/// Wire row H2: `auth.json` has Docker's registry under its name.
#[test]
fn each_form_has_its_key() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("auth.json");
    let file = only(LoginFile::containers(path.clone()));
    assert!(matches!(file.lookup(&repository("alpine")), Err(Error::File { .. })), "no such file");
    file.login(&login("docker.io", "u", "p")).unwrap();
    file.login(&login("r.example", "<token>", "t")).unwrap();
    let text = fs_err::read_to_string(&path).unwrap();
    assert!(text.contains("\"docker.io\"") && text.contains("\"identitytoken\": \"t\""), "{text}");
    let found = file.lookup(&repository("r.example/x")).unwrap();
    assert_eq!(found, Some(Credential::IdentityToken(Secret::new("t".to_owned()))));
    only(LoginFile::docker(path.clone())).login(&login("docker.io", "v", "p")).unwrap();
    let text = fs_err::read_to_string(&path).unwrap();
    assert!(!text.contains("\"docker.io\"") && text.contains("index.docker.io/v1/"), "{text}");
}

/// The program is named by its path, because tests cannot change the search path.
fn helper(script: &str, timeout: Duration) -> (tempfile::TempDir, Helper) {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("docker-credential-test");
    fs_err::write(&program, format!("{script}\n")).unwrap();
    let helper = Helper::script(&program, timeout);
    (directory, helper)
}

fn find(script: &str) -> Result<Option<Credential>> {
    let (_directory, helper) = helper(script, Duration::from_secs(20));
    helper.find("r.example")
}

/// Wire row H6: answers, identity tokens, "not found" and errors on standard output.
#[test]
fn helpers_answer_and_refuse() {
    let good = r#"read key; echo "{\"ServerURL\":\"$key\",\"Username\":\"u\",\"Secret\":\"p\"}""#;
    assert_eq!(find(good).unwrap(), Some(Credential::of("u", Secret::new("p".to_owned()))));
    let token = r#"echo '{"Username":"<token>","Secret":"t"}'"#;
    assert!(matches!(find(token).unwrap(), Some(Credential::IdentityToken(_))));
    assert_eq!(find("echo 'credentials not found in native keychain'; exit 1").unwrap(), None);
    assert_eq!(find(r#"echo '{"Username":"","Secret":""}'"#).unwrap(), None);
}

/// Wire row H6: a helper that lies, crashes or talks without end gives an error that says which it
/// was, what it said and what to do, and shows no secret.
#[test]
fn helpers_that_misbehave_are_reported() {
    for (script, said) in [
        ("echo 'no keyring'; exit 1", "failed to get: no keyring"),
        ("echo 'pass is not initialised' >&2; exit 1", "failed to get: pass is not initialised"),
        ("exit 3", "failed to get: it does not say why"),
        ("kill -9 $$", "failed to get: it does not say why"),
        ("echo s3cret", "its answer is not the JSON of a credential"),
        (
            r#"echo '{"Username":7,"Secret":"s3cret"}'"#,
            "its answer is not the JSON of a credential",
        ),
        (r#"echo '{"Secret":"s3cret"}'; exit 1"#, "it failed after it had answered"),
        ("yes s3cret", "its answer has more than 65536 bytes"),
        ("printf 'a\\033[2Jb\\n'; exit 1", "failed to get: a[2Jb"),
    ] {
        let begun = Instant::now();
        let error = find(script).unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("credential helper `sh` ") && text.ends_with(said), "{text}");
        assert!(!format!("{error:?}").contains("s3cret"), "{error:?}");
        assert!(error.remedy().unwrap().contains("echo r.example | sh get"));
        assert!(begun.elapsed() < Duration::from_secs(15), "{script}");
    }
}

/// Wire row H6: a helper that hangs is killed in time, wherever it hangs.
#[test]
fn helpers_that_hang_are_killed() {
    for script in ["sleep 60", "exec >&-; sleep 60", "sleep 60 & exit 0"] {
        let (_directory, helper) = helper(script, Duration::from_millis(300));
        let begun = Instant::now();
        let error = helper.find("r.example").unwrap_err();
        assert!(matches!(error, Error::HelperTimeout { .. }), "{script}: {error}");
        assert!(begun.elapsed() < Duration::from_secs(20), "{script}");
    }
}

/// Wire row H6: `store` gets JSON, `erase` the raw key, `list` answers with keys and users.
#[test]
fn helpers_store_erase_and_list() {
    let script = r#"cd "${0%/*}"
        case $1 in
            store) cat >stored ;;
            get) [ -e stored ] || { echo 'credentials not found in native keychain'; exit 1; }
                cat stored ;;
            erase) cat >erased; rm stored ;;
            list) echo '{"r.example":"u","https://index.docker.io/v1/":"v"}' ;;
        esac"#;
    let (directory, helper) = helper(script, Duration::from_secs(20));
    assert!(!helper.erase("r.example").unwrap());
    helper.store("r.example", "<token>", &Secret::new("q\"\n".to_owned())).unwrap();
    let stored = fs_err::read_to_string(directory.path().join("stored")).unwrap();
    let expected = r#"{"ServerURL":"r.example","Username":"<token>","Secret":"q\"\n"}"#;
    assert_eq!(stored, expected);
    let found = helper.find("r.example").unwrap();
    assert_eq!(found, Some(Credential::IdentityToken(Secret::new("q\"\n".to_owned()))));
    assert!(helper.erase("r.example").unwrap());
    assert_eq!(fs_err::read_to_string(directory.path().join("erased")).unwrap(), "r.example");
    assert_eq!(helper.list().unwrap(), ["r.example", "https://index.docker.io/v1/"]);
}

fn told(attempts: &[Attempt]) -> Vec<String> {
    let lines = attempts.iter().map(|Attempt { place, outcome }| format!("{place}: {outcome}"));
    lines.collect()
}

#[test]
fn places_are_asked_in_order_and_the_first_wins() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    fs_err::write(path("auth.json"), r#"{"auths":{"r.example/team":{"auth":"YTpi"}}}"#).unwrap();
    fs_err::write(path("config.json"), r#"{"auths":{"r.example":{"identitytoken":"t"}}}"#).unwrap();
    fs_err::write(path("dockercfg"), r#"{"old.example":{"auth":"bzpw"}}"#).unwrap();
    let environment = r#"{"auths":{"env.example":{"auth":"ZTpw"}},"credsStore":"ignored"}"#;
    let credentials = Credentials::new(Locations {
        environment: Some(Secret::new(environment.to_owned())),
        auth_files: vec![path("absent.json"), path("auth.json")],
        docker_config: Some(path("config.json")),
        legacy_docker_config: Some(path("dockercfg")),
        ..Locations::default()
    });
    let user = |name: &str| match credentials.lookup(&repository(name)).unwrap() {
        Some(Credential::Basic { username, .. }) => username,
        other => format!("{other:?}"),
    };
    assert_eq!(user("env.example/x"), "e");
    assert_eq!(user("r.example/team/app"), "a");
    assert_eq!(user("r.example/other"), "Some(IdentityToken(****))");
    assert_eq!(user("old.example/x"), "o");
    assert_eq!(user("else.example/x"), "None");
    let root = directory.path().display();
    let expected = [
        "DOCKER_AUTH_CONFIG: no entry".to_owned(),
        format!("{root}/absent.json: no such file"),
        format!("{root}/auth.json, `r.example/team`: user `a`"),
    ];
    assert_eq!(told(&credentials.explain(&repository("r.example/team/app"))), expected);
    let earlier = credentials.explain_earlier(&repository("r.example/other"));
    assert!(!earlier.iter().any(|attempt| attempt.outcome.is_found()), "{:?}", told(&earlier));
    fs_err::write(path("auth.json"), "{").unwrap();
    let attempts = credentials.explain(&repository("r.example/team/app"));
    assert!(matches!(attempts.last().unwrap().outcome, Outcome::Failed(Error::Json { .. })));
}

/// The helpers of `registries.conf` come after the files, but for those named before them; one that
/// cannot be asked is an error only when nobody else has a login.
#[test]
fn helpers_of_registries_conf_are_asked_around_the_files() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.json");
    fs_err::write(&path, r#"{"auths":{"r.example":{"auth":"YTpi"}}}"#).unwrap();
    let with = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        at(&path).with_helpers(&names)
    };
    let places = |credentials: &Credentials, name: &str| -> Vec<String> {
        let attempts = credentials.explain(&repository(name)).into_iter();
        let name = |place: Place| match place {
            Place::Helper { name, key } => format!("{name} {key}"),
            _ => "file".to_owned(),
        };
        attempts.map(|attempt| name(attempt.place)).collect()
    };
    let late = with(&["gone-1", "gone-2"]);
    assert_eq!(places(&late, "r.example/x"), ["file"]);
    let around = with(&["gone-1", "containers-auth.json", "gone-2", "containers-auth.json"]);
    assert_eq!(places(&around, "r.example/x"), ["gone-1 r.example", "file"]);
    assert!(around.lookup(&repository("r.example/x")).unwrap().is_some());
    assert_eq!(around.explain_earlier(&repository("r.example/x")).len(), 2);

    let all = ["gone-1 docker.io", "file", "gone-2 docker.io", "gone-1 docker.io"];
    assert_eq!(places(&around, "alpine"), all);
    let error = around.lookup(&repository("alpine")).unwrap_err();
    assert!(matches!(&error, Error::PassedOver(_)), "{error}");
    let remedy = error.remedy().unwrap();
    assert!(remedy.contains("docker-credential-gone-1`, or take it out of `credential-helpers`"));

    let file = LoginFile::docker(path.clone());
    let only = only(file).with_helpers(&["gone-1".to_owned()]);
    assert_eq!(only.lookup(&repository("s.example/x")).unwrap(), None);
}

#[test]
fn logging_out_of_all_leaves_the_other_settings() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.json");
    let hub = "https://index.docker.io/v1/";
    fs_err::write(
        &path,
        format!(r#"{{"a":1,"auths":{{"r.example":{{"auth":"YTpi"}},"{hub}":{{}}}}}}"#),
    )
    .unwrap();
    assert_eq!(at(&path).logout_all().unwrap().keys, ["r.example", hub]);
    assert!(at(&path).logout_all().unwrap().keys.is_empty());
    let text = fs_err::read_to_string(&path).unwrap();
    assert!(text.contains("\"a\": 1") && !text.contains("r.example"), "{text}");
}

#[test]
fn a_missing_helper_is_an_error_that_says_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.json");
    fs_err::write(&path, r#"{"credsStore":"surely-not-installed"}"#).unwrap();
    let error = at(&path).lookup(&repository("x")).unwrap_err();
    assert!(matches!(error, Error::HelperStart { .. }), "{error}");
    assert!(error.remedy().unwrap().contains("install `docker-credential-surely-not-installed`"));
}

#[test]
fn a_token_is_for_its_registry_only_and_read_anew() {
    let directory = tempfile::tempdir().unwrap();
    let path: PathBuf = directory.path().join("token");
    let source = TokenSource::File(path.clone());
    let of = |name: &str| name.parse::<RegistryName>().unwrap();
    let variable = TokenSource::Environment("X".to_owned(), Secret::new("env".to_owned()));
    let credentials = Credentials::new(Locations {
        tokens: vec![
            RegistryToken { registry: of("r.example"), source },
            RegistryToken { registry: of("s.example"), source: variable },
        ],
        ..Locations::default()
    });
    let lookup = |name: &str| credentials.lookup(&repository(name));
    let token = |text: &str| Some(Credential::RegistryToken(Secret::new(text.to_owned())));
    assert!(lookup("r.example/x").is_err(), "no such file");
    for (text, expected) in [("one\n", token("one")), ("two", token("two"))] {
        fs_err::write(&path, text).unwrap();
        assert_eq!(lookup("r.example/x").unwrap(), expected);
    }
    assert_eq!(lookup("s.example/x").unwrap(), token("env"));
    assert_eq!(lookup("r.example:5000/x").unwrap(), None);
    assert_eq!(told(&credentials.explain(&repository("s.example/x"))), ["X: a registry token"]);
    for text in ["", "two words", "a\u{e9}", &"x".repeat(70_000)] {
        fs_err::write(&path, text).unwrap();
        assert!(lookup("r.example/x").is_err());
    }
}

/// Keyrings are asked only where an empty entry stands for them, and passed over when they are not
/// there: tests have no D-Bus session.
#[test]
fn an_empty_entry_stands_for_keyrings() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.json");
    fs_err::write(&path, r#"{"auths":{"r.example":{},"s.example":{"auth":"YTpi"}}}"#).unwrap();
    let lines = told(&at(&path).explain(&repository("r.example/x")));
    assert!(lines[0].ends_with("config.json: no entry"), "{lines:?}");
    assert!(lines[1].starts_with("desktop's keyring: "), "{lines:?}");
    assert!(lines[2].starts_with("kernel's keyring: "), "{lines:?}");
    assert_eq!(at(&path).lookup(&repository("r.example/x")).unwrap(), None);
    assert_eq!(told(&at(&path).explain(&repository("s.example/x"))).len(), 1);
    assert_eq!(told(&at(&path).explain(&repository("t.example/x"))).len(), 1);
}

#[test]
fn secrets_cannot_be_printed() {
    let login = login("r.example", "user", "s3cret");
    let file = RegistryToken {
        registry: login.registry.clone(),
        source: TokenSource::Environment("X".to_owned(), login.secret.clone()),
    };
    let credential = Credential::of("<token>", login.secret.clone());
    let locations = Locations { environment: Some(login.secret.clone()), ..Locations::default() };
    for text in [
        format!("{login:?}"),
        format!("{file:?}"),
        format!("{credential:?}"),
        format!("{:?}", Credentials::new(locations)),
        format!("{} {:?}", login.secret, login.secret),
    ] {
        assert!(text.contains("****") && !text.contains("s3cret"), "{text}");
    }
}
