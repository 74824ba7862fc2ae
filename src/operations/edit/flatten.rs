//! `flatten`: one layer in place of all.

use serde_json::{Value, json};

use crate::build::date;
use crate::operations::{Error, Session};

use super::draft::Draft;
use super::run::edit;
use super::target::{EditReport, EditTarget};
use super::{json, layers};
use crate::operations::place::Place;

/// Makes one layer of all layers of each image of `target`. Images with one layer stay as they are.
///
/// `time` dates the new layer, in seconds since 1970; without it, it is as old as the image.
///
/// # Errors
///
/// When a layer cannot be read as one; whatever the registry or the store says.
pub async fn flatten(
    session: &Session,
    target: &EditTarget,
    time: Option<i64>,
) -> Result<EditReport, Error> {
    let change = async |mut draft: Draft| {
        draft.expect_image()?;
        let count = draft.layers()?.len();
        if count < 2 {
            return Ok(draft);
        }
        let sealed = layers::merge(session, &draft).await?;
        let layer = layers::new_layer(&sealed, draft.is_docker())?;
        draft.origins.insert(sealed.digest, Place::Store);
        draft.set_layers(vec![layer]);
        date_and_describe(&mut draft, count, time);
        Ok(draft)
    };
    edit(session, target, change, |_| Ok(())).await
}

/// Writes the one history entry of the one layer.
fn date_and_describe(draft: &mut Draft, layers: usize, time: Option<i64>) {
    let created = match time {
        Some(seconds) => Value::String(date(seconds)),
        None => draft.config["created"].clone(),
    };
    let mut entry = json!({ "created": created, "created_by": "rpub flatten" });
    let of = draft.previous().map(ToString::to_string).unwrap_or_default();
    entry["comment"] = format!("{layers} layers of {of}").into();
    json::remove_if_empty(&mut entry, "created");
    *json::list(&mut draft.config, "history") = vec![entry];
    if time.is_some() {
        json::set(&mut draft.config, "created", created);
    }
}
