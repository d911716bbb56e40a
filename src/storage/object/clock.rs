//! The store's clock, read from the answers that it gives anyway. Ages are measured by it alone: those of this machine
//! and of the others that use the log may differ by hours.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant, UNIX_EPOCH},
};

use async_trait::async_trait;
use object_store::{
    ClientOptions, Result,
    client::{
        HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService, ReqwestConnector,
    },
};

use crate::{planted::planted, sync};

/// What the store last said the time was, in seconds since 1970, and when it said so.
#[derive(Debug, Default)]
pub(super) struct StoreClock {
    said: Mutex<Option<(i64, Instant)>>,
}

impl StoreClock {
    /// Seconds since 1970 by the store's clock; by ours until it has said something.
    pub(super) fn now(&self) -> i64 {
        let said = *self.said.lock().unwrap_or_else(PoisonError::into_inner);
        match said.filter(|_| !planted!(OwnClock)) {
            Some((at, when)) => {
                at.saturating_add_unsigned(sync::now().saturating_duration_since(when).as_secs())
            }
            None => sync::time_of_day()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(i64::MAX)),
        }
    }

    /// Whether the store has said anything yet.
    pub(super) fn is_told(&self) -> bool {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// How long ago something was at `then`, at the most.
    pub(super) fn age(&self, then: i64) -> Duration {
        Self::between(then, self.now())
    }

    /// From one time to another; nothing if that is before.
    pub(super) fn between(then: i64, now: i64) -> Duration {
        Duration::from_secs(u64::try_from(now.saturating_sub(then)).unwrap_or(0))
    }

    /// Takes in what an answer said.
    pub(super) fn note(&self, seconds: i64) {
        *self.said.lock().unwrap_or_else(PoisonError::into_inner) = Some((seconds, sync::now()));
    }
}

/// Makes HTTP clients that set the clock.
#[derive(Debug)]
pub(super) struct Dated(pub(super) std::sync::Arc<StoreClock>);

impl HttpConnector for Dated {
    fn connect(&self, options: &ClientOptions) -> Result<HttpClient> {
        let inner = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(DatedClient { inner, clock: self.0.clone() }))
    }
}

#[derive(Debug)]
struct DatedClient {
    inner: HttpClient,
    clock: std::sync::Arc<StoreClock>,
}

#[async_trait]
impl HttpService for DatedClient {
    async fn call(&self, request: HttpRequest) -> std::result::Result<HttpResponse, HttpError> {
        let response = self.inner.execute(request).await?;
        let date = response.headers().get("date").and_then(|d| d.to_str().ok()).and_then(seconds);
        if let Some(seconds) = date {
            self.clock.note(seconds);
        }
        Ok(response)
    }
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` in seconds since 1970.
fn seconds(date: &str) -> Option<i64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut parts = date.split(", ").nth(1)?.split(' ');
    let day: i64 = parts.next()?.parse().ok()?;
    let name = parts.next()?;
    let month = MONTHS.iter().position(|m| *m == name)? as i64 + 1;
    let year: i64 = parts.next()?.parse().ok()?;
    let mut time = parts.next()?.split(':').map(|t| t.parse::<i64>().ok());
    let (hours, minutes, secs) = (time.next()??, time.next()??, time.next()??);
    // Days since 1970, counting years from March.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719_468;
    (parts.next() == Some("GMT")).then_some(days * 86_400 + hours * 3_600 + minutes * 60 + secs)
}

#[cfg(test)]
mod tests {
    use super::seconds;

    #[test]
    fn a_date_is_read() {
        assert_eq!(seconds("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(seconds("Thu, 29 Feb 2024 00:00:00 GMT"), Some(1_709_164_800));
        assert_eq!(seconds("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(seconds("yesterday"), None);
        assert_eq!(seconds("Sun, 06 Nov 1994 08:49:37 CET"), None);
    }
}
