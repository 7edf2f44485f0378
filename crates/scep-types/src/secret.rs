//! The one wrapper of secrets.

use core::fmt;
use zeroize::Zeroize;

/// A value that must not reach a log: no `Display`, a blank `Debug`, no `Clone`, no `PartialEq`,
/// zeroised on drop. Reading it is the explicit, greppable [`Secret::expose`].
///
/// ```
/// let secret = scep_types::Secret::new(String::from("challenge"));
/// assert_eq!(format!("{secret:?}"), "Secret(..)");
/// ```
pub struct Secret<T: Zeroize>(T);

impl<T: Zeroize> Secret<T> {
    /// Wraps a value.
    #[must_use]
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself. Do not format what comes out of here.
    #[must_use]
    pub const fn expose(&self) -> &T {
        &self.0
    }

    /// The value itself, to be filled in place.
    #[must_use]
    pub const fn expose_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T: Zeroize> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl<T: Zeroize> From<T> for Secret<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}
