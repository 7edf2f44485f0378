-- Gateways: one-time tokens, connectors, their keys, and what binds a group to one ledger.

ALTER TABLE gateway_group ADD COLUMN ledger TEXT; -- the one that the group is bound to
ALTER TABLE gateway_group ADD COLUMN ledger_kind TEXT;

CREATE TABLE connector (
  id            TEXT NOT NULL PRIMARY KEY,
  tenant        TEXT NOT NULL REFERENCES tenant (id),
  gateway_group TEXT NOT NULL,
  name          TEXT NOT NULL,
  ledger        TEXT NOT NULL,
  membership    TEXT NOT NULL CHECK (membership IN ('awaiting-operator', 'confirmed', 'left')),
  standing      TEXT NOT NULL CHECK (standing IN ('active', 'revoked', 'cloned')),
  enrolled_at   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX connector_page ON connector (tenant, id);
