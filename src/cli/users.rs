//! `limen users`.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand, ValueEnum};
use limen::admin::access::Role;
use limen::admin::accounts::{AccountStore, Password, Secret, User, UserName};
use limen::clock::{Clock, SystemClock, UnixMillis};
use serde_json::{Value, json};

use super::subjects::confirmed;
use super::{Answer, Context};

#[derive(Args)]
#[command(after_help = "\
Examples:
  limen users list
  limen users setup-code                   a code for the page /setup, while nobody owns the device
  limen users reset-password \"Ada Lovelace\"
  limen users invite --role operator --note \"night shift\"
  limen users remove --yes \"Ada Lovelace\"

Users sign in to the admin page; who is recognised is a subject, see `limen subjects`. Whoever can
run these commands on the device needs no password: it is how an owner who forgot theirs comes back.
A running daemon takes notice within two seconds.")]
pub(super) struct UsersArguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// List everybody who may sign in
    List,
    /// Make a new code with which the first owner is made
    SetupCode,
    /// Give a user a new password, made up at random, and sign them out everywhere
    ResetPassword {
        /// The user's name
        name: String,
    },
    /// Make a link by which somebody makes an account
    Invite {
        /// What they may do
        #[arg(long)]
        role: InvitedRole,
        /// For whom or what it is
        #[arg(long)]
        note: Option<String>,
        /// How long it works
        #[arg(long, default_value_t = 48, value_parser = clap::value_parser!(u32).range(1..=720))]
        hours: u32,
    },
    /// Remove a user, with their sessions and API tokens
    Remove {
        /// The user's name
        name: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum InvitedRole {
    Viewer,
    Operator,
    Admin,
    Owner,
}

impl From<InvitedRole> for Role {
    fn from(role: InvitedRole) -> Self {
        match role {
            InvitedRole::Viewer => Self::Viewer,
            InvitedRole::Operator => Self::Operator,
            InvitedRole::Admin => Self::Admin,
            InvitedRole::Owner => Self::Owner,
        }
    }
}

/// Whoever is root on the device may do what an owner may.
const ACTING: Role = Role::Owner;

pub(super) fn users(context: &Context, arguments: UsersArguments) -> Result<Answer> {
    let output = &context.output;
    let mut store = context.accounts()?;
    match arguments.action {
        Action::List => {
            let users = store.users()?;
            let value: Vec<_> = users.iter().map(as_json).collect();
            output.result(&json!({ "users": value }), || match users.as_slice() {
                [] => "nobody has an account; `limen users setup-code` makes the first owner".to_owned(),
                all => all.iter().map(as_line).collect::<Vec<_>>().join("\n"),
            })?;
        }
        Action::SetupCode => {
            let page = context.page_address()?;
            let code = store.new_setup_code()?;
            note(&mut store, "users_setup_code", String::new());
            let address = format!("{page}/setup");
            output.result(&json!({ "code": code.expose(), "address": address }), || {
                format!("open {address} and enter {}", code.expose())
            })?;
        }
        Action::ResetPassword { name } => {
            let user = store.user_named(&UserName::new(&name)?)?;
            let secret = Secret::code().context("making a password")?;
            let password = Password::new(secret.expose().to_owned()).protect()?;
            store.set_password(user.id, &password, None, true)?;
            note(&mut store, "users_reset_password", target(&user));
            output.result(&json!({ "user": user.id, "password": secret.expose() }), || {
                let (name, password) = (&user.name, secret.expose());
                format!("the password of {name} is now {password}; they should change it on the page Account")
            })?;
            output.note("their sessions, invitations and API tokens have ended");
            if user.disabled {
                output.note("this account is disabled: an admin has to enable it before it can be used");
            }
        }
        Action::Invite { role, note: text, hours } => {
            let page = context.page_address()?;
            let expires_at = UnixMillis(
                SystemClock.wall().0 + Duration::from_secs(3_600 * u64::from(hours)).as_millis() as i64,
            );
            let token = Secret::token("").context("making an invitation")?;
            let role = role.into();
            let invitation = store.invite(None, ACTING, role, text.as_deref(), &token.hash(), expires_at)?;
            note(&mut store, "users_invite", format!("/api/invitations/{}", invitation.id));
            let address = format!("{page}/invitation#{}", token.expose());
            output.result(
                &json!({ "id": invitation.id, "role": role, "address": address, "expires_at": expires_at }),
                || {
                    format!(
                        "whoever opens this within {hours} h makes an account as {}:\n{address}",
                        role.name()
                    )
                },
            )?;
        }
        Action::Remove { name, yes } => {
            let user = store.user_named(&UserName::new(&name)?)?;
            if !yes && !confirmed(&format!("Remove the account of {}?", user.name))? {
                output.note("nothing was removed");
                return Ok(Answer::No);
            }
            store.remove_user(ACTING, user.id)?;
            note(&mut store, "users_remove", target(&user));
            output.result(&json!({ "removed": user.id }), || {
                format!("{} has no account any more", user.name)
            })?;
        }
    }
    Ok(Answer::Yes)
}

fn target(user: &User) -> String {
    format!("/api/users/{}", user.id)
}

/// What was done is done: a full disk must not make it look undone.
fn note(store: &mut AccountStore, what: &'static str, target: String) {
    if let Err(error) = super::audit::note(store, what, target) {
        tracing::warn!("the audit log could not be written: {error}");
    }
}

fn as_json(user: &User) -> Value {
    json!({
        "id": user.id,
        "name": user.name,
        "role": user.role,
        "disabled": user.disabled,
        "created_at": user.created_at,
        "last_seen_at": user.last_seen_at,
    })
}

fn as_line(user: &User) -> String {
    let disabled = if user.disabled { ", disabled" } else { "" };
    format!("{}: {}{disabled}", user.name, user.role.name())
}

impl Context {
    pub(super) fn accounts(&self) -> Result<AccountStore> {
        let (state, key) = self.state()?;
        Ok(AccountStore::open(&state, &key, Arc::new(SystemClock))?)
    }

    /// Where the pages are.
    fn page_address(&self) -> Result<String> {
        limen::http::page_address(&self.config.http)
            .context("http.listen is empty, so there is no page: set it to an address and a port")
    }
}
