-- Reports: events, certificates, revocations, alarms. Ledgers, challenges, orders, serial numbers and hashes are hexadecimal texts.

-- How far a ledger has told.
CREATE TABLE ledger_report (
  ledger        TEXT NOT NULL PRIMARY KEY,
  tenant        TEXT NOT NULL REFERENCES tenant (id),
  gateway_group TEXT NOT NULL,
  acknowledged  INTEGER NOT NULL, -- every event up to it is here, or was
  pruned        INTEGER NOT NULL, -- every event up to it may be gone from here
  heard_at      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX ledger_report_page ON ledger_report (tenant, ledger);

-- How many events of a kind a ledger has told, pruned ones included.
CREATE TABLE event_count (
  ledger TEXT NOT NULL,
  kind   TEXT NOT NULL,
  events INTEGER NOT NULL,
  PRIMARY KEY (ledger, kind)
) STRICT, WITHOUT ROWID;

CREATE TABLE event (
  id              INTEGER PRIMARY KEY AUTOINCREMENT,
  tenant          TEXT NOT NULL REFERENCES tenant (id),
  ledger          TEXT NOT NULL,
  sequence        INTEGER NOT NULL,
  idempotency_key TEXT NOT NULL,
  kind            TEXT NOT NULL,
  device          TEXT,
  happened_at     INTEGER NOT NULL,
  received_at     INTEGER NOT NULL,
  body            TEXT NOT NULL -- a JSON object, whole
) STRICT;
CREATE UNIQUE INDEX event_once ON event (ledger, idempotency_key);
CREATE INDEX event_page ON event (tenant, id);
CREATE INDEX event_of_device ON event (tenant, device, id);
CREATE INDEX event_age ON event (received_at);

-- Whether one has expired is seen from not_after.
CREATE TABLE certificate (
  id          INTEGER PRIMARY KEY AUTOINCREMENT,
  tenant      TEXT NOT NULL REFERENCES tenant (id),
  thumbprint  TEXT NOT NULL, -- SHA-256
  issuer_hash TEXT NOT NULL, -- SHA-256 over the DER Name
  issuer      TEXT NOT NULL,
  serial      TEXT NOT NULL,
  not_before  INTEGER NOT NULL,
  not_after   INTEGER NOT NULL,
  device      TEXT NOT NULL,
  owner       TEXT, -- the user
  profile     TEXT NOT NULL,
  challenge   TEXT NOT NULL,
  signer_spki TEXT NOT NULL,
  spki        TEXT NOT NULL,
  ledger      TEXT NOT NULL,
  issued_at   INTEGER NOT NULL,
  delivered   TEXT CHECK (delivered IN ('flushed', 'connection-lost')),
  state       TEXT NOT NULL CHECK (state IN ('live', 'withheld', 'revoked')),
  revoked_at  INTEGER,
  reason      TEXT,
  on_crl_at   INTEGER
) STRICT;
CREATE UNIQUE INDEX certificate_once ON certificate (tenant, thumbprint);
CREATE INDEX certificate_page ON certificate (tenant, id);
CREATE INDEX certificate_name ON certificate (tenant, issuer_hash, serial);
CREATE INDEX certificate_of_device ON certificate (tenant, device, profile, id);
CREATE INDEX certificate_of_profile ON certificate (tenant, profile, id);
CREATE INDEX certificate_of_challenge ON certificate (tenant, challenge);
CREATE INDEX certificate_end ON certificate (tenant, state, not_after);

-- When a device was last wiped or removed: what was issued for an earlier challenge has gone with it, though the device is back.
CREATE TABLE device_end (
  tenant   TEXT NOT NULL REFERENCES tenant (id),
  device   TEXT NOT NULL,
  event    TEXT NOT NULL CHECK (event IN ('wipe', 'unenrol')),
  ended_at INTEGER NOT NULL,
  PRIMARY KEY (tenant, device)
) STRICT, WITHOUT ROWID;

-- Orders to revoke one certificate each.
CREATE TABLE revocation (
  seq         INTEGER PRIMARY KEY AUTOINCREMENT,
  id          TEXT NOT NULL UNIQUE,
  tenant      TEXT NOT NULL REFERENCES tenant (id),
  issuer_hash TEXT NOT NULL,
  serial      TEXT NOT NULL,
  thumbprint  TEXT, -- when the certificate was reported
  device      TEXT,
  profile     TEXT,
  ledger      TEXT, -- whose certificate it is; NULL: every ledger of the tenant is asked
  reason      TEXT NOT NULL,
  cause       TEXT NOT NULL,
  state       TEXT NOT NULL CHECK
    (state IN ('held', 'queued', 'sent', 'failed', 'revoked', 'on-crl', 'declined', 'not-found')),
  held        INTEGER NOT NULL, -- 1: by the issuer's brake
  counted     INTEGER NOT NULL, -- 1: by the brake, for an hour
  failure     TEXT, -- why the CA refused
  failed_at   INTEGER,
  note        TEXT, -- of the operator who has decided
  ordered_at  INTEGER NOT NULL,
  changed_at  INTEGER NOT NULL
) STRICT;
CREATE INDEX revocation_page ON revocation (tenant, seq);
CREATE INDEX revocation_name ON revocation (tenant, issuer_hash, serial);
CREATE INDEX revocation_open ON revocation (tenant, seq) WHERE state IN ('queued', 'sent', 'failed', 'revoked');
CREATE INDEX revocation_brake_window ON revocation (tenant, ordered_at) WHERE counted = 1;

-- What a ledger has said about an order.
CREATE TABLE revocation_result (
  revocation TEXT NOT NULL REFERENCES revocation (id) ON DELETE CASCADE,
  ledger     TEXT NOT NULL,
  state      TEXT NOT NULL,
  at         INTEGER NOT NULL,
  PRIMARY KEY (revocation, ledger)
) STRICT, WITHOUT ROWID;

-- One row for each tenant that has ordered: what orders of a tenant wait for, one after the other.
CREATE TABLE revocation_brake (
  tenant     TEXT NOT NULL PRIMARY KEY REFERENCES tenant (id),
  engaged_at INTEGER -- NULL: it does not hold
) STRICT, WITHOUT ROWID;

CREATE TABLE alarm (
  id              INTEGER PRIMARY KEY AUTOINCREMENT,
  tenant          TEXT NOT NULL REFERENCES tenant (id),
  kind            TEXT NOT NULL,
  subject         TEXT NOT NULL,
  detail          TEXT NOT NULL,
  times           INTEGER NOT NULL,
  first_at        INTEGER NOT NULL,
  last_at         INTEGER NOT NULL,
  acknowledged_at INTEGER
) STRICT;
CREATE UNIQUE INDEX alarm_once ON alarm (tenant, kind, subject);
CREATE INDEX alarm_page ON alarm (tenant, id);
