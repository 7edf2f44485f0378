//! The delivery log: one readable file for each event, in the folder that says how far its delivery is.
//!
//! It mirrors the ledger's outbox, which is the truth. Nothing is read out of it again, and no failure here holds a
//! report up.

use core::fmt::Write as _;
use scep_link::Event;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
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
    /// What is there; `None`: not looked yet.
    files: Mutex<Option<Files>>,
}

#[derive(Debug, Default)]
struct Files {
    /// What is under way: name and folder by the number of the event.
    open: BTreeMap<u64, (String, Stage)>,
    /// What has arrived.
    arrived: BTreeSet<String>,
}

impl LogFolder {
    pub(crate) fn new(root: Option<PathBuf>, most: usize) -> Self {
        Self(root.map(|root| Arc::new(Kept { root, most, files: Mutex::default() })))
    }

    /// Whether there may be files of events that have not arrived.
    pub(crate) fn has_open(&self) -> bool {
        self.0.as_ref().is_some_and(|kept| {
            locked(&kept.files).as_ref().is_none_or(|files| !files.open.is_empty())
        })
    }

    /// These events are being sent; all before the first of them have arrived.
    pub(crate) async fn sending(&self, events: &[Event]) -> Result<(), Error> {
        let first = events.first().map_or(0, |event| event.sequence);
        let written = files(events, None);
        self.on_a_thread(move |kept, files| {
            kept.arrived(files, first.saturating_sub(1))?;
            for (sequence, name, text) in written {
                if files.open.get(&sequence).is_none_or(|(known, _)| *known != name) {
                    kept.write(Stage::Processing, &name, &text)?;
                    files.open.insert(sequence, (name, Stage::Processing));
                }
            }
            Ok(())
        })
        .await
    }

    /// The issuer has every event up to this one.
    pub(crate) async fn arrived(&self, through: u64) -> Result<(), Error> {
        self.on_a_thread(move |kept, files| kept.arrived(files, through)).await
    }

    /// The issuer refuses these events as they are. They stay in the outbox, and are tried again.
    pub(crate) async fn refused(&self, events: &[Event], why: &str) -> Result<(), Error> {
        let written = files(events, Some(why));
        self.on_a_thread(move |kept, files| {
            for (sequence, name, text) in written {
                kept.write(Stage::Failed, &name, &text)?;
                remove(&kept.path(Stage::Processing, &name))?;
                files.open.insert(sequence, (name, Stage::Failed));
            }
            kept.prune_failed(files)
        })
        .await
    }

    async fn on_a_thread(
        &self,
        work: impl FnOnce(&Kept, &mut Files) -> Result<(), Error> + Send + 'static,
    ) -> Result<(), Error> {
        let Some(kept) = self.0.clone() else { return Ok(()) };
        let done = tokio::task::spawn_blocking(move || {
            let mut files = locked(&kept.files);
            let looked = match files.take() {
                Some(looked) => looked,
                None => kept.look()?,
            };
            work(&kept, files.insert(looked))
        });
        done.await.unwrap_or_else(|_| Err(Error::other("interrupted")))
    }
}

impl Kept {
    fn path(&self, stage: Stage, name: &str) -> PathBuf {
        self.root.join(stage.name()).join(name)
    }

    /// Makes the folders, and finds what an earlier run has left.
    fn look(&self) -> Result<Files, Error> {
        let mut files = Files::default();
        for stage in Stage::ALL {
            let folder = self.root.join(stage.name());
            private_folder(&folder)?;
            let names = names(&folder)?;
            if stage == Stage::Succeed {
                files.arrived.extend(names);
            } else {
                files.open.extend(names.into_iter().filter_map(|name| {
                    Some((name.split_once('-')?.0.parse().ok()?, (name, stage)))
                }));
            }
        }
        Ok(files)
    }

    fn arrived(&self, files: &mut Files, through: u64) -> Result<(), Error> {
        while let Some(entry) = files.open.first_entry().filter(|entry| *entry.key() <= through) {
            let (name, stage) = entry.remove();
            match std::fs::rename(self.path(stage, &name), self.path(Stage::Succeed, &name)) {
                // Somebody has tidied up.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                done => done?,
            }
            files.arrived.insert(name);
        }
        // The oldest go: names begin with the number, in digits that sort.
        while files.arrived.len() > self.most
            && let Some(oldest) = files.arrived.pop_first()
        {
            remove(&self.path(Stage::Succeed, &oldest))?;
        }
        Ok(())
    }

    fn prune_failed(&self, files: &Files) -> Result<(), Error> {
        let failed = files.open.values().filter(|(_, stage)| *stage == Stage::Failed);
        let surplus = failed.clone().count().saturating_sub(self.most);
        for (name, _) in failed.take(surplus) {
            remove(&self.path(Stage::Failed, name))?;
        }
        Ok(())
    }

    /// Whole or not at all, so that whoever looks sees no half of a file.
    fn write(&self, stage: Stage, name: &str, text: &str) -> Result<(), Error> {
        let new = self.root.join(stage.name()).join(format!(".{name}.new"));
        std::fs::write(&new, text)?;
        std::fs::rename(&new, self.path(stage, name))
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

fn files(events: &[Event], refused: Option<&str>) -> Vec<(u64, String, String)> {
    events.iter().map(|event| (event.sequence, name(event), text(event, refused))).collect()
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
