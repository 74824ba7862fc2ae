//! `WWW-Authenticate` (RFC 9110, section 11.6.1).

use http::HeaderMap;
use http::header::WWW_AUTHENTICATE;
use reqwest::Url;

/// What a registry asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// User and password with each request.
    Basic,
    /// A token from a token server (distribution, spec/auth/token.md).
    Bearer(Bearer),
}

/// The parameters of a bearer challenge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bearer {
    /// Where the token server is.
    pub(super) realm: String,
    /// Whom the token is for.
    pub(super) service: Option<String>,
    /// What the refused request would have needed, separated by spaces.
    pub(super) scope: Option<String>,
    /// Whether the token that was sent is good, but not for this.
    pub(super) is_insufficient: bool,
}

/// Whether a `WWW-Authenticate` header has a challenge that rpub can answer.
#[must_use]
pub fn is_challenge(header: &str) -> bool {
    parse(header).unwrap_or_default().into_iter().any(|(scheme, it)| usable(&scheme, it).is_some())
}

/// Returns the first challenge of an answer from `url` that rpub can answer; malformed ones are not
/// guessed at. A relative realm counts from `url`.
pub(super) fn choose(headers: &HeaderMap, url: &Url) -> Option<Challenge> {
    let mut chosen = headers
        .get_all(WWW_AUTHENTICATE)
        .iter()
        .filter_map(|value| parse(value.to_str().ok()?))
        .flatten()
        .find_map(|(scheme, parameters)| usable(&scheme, parameters))?;
    if let Challenge::Bearer(bearer) = &mut chosen
        && let Ok(realm) = url.join(&bearer.realm)
    {
        bearer.realm = realm.into();
    }
    Some(chosen)
}

type Parameters = Vec<(String, String)>;

fn usable(scheme: &str, parameters: Parameters) -> Option<Challenge> {
    if scheme.eq_ignore_ascii_case("basic") {
        return Some(Challenge::Basic);
    }
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let mut bearer =
        Bearer { realm: String::new(), service: None, scope: None, is_insufficient: false };
    for (name, value) in parameters {
        match name.to_ascii_lowercase().as_str() {
            "realm" => bearer.realm = value,
            "service" if !value.is_empty() => bearer.service = Some(value),
            "scope" if !value.is_empty() => bearer.scope = Some(value),
            "error" => bearer.is_insufficient = value == "insufficient_scope",
            _ => {}
        }
    }
    (!bearer.realm.is_empty()).then_some(Challenge::Bearer(bearer))
}

/// Parses one header's challenges, each a scheme with its parameters; `None` when malformed.
fn parse(text: &str) -> Option<Vec<(String, Parameters)>> {
    let mut rest = Text(text);
    let mut challenges: Vec<(String, Parameters)> = Vec::new();
    loop {
        while rest.take(',') {}
        if rest.0.is_empty() {
            return Some(challenges);
        }
        let word = rest.token()?;
        if rest.take('=') {
            let value = rest.value()?;
            challenges.last_mut()?.1.push((word, value));
            rest.end_of_item()?;
            continue;
        }
        challenges.push((word, Vec::new()));
        // A scheme may be followed by one opaque word (`Negotiate abc=`) instead of parameters.
        if let Some(after) = rest.opaque_word() {
            rest = after;
        }
    }
}

#[derive(Clone, Copy)]
struct Text<'a>(&'a str);

impl<'a> Text<'a> {
    fn skip_spaces(&mut self) {
        self.0 = self.0.trim_start_matches([' ', '\t']);
    }

    fn take(&mut self, wanted: char) -> bool {
        self.skip_spaces();
        let Some(rest) = self.0.strip_prefix(wanted) else { return false };
        self.0 = rest;
        self.skip_spaces();
        true
    }

    fn token(&mut self) -> Option<String> {
        self.skip_spaces();
        let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        let end = self.0.find(|c| !is_token(c)).unwrap_or(self.0.len());
        let (word, rest) = self.0.split_at(end);
        self.0 = rest;
        (!word.is_empty()).then(|| word.to_owned())
    }

    fn value(&mut self) -> Option<String> {
        let Some(mut rest) = self.0.strip_prefix('"').map(str::chars) else { return self.token() };
        let mut value = String::new();
        loop {
            match rest.next()? {
                '"' => break,
                '\\' => value.push(rest.next()?),
                other => value.push(other),
            }
        }
        self.0 = rest.as_str();
        Some(value)
    }

    /// After a parameter comes a comma or the end.
    fn end_of_item(&mut self) -> Option<()> {
        self.skip_spaces();
        (self.0.is_empty() || self.0.starts_with(',')).then_some(())
    }

    fn opaque_word(mut self) -> Option<Text<'a>> {
        self.skip_spaces();
        let is_opaque = |c: char| c.is_ascii_alphanumeric() || "-._~+/=".contains(c);
        let end = self.0.find(|c| !is_opaque(c)).unwrap_or(self.0.len());
        let (word, rest) = self.0.split_at(end);
        let rest = rest.trim_start_matches([' ', '\t']);
        let is_parameter = rest.starts_with('=')
            || word.trim_end_matches('=').contains('=')
            || (word.ends_with('=') && rest.starts_with('"'));
        let ends = rest.is_empty() || rest.starts_with(',');
        (!word.is_empty() && !is_parameter && ends).then_some(Text(rest))
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn choose_from(values: &[&str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_str(value).unwrap());
        }
        choose(&headers, &Url::parse("https://r.example/v2/a/tags/list").unwrap())
    }

    #[expect(clippy::unnecessary_wraps, reason = "it is compared with what `choose` returns")]
    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Option<Challenge> {
        Some(Challenge::Bearer(Bearer {
            realm: realm.to_owned(),
            service: service.map(str::to_owned),
            scope: scope.map(str::to_owned),
            is_insufficient: false,
        }))
    }

    /// Wire row A1: several headers and challenges, any case, escapes, loose spaces, unknown schemes.
    #[test]
    fn reads_every_form() {
        let full = r#"Bearer realm="https://a/t",service="s",scope="repository:a/b:pull,push""#;
        let scope = Some("repository:a/b:pull,push");
        assert_eq!(choose_from(&[full]), bearer("https://a/t", Some("s"), scope));
        let loose = "bEARER REALM = \"https://a/t\" , Service=s";
        assert_eq!(choose_from(&[loose]), bearer("https://a/t", Some("s"), None));
        let escaped = r#"Bearer realm="/a\"b""#;
        assert_eq!(choose_from(&[escaped]), bearer("https://r.example/a%22b", None, None));
        assert_eq!(choose_from(&["Basic realm=\"x\""]), Some(Challenge::Basic));
        assert_eq!(choose_from(&["Basic"]), Some(Challenge::Basic));
        let several = "Negotiate, Basic realm=x, Bearer realm=\"/t\"";
        assert_eq!(choose_from(&[several]), Some(Challenge::Basic));
        assert!(choose_from(&["Negotiate abc/d==", full]).is_some());
        assert_eq!(
            choose_from(&["Negotiate abc==, Bearer realm=\"/t\""]),
            bearer("https://r.example/t", None, None)
        );
        assert_eq!(
            choose_from(&["Basic realm=\"x", r#"Bearer realm="t?a=b""#]),
            bearer("https://r.example/v2/a/tags/t?a=b", None, None),
            "a malformed header does not spoil the next"
        );
        let insufficient = r#"Bearer realm="/t",error="insufficient_scope",scope="x""#;
        let chosen = choose_from(&[insufficient]);
        assert!(matches!(chosen, Some(Challenge::Bearer(it)) if it.is_insufficient));
    }

    /// Wire row A1: missing commas, quotes and realms are not guessed.
    #[test]
    fn does_not_guess() {
        for text in [
            "",
            "Negotiate",
            "Bearer service=\"s\"",
            "Bearer realm=\"https://a",
            "Bearer realm=\"a\" service=\"s\"",
            "realm=\"a\"",
            "Bearer realm=",
        ] {
            assert_eq!(choose_from(&[text]), None, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in ".{0,80}") {
            let _ = crate::registry::is_challenge(&text);
        }
    }
}
