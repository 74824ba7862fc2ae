//! Who a step runs as: `USER` against the image's own `/etc/passwd` and `/etc/group`.

use super::protocol::Failure;

/// A resolved user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct User {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Supplementary groups.
    pub(super) groups: Vec<u32>,
    pub(super) home: String,
}

/// Resolves `USER`: a name or uid, and after a colon a name or gid (Dockerfile reference, "USER").
///
/// As docker does it: a number that is not in the files stands for itself, a name must be in them.
/// Without a group, the user's own and those that list the user are taken; with one, only that.
/// Nothing at all means root without further groups, whatever the files say.
pub(super) fn resolve_user(text: &str, passwd: &str, group: &str) -> Result<User, Failure> {
    let (name, group_name) = match text.split_once(':') {
        Some((name, group)) => (name, Some(group).filter(|group| !group.is_empty())),
        None if text.is_empty() => ("0", Some("0")),
        None => (text, None),
    };
    let name = if name.is_empty() { "0" } else { name };
    let entry = passwd.lines().find_map(|line| {
        let fields: Vec<_> = line.trim().split(':').collect();
        let uid: u32 = fields.get(2)?.parse().ok()?;
        let is_it = fields[0] == name || name.parse() == Ok(uid);
        let gid: u32 = fields.get(3)?.parse().ok()?;
        let home = fields.get(5).copied().filter(|home| !home.is_empty()).unwrap_or("/");
        is_it.then(|| (fields[0].to_owned(), User { uid, gid, groups: vec![], home: home.into() }))
    });
    let (login, mut user) = match (entry, name.parse()) {
        (Some((login, user)), _) => (Some(login), user),
        (None, Ok(uid)) => (None, User { uid, gid: 0, groups: vec![], home: "/".into() }),
        (None, Err(_)) => return Err(Failure::UnknownUser(name.to_owned())),
    };
    if let Some(group_name) = group_name {
        user.gid = resolve_group(group_name, group)?;
        user.groups = vec![user.gid];
        return Ok(user);
    }
    user.groups = vec![user.gid];
    for (_, gid, members) in group_entries(group) {
        let is_member = members.split(',').any(|member| Some(member) == login.as_deref());
        if is_member && !user.groups.contains(&gid) {
            user.groups.push(gid);
        }
    }
    Ok(user)
}

fn resolve_group(name: &str, group: &str) -> Result<u32, Failure> {
    let number = name.parse();
    let found = group_entries(group).find(|(n, gid, _)| *n == name || number == Ok(*gid));
    match (found, number) {
        (Some((_, gid, _)), _) | (None, Ok(gid)) => Ok(gid),
        (None, Err(_)) => Err(Failure::UnknownGroup(name.to_owned())),
    }
}

fn group_entries(group: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    group.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields.next()?;
        let gid = fields.nth(1)?.parse().ok()?;
        Some((name, gid, fields.next().unwrap_or_default()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\nwww:x:33:33::/var/www:/bin/sh\n";
    const GROUP: &str =
        "root:x:0:root\nwheel:x:10:root\nwww:x:33:\nshadow:x:42:www,other\ntty:x:5:www\n";

    #[test]
    fn names_and_numbers() {
        let table = [
            ("", (0, 0, vec![0], "/root")),
            ("root", (0, 0, vec![0, 10], "/root")),
            ("0", (0, 0, vec![0, 10], "/root")),
            ("0:0", (0, 0, vec![0], "/root")),
            ("www", (33, 33, vec![33, 42, 5], "/var/www")),
            ("33", (33, 33, vec![33, 42, 5], "/var/www")),
            ("www:shadow", (33, 42, vec![42], "/var/www")),
            ("www:7", (33, 7, vec![7], "/var/www")),
            ("1000", (1000, 0, vec![0], "/")),
            ("1000:1000", (1000, 1000, vec![1000], "/")),
        ];
        for (text, (uid, gid, groups, home)) in table {
            let expected = User { uid, gid, groups, home: home.to_owned() };
            let got = resolve_user(text, PASSWD, GROUP).map_err(|failure| format!("{failure:?}"));
            assert_eq!(got, Ok(expected), "{text}");
        }
    }

    #[test]
    fn unknown_names_are_refused() {
        assert!(
            matches!(resolve_user("bob", PASSWD, GROUP), Err(Failure::UnknownUser(n)) if n == "bob")
        );
        let result = resolve_user("www:staff", PASSWD, GROUP);
        assert!(matches!(result, Err(Failure::UnknownGroup(name)) if name == "staff"));
    }
}
