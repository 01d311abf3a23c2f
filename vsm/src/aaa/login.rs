//! Who may come in with a password: the one place that SSH and HTTPS ask.
//!
//! A password is tried on the caller's thread and takes its time; the callers bound how many are tried at once.

use std::net::IpAddr;

use super::secret;
use crate::cli::logins::Visitor;
use crate::supervisor::Handle;

/// Tries a password; the visitor it lets in, or `None`. `from` is where he comes from.
pub fn password(handle: &Handle, user: &str, password: &str, from: IpAddr) -> Option<Visitor> {
    let hash = handle.model().users.get(user).and_then(|user| user.secret.clone());
    let is_let_in = secret::is_password(hash.as_deref(), password);
    is_let_in.then(|| Visitor { user: Some(user.to_owned()), from: Some(from), ..Visitor::default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::{Model, User};

    #[test]
    fn the_right_password_lets_its_user_in() {
        let mut model = Model::default();
        let secret = secret::hash("ops", "a-good-secret").unwrap();
        model.users.insert("ops".into(), User { secret: Some(secret), ..User::default() });
        model.users.insert("nobody".into(), User::default());
        let handle = Handle::detached(model);
        let from = IpAddr::from([192, 0, 2, 7]);
        let visitor = password(&handle, "ops", "a-good-secret", from).unwrap();
        assert_eq!((visitor.user.as_deref(), visitor.from, visitor.pid), (Some("ops"), Some(from), None));
        for (user, secret) in [("ops", "another-secret"), ("nobody", "a-good-secret"), ("stranger", "a-good-secret")] {
            assert_eq!(password(&handle, user, secret, from), None);
        }
    }
}
