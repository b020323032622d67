//! One small pin projection: a future that may be dropped in place, beside an `Unpin` companion.

/// Defines a struct whose future is pinned with it and whose other field is not, with a private
/// `project` that reaches both.
macro_rules! with_pinned_future {
    ($(#[$attribute:meta])* pub struct $Name:ident<$($life:lifetime,)? F> {
        $field:ident: $Type:ty,
    }) => {
        $(#[$attribute])*
        pub struct $Name<$($life,)? F> {
            /// `None` once the future has been dropped.
            future: Option<F>,
            $field: $Type,
        }

        impl<$($life,)? F> $Name<$($life,)? F> {
            #[allow(unsafe_code, reason = "pin.rs is where it is argued")]
            fn project(self: Pin<&mut Self>) -> (Pin<&mut Option<F>>, &mut $Type) {
                // SAFETY: the struct is not packed and, defined here, has no `Drop` of its own; it
                // is `Unpin` only where `F` is, by the auto trait; and this, the only way in,
                // never moves `future`. So the pin on the whole holds for the part.
                unsafe {
                    let this = self.get_unchecked_mut();
                    (Pin::new_unchecked(&mut this.future), &mut this.$field)
                }
            }
        }
    };
}

pub(crate) use with_pinned_future;
