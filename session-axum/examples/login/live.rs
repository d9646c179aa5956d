//! The stream of events that keeps the page of a user up to date.

use std::{convert::Infallible, time::Duration};

use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::{Stream, stream};
use session_axum::{FlashLevel, Live, Session, SessionError, Sessions, SignedIn};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::{super::ENDED, devices, pages};

/// Streams the list of devices whenever it changes, and the page of a visitor when the session ends.
pub(crate) async fn events(
    SignedIn(user): SignedIn<String>,
    session: Session,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, SessionError> {
    let mut ticks = interval(REFRESH);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let page = Page {
        live: session.live().await?,
        sessions: session.sessions().clone(),
        user,
        shown: String::new(),
        ticks,
    };
    let events = stream::unfold(Some(page), |page| async { page?.next().await });
    // The comments of the keep-alive show that a browser has gone.
    Ok(Sse::new(events).keep_alive(KeepAlive::default()))
}

/// An open page.
struct Page {
    live: Live,
    sessions: Sessions,
    user: String,
    /// The list of devices in the browser.
    shown: String,
    ticks: Interval,
}

impl Page {
    /// Returns the next event, and the page unless the event is the last.
    async fn next(mut self) -> Option<(Result<Event, Infallible>, Option<Self>)> {
        loop {
            tokio::select! {
                _ = self.live.ended() => {
                    let page = pages::sign_in(0, &[(FlashLevel::Warning, ENDED)], None);
                    return Some((Ok(Event::default().event("ended").data(page.into_string())), None));
                }
                _ = self.ticks.tick() => {}
            }
            // In an outage of the store, the page keeps the list. The next tick tries again.
            let Ok(list) = self.sessions.list(&self.user).await else { continue };
            let devices = devices::list(&list, Some(self.live.key()));
            let list = pages::device_list(&devices).into_string();
            if list != self.shown {
                self.shown.clone_from(&list);
                return Some((Ok(Event::default().event("devices").data(list)), Some(self)));
            }
        }
    }
}

/// The time between two loads of the list. The end of the session needs no such load.
const REFRESH: Duration = Duration::from_secs(2);
