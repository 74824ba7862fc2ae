//! Challenges, tokens and whom they are shown to.

use std::collections::VecDeque;

use super::growing::Plant;
use super::*;
use crate::credentials;

/// Answers with one password after the other, the last one for ever.
struct Passwords(Mutex<VecDeque<&'static str>>);

impl Lookup for Passwords {
    fn lookup(&self, _repository: &Repository) -> credentials::Result<Option<Credential>> {
        let mut left = self.0.lock().unwrap();
        let next = left.pop_front().unwrap();
        if left.is_empty() {
            left.push_back(next);
        }
        let password = Secret::new(next.to_owned());
        Ok(Some(Credential::Basic { username: "u".to_owned(), password }))
    }
}

fn identity_token(text: &str) -> Credential {
    Credential::IdentityToken(Secret::new(text.to_owned()))
}

impl World {
    async fn get(&self, name: &str) -> Result<()> {
        self.client.manifest(&self.reference(name)).await.map(drop)
    }

    /// Returns the requests to the token server.
    fn token_requests(&self) -> Vec<script::Seen> {
        let seen = self.script.seen().into_iter();
        seen.filter(|seen| !seen.path.starts_with("/v2/") && !seen.path.starts_with("/up"))
            .collect()
    }

    /// Returns the forms that were sent to the token server.
    fn forms(&self) -> Vec<Vec<(String, String)>> {
        let posts = self.token_requests().into_iter().filter(|seen| seen.method == "POST");
        posts.map(|seen| url::form_urlencoded::parse(&seen.body).into_owned().collect()).collect()
    }
}

fn field<'a>(form: &'a [(String, String)], name: &str) -> &'a str {
    form.iter().find(|(have, _)| have == name).map_or("", |(_, value)| value)
}

/// Wire row A2: a 401 that says nothing sends rpub to `/v2/` for the challenge.
/// Wire row A3: the realm is relative and has a query already.
/// Wire row A4: no `service` is made up.
#[tokio::test]
async fn a_challenge_is_asked_for_where_it_is_missing() {
    let world = World::new("auth_challenge.toml");
    world.get("a/b:1").await.unwrap();
    assert_eq!(world.script.unmatched(), [] as [&str; 0]);
    let tokens = world.token_requests();
    assert_eq!(tokens.len(), 1);
    assert_eq!(tokens[0].query, "tenant=7&scope=repository%3Aa%2Fb%3Apull");
}

/// Wire row A5: the challenge's scope joins the request's own.
/// Wire row A6: it comes first.
/// Wire row A10: a token that is too narrow is exchanged for a wider one, and the request repeated.
#[tokio::test]
async fn a_scope_that_is_demanded_is_asked_for_and_remembered() {
    let world = World::new("auth_scopes.toml");
    world.get("a/b:1").await.unwrap();
    let path = "GET /v2/a/b/manifests/1";
    assert_eq!(world.script.log(), ["GET /token", path, "GET /token", path]);
    world.get("a/b:1").await.unwrap();
    assert_eq!(world.script.log().len(), 5, "what was demanded once is known");
}

/// Wire row A9: what other repositories needed is not asked for again with the next one.
#[tokio::test]
async fn scopes_do_not_accumulate() {
    let world = World::new("auth_scopes.toml");
    world.get("a/b:1").await.unwrap();
    world.get("c/d:1").await.unwrap();
    let last = world.token_requests().pop().unwrap();
    assert_eq!(last.query, "service=s&scope=repository%3Ac%2Fd%3Apull");
}

/// Wire row A7: a mount's token is for both repositories.
#[tokio::test]
async fn a_mount_has_one_token_for_both() {
    let world = World::new("mount_created.toml");
    assert_eq!(world.push("a/b", &["c/d"]).await.unwrap(), Pushed::Mounted);
    let both = "scope=repository%3Aa%2Fb%3Apull%2Cpush&scope=repository%3Ac%2Fd%3Apull";
    assert!(world.token_requests().iter().any(|seen| seen.query.contains(both)));
}

/// Wire row A8: a mount that is refused for want of rights is followed by an ordinary upload.
#[tokio::test]
async fn a_mount_without_rights_becomes_an_upload() {
    let world = World::new("mount_refused.toml");
    let pushed = world.push("a/b", &["private/d"]).await.unwrap();
    assert_eq!(pushed, Pushed::Uploaded { bytes: 13 });
    let posts = world.requests("POST");
    assert!(posts[0].query.contains("from=private") && posts.last().unwrap().query.is_empty());
}

/// Wire row A11: `token` or `access_token`, no `expires_in` needed; an answer without a token, or
/// without an end, is an error.
#[tokio::test]
async fn answers_of_token_servers_are_checked() {
    let ask = async |status: &str, body: &str| {
        let more = [("status", status), ("body", body)];
        let world = World::with(play("auth_bad_tokens.toml", &more), |_| {});
        world.get("a/b:1").await
    };
    ask("200", r#"{"token":"good"}"#).await.unwrap();
    ask("200", r#"{"access_token":"good","token":"","expires_in":"0"}"#).await.unwrap();
    let long = format!(r#"{{"token":"good","x":"{}"}}"#, "x".repeat(1 << 20));
    for (body, reason) in [
        (long.as_str(), "the body is larger than 1048576 bytes"),
        ("{}", "holds no token"),
        (r#"{"token":7}"#, "holds no token"),
        (r#"{"token":"a\nb"}"#, "holds no token"),
        ("<html>", "holds no token"),
    ] {
        let error = ask("200", body).await.unwrap_err();
        assert!(matches!(error, Error::Token { .. }), "{error}");
        assert!(text_of(&error).contains(reason), "{}", text_of(&error));
    }
    let error = ask("401", r#"{"details":"incorrect username"}"#).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Denied);
    assert!(text_of(&error).contains("incorrect username"), "{}", text_of(&error));
}

/// Wire row A12: a 401 when the bytes arrive means another token and the same bytes again.
#[tokio::test]
async fn a_token_that_ends_during_an_upload_is_renewed() {
    let world = World::new("auth_commit.toml");
    let pushed = world.push("a/b", &[]).await.unwrap();
    assert_eq!(pushed, Pushed::Uploaded { bytes: 13 });
    assert_eq!(world.requests("PUT").last().unwrap().body, CONTENT);
    assert_eq!(world.requests("POST").len(), 1, "the upload session stays");
    assert_eq!(world.events.retries(), 0);
}

/// Wire row A12: a 401 to the empty `PUT` that ends a stream means the same `PUT` again.
#[tokio::test]
async fn a_token_that_ends_before_the_commit_is_renewed() {
    let world = World::with_login("growing_token.toml", user(), &[]);
    let pushed = world.push_growing("a/b", Plant::seal).await.unwrap();
    assert_eq!(pushed, Pushed::Uploaded { bytes: 13 });
    let puts = world.requests("PUT");
    assert_eq!(puts.len(), 2);
    assert!(puts.iter().all(|put| put.body.is_empty()));
    assert_eq!(world.requests("POST").len(), 2, "the upload session stays");
}

/// Wire row A13: a 403 to a token that worked may mean that it ended; to one that never worked it
/// does not.
#[tokio::test]
async fn a_403_after_success_renews_the_token() {
    let world = World::new("auth_forbidden.toml");
    world.get("a/b:1").await.unwrap();
    world.get("a/b:2").await.unwrap();
    assert_eq!(world.token_requests().len(), 2);
    assert_eq!(world.get("a/b:denied").await.unwrap_err().kind(), Kind::Denied);
    assert_eq!(world.token_requests().len(), 2, "not again within a minute");
    assert_eq!(world.get("c/d:denied").await.unwrap_err().kind(), Kind::Denied);
    assert_eq!(world.token_requests().len(), 3, "one for the other repository");
}

/// Wire row A13: where the password itself ends, as Amazon's does, the helper is asked for the next.
/// Wire row A16: user and password with each request, and no token server.
#[tokio::test]
async fn basic_credentials_are_sent_and_looked_up_again() {
    let world = World::with(play("auth_basic.toml", &[]), |options| {
        options.credentials = Arc::new(Passwords(Mutex::new(["p", "new"].into())));
    });
    world.get("a/b:1").await.unwrap();
    world.get("a/b:2").await.unwrap();
    let paths = ["GET /v2/a/b/manifests/1", "GET /v2/a/b/manifests/2", "GET /v2/a/b/manifests/2"];
    assert_eq!(world.script.log(), paths);
}

/// Wire row A14: an identity token is exchanged by `POST`, for a token and not for another identity
/// token.
/// Wire row A5: the `POST` has one `scope`.
#[tokio::test]
async fn an_identity_token_is_posted() {
    let more = [("realm", "posts")];
    let world = World::with_login("auth_grants.toml", identity_token("refresh"), &more);
    world.get("a/b:1").await.unwrap();
    let mut form = world.forms().pop().unwrap();
    form.sort();
    let expected = [
        ("client_id", "rpub"),
        ("grant_type", "refresh_token"),
        ("refresh_token", "refresh"),
        ("scope", "repository:a/b:pull"),
        ("service", "s"),
    ];
    assert_eq!(form, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

/// Wire row A14: where the token server knows no `POST`, the identity token takes the password's
/// place.
#[tokio::test]
async fn an_identity_token_falls_back_to_get() {
    let world =
        World::with_login("auth_grants.toml", identity_token("refresh"), &[("realm", "gets")]);
    world.get("a/b:1").await.unwrap();
    assert_eq!(world.script.unmatched(), [] as [&str; 0]);
}

/// Wire row A14: where the token server knows no `GET`, the password is posted, then at once.
#[tokio::test]
async fn a_password_falls_back_to_post() {
    let world = World::with_login("auth_grants.toml", user(), &[("realm", "posts")]);
    world.get("a/b:1").await.unwrap();
    world.get("c/d:1").await.unwrap();
    let methods: Vec<_> = world.token_requests().into_iter().map(|seen| seen.method).collect();
    assert_eq!(methods, ["GET", "POST", "POST"]);
    let form = world.forms().pop().unwrap();
    assert_eq!(field(&form, "grant_type"), "password");
    assert_eq!((field(&form, "username"), field(&form, "password")), ("u", "p"));
    assert_eq!(field(&form, "scope"), "repository:c/d:pull");
}

/// Wire row A15: a refresh token that comes with an answer is used for the next exchange.
#[tokio::test]
async fn a_new_refresh_token_is_kept() {
    let world = World::with_login("auth_refresh.toml", identity_token("first"), &[]);
    world.get("a/b:1").await.unwrap();
    world.get("c/d:1").await.unwrap();
    let forms = world.forms();
    let sent: Vec<&str> = forms.iter().map(|form| field(form, "refresh_token")).collect();
    assert_eq!(sent, ["first", "second"]);
}

/// Wire row A17: one token request for fifty requests at once.
#[tokio::test]
async fn fifty_requests_share_a_token() {
    let world = World::new("token_flight.toml");
    let reference = world.reference("a/b:1");
    let all = join_all((0..50).map(|_| world.client.manifest(&reference))).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(world.token_requests().len(), 1);
}

/// Wire row A18: another host's challenge gets nobody's token, and never the registry's credentials.
#[tokio::test]
async fn another_host_gets_an_anonymous_token() {
    let store = play("auth_elsewhere.toml", &[]);
    let other = format!("http://{}", store.address());
    let world = World::with_login("redirect.toml", user(), &[("other", &other)]);
    assert_eq!(world.fetch("a/b").await.unwrap(), CONTENT);
    assert_eq!(store.log(), ["GET /store/1", "GET /token", "GET /store/1"]);
    assert_eq!(store.unmatched(), [] as [&str; 0]);
    let sent = format!("{:?}", store.seen());
    assert!(!sent.contains("dTpw"), "{sent}");
}

/// What is written is opened by other credentials than what is read, without a common token.
#[tokio::test]
async fn those_who_write_may_be_others() {
    let script = play("auth_commit.toml", &[]);
    let registry: crate::image::RegistryName = script.address().parse().unwrap();
    let world = World::with(script, |options| {
        options.push_credentials = Some(Arc::new(Fixed { registry, credential: user() }));
    });
    // Nobody may read; the token is `one`, which no rule for manifests takes.
    world.get("a/b:1").await.unwrap_err();
    world.push("a/b", &[]).await.unwrap_err();
    let asked = world.token_requests();
    let sent: Vec<_> = asked.iter().map(|seen| seen.headers.get("authorization")).collect();
    assert_eq!(sent[0], None);
    assert!(sent[1..].iter().all(|header| header.is_some_and(|it| it == "Basic dTpw")), "{sent:?}");
    assert!(sent.len() > 1);
}
