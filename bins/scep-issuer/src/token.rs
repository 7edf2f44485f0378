//! `token`: on the database itself, since without a token nothing can be asked of the API.

use crate::admin::table;
use crate::cli::{TokenCreateOptions, TokenListOptions, TokenRevokeOptions};
use crate::config::Config;
use crate::error::IssuerError;
use crate::{clock, serve, store};
use scep_keys::AwsLc;
use scep_types::{Clock as _, TenantId, parse_duration};
use serde_json::{Value, json};

fn tenant(option: Option<&str>, config: &Config) -> Result<TenantId, IssuerError> {
    option.map_or_else(
        || Ok(config.tenant.clone()),
        |id| TenantId::new(id).map_err(|error| IssuerError::config("--tenant", error)),
    )
}

pub(crate) fn create(options: &TokenCreateOptions) -> Result<(), IssuerError> {
    let config = Config::load(&options.config)?;
    let service = config.service()?;
    let tenant = tenant(options.tenant.as_deref(), &config)?;
    let scopes = options
        .scope
        .iter()
        .map(|name| name.parse())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| IssuerError::config("--scope", error))?;
    let life = parse_duration(&options.expires)
        .map_err(|error| IssuerError::config("--expires", error))?;
    if life.is_zero() {
        return Err(IssuerError::config("--expires", "a token must live"));
    }
    let expires_at = clock::System.now().plus(life);
    serve::block_on(async {
        let store = store::open(&service.database).await?;
        let token = store.create_token(&tenant, &scopes, expires_at, &AwsLc).await?;
        eprintln!("a token of {tenant} until {expires_at}; it is not shown again:");
        println!("{}", token.expose());
        Ok(())
    })
}

pub(crate) fn list(options: &TokenListOptions) -> Result<(), IssuerError> {
    let config = Config::load(&options.config)?;
    let service = config.service()?;
    let tenant = tenant(options.tenant.as_deref(), &config)?;
    let now = clock::System.now();
    let tokens = serve::block_on(async {
        Ok(store::open(&service.database).await?.tokens(&tenant).await?)
    })?;
    let items: Vec<Value> = tokens
        .iter()
        .map(|token| {
            let scopes: Vec<&str> = token.scopes.iter().map(|scope| scope.name()).collect();
            json!({
                "id": token.id,
                "tenant": tenant.as_str(),
                "scopes": scopes,
                "expires_at": token.expires_at.to_string(),
                "state": if token.expires_at > now { "good" } else { "expired" },
            })
        })
        .collect();
    let columns = ["id", "tenant", "scopes", "expires_at", "state"];
    table::list(options.output.form(), &items, &columns.map(|name| (name, name)));
    Ok(())
}

pub(crate) fn revoke(options: &TokenRevokeOptions) -> Result<(), IssuerError> {
    let config = Config::load(&options.config)?;
    let service = config.service()?;
    let tenant = tenant(options.tenant.as_deref(), &config)?;
    let gone = serve::block_on(async {
        Ok(store::open(&service.database).await?.revoke_token(&tenant, &options.id).await?)
    })?;
    if !gone {
        return Err(IssuerError::config("ID", "no such token; scep-issuer token list shows them"));
    }
    println!("token {} is good for nothing any more", options.id);
    Ok(())
}
