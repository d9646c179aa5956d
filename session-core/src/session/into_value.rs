/// A value for [`Session::set`](crate::Session::set): the value itself, a reference to it, or for
/// text and lists a slice.
pub trait IntoValue<T>: sealed::Sealed<T> {}

impl<T, V: sealed::Sealed<T>> IntoValue<T> for V {}

pub(super) mod sealed {
    /// A conversion to a reference to `T`.
    pub trait Sealed<T> {
        fn lend<R>(self, to: impl FnOnce(&T) -> R) -> R;
    }

    impl<T> Sealed<T> for T {
        fn lend<R>(self, to: impl FnOnce(&T) -> R) -> R {
            to(&self)
        }
    }

    impl<T> Sealed<T> for &T {
        fn lend<R>(self, to: impl FnOnce(&T) -> R) -> R {
            to(self)
        }
    }

    impl Sealed<String> for &str {
        fn lend<R>(self, to: impl FnOnce(&String) -> R) -> R {
            to(&self.to_owned())
        }
    }

    impl<E: Clone> Sealed<Vec<E>> for &[E] {
        fn lend<R>(self, to: impl FnOnce(&Vec<E>) -> R) -> R {
            to(&self.to_vec())
        }
    }
}
