-- Gateways: one-time tokens, connectors, their keys, and what binds a group to one ledger. Connectors and ledgers are named in hexadecimal.

ALTER TABLE gateway_group ADD COLUMN ledger TEXT; -- the one that the group is bound to
ALTER TABLE gateway_group ADD COLUMN ledger_kind TEXT CHECK (ledger_kind IN ('single', 'shared'));
ALTER TABLE gateway_group ADD COLUMN key_by TEXT; -- the connector that brought public_key; NULL: an operator did
ALTER TABLE gateway_group ADD COLUMN rotation_since INTEGER; -- since when a gateway that is no member knows public_key

-- Whose a ledger is: its reports are the tenant's, also after no group is bound to it any more.
CREATE TABLE ledger (
  id     TEXT NOT NULL PRIMARY KEY,
  tenant TEXT NOT NULL REFERENCES tenant (id)
) STRICT, WITHOUT ROWID;

CREATE TABLE connector (
  id             TEXT NOT NULL PRIMARY KEY,
  tenant         TEXT NOT NULL REFERENCES tenant (id),
  gateway_group  TEXT NOT NULL,
  name           TEXT NOT NULL,
  ledger         TEXT NOT NULL,
  membership     TEXT NOT NULL CHECK (membership IN ('awaiting-operator', 'confirmed', 'left')),
  standing       TEXT NOT NULL CHECK (standing IN ('active', 'revoked', 'cloned')),
  decryption_key BLOB NOT NULL, -- DER SubjectPublicKeyInfo: what it enrolled with, or the group's present one that it has proven since
  software       TEXT NOT NULL,
  enrolled_at    INTEGER NOT NULL,
  left_at        INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX connector_page ON connector (tenant, id);
CREATE INDEX connector_of_group ON connector (tenant, gateway_group);

-- At most one is present; a new one becomes it when it is first used, and what was present is past.
CREATE TABLE connector_certificate (
  fingerprint BLOB NOT NULL PRIMARY KEY, -- SHA-256
  connector   TEXT NOT NULL REFERENCES connector (id),
  key_id      BLOB NOT NULL,
  der         BLOB NOT NULL,
  state       TEXT NOT NULL CHECK (state IN ('new', 'present', 'past')),
  not_after   INTEGER NOT NULL,
  replaced_at INTEGER -- since when it is past
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX connector_certificate_present ON connector_certificate (connector) WHERE state = 'present';
CREATE UNIQUE INDEX connector_certificate_new ON connector_certificate (connector) WHERE state = 'new';

-- What a connector must answer to show that it has a key.
CREATE TABLE possession (
  connector  TEXT NOT NULL REFERENCES connector (id),
  key_id     BLOB NOT NULL,
  public_key BLOB NOT NULL,
  answer     TEXT, -- to the renewal, to be repeated; NULL: the key was enrolled with
  proof      TEXT NOT NULL, -- the one that is expected, as JSON
  asked_at   INTEGER NOT NULL,
  proven_at  INTEGER,
  PRIMARY KEY (connector, key_id)
) STRICT, WITHOUT ROWID;

-- Every key that was ever in use, and for what: none is taken up a second time.
CREATE TABLE used_key (
  key_id        BLOB NOT NULL PRIMARY KEY,
  tenant        TEXT NOT NULL,
  gateway_group TEXT NOT NULL,
  purpose       TEXT NOT NULL CHECK (purpose IN ('authentication', 'decryption'))
) STRICT, WITHOUT ROWID;

-- Keys that challenges were encrypted to, for as long as one of these may be presented.
CREATE TABLE former_key (
  tenant        TEXT NOT NULL,
  gateway_group TEXT NOT NULL,
  key_id        BLOB NOT NULL,
  public_key    BLOB NOT NULL,
  opens_until   INTEGER NOT NULL,
  PRIMARY KEY (tenant, gateway_group, key_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE connector_token (
  id            TEXT NOT NULL PRIMARY KEY,
  hash          BLOB NOT NULL UNIQUE, -- SHA-256
  tenant        TEXT NOT NULL REFERENCES tenant (id),
  gateway_group TEXT NOT NULL,
  confirmation  TEXT NOT NULL CHECK (confirmation IN ('operator', 'token')),
  created_at    INTEGER NOT NULL,
  expires_at    INTEGER NOT NULL,
  revoked_at    INTEGER,
  used_at       INTEGER,
  connector     TEXT,
  request       BLOB, -- SHA-256 over what a repetition must have in common
  answer        BLOB  -- to be repeated
) STRICT, WITHOUT ROWID;
CREATE INDEX connector_token_page ON connector_token (tenant, id);
