//! Opens the database that the configuration names.

use crate::config::Database;
use crate::error::IssuerError;
use scep_issuance::service::Store;
use std::path::Path;

pub(crate) async fn open(database: &Database) -> Result<Store, IssuerError> {
    match database {
        Database::Sqlite(path) => Ok(Store::open(path)?),
        Database::Postgres { url, password_file, schema } => {
            postgres(url, password_file.as_deref(), schema.as_deref()).await
        }
    }
}

#[cfg(feature = "postgres")]
async fn postgres(
    url: &str,
    password_file: Option<&Path>,
    schema: Option<&str>,
) -> Result<Store, IssuerError> {
    let mut config = scep_issuance::service::PostgresConfig::new(url)?;
    if let Some(path) = password_file {
        config = config.password(&password(path)?);
    }
    if let Some(schema) = schema {
        config = config.schema(schema)?;
    }
    Ok(Store::open_postgres(config).await?)
}

#[cfg(not(feature = "postgres"))]
async fn postgres(_: &str, _: Option<&Path>, _: Option<&str>) -> Result<Store, IssuerError> {
    Err(IssuerError::config("service.postgres", "this program was built without PostgreSQL"))
}

/// A password, alone in a file that nobody else may read.
#[cfg(feature = "postgres")]
fn password(path: &Path) -> Result<scep_types::Secret<String>, IssuerError> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let metadata = std::fs::metadata(path).map_err(IssuerError::file(path))?;
        if metadata.permissions().mode() & 0o177 != 0 {
            let why = format!("{}: others may use it; its mode must be 0600", path.display());
            return Err(IssuerError::config("service.postgres_password_file", why));
        }
    }
    let text = std::fs::read_to_string(path).map_err(IssuerError::file(path))?;
    let text = scep_types::Secret::new(text);
    Ok(scep_types::Secret::new(text.expose().trim_end_matches(['\r', '\n']).to_owned()))
}
