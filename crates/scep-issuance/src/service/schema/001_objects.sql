-- The issuer's database, in SQLite's words. Names avoid what PostgreSQL reserves. Instants are seconds since 1970. Every id is unique within its tenant alone.

CREATE TABLE tenant (
  id TEXT NOT NULL PRIMARY KEY
) STRICT, WITHOUT ROWID;

CREATE TABLE profile (
  tenant TEXT NOT NULL REFERENCES tenant (id),
  id     TEXT NOT NULL,
  toml   TEXT NOT NULL, -- as written; it was checked before it came here
  PRIMARY KEY (tenant, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE person (
  tenant     TEXT NOT NULL REFERENCES tenant (id),
  id         TEXT NOT NULL,
  attributes TEXT NOT NULL, -- a JSON object of texts
  PRIMARY KEY (tenant, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE device (
  tenant     TEXT NOT NULL REFERENCES tenant (id),
  id         TEXT NOT NULL,
  state      TEXT NOT NULL CHECK (state IN ('enrolled', 'disabled', 'wiped')),
  attributes TEXT NOT NULL,
  PRIMARY KEY (tenant, id)
) STRICT, WITHOUT ROWID;

-- A profile for a device or a user: exactly one of the two.
CREATE TABLE assignment (
  id      INTEGER PRIMARY KEY AUTOINCREMENT,
  tenant  TEXT NOT NULL REFERENCES tenant (id),
  profile TEXT NOT NULL,
  device  TEXT,
  owner   TEXT, -- the user
  CHECK ((device IS NULL) <> (owner IS NULL)),
  FOREIGN KEY (tenant, profile) REFERENCES profile (tenant, id),
  FOREIGN KEY (tenant, device) REFERENCES device (tenant, id) ON DELETE CASCADE,
  FOREIGN KEY (tenant, owner) REFERENCES person (tenant, id) ON DELETE CASCADE
) STRICT;
CREATE UNIQUE INDEX assignment_device ON assignment (tenant, profile, device) WHERE device IS NOT NULL;
CREATE UNIQUE INDEX assignment_user ON assignment (tenant, profile, owner) WHERE owner IS NOT NULL;
CREATE INDEX assignment_of_device ON assignment (tenant, device);
CREATE INDEX assignment_of_user ON assignment (tenant, owner);
CREATE INDEX assignment_page ON assignment (tenant, id);

CREATE TABLE gateway_group (
  tenant     TEXT NOT NULL REFERENCES tenant (id),
  id         TEXT NOT NULL,
  public_key BLOB, -- DER SubjectPublicKeyInfo; NULL until a gateway has proven one
  ca_certificate BLOB, -- DER, of the CA behind the group's gateways, by which devices know it
  PRIMARY KEY (tenant, id)
) STRICT, WITHOUT ROWID;

-- What was issued, never its text. Devices and profiles may be gone since.
CREATE TABLE challenge (
  seq           INTEGER PRIMARY KEY AUTOINCREMENT,
  tenant        TEXT NOT NULL REFERENCES tenant (id),
  id            TEXT NOT NULL UNIQUE,
  device        TEXT NOT NULL,
  owner         TEXT, -- the user
  profile       TEXT NOT NULL,
  gateway_group TEXT NOT NULL,
  purpose       TEXT NOT NULL CHECK (purpose IN ('enrol', 'renew')),
  issued_at     INTEGER NOT NULL,
  expires_at    INTEGER NOT NULL
) STRICT;
CREATE INDEX challenge_page ON challenge (tenant, seq);

CREATE TABLE token (
  hash       BLOB NOT NULL PRIMARY KEY, -- SHA-256
  tenant     TEXT NOT NULL REFERENCES tenant (id),
  scopes     TEXT NOT NULL, -- separated by spaces
  expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Answers to repeat, encrypted under a key that only the caller's token and idempotency key make.
CREATE TABLE idempotency (
  id         BLOB NOT NULL PRIMARY KEY, -- SHA-256 over both
  request    BLOB NOT NULL, -- SHA-256 over method, path and body
  answer     BLOB NOT NULL,
  expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_expiry ON idempotency (expires_at);
