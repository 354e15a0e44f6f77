//! Stand-in for `rtsp::{CameraUrl, Credentials}` until that module lands.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};

#[derive(Clone, PartialEq, Eq)]
pub(crate) struct CameraUrl(url::Url);

#[derive(Clone)]
pub(crate) struct Credentials {
    pub(crate) username: String,
    pub(crate) password: SecretString,
}

pub(crate) enum UrlError {
    Scheme,
    Other(String),
}

impl CameraUrl {
    pub(crate) fn parse(text: &str) -> Result<(Self, Option<Credentials>), UrlError> {
        let mut url = url::Url::parse(text).map_err(|e| UrlError::Other(e.to_string()))?;
        if url.scheme() != "rtsp" {
            return Err(UrlError::Scheme);
        }
        let credentials = (!url.username().is_empty()).then(|| Credentials {
            username: url.username().to_owned(),
            password: url.password().unwrap_or_default().into(),
        });
        let _ = url.set_username("");
        let _ = url.set_password(None);
        Ok((Self(url), credentials))
    }
}

impl fmt::Display for CameraUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl PartialEq for Credentials {
    fn eq(&self, other: &Self) -> bool {
        self.username == other.username && self.password.expose_secret() == other.password.expose_secret()
    }
}
