//! Values up to the limit of levels come back, and deeper ones are refused, on a usual stack.

use session_core::{BoxError, Codec, Json, Key, MessagePack, SessionError};

use crate::{
    Marked, World,
    deep::{Deep, Field, NewtypeVariant, for_each_deep_type},
    on_a_usual_stack, reason,
};

#[test]
fn values_come_back_up_to_the_limit_and_not_above() {
    for_each_deep_type!(limit_is_kept);
}

/// As many levels as the limit, give or take those of one step and of the innermost value.
fn limit_is_kept<T: Deep>() {
    on_a_usual_stack(|| {
        let world = World::new();
        limit_is_kept_by::<MessagePack, T>(&world);
        limit_is_kept_by::<Json, T>(&world);
    });
}

fn limit_is_kept_by<C: Codec<T> + Marked, T: Deep>(world: &World) {
    let case = format!("{} through {}", T::NAME, C::NAME);
    let reaches_limit = |steps: usize| {
        let value = T::nested(steps);
        let result = world.round_trip::<C, T>(&value);
        if steps > 1_000 {
            // Its own drop would end the process.
            std::mem::forget(value);
        }
        match result {
            Ok(read) => {
                assert!(read == T::nested(steps), "{case}: {steps} steps come back different");
                false
            }
            Err(error) if reason(&error).contains("100 levels") => true,
            // This type does not tell its values apart.
            Err(error) if is_always_null::<T>() => {
                assert!(reason(&error).contains("another value"), "{}", reason(&error));
                false
            }
            Err(error) => panic!("{case}: {steps} steps: {}", reason(&error)),
        }
    };
    let first = (0..=101).find(|&steps| reaches_limit(steps));
    let first = first.unwrap_or_else(|| panic!("{case}: 101 steps are accepted"));
    // The innermost value may open two levels of its own.
    let exact = 100 / T::STEP + 1;
    assert!((exact - 1..=exact).contains(&first), "{case}: {first} steps are refused first");
    // serde buffers a flattened variant while it is written, however deep it is.
    let far_above = if T::NAME == "FlattenedVariant" { 120 } else { 100_000 };
    for steps in (first..first + 10).chain([far_above]) {
        assert!(reaches_limit(steps), "{case}: {steps} steps");
    }
}

/// Returns `true` if the type writes all of its values as null, and reads one of them back.
fn is_always_null<T: Deep>() -> bool {
    matches!(T::NAME, "Newtype" | "Transparent")
}

#[test]
fn encoding_and_decoding_keep_the_limit_alone() {
    for_each_deep_type!(each_side_keeps_limit);
}

fn each_side_keeps_limit<T: Deep>() {
    on_a_usual_stack(|| {
        each_side_keeps_limit_by::<MessagePack, T>();
        each_side_keeps_limit_by::<Json, T>();
    });
}

fn each_side_keeps_limit_by<C: Codec<T> + Marked, T: Deep>() {
    let first = |step: usize, result: &dyn Fn(usize) -> Result<(), BoxError>| {
        let (first, error) =
            (0..=101).find_map(|steps| result(steps).err().map(|error| (steps, error))).unwrap();
        let case = format!("{} through {}: {first} steps: {error}", T::NAME, C::NAME);
        assert!(error.to_string().contains("100 levels"), "{case}");
        assert!((100 / step..=100 / step + 1).contains(&first), "{case}");
    };
    first(T::STEP, &|steps| C::encode(&T::nested(steps), &mut Vec::new()));
    if !is_always_null::<T>() {
        // serde keeps no `Some` in its buffers.
        let step = if T::NAME == "UntaggedOption" { 1 } else { T::STEP };
        first(step, &|steps| C::decode(&C::encode_unbounded(&T::nested(steps))).map(drop));
    }
}

/// As a history or a list of comments does, one level with each request.
#[test]
fn value_stops_growing_at_the_limit() {
    on_a_usual_stack(|| {
        grows::<MessagePack, Field>(49);
        grows::<Json, Field>(49);
        grows::<MessagePack, NewtypeVariant>(100);
        grows::<Json, NewtypeVariant>(100);
    });
}

fn grows<C, T>(accepted: usize)
where
    C: Codec<T> + Marked + 'static,
    T: Deep + Default,
{
    let world = World::new();
    let key = Key::<T, C>::new("history");
    world.runtime.block_on(async {
        let mut updates = 0;
        let error = loop {
            let session = world.open().await;
            match session.update(key, |value| *value = T::around(std::mem::take(value))) {
                Ok(_) => updates += 1,
                Err(error) => break error,
            }
            let _ = session.finish().await.unwrap();
            assert!(updates < 1_000);
        };
        assert!(matches!(error, SessionError::Encode { .. }));
        assert!(reason(&error).contains("100 levels"), "{}", reason(&error));
        let kept = world.open().await.try_get(key).unwrap();
        assert_eq!(kept, Some(T::nested(updates)));
        assert_eq!(updates, accepted);
    });
}
