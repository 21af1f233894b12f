//! Who a container's processes run as, from the specification and the image's own `/etc/passwd` and `/etc/group`.

use crate::{
    native::launch::{Failure, Stage},
    runtime::{SupplementalGroupsPolicy, User},
};

use super::Step;

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// User id.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Supplementary groups, the primary one first.
    pub groups: Vec<u32>,
    /// Home folder.
    pub home: String,
}

/// Decides. `image_user` is the image's `USER`; the texts are the contents of the image's files, empty if absent.
pub fn resolve(wanted: &User, image_user: &str, passwd: &str, group: &str) -> Step<Identity> {
    let (user_text, group_text) = match wanted.uid {
        Some(uid) => (uid.to_string(), None),
        None => match image_user.split_once(':') {
            Some((user, group)) => (user.to_owned(), Some(group)),
            None => (image_user.to_owned(), None),
        },
    };
    let user_text = if user_text.is_empty() { "0".to_owned() } else { user_text };
    let account = accounts(passwd).find(|account| account.name == user_text || account.uid.to_string() == user_text);
    let uid = match (&account, user_text.parse::<u32>()) {
        (Some(account), _) => account.uid,
        (None, Ok(uid)) => uid,
        (None, Err(_)) => return Err(unknown("user", &user_text, "passwd")),
    };
    let gid = match (wanted.gid, group_text) {
        (Some(gid), _) => gid,
        (None, Some(text)) => group_id(text, group)?,
        (None, None) => account.as_ref().map_or(0, |account| account.gid),
    };
    let mut groups = vec![gid];
    if wanted.supplemental_groups_policy == SupplementalGroupsPolicy::Merge
        && let Some(account) = &account
    {
        groups.extend(memberships(&account.name, group));
    }
    groups.extend(&wanted.supplemental_groups);
    let mut seen = Vec::new();
    groups.retain(|group| !seen.contains(group) && (seen.push(*group), true).1);
    let home = account.map(|account| account.home).filter(|home| !home.is_empty()).unwrap_or_else(|| "/".to_owned());
    Ok(Identity { uid, gid, groups, home })
}

struct Account {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
}

fn accounts(passwd: &str) -> impl Iterator<Item = Account> {
    passwd.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, uid, gid, _, home, ..] = fields.as_slice() else { return None };
        let (uid, gid) = (uid.parse().ok()?, gid.parse().ok()?);
        Some(Account { name: (*name).to_owned(), uid, gid, home: (*home).to_owned() })
    })
}

/// Name, id and members of each group.
fn group_lines(group: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    group.lines().filter_map(|line| {
        let mut fields = line.split(':');
        Some((fields.next()?, fields.nth(1)?.parse().ok()?, fields.next().unwrap_or_default()))
    })
}

fn group_id(text: &str, group: &str) -> Step<u32> {
    let named = group_lines(group).find(|(name, ..)| *name == text).map(|(_, id, _)| id);
    named.or_else(|| text.parse().ok()).ok_or_else(|| unknown("group", text, "group"))
}

fn memberships<'a>(user: &'a str, group: &'a str) -> impl Iterator<Item = u32> + 'a {
    let member = move |members: &str| members.split(',').any(|member| member.trim() == user);
    group_lines(group).filter(move |(.., members)| member(members)).map(|(_, id, _)| id)
}

fn unknown(kind: &str, name: &str, file: &str) -> Failure {
    Failure {
        stage: Stage::Create,
        message: format!("unable to find {kind} {name}: no matching entries in {file} file"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n# comment\n";
    const GROUP: &str = "root:x:0:\nextra:x:2000:other,app\nwheel:x:10:root\n";

    fn identity(wanted: User, image_user: &str) -> Result<(u32, u32, Vec<u32>, String), String> {
        let found = resolve(&wanted, image_user, PASSWD, GROUP).map_err(|failure| failure.message)?;
        Ok((found.uid, found.gid, found.groups, found.home))
    }

    #[test]
    fn the_image_names_the_user_unless_the_pod_does() {
        let nobody = User::default();
        assert_eq!(identity(nobody.clone(), ""), Ok((0, 0, vec![0, 10], "/root".into())));
        assert_eq!(identity(nobody.clone(), "app"), Ok((1000, 1001, vec![1001, 2000], "/home/app".into())));
        assert_eq!(identity(nobody.clone(), "app:extra"), Ok((1000, 2000, vec![2000], "/home/app".into())));
        assert_eq!(identity(nobody.clone(), "77:88"), Ok((77, 88, vec![88], "/".into())));
        let pod = User { uid: Some(1000), gid: Some(5), supplemental_groups: vec![9, 5], ..User::default() };
        assert_eq!(identity(pod, "root"), Ok((1000, 5, vec![5, 2000, 9], "/home/app".into())));
    }

    #[test]
    fn strict_leaves_the_images_groups_out() {
        let policy = SupplementalGroupsPolicy::Strict;
        let strict = User { uid: Some(1000), supplemental_groups_policy: policy, ..User::default() };
        assert_eq!(identity(strict, "").map(|found| found.2), Ok(vec![1001]));
    }

    #[test]
    fn an_unknown_name_is_an_error() {
        let message = "unable to find user ghost: no matching entries in passwd file";
        assert_eq!(identity(User::default(), "ghost"), Err(message.to_owned()));
        let message = "unable to find group ghosts: no matching entries in group file";
        assert_eq!(identity(User::default(), "app:ghosts"), Err(message.to_owned()));
    }
}
