//! The delivery log: one readable file for each event, in the folder that says how far its delivery is.
//!
//! It mirrors the ledger's outbox, which is the truth. Nothing is read out of it again, and no failure here holds a
//! report up.

use core::fmt::Write as _;
use scep_link::Event;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::connector::locked;

/// How far the delivery of an event is: the name of a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Processing,
    Succeed,
    Failed,
}

impl Stage {
    const ALL: [Self; 3] = [Self::Processing, Self::Succeed, Self::Failed];

    const fn name(self) -> &'static str {
        match self {
            Self::Processing => "processing",
            Self::Succeed => "succeed",
            Self::Failed => "failed",
        }
    }
}

/// The folder, if one is kept. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct LogFolder(Option<Arc<Kept>>);

#[derive(Debug)]
struct Kept {
    root: PathBuf,
    /// Files that `succeed` and `failed` keep each.
    most: usize,
    /// What is under way: name and folder by the number of the event; `None`: not looked yet.
    open: Mutex<Option<BTreeMap<u64, (String, Stage)>>>,
}

impl LogFolder {
    pub(crate) fn new(root: Option<PathBuf>, most: usize) -> Self {
        Self(root.map(|root| Arc::new(Kept { root, most, open: Mutex::default() })))
    }

    /// These events are being sent; all before the first of them have arrived.
    pub(crate) async fn sending(&self, events: &[Event]) -> Result<(), Error> {
        let first = events.first().map_or(0, |event| event.sequence);
        let files: Vec<_> =
            events.iter().map(|event| (event.sequence, name(event), text(event, None))).collect();
        self.on_a_thread(move |kept| {
            kept.arrived(first.saturating_sub(1))?;
            for (sequence, name, text) in files {
                let mut open = locked(&kept.open);
                let known = open.get_or_insert_default();
                if known.get(&sequence).is_none_or(|(known, _)| *known != name) {
                    kept.write(Stage::Processing, &name, &text)?;
                    known.insert(sequence, (name, Stage::Processing));
                }
            }
            Ok(())
        })
        .await
    }

    /// The issuer has every event up to this one.
    pub(crate) async fn arrived(&self, through: u64) -> Result<(), Error> {
        self.on_a_thread(move |kept| kept.arrived(through)).await
    }

    /// The issuer refuses these events as they are. They stay in the outbox, and are tried again.
    pub(crate) async fn refused(&self, events: &[Event], why: &str) -> Result<(), Error> {
        let files: Vec<_> = events
            .iter()
            .map(|event| (event.sequence, name(event), text(event, Some(why))))
            .collect();
        self.on_a_thread(move |kept| {
            for (sequence, name, text) in files {
                kept.write(Stage::Failed, &name, &text)?;
                remove(&kept.path(Stage::Processing, &name))?;
                locked(&kept.open).get_or_insert_default().insert(sequence, (name, Stage::Failed));
            }
            kept.prune(Stage::Failed)
        })
        .await
    }

    async fn on_a_thread(
        &self,
        work: impl FnOnce(&Kept) -> Result<(), Error> + Send + 'static,
    ) -> Result<(), Error> {
        let Some(kept) = self.0.clone() else { return Ok(()) };
        let done = tokio::task::spawn_blocking(move || {
            kept.look()?;
            work(&kept)
        });
        done.await.unwrap_or_else(|_| Err(Error::other("interrupted")))
    }
}

impl Kept {
    fn path(&self, stage: Stage, name: &str) -> PathBuf {
        self.root.join(stage.name()).join(name)
    }

    /// Makes the folders, and finds what an earlier run has left under way.
    fn look(&self) -> Result<(), Error> {
        if locked(&self.open).is_some() {
            return Ok(());
        }
        let mut left = BTreeMap::new();
        for stage in Stage::ALL {
            let folder = self.root.join(stage.name());
            private_folder(&folder)?;
            if stage != Stage::Succeed {
                left.extend(names(&folder)?.into_iter().filter_map(|name| {
                    Some((name.split_once('-')?.0.parse().ok()?, (name, stage)))
                }));
            }
        }
        *locked(&self.open) = Some(left);
        Ok(())
    }

    fn arrived(&self, through: u64) -> Result<(), Error> {
        let arrived = {
            let mut open = locked(&self.open);
            let open = open.get_or_insert_default();
            let later = open.split_off(&through.saturating_add(1));
            core::mem::replace(open, later)
        };
        if arrived.is_empty() {
            return Ok(());
        }
        for (name, stage) in arrived.into_values() {
            match std::fs::rename(self.path(stage, &name), self.path(Stage::Succeed, &name)) {
                // Somebody has tidied up.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                done => done?,
            }
        }
        self.prune(Stage::Succeed)
    }

    /// Whole or not at all, so that whoever looks sees no half of a file.
    fn write(&self, stage: Stage, name: &str, text: &str) -> Result<(), Error> {
        let new = self.root.join(stage.name()).join(format!(".{name}.new"));
        std::fs::write(&new, text)?;
        std::fs::rename(&new, self.path(stage, name))
    }

    /// The oldest go: names begin with the number, in digits that sort.
    fn prune(&self, stage: Stage) -> Result<(), Error> {
        let folder = self.root.join(stage.name());
        let mut all = names(&folder)?;
        let surplus = all.len().saturating_sub(self.most);
        if surplus == 0 {
            return Ok(());
        }
        all.sort_unstable();
        for name in all.iter().take(surplus) {
            remove(&folder.join(name))?;
        }
        Ok(())
    }
}

fn names(folder: &Path) -> Result<Vec<String>, Error> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        if let Ok(name) = entry?.file_name().into_string()
            && !name.starts_with('.')
            && Path::new(&name).extension().is_some_and(|extension| extension == "json")
        {
            names.push(name);
        }
    }
    Ok(names)
}

fn remove(path: &Path) -> Result<(), Error> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn private_folder(path: &Path) -> Result<(), Error> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt as _;
        builder.mode(0o700);
    }
    builder.create(path)
}

/// `0000000042-issued.json`. The kind has letters and hyphens only, so nothing leads out of the folder.
fn name(event: &Event) -> String {
    let mut name = String::new();
    // Writing to a string cannot fail.
    let _ = write!(name, "{:010}-{}.json", event.sequence, event.kind);
    name
}

/// The event, and what it says came of the request. The ledger puts neither challenges nor requests into its events.
fn text(event: &Event, refused: Option<&str>) -> String {
    let mut all = Map::new();
    let mut put = |name: &str, value: Value| all.insert(name.to_owned(), value);
    put("sequence", event.sequence.into());
    put("kind", event.kind.as_str().into());
    put("at", event.at.to_string().into());
    put("tenant", event.tenant.as_ref().map(ToString::to_string).into());
    put("device", event.device.as_ref().map(ToString::to_string).into());
    let facts = event.body.facts();
    let result = match event.kind.as_str() {
        "issued" | "revoked" | "on-crl" => Value::from("Success"),
        _ => facts.get("reason").or_else(|| facts.get("reasons")).cloned().unwrap_or(Value::Null),
    };
    put("result", result);
    for fact in
        ["profile", "user", "thumbprint_sha256", "serial", "issuer", "not_before", "not_after"]
    {
        put(fact, facts.get(fact).cloned().unwrap_or(Value::Null));
    }
    if let Some(refused) = refused {
        put("refused_by_issuer", refused.into());
    }
    let rest = facts.iter().filter(|(name, _)| !all.contains_key(*name));
    let rest: Map<_, _> = rest.map(|(name, value)| (name.clone(), value.clone())).collect();
    all.insert("facts".to_owned(), Value::Object(rest));
    let mut text = serde_json::to_string_pretty(&all).unwrap_or_default();
    text.push('\n');
    text
}
