//! The settings of an application's sessions, and their bounds.

use std::time::Duration;

use session_core::{
    AtLimit, ConfigError, CookieChange, Entry, Event, Events, Lifetime, Limits, OnReuse, Session,
    SessionId, SessionInfo, SessionLimit, Sessions, SessionsBuilder,
};

use crate::support::World;

#[test]
fn sessions_return_the_rules_that_were_set() -> Result<(), ConfigError> {
    let limit = SessionLimit::new(3, AtLimit::EvictOldest)?;
    let limits = Limits::default().with_values(1).with_value_bytes(2).with_session_bytes(3);
    let world = World::with(|sessions| {
        sessions
            .with_lifetime(Lifetime::remember_me())
            .with_anonymous_lifetime(Lifetime::strict())
            .with_limits(limits)
            .with_renewal_grace(Duration::from_secs(4))
            .with_lease(Duration::from_nanos(4_000_001))
            .with_live_interval(Duration::from_secs(6))
            .with_session_limit(limit)
            .with_reuse(OnReuse::EndSession)
            .with_carry_over(false)
            .with_event_buffer(5)
    });
    let sessions = world.sessions;
    assert_eq!(sessions.lifetime(), Lifetime::remember_me());
    assert_eq!(sessions.anonymous_lifetime(), Lifetime::strict());
    assert_eq!(sessions.limits(), limits);
    assert_eq!((limits.values(), limits.value_bytes(), limits.session_bytes()), (1, 2, 3));
    assert_eq!(sessions.renewal_grace(), Duration::from_secs(4));
    assert_eq!(sessions.lease(), Duration::from_millis(5), "rounded up");
    assert_eq!(sessions.live_interval(), Duration::from_secs(6));
    assert_eq!(sessions.session_limit(), Some(limit));
    assert_eq!(sessions.on_reuse(), OnReuse::EndSession);
    assert!(!sessions.carries_over());
    assert_eq!(sessions.event_buffer(), 5);
    Ok(())
}

#[test]
fn sessions_have_the_documented_default_rules() {
    let sessions = World::new().sessions;
    assert_eq!(sessions.lifetime(), Lifetime::standard());
    assert_eq!(sessions.anonymous_lifetime(), Lifetime::standard());
    let limits = sessions.limits();
    assert_eq!(limits.values(), 1_024);
    assert_eq!(limits.value_bytes(), 64 * 1_024);
    assert_eq!(limits.session_bytes(), 256 * 1_024);
    assert_eq!(sessions.renewal_grace(), Duration::from_secs(30));
    assert_eq!(sessions.lease(), Duration::from_secs(10));
    assert_eq!(sessions.live_interval(), Duration::from_secs(5));
    assert_eq!(sessions.session_limit(), None);
    assert_eq!(sessions.on_reuse(), OnReuse::Report);
    assert!(sessions.carries_over());
    assert_eq!(sessions.event_buffer(), 1_024);
}

#[test]
fn live_interval_out_of_bounds_is_refused() {
    let built = |millis| {
        let store = crate::support::MapStore::default();
        Sessions::builder(store).with_live_interval(Duration::from_millis(millis)).build()
    };
    for millis in [100, 60_000] {
        assert!(built(millis).is_ok());
    }
    for millis in [0, 99, 60_001] {
        assert!(built(millis).is_err());
    }
}

#[test]
fn visitors_have_the_default_lifetime_of_the_others() {
    let world = World::with_lifetime(Lifetime::strict());
    assert_eq!(world.sessions.anonymous_lifetime(), Lifetime::strict());
}

#[test]
fn public_types_are_send_and_sync() {
    fn check<T: Send + Sync + 'static>() {}
    check::<Session>();
    check::<Sessions>();
    check::<SessionsBuilder>();
    check::<SessionInfo>();
    check::<CookieChange>();
    check::<(Event, Events)>();
    check::<Entry>();
    check::<SessionId>();
}
