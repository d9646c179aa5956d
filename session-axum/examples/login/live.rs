//! The stream of events that keeps the page of a user up to date.
//!
//! ```text
//!  the session of the page ends, in whatever process ──▶ `ended`, and the stream ends
//!  a login or an end of the user in this process ─┬─────▶ load the list ──▶ `devices`, if it differs
//!  every `REFRESH`, for the other processes ──────┘
//! ```
//!
//! The library reports the end of one session from every process, and the events of all sessions from
//! its own. For devices of other processes, each page therefore loads the list from time to time. The same
//! holds if a device signs in as another user: the event names that user alone.
//!
//! Each page receives the events of all users, so that a login costs a little work per open page. With
//! thousands of pages, let one task receive the events, and forward each to the pages of its user.
//!
//! The server asks for the next event when the client has read the former ones. A write timeout of the
//! proxy in front closes the stream of a client that reads nothing.

use std::{convert::Infallible, future::pending, time::Duration};

use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::{Stream, stream};
use session_axum::{Events, FlashLevel, Live, Owner, Session, SessionError, Sessions, SignedIn};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until};

use super::{super::ENDED, devices, pages};

/// Streams the list of devices whenever it changes, and the page of a visitor when the session ends.
pub(crate) async fn events(
    SignedIn(user): SignedIn<String>,
    session: Session,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, SessionError> {
    let mut ticks = interval(REFRESH);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let sessions = session.sessions().clone();
    let page = Page {
        live: session.live().await?,
        events: sessions.events(),
        sessions,
        user: user.into(),
        shown: String::new(),
        loaded_at: Instant::now(),
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
    events: Events,
    user: Owner,
    /// The list of devices in the browser.
    shown: String,
    loaded_at: Instant,
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
                () = change(&mut self.events, &self.user, self.loaded_at) => {}
                _ = self.ticks.tick() => {}
            }
            self.loaded_at = Instant::now();
            // In an outage of the store, the page keeps the list. The next tick tries again.
            let Ok(list) = self.sessions.list(self.user.clone()).await else { continue };
            let devices = devices::list(&list, Some(self.live.key()));
            let list = pages::device_list(&devices).into_string();
            if list != self.shown {
                self.shown.clone_from(&list);
                return Some((Ok(Event::default().event("devices").data(list)), Some(self)));
            }
        }
    }
}

/// Waits until the devices of a user may have changed, and until the list may be loaded again.
async fn change(events: &mut Events, user: &Owner, loaded_at: Instant) {
    let lost = events.lost();
    loop {
        match events.next().await {
            // A page that is too slow loses events, and may have lost one of this user.
            Some(event) if event.owner.as_ref() == Some(user) || events.lost() > lost => break,
            Some(_) => {}
            None => pending().await,
        }
    }
    sleep_until(loaded_at + MIN_PAUSE).await;
    // The load follows, and covers the events until now.
    while events.try_next().is_some() {}
}

/// The time between two loads of the list, for the devices of other processes.
pub(crate) const REFRESH: Duration = Duration::from_secs(10);

/// The shortest time between two loads of the list by one page.
pub(crate) const MIN_PAUSE: Duration = Duration::from_secs(1);
