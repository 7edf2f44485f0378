//! Tokens: one library for each path, one login for each token, sessions that are kept and bounded.

use super::error::{Pkcs11Error, lost, said};
use crate::file::read_private;
use crate::uri::{PinSource, TokenName, TokenUri};
use core::time::Duration;
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error as CkError, RvError};
use cryptoki::mechanism::MechanismType;
use cryptoki::session::{Session, SessionState, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Sessions of one token at once: more than a server has cores for such work, fewer than small tokens have.
const MAX_SESSIONS: usize = 8;
/// How long an operation waits for a session.
const PATIENCE: Duration = Duration::from_secs(30);
/// The file of a PIN holds one short line.
const MAX_PIN_FILE: u64 = 1_024;

/// What this process has open. PKCS #11 is one state for each library and process: it is initialised once, and a login
/// holds for every session of the token.
static OPEN: Mutex<Open> = Mutex::new(Open { modules: Vec::new(), tokens: Vec::new() });

struct Open {
    modules: Vec<(PathBuf, Pkcs11)>,
    tokens: Vec<Arc<Token>>,
}

/// A token that was logged in to.
pub(super) struct Token {
    module: Pkcs11,
    path: PathBuf,
    name: TokenName,
    pin: PinSource,
    /// What the token itself says: label and serial number.
    identity: (String, String),
    state: Mutex<State>,
    returned: Condvar,
}

struct State {
    /// Counts up whenever sessions, login or token were lost: what was known of an earlier generation is void.
    generation: u64,
    idle: Vec<Session>,
    /// Idle and in use.
    sessions: usize,
    /// The token has refused the PIN.
    refused: Option<Pkcs11Error>,
}

/// A session in use.
struct Lease<'a> {
    token: &'a Token,
    session: Option<Session>,
    generation: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whatever holds the lock leaves the state whole at every step.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Token {
    /// The token of a key; opened and logged in to when it was not yet.
    pub(super) fn open(uri: &TokenUri) -> Result<Arc<Self>, Pkcs11Error> {
        let mut open = lock(&OPEN);
        let module = module(&mut open, uri.module())?;
        let failed = |error| Pkcs11Error::Failed { key: uri.to_string(), why: said(&error) };
        let (_, identity) = find(&module, uri.token(), uri)?;
        let known = open
            .tokens
            .iter()
            .find(|token| token.path == uri.module() && token.identity == identity);
        if let Some(token) = known {
            return if token.pin == *uri.pin() {
                Ok(Arc::clone(token))
            } else {
                Err(Pkcs11Error::PinTwice { key: uri.to_string() })
            };
        }
        let state = State { generation: 0, idle: Vec::new(), sessions: 0, refused: None };
        let token = Arc::new(Self {
            module,
            path: uri.module().to_owned(),
            name: uri.token().clone(),
            pin: uri.pin().clone(),
            identity,
            state: Mutex::new(state),
            returned: Condvar::new(),
        });
        // The PIN is tried before the token is known to anybody: a refused one can be mended and tried anew.
        token.with(uri, |_, _| Ok(())).map_err(|error| error.into_error(uri, failed))?;
        open.tokens.push(Arc::clone(&token));
        Ok(token)
    }

    /// Whether the token has a mechanism.
    pub(super) fn has(
        &self,
        uri: &TokenUri,
        mechanism: MechanismType,
    ) -> Result<bool, Pkcs11Error> {
        let failed = |error| Pkcs11Error::Failed { key: uri.to_string(), why: said(&error) };
        let (slot, _) = find(&self.module, &self.name, uri)?;
        let known = self.module.get_mechanism_list(slot).map_err(failed)?;
        Ok(known.contains(&mechanism))
    }

    /// Does something with a session that is logged in. When session, login or token turn out to be lost, all sessions
    /// are given up and it is done once more with a new one.
    pub(super) fn run<T>(
        &self,
        uri: &TokenUri,
        operation: impl Fn(&Session, u64) -> Result<T, CkError>,
    ) -> Result<T, Pkcs11Error> {
        let failed = |error| Pkcs11Error::Failed { key: uri.to_string(), why: said(&error) };
        self.with(uri, operation).map_err(|error| error.into_error(uri, failed))
    }

    /// As [`Token::run`], with the library's own error where it is one of the operation.
    pub(super) fn with<T>(
        &self,
        uri: &TokenUri,
        operation: impl Fn(&Session, u64) -> Result<T, CkError>,
    ) -> Result<T, OperationError> {
        match self.once(uri, &operation) {
            Err(OperationError::Library(error)) if lost(&error) => self.once(uri, &operation),
            done => done,
        }
    }

    fn once<T>(
        &self,
        uri: &TokenUri,
        operation: &impl Fn(&Session, u64) -> Result<T, CkError>,
    ) -> Result<T, OperationError> {
        let lease = self.lease(uri)?;
        let Some(session) = &lease.session else {
            return Err(OperationError::Ours(Pkcs11Error::Busy { key: uri.to_string() }));
        };
        match operation(session, lease.generation) {
            Ok(done) => {
                lease.give_back();
                Ok(done)
            }
            Err(error) => {
                // An operation may still be active in this session, so it is closed in any case.
                let generation = lease.generation;
                drop(lease);
                if lost(&error) {
                    self.forget(generation);
                }
                Err(OperationError::Library(error))
            }
        }
    }

    fn lease(&self, uri: &TokenUri) -> Result<Lease<'_>, OperationError> {
        let deadline = Instant::now().checked_add(PATIENCE);
        let mut state = lock(&self.state);
        loop {
            if let Some(refused) = &state.refused {
                return Err(OperationError::Ours(refused.clone()));
            }
            if let Some(session) = state.idle.pop() {
                let generation = state.generation;
                return Ok(Lease { token: self, session: Some(session), generation });
            }
            if state.sessions < MAX_SESSIONS {
                let session = self.session(uri, &mut state)?;
                state.sessions = state.sessions.saturating_add(1);
                let generation = state.generation;
                return Ok(Lease { token: self, session: Some(session), generation });
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let left = left.filter(|left| !left.is_zero());
            let left = left
                .ok_or_else(|| OperationError::Ours(Pkcs11Error::Busy { key: uri.to_string() }))?;
            state = self
                .returned
                .wait_timeout(state, left)
                .map_or_else(|poisoned| poisoned.into_inner().0, |(state, _)| state);
        }
    }

    /// A new session, logged in.
    fn session(&self, uri: &TokenUri, state: &mut State) -> Result<Session, OperationError> {
        let opened = find(&self.module, &self.name, uri).and_then(|(slot, _)| {
            self.module
                .open_ro_session(slot)
                .map(|session| (slot, session))
                .map_err(|error| Pkcs11Error::Failed { key: uri.to_string(), why: said(&error) })
        });
        let (slot, session) = match opened {
            // Somebody else in this process has ended the library; nothing of ours is left in it.
            Err(_) if self.ended() => {
                initialize(&self.module, &self.path)?;
                let (slot, _) = find(&self.module, &self.name, uri)?;
                (slot, self.module.open_ro_session(slot).map_err(OperationError::Library)?)
            }
            opened => opened?,
        };
        let info = session.get_session_info().map_err(OperationError::Library)?;
        if matches!(info.session_state(), SessionState::RoPublic | SessionState::RwPublic) {
            self.log_in(slot, &session, state)?;
        }
        Ok(session)
    }

    fn ended(&self) -> bool {
        matches!(
            self.module.get_library_info(),
            Err(CkError::Pkcs11(RvError::CryptokiNotInitialized, _))
        )
    }

    fn log_in(
        &self,
        slot: Slot,
        session: &Session,
        state: &mut State,
    ) -> Result<(), OperationError> {
        let token = format!("token {}", self.identity.0);
        let info = self.module.get_token_info(slot).map_err(OperationError::Library)?;
        if info.user_pin_final_try() {
            return Err(OperationError::Ours(Pkcs11Error::PinFinalTry { token }));
        }
        let pin = pin(&self.pin)?;
        match session.login(UserType::User, Some(&pin)) {
            Ok(()) | Err(CkError::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(()),
            Err(CkError::Pkcs11(
                code @ (RvError::PinIncorrect
                | RvError::PinInvalid
                | RvError::PinLenRange
                | RvError::PinExpired
                | RvError::PinLocked
                | RvError::UserPinNotInitialized
                | RvError::UserAnotherAlreadyLoggedIn),
                _,
            )) => {
                let refused = Pkcs11Error::PinRefused { token, why: format!("{code:?}") };
                state.refused = Some(refused.clone());
                Err(OperationError::Ours(refused))
            }
            Err(error) => Err(OperationError::Library(error)),
        }
    }

    /// Gives up every session of a generation.
    fn forget(&self, generation: u64) {
        let mut state = lock(&self.state);
        if state.generation != generation {
            return;
        }
        state.generation = state.generation.wrapping_add(1);
        let idle = core::mem::take(&mut state.idle);
        state.sessions = state.sessions.saturating_sub(idle.len());
        // Closed under the lock: a library may give the same number to the next session.
        drop(idle);
        self.returned.notify_all();
    }

    /// A session for making objects, which is not kept.
    pub(super) fn writable(&self, uri: &TokenUri) -> Result<Session, Pkcs11Error> {
        let failed = |error| Pkcs11Error::Failed { key: uri.to_string(), why: said(&error) };
        let (slot, _) = find(&self.module, &self.name, uri)?;
        let session = self.module.open_rw_session(slot).map_err(failed)?;
        let mut state = lock(&self.state);
        let info = session.get_session_info().map_err(failed)?;
        if matches!(info.session_state(), SessionState::RwPublic) {
            self.log_in(slot, &session, &mut state)
                .map_err(|error| error.into_error(uri, failed))?;
        }
        Ok(session)
    }
}

impl Lease<'_> {
    fn give_back(mut self) {
        let mut state = lock(&self.token.state);
        if state.generation == self.generation {
            state.idle.extend(self.session.take());
            self.token.returned.notify_one();
        }
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            let mut state = lock(&self.token.state);
            drop(session);
            state.sessions = state.sessions.saturating_sub(1);
            self.token.returned.notify_one();
        }
    }
}

/// What can happen to an operation.
pub(super) enum OperationError {
    /// The library's answer.
    Library(CkError),
    /// It did not come so far.
    Ours(Pkcs11Error),
}

impl OperationError {
    pub(super) fn into_error(
        self,
        uri: &TokenUri,
        failed: impl FnOnce(CkError) -> Pkcs11Error,
    ) -> Pkcs11Error {
        let _ = uri;
        match self {
            Self::Library(error) => failed(error),
            Self::Ours(error) => error,
        }
    }
}

impl From<Pkcs11Error> for OperationError {
    fn from(error: Pkcs11Error) -> Self {
        Self::Ours(error)
    }
}

fn module(open: &mut Open, path: &Path) -> Result<Pkcs11, Pkcs11Error> {
    if let Some((_, module)) = open.modules.iter().find(|(known, _)| known == path) {
        return Ok(module.clone());
    }
    let module = Pkcs11::new(path)
        .map_err(|error| Pkcs11Error::Module { path: path.to_owned(), why: said(&error) })?;
    initialize(&module, path)?;
    open.modules.push((path.to_owned(), module.clone()));
    Ok(module)
}

fn initialize(module: &Pkcs11, path: &Path) -> Result<(), Pkcs11Error> {
    match module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        // Under another path the same library may be initialised already.
        Ok(()) | Err(CkError::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => Ok(()),
        Err(error) => Err(Pkcs11Error::Module { path: path.to_owned(), why: said(&error) }),
    }
}

/// The slot that the token is in now, and the token's label and serial number.
fn find(
    module: &Pkcs11,
    name: &TokenName,
    uri: &TokenUri,
) -> Result<(Slot, (String, String)), Pkcs11Error> {
    let failed = |error| Pkcs11Error::Failed { key: uri.to_string(), why: said(&error) };
    let mut found = Vec::new();
    for slot in module.get_slots_with_token().map_err(failed)? {
        // A token that has just been taken out is not the one.
        let Ok(info) = module.get_token_info(slot) else { continue };
        let fits = |wanted: &Option<String>, is: &str| {
            wanted.as_ref().is_none_or(|wanted| wanted.trim_end() == is.trim_end())
        };
        if info.token_initialized()
            && fits(&name.label, info.label())
            && fits(&name.serial, info.serial_number())
            && fits(&name.manufacturer, info.manufacturer_id())
            && fits(&name.model, info.model())
        {
            found.push((slot, (info.label().to_owned(), info.serial_number().to_owned())));
        }
    }
    let count = found.len();
    match (found.pop(), found.is_empty()) {
        (Some(one), true) => Ok(one),
        _ => Err(Pkcs11Error::Token { key: uri.to_string(), count }),
    }
}

/// Reads the PIN anew for each login: it is not kept, and a new one in the file takes effect.
fn pin(source: &PinSource) -> Result<AuthPin, Pkcs11Error> {
    let (text, place) = match source {
        PinSource::File(path) => {
            let octets = read_private(path, MAX_PIN_FILE).map_err(Pkcs11Error::PinFile)?;
            let place = path.display().to_string();
            let text = str::from_utf8(&octets)
                .map_err(|_| Pkcs11Error::PinText { place: place.clone() })?;
            (zeroize::Zeroizing::new(text.to_owned()), place)
        }
        PinSource::Environment(name) => {
            let text =
                std::env::var(name).map_err(|_| Pkcs11Error::PinMissing { name: name.clone() })?;
            (zeroize::Zeroizing::new(text), name.clone())
        }
    };
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.is_empty() || line.contains(['\n', '\r', '\0']) {
        return Err(Pkcs11Error::PinText { place });
    }
    Ok(AuthPin::from(line.to_owned()))
}
