-- Check-ins: what changed, who knows it, denials, keys.

-- Moves in the transaction that changes something that connectors of the tenant are to hear of at once.
CREATE TABLE change_counter (
  tenant TEXT NOT NULL PRIMARY KEY REFERENCES tenant (id),
  moves  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- How far the tenant's denials are numbered, and below which number what was lifted is no longer known.
CREATE TABLE denial_list (
  tenant    TEXT NOT NULL PRIMARY KEY REFERENCES tenant (id),
  mark      INTEGER NOT NULL,
  forgotten INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Each subject once, with the number of its last change: what is disabled, and what no longer is until that is
-- forgotten.
CREATE TABLE denial (
  tenant  TEXT NOT NULL REFERENCES tenant (id),
  kind    TEXT NOT NULL CHECK (kind IN ('device', 'user', 'profile')),
  subject TEXT NOT NULL,
  denied  INTEGER NOT NULL CHECK (denied IN (0, 1)),
  mark    INTEGER NOT NULL,
  lapses  INTEGER, -- of a device that is gone: when nothing can come of its challenges any more
  PRIMARY KEY (tenant, kind, subject)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX denial_mark ON denial (tenant, mark);
CREATE INDEX denial_lapse ON denial (tenant, lapses) WHERE lapses IS NOT NULL;

-- The last check-in of each connector, and the last answer to it.
CREATE TABLE connector_contact (
  connector         TEXT NOT NULL PRIMARY KEY REFERENCES connector (id) ON DELETE CASCADE,
  sequence          INTEGER NOT NULL, -- of the last answer
  arrivals          INTEGER NOT NULL, -- counts its check-ins: of two under way the later counts
  log_level         TEXT CHECK (log_level IN ('error', 'warn', 'info', 'debug')), -- as ordered
  heard_at          INTEGER, -- what follows is null until it is heard
  software          TEXT,
  challenge_version INTEGER,
  health            TEXT,
  ledger            TEXT,
  queue_depth       INTEGER,
  outbox_high_mark  INTEGER,
  acknowledged      INTEGER, -- up to which event the issuer had everything of its ledger by then
  acknowledged_then INTEGER, -- and at the check-in before: what the connector must know of
  issued            INTEGER,
  delivered         INTEGER,
  reported          INTEGER,
  certificates      TEXT, -- JSON
  refused           TEXT, -- why it has last refused an answer
  refused_at        INTEGER,
  refusals          INTEGER NOT NULL,
  behind_since      INTEGER, -- since when the other counters have not reached
  behind_goal       INTEGER, -- this one of issued certificates
  alarms            TEXT NOT NULL -- JSON, those that were logged
) STRICT, WITHOUT ROWID;

-- What a connector was told, by topic: what it is known to have taken in, since it has said the number of the answer
-- that carried it, and what is under way.
CREATE TABLE told (
  connector TEXT NOT NULL REFERENCES connector (id) ON DELETE CASCADE,
  topic     TEXT NOT NULL,
  known     TEXT,
  known_in  INTEGER,
  sent      TEXT,
  sent_in   INTEGER,
  PRIMARY KEY (connector, topic)
) STRICT, WITHOUT ROWID;

-- Keys of connectors that are to be renewed.
CREATE TABLE renewal_order (
  id        TEXT NOT NULL PRIMARY KEY,
  connector TEXT NOT NULL REFERENCES connector (id) ON DELETE CASCADE,
  number    INTEGER NOT NULL, -- of this connector's orders
  subject   TEXT NOT NULL CHECK (subject IN ('authentication', 'decryption')),
  due       INTEGER NOT NULL,
  done_at   INTEGER,
  UNIQUE (connector, number)
) STRICT, WITHOUT ROWID;
