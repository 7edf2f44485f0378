-- Certificates that follow others on the others' own word, without a challenge.

-- SHA-256 of the certificate that this one follows; NULL: a challenge was spent on it.
ALTER TABLE certificate ADD COLUMN renews TEXT;
-- How far it is from the certificate that a challenge was spent on.
ALTER TABLE certificate ADD COLUMN generation INTEGER NOT NULL DEFAULT 0;
CREATE INDEX certificate_renews ON certificate (tenant, renews);
