//! `--chown` and `USER` values looked up in an image's user database.

use std::path::Path;

use crate::layer::View;

/// Returns the ids that `text` means: `user`, `user:group`, each a number or a name.
///
/// A number without a group is also the group's number; a name without a group brings its own
/// group (BuildKit, `solver/llbsolver/ops/user_linux.go`). A name that the image does not know is
/// an error, as the Dockerfile reference says ("COPY --chown"), where BuildKit takes root.
pub(super) fn ids(text: &str, view: &View) -> Result<(u32, u32), String> {
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (text, None),
    };
    let (uid, own_gid) = match user {
        "" => (0, 0),
        user => match user.parse::<u32>() {
            Ok(uid) => (uid, uid),
            Err(_) => user_by_name(user, view)?,
        },
    };
    let gid = match group {
        None => own_gid,
        Some(group) => match group.parse::<u32>() {
            Ok(gid) => gid,
            Err(_) => group_by_name(group, view)?,
        },
    };
    Ok((uid, gid))
}

fn user_by_name(name: &str, view: &View) -> Result<(u32, u32), String> {
    let fields = find(view, "etc/passwd", name)
        .ok_or_else(|| format!("unknown user `{name}`: not in the image's /etc/passwd"))?;
    let number = |index: usize| fields.get(index).and_then(|field| field.parse::<u32>().ok());
    match (number(2), number(3)) {
        (Some(uid), Some(gid)) => Ok((uid, gid)),
        _ => Err(format!("the image's /etc/passwd has no ids for `{name}`")),
    }
}

fn group_by_name(name: &str, view: &View) -> Result<u32, String> {
    let fields = find(view, "etc/group", name)
        .ok_or_else(|| format!("unknown group `{name}`: not in the image's /etc/group"))?;
    fields
        .get(2)
        .and_then(|field| field.parse().ok())
        .ok_or_else(|| format!("the image's /etc/group has no id for `{name}`"))
}

fn find(view: &View, file: &str, name: &str) -> Option<Vec<String>> {
    let text = String::from_utf8_lossy(view.small_file(Path::new(file))?).into_owned();
    let line = text.lines().find(|line| line.split(':').next() == Some(name))?;
    Some(line.split(':').map(str::to_owned).collect())
}
