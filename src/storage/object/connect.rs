//! From a location and the keys of Hadoop's clients to a store.

use std::{sync::Arc, time::Duration};

use object_store::{
    BackoffConfig, ClientOptions, ObjectStore, RetryConfig, StaticCredentialProvider,
    aws::{AmazonS3Builder, Checksum},
    azure::{AzureConfigKey, MicrosoftAzureBuilder},
    gcp::{GcpCredential, GoogleCloudStorageBuilder},
};

use super::{
    bucket::Bucket,
    clock::{Dated, StoreClock},
};
use crate::{
    error::{Error, Result},
    location::{Remote, StoreProperties},
};

const CONNECT: Duration = Duration::from_secs(5);
/// A connection that waits for so long is not used again: load balancers drop idle ones without a word.
const IDLE: Duration = Duration::from_secs(20);

/// Connects to nothing yet: the first request does.
///
/// # Errors
/// [`Error::Config`] where a key makes no sense; no value of a key is in it.
pub(super) fn connect(remote: &Remote, properties: &StoreProperties) -> Result<Bucket> {
    // In this library's own copy of rustls. The only failure is that it has one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut secrets = Secrets::default();
    let clock = Arc::new(StoreClock::default());
    let make = |retries: bool, secrets: &mut Secrets| {
        let retry = RetryConfig {
            backoff: BackoffConfig {
                init_backoff: Duration::from_millis(50),
                max_backoff: Duration::from_secs(2),
                base: 2.0,
            },
            max_retries: if retries { 8 } else { 0 },
            retry_timeout: Duration::from_secs(20),
        };
        match remote.scheme.as_str() {
            "s3" => s3(remote, properties, retry, &clock, secrets),
            "gs" => gcs(remote, properties, retry, &clock, secrets),
            _ => azure(remote, properties, retry, &clock, secrets),
        }
    };
    let (store, endpoint) = make(true, &mut secrets)?;
    let (once, _) = make(false, &mut secrets)?;
    let name = format!("{}://{}", remote.scheme, remote.authority);
    let identity = format!("{name} {}\n", endpoint.as_deref().unwrap_or("at its usual place"));
    Ok(Bucket::new(name, identity, store, once, clock, secrets.all))
}

/// Values that must never be shown, in every spelling that a message may have.
#[derive(Default)]
struct Secrets {
    all: Vec<String>,
}

impl Secrets {
    fn keep(&mut self, value: &str) -> String {
        let encoded: String = value
            .bytes()
            .map(|b| {
                if b.is_ascii_alphanumeric() || b"-_.~".contains(&b) {
                    char::from(b).to_string()
                } else {
                    format!("%{b:02X}")
                }
            })
            .collect();
        for form in [value.to_owned(), encoded] {
            // Shorter ones would blot out innocent words.
            if form.len() >= 4 && !self.all.contains(&form) {
                self.all.push(form);
            }
        }
        value.to_owned()
    }
}

type Made = (Arc<dyn ObjectStore>, Option<String>);

fn client(http: bool) -> ClientOptions {
    ClientOptions::new()
        .with_allow_http(http)
        .with_connect_timeout(CONNECT)
        .with_timeout(super::bucket::PATIENCE)
        .with_pool_idle_timeout(IDLE)
}

/// What the builder says, without what it was told.
fn unusable(what: &str, error: &object_store::Error, secrets: &Secrets) -> Error {
    let mut text = error.to_string();
    for secret in &secrets.all {
        text = text.replace(secret, "***");
    }
    Error::Config(format!("{what} cannot be used: {text}"))
}

fn s3(
    remote: &Remote,
    properties: &StoreProperties,
    retry: RetryConfig,
    clock: &Arc<StoreClock>,
    secrets: &mut Secrets,
) -> Result<Made> {
    let bucket = remote.authority.as_str();
    // A bucket's own keys come before those of all buckets, as in Hadoop.
    let get = |key: &str| {
        properties
            .get(&format!("fs.s3a.bucket.{bucket}.{key}"))
            .or_else(|| properties.get(&format!("fs.s3a.{key}")))
    };
    let tls = flag(get("connection.ssl.enabled"), "fs.s3a.connection.ssl.enabled", true)?;
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        .with_retry(retry)
        .with_client_options(client(true))
        .with_http_connector(Dated(clock.clone()))
        .with_checksum_algorithm(Checksum::SHA256);
    for (key, _) in std::env::vars()
        .filter(|(k, _)| k.starts_with("AWS_") && (k.contains("SECRET") || k.contains("TOKEN")))
    {
        if let Ok(value) = std::env::var(key) {
            secrets.keep(&value);
        }
    }
    match (get("access.key"), get("secret.key")) {
        (Some(id), Some(secret)) => {
            builder = builder.with_access_key_id(id).with_secret_access_key(secrets.keep(secret));
            if let Some(token) = get("session.token") {
                builder = builder.with_token(secrets.keep(token));
            }
        }
        (None, None) => {}
        _ => {
            return Err(Error::Config(
                "fs.s3a.access.key and fs.s3a.secret.key belong together: set both, or neither".into(),
            ));
        }
    }
    if get("aws.credentials.provider").is_some_and(|p| p.ends_with("AnonymousAWSCredentialsProvider")) {
        builder = builder.with_skip_signature(true);
    }
    if let (Some(algorithm), Some(key)) = (
        get("encryption.algorithm").or_else(|| get("server-side-encryption-algorithm")),
        get("encryption.key").or_else(|| get("server-side-encryption.key")),
    ) && algorithm == "SSE-KMS"
    {
        builder = builder.with_sse_kms_encryption(key);
    }
    let mut region = get("endpoint.region").map(str::to_owned);
    let mut shown = None;
    if let Some(endpoint) = get("endpoint") {
        let url = match endpoint.split_once("://") {
            Some(_) => endpoint.to_owned(),
            None => format!("{}://{endpoint}", if tls { "https" } else { "http" }),
        };
        let url = url.trim_end_matches('/').to_owned();
        if url.contains('@') {
            return Err(Error::Config("fs.s3a.endpoint holds credentials: take them out of it".into()));
        }
        let host = url.split_once("://").map_or(url.as_str(), |(_, h)| h).to_owned();
        let aws = host.strip_suffix(".amazonaws.com").and_then(|h| h.strip_prefix("s3"));
        region = region.or_else(|| {
            let name = aws?.trim_start_matches(['.', '-']);
            (!name.is_empty()).then(|| name.to_owned())
        });
        // Amazon's own are found by region.
        if aws.is_none() {
            let path_style = flag(get("path.style.access"), "fs.s3a.path.style.access", false)?;
            builder = if path_style {
                builder.with_endpoint(url.clone()).with_virtual_hosted_style_request(false)
            } else {
                let (scheme, host) = url.split_once("://").unwrap_or(("https", &host));
                builder
                    .with_endpoint(format!("{scheme}://{bucket}.{host}"))
                    .with_virtual_hosted_style_request(true)
            };
            shown = Some(url);
        }
    }
    if let Some(region) = region {
        builder = builder.with_region(region);
    }
    let store = builder.build().map_err(|e| unusable(&format!("s3://{bucket}"), &e, secrets))?;
    Ok((Arc::new(store), shown))
}

fn gcs(
    remote: &Remote,
    properties: &StoreProperties,
    retry: RetryConfig,
    clock: &Arc<StoreClock>,
    secrets: &mut Secrets,
) -> Result<Made> {
    let mut builder = GoogleCloudStorageBuilder::from_env()
        .with_bucket_name(&remote.authority)
        .with_retry(retry)
        .with_client_options(client(true))
        .with_http_connector(Dated(clock.clone()));
    let keyfile = properties
        .get("fs.gs.auth.service.account.json.keyfile")
        .or_else(|| properties.get("google.cloud.auth.service.account.json.keyfile"));
    if let Some(keyfile) = keyfile {
        builder = builder.with_service_account_path(keyfile);
    }
    if properties.get("fs.gs.auth.type").is_some_and(|t| t == "UNAUTHENTICATED") {
        // The library asks for a credential before each PUT all the same (0.14.2): one that is empty, and not the machine's.
        let nobody = StaticCredentialProvider::new(GcpCredential { bearer: String::new() });
        builder = builder.with_skip_signature(true).with_credentials(Arc::new(nobody));
    }
    let root = properties.get("fs.gs.storage.root.url").map(|u| u.trim_end_matches('/').to_owned());
    if let Some(root) = &root {
        builder = builder.with_base_url(root);
    }
    let store = builder.build().map_err(|e| unusable(&format!("gs://{}", remote.authority), &e, secrets))?;
    Ok((Arc::new(store), root))
}

fn azure(
    remote: &Remote,
    properties: &StoreProperties,
    retry: RetryConfig,
    clock: &Arc<StoreClock>,
    secrets: &mut Secrets,
) -> Result<Made> {
    let Some((container, host)) = remote.authority.split_once('@') else {
        return Err(Error::Config(
            "an abfss: location is abfss://container@account.dfs.core.windows.net/my-app".into(),
        ));
    };
    let account = host.split('.').next().unwrap_or(host);
    // An account's own keys come before those of all accounts, as in Hadoop.
    let get = |key: &str| properties.get(&format!("{key}.{host}")).or_else(|| properties.get(key));
    let mut builder = MicrosoftAzureBuilder::from_env()
        .with_account(account)
        .with_container_name(container)
        .with_retry(retry)
        .with_client_options(client(true))
        .with_http_connector(Dated(clock.clone()));
    for (name, value) in std::env::vars() {
        if name.starts_with("AZURE_") && ["KEY", "SECRET", "TOKEN"].iter().any(|w| name.contains(w)) {
            secrets.keep(&value);
        }
    }
    if let Some(key) = get("fs.azure.account.key") {
        builder = builder.with_access_key(secrets.keep(key));
    }
    if let Some(token) = get("fs.azure.sas.fixed.token") {
        builder = builder.with_config(AzureConfigKey::SasKey, secrets.keep(token));
    }
    if let (Some(id), Some(secret)) =
        (get("fs.azure.account.oauth2.client.id"), get("fs.azure.account.oauth2.client.secret"))
    {
        // https://login.microsoftonline.com/<tenant>/oauth2/token
        let tenant = get("fs.azure.account.oauth2.client.endpoint").and_then(|e| e.split('/').nth(3));
        let Some(tenant) = tenant else {
            return Err(Error::Config(
                "fs.azure.account.oauth2.client.endpoint must name the tenant: https://login.microsoftonline.com/<tenant>/oauth2/token"
                    .into(),
            ));
        };
        builder = builder.with_client_secret_authorization(id, secrets.keep(secret), tenant);
    }
    let emulator = properties.get("fs.azure.storage.emulator.account.name").is_some_and(|name| name == host);
    if emulator {
        builder = builder.with_use_emulator(true);
    }
    let store =
        builder.build().map_err(|e| unusable(&format!("abfss://{}", remote.authority), &e, secrets))?;
    Ok((Arc::new(store), None))
}

fn flag(value: Option<&str>, key: &str, standard: bool) -> Result<bool> {
    match value {
        None => Ok(standard),
        Some("true") => Ok(true),
        Some("false") => Ok(false),
        Some(_) => Err(Error::Config(format!("{key} must be true or false"))),
    }
}
