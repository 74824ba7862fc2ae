//! What `mutate` changes in one image's manifest and config.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::build::{AnnotationPlace, Annotations, date};
use crate::image::{Platform, media_type};
use crate::layer::Compression;
use crate::operations::{Error, Kind};

use super::draft::Draft;
use super::json;
use super::target::MediaFamily;

/// Changes of images: what is `None` or empty stays as it is.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// Labels to set.
    pub labels: BTreeMap<String, String>,
    /// Labels to remove.
    pub unset_labels: Vec<String>,
    /// Variables to set; those that are there keep their place.
    pub env: Vec<(String, String)>,
    /// Variables to remove.
    pub unset_env: Vec<String>,
    /// The program; empty for none. The command goes with the old one, as in docker.
    pub entrypoint: Option<Vec<String>>,
    /// The command; empty for none.
    pub cmd: Option<Vec<String>>,
    /// The user; empty for none.
    pub user: Option<String>,
    /// The working directory; empty for none.
    pub workdir: Option<String>,
    /// Ports to expose, as in `80/tcp`.
    pub ports: Vec<String>,
    /// Ports no longer to expose.
    pub unset_ports: Vec<String>,
    /// Volumes to declare.
    pub volumes: Vec<String>,
    /// Volumes no longer to declare.
    pub unset_volumes: Vec<String>,
    /// Annotations to set.
    pub annotations: Annotations,
    /// Annotations of manifests to remove.
    pub unset_annotations: Vec<String>,
    /// The platform that the image says it is for.
    pub platform: Option<Platform>,
    /// The date of image and history, in seconds since 1970.
    pub time: Option<i64>,
    /// Whether times in layers that are later than `time` become it.
    pub rewrites_layers: bool,
    /// How layers are compressed; those that are so already keep their bytes.
    pub compression: Option<Compression>,
    /// The family of all media types.
    pub family: Option<MediaFamily>,
}

impl Changes {
    /// Returns whether the config is to be changed.
    fn needs_config(&self) -> bool {
        let Self { labels, unset_labels, env, unset_env, ports, unset_ports, .. } = self;
        let lists =
            [unset_labels, unset_env, ports, unset_ports, &self.volumes, &self.unset_volumes];
        let words = [&self.entrypoint, &self.cmd];
        let texts = [&self.user, &self.workdir];
        !labels.is_empty()
            || !env.is_empty()
            || lists.iter().any(|list| !list.is_empty())
            || words.iter().any(|words| words.is_some())
            || texts.iter().any(|text| text.is_some())
            || self.platform.is_some()
            || self.time.is_some()
    }

    /// Changes one image.
    ///
    /// # Errors
    ///
    /// When the image cannot be so: an artifact without a config, annotations in Docker's format, a
    /// layer that Docker has no name for.
    pub(super) fn apply(&self, draft: &mut Draft) -> Result<(), Error> {
        if self.needs_config() {
            draft.expect_image()?;
            self.change_config(&mut draft.config);
            if let Some(platform) = &self.platform {
                set_platform(&mut draft.config, platform);
            }
        }
        let is_for = draft.platform();
        let set = self.annotations.of(AnnotationPlace::Manifest, is_for.as_ref());
        json::set_texts(&mut draft.manifest, "annotations", &set, &self.unset_annotations);
        if let Some(family) = self.family {
            convert(draft, family)?;
        }
        if draft.is_docker() && !set.is_empty() {
            let message =
                format!("`{}` is in Docker's format, which has no annotations", draft.name);
            return Err(Error::new(Kind::User, message).hint("add `--to-oci` to change its format"));
        }
        Ok(())
    }

    fn change_config(&self, document: &mut Value) {
        if let Some(seconds) = self.time {
            document["created"] = date(seconds).into();
            for entry in document["history"].as_array_mut().into_iter().flatten() {
                entry["created"] = date(seconds).into();
            }
        }
        let mut config = document["config"].take();
        json::set_texts(&mut config, "Labels", &self.labels, &self.unset_labels);
        self.change_env(&mut config);
        set_keys(&mut config, "ExposedPorts", &self.ports, &self.unset_ports);
        set_keys(&mut config, "Volumes", &self.volumes, &self.unset_volumes);
        if let Some(words) = &self.entrypoint {
            set_words(&mut config, "Entrypoint", words);
            json::remove(&mut config, "Cmd");
        }
        if let Some(words) = &self.cmd {
            set_words(&mut config, "Cmd", words);
        }
        for (name, text) in [("User", &self.user), ("WorkingDir", &self.workdir)] {
            if let Some(text) = text {
                json::set(&mut config, name, text.as_str());
                json::remove_if_empty(&mut config, name);
            }
        }
        document["config"] = config;
    }

    fn change_env(&self, config: &mut Value) {
        if self.env.is_empty() && self.unset_env.is_empty() {
            return;
        }
        let list = json::list(config, "Env");
        let is_of = |value: &Value, key: &str| {
            let text = value.as_str().unwrap_or_default();
            text.split_once('=').map_or(text, |(name, _)| name) == key
        };
        list.retain(|value| !self.unset_env.iter().any(|key| is_of(value, key)));
        for (key, value) in &self.env {
            let text = Value::String(format!("{key}={value}"));
            match list.iter_mut().find(|value| is_of(value, key)) {
                Some(place) => *place = text,
                None => list.push(text),
            }
        }
        json::remove_if_empty(config, "Env");
    }
}

fn set_words(config: &mut Value, name: &str, words: &[String]) {
    json::set(config, name, words.to_vec());
    json::remove_if_empty(config, name);
}

/// Adds and removes keys of a map of nothing, as Go's `map[string]struct{}` is written.
fn set_keys(config: &mut Value, name: &str, set: &[String], unset: &[String]) {
    if set.is_empty() && unset.iter().all(|key| config[name].get(key).is_none()) {
        return;
    }
    let members = json::object(config, name);
    for key in unset {
        members.shift_remove(key);
    }
    for key in set {
        members.entry(key).or_insert_with(|| Value::Object(Map::new()));
    }
    json::remove_if_empty(config, name);
}

fn set_platform(config: &mut Value, platform: &Platform) {
    if config["os"] != *platform.os {
        // They are about the system that it was for.
        json::remove(config, "os.version");
        json::remove(config, "os.features");
    }
    json::set(config, "os", platform.os.as_str());
    json::set(config, "architecture", platform.architecture.as_str());
    match &platform.variant {
        Some(variant) => json::set(config, "variant", variant.as_str()),
        None => json::remove(config, "variant"),
    }
}

/// Gives manifest, config and layers the names of one family.
fn convert(draft: &mut Draft, family: MediaFamily) -> Result<(), Error> {
    let name = draft.name.clone();
    if family == MediaFamily::Docker {
        draft.expect_image()?;
        refuse_what_docker_lacks(draft)?;
    }
    let manifest = &mut draft.manifest;
    let own = match family {
        MediaFamily::Oci => media_type::OCI_MANIFEST,
        MediaFamily::Docker => media_type::DOCKER_MANIFEST,
    };
    json::set(manifest, "mediaType", own);
    rename(&mut manifest["config"], family, &name)?;
    let layers = manifest["layers"].as_array_mut().into_iter().flatten();
    layers.into_iter().try_for_each(|layer| rename(layer, family, &name))
}

/// Gives the descriptor `entry` its name in `family`. What only OCI has a name for stays so there.
pub(super) fn rename(entry: &mut Value, family: MediaFamily, name: &str) -> Result<(), Error> {
    let have = entry["mediaType"].as_str().unwrap_or_default();
    let wanted = match family {
        MediaFamily::Oci => media_type::oci_name(have),
        MediaFamily::Docker => media_type::docker_name(have),
    };
    match wanted {
        Some(wanted) => entry["mediaType"] = wanted.into(),
        None if family == MediaFamily::Oci && !media_type::is_docker(have) => {}
        None => {
            let message =
                format!("`{name}` cannot be converted: there is no name for `{have}` there");
            return Err(Error::new(Kind::User, message));
        }
    }
    Ok(())
}

fn refuse_what_docker_lacks(draft: &Draft) -> Result<(), Error> {
    let manifest = &draft.manifest;
    let members = ["annotations", "subject", "artifactType"];
    let own = members.into_iter().find(|key| !manifest[*key].is_null());
    let layers = manifest["layers"].as_array().into_iter().flatten();
    let noted = layers.into_iter().any(|layer| !layer["annotations"].is_null());
    let Some(lacks) = own.or(noted.then_some("annotations of layers")) else { return Ok(()) };
    let message = format!("`{}` has {lacks}, for which Docker's format has no place", draft.name);
    Err(Error::new(Kind::User, message).hint("remove annotations by `--unset-annotation KEY`"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::build::Annotation;
    use crate::image::{Descriptor, Digest};

    fn draft(config: &Value, layer_type: &str) -> Draft {
        let mut draft = Draft::empty(&"linux/amd64".parse().expect("valid"));
        draft.config = config.clone();
        let layer = Descriptor::new(layer_type, Digest::of(b"layer"), 5);
        draft.manifest["layers"] = json!([layer]);
        draft
    }

    fn changed(changes: &Changes) -> Value {
        let before = json!({"os": "linux", "architecture": "amd64", "x": [1, null],
            "config": {"Env": ["PATH=/bin", "A=1"], "Cmd": ["sh"], "Labels": null, "Unknown": 1},
            "history": [{"created_by": "a"}, {"created": "2020-01-01T00:00:00Z"}]});
        let mut draft = draft(&before, media_type::OCI_LAYER_GZIP);
        changes.apply(&mut draft).expect("changed");
        draft.config
    }

    #[test]
    fn only_what_is_asked_for_changes() {
        let none = changed(&Changes::default());
        let changes = Changes {
            env: vec![("A".into(), "2=3".into()), ("B".into(), String::new())],
            unset_env: vec!["PATH".into(), "NONE".into()],
            labels: [("who".to_owned(), "me".to_owned())].into(),
            ports: vec!["80/tcp".into()],
            user: Some("7:8".into()),
            ..Changes::default()
        };
        let mut expected = none.clone();
        expected["config"]["Env"] = json!(["A=2=3", "B="]);
        expected["config"]["Labels"] = json!({"who": "me"});
        expected["config"]["ExposedPorts"] = json!({"80/tcp": {}});
        expected["config"]["User"] = json!("7:8");
        assert_eq!(changed(&changes), expected);
        assert_eq!(none["x"], json!([1, null]));
    }

    #[test]
    fn an_entry_point_takes_the_old_command_away() {
        let entrypoint = Some(vec!["/app".to_owned()]);
        let alone = changed(&Changes { entrypoint: entrypoint.clone(), ..Changes::default() });
        assert_eq!(alone["config"]["Entrypoint"], json!(["/app"]));
        assert_eq!(alone["config"].get("Cmd"), None);
        let cmd = Some(vec!["-v".to_owned()]);
        let both = changed(&Changes { entrypoint, cmd, ..Changes::default() });
        assert_eq!(both["config"]["Cmd"], json!(["-v"]));
        let none = changed(&Changes { cmd: Some(Vec::new()), ..Changes::default() });
        assert_eq!(none["config"].get("Cmd"), None);
    }

    #[test]
    fn a_time_dates_image_and_history() {
        let dated = changed(&Changes { time: Some(0), ..Changes::default() });
        assert_eq!(dated["created"], "1970-01-01T00:00:00Z");
        let all = dated["history"].as_array().expect("a list").iter();
        assert!(all.clone().all(|entry| entry["created"] == "1970-01-01T00:00:00Z"));
    }

    #[test]
    fn families_are_never_mixed() {
        let config = json!({"os": "linux", "architecture": "amd64"});
        let to = |family| Changes { family: Some(family), ..Changes::default() };
        let mut image = draft(&config, media_type::OCI_LAYER_GZIP);
        to(MediaFamily::Docker).apply(&mut image).expect("converted");
        assert_eq!(image.manifest["mediaType"], media_type::DOCKER_MANIFEST);
        assert_eq!(image.manifest["config"]["mediaType"], media_type::DOCKER_CONFIG);
        assert_eq!(image.manifest["layers"][0]["mediaType"], media_type::DOCKER_LAYER_GZIP);
        to(MediaFamily::Oci).apply(&mut image).expect("converted");
        assert_eq!(image.manifest, draft(&config, media_type::OCI_LAYER_GZIP).manifest);

        let mut zstd = draft(&config, media_type::OCI_LAYER_ZSTD);
        let error = to(MediaFamily::Docker).apply(&mut zstd).expect_err("zstd");
        assert!(error.message.contains("tar+zstd"), "{error}");
        let mut noted = draft(&config, media_type::OCI_LAYER_GZIP);
        noted.manifest["annotations"] = json!({"a": "b"});
        assert!(to(MediaFamily::Docker).apply(&mut noted).is_err());
    }

    #[test]
    fn dockers_manifests_have_no_annotations() {
        let config = json!({"os": "linux", "architecture": "amd64"});
        let mut image = draft(&config, media_type::DOCKER_LAYER_GZIP);
        image.manifest["mediaType"] = media_type::DOCKER_MANIFEST.into();
        let mut changes = Changes::default();
        let (key, value) = ("k".to_owned(), "v".to_owned());
        let place = AnnotationPlace::Manifest;
        changes.annotations.push(Annotation { place, platform: None, key, value });
        assert!(changes.apply(&mut image.clone()).is_err());
        changes.family = Some(MediaFamily::Oci);
        changes.apply(&mut image).expect("OCI has");
        assert_eq!(image.manifest["annotations"], json!({"k": "v"}));
    }
}
