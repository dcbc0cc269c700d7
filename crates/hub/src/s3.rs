//! Buckets of S3 and what speaks like it, by this house's own TLS.
//!
//! `object_store` signs, retries and reads the answers; what it would call with brings a second TLS and a second
//! source of trust, so it calls with [`Web`] instead.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use object_store::ClientOptions;
use object_store::aws::AmazonS3Builder;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
};

use crate::error::HubError;
use crate::tiles::Objects;
use crate::web::{Web, WebError};

/// Longest answer: a tile, a checkpoint, or an error in XML.
const MAX_ANSWER: usize = 1 << 20;
/// How long one call may take.
const CALL: Duration = Duration::from_secs(20);
/// How long a call is repeated before its failure is told; publishing then waits and tries again by itself.
const PATIENCE: Duration = Duration::from_secs(40);
const REPEATS: usize = 3;

impl Objects {
    /// The bucket and prefix of `s3://BUCKET[/PREFIX]`. Endpoint, region and credentials are those of the environment,
    /// as other tools read them (`AWS_ENDPOINT`, `AWS_REGION`, `AWS_ACCESS_KEY_ID` and so on). The store must support
    /// conditional puts.
    ///
    /// # Errors
    /// When the address or what the environment says cannot be used.
    pub fn s3(url: &str, web: &Web) -> Result<Self, HubError> {
        let known: Vec<(String, String)> =
            std::env::vars().filter(|(name, _)| name.starts_with("AWS_")).collect();
        Self::s3_with(url, web, known.iter().map(|(name, value)| (name.as_str(), value.as_str())))
    }

    /// The same with settings in place of the environment's.
    ///
    /// # Errors
    /// As [`Objects::s3`].
    pub fn s3_with<'a>(
        url: &str,
        web: &Web,
        settings: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, HubError> {
        let wrong = |reason: String| HubError::Publishing { place: url.to_owned(), reason };
        let rest = url.strip_prefix("s3://").unwrap_or_default();
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            return Err(wrong("expected `s3://BUCKET` or `s3://BUCKET/PREFIX`".to_owned()));
        }
        let mut builder = AmazonS3Builder::new();
        for (name, value) in settings {
            if let Ok(key) = name.to_ascii_lowercase().parse() {
                builder = builder.with_config(key, value);
            }
        }
        let retry = object_store::RetryConfig {
            max_retries: REPEATS,
            retry_timeout: PATIENCE,
            ..object_store::RetryConfig::default()
        };
        let store = builder
            .with_bucket_name(bucket)
            .with_retry(retry)
            .with_http_connector(Caller { web: web.clone() })
            .build()
            .map_err(|e| wrong(e.to_string()))?;
        Ok(Self::new(Arc::new(store), prefix, url).with_headers())
    }
}

/// [`Web`] in the shape in which `object_store` calls.
#[derive(Clone, Debug)]
struct Caller {
    web: Web,
}

impl HttpConnector for Caller {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

impl HttpService for Caller {
    // The form into which `async_trait` turns an `async fn`, without that crate.
    fn call<'a, 'b>(
        &'a self,
        request: HttpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let body: Bytes = body.collect().await?.to_bytes();
            let request = Request::from_parts(head, Full::new(body));
            let answer = self.web.call(request, MAX_ANSWER, CALL).await.map_err(|e| {
                let kind = match e {
                    WebError::Timeout(_) => HttpErrorKind::Timeout,
                    WebError::Connect(_) => HttpErrorKind::Connect,
                    WebError::Broken(_) => HttpErrorKind::Interrupted,
                    WebError::TooLong(_) => HttpErrorKind::Decode,
                };
                HttpError::new(kind, e)
            })?;
            let (head, body) = answer.into_parts();
            Ok(HttpResponse::from_parts(head, body.into()))
        })
    }
}
