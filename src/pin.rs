//! One small pin projection: a future that may be dropped in place, beside companions.

/// Defines a struct whose future is pinned with it, perhaps with a second one, and whose other field
/// is not; with a private `project` that reaches all.
macro_rules! with_pinned_future {
    ($(#[$attribute:meta])* pub struct $Name:ident<$($life:lifetime,)? F $(: $Bound:ident)? $(, $R:ident)?> {
        $field:ident: $Type:ty,
        $(pinned $second:ident,)?
    }) => {
        $(#[$attribute])*
        pub struct $Name<$($life,)? F $(: $Bound)? $(, $R)?> {
            /// `None` once the future has been dropped.
            future: Option<F>,
            $($second: $R,)?
            $field: $Type,
        }

        impl<$($life,)? F $(: $Bound)? $(, $R)?> $Name<$($life,)? F $(, $R)?> {
            #[allow(unsafe_code, reason = "pin.rs is where it is argued")]
            fn project(
                self: Pin<&mut Self>,
            ) -> (Pin<&mut Option<F>>, $(Pin<&mut $R>,)? &mut $Type) {
                // SAFETY: the struct is not packed and, defined here, has no `Drop` of its own; it
                // is `Unpin` only where its futures are, by the auto trait; and this, the only way
                // in, never moves them. So the pin on the whole holds for the parts.
                unsafe {
                    let this = self.get_unchecked_mut();
                    (
                        Pin::new_unchecked(&mut this.future),
                        $(Pin::new_unchecked(&mut this.$second),)?
                        &mut this.$field,
                    )
                }
            }
        }
    };
}

pub(crate) use with_pinned_future;
