//! [`Tag`]: a type of kinds, and [`tags!`](crate::tags), which defines one.

/// A type whose values are kinds of file descriptors. A kind fits the low 8 bits of the kernel's user data.
///
/// The kind of a descriptor travels through the kernel and comes back with each event. So the program needs no lookup
/// to know what the descriptor is for. [`EventKind`](crate::EventKind) has the two kinds of a plain server.
/// [`tags!`](crate::tags) defines other types. The examples call theirs `Role` or `Source`. If you number your kinds,
/// use `u8`.
///
/// `from_bits(to_bits(x)) == Some(x)` must hold for every `x`. A type that breaks this rule loses events or receives them
/// under another kind, but cannot cause undefined behaviour. Neither function may panic. A panic unwinds through
/// `wait` and loses the rest of the batch, including a pending wake-up. Linux: all later wake-ups of this poller may then
/// have no effect.
///
/// ```
/// # use pollio_core as pollio;
/// use pollio::{EventKind, Tag};
///
/// assert_eq!(EventKind::Client.to_bits(), 2);
/// assert_eq!(EventKind::from_bits(2), Some(EventKind::Client));
/// assert_eq!(EventKind::from_bits(0), None);
/// ```
#[doc(alias("token", "role"))]
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not implement `Tag`, so it cannot be the kind of a descriptor",
    label = "does not implement `Tag`",
    note = "define kinds with `tags! {{ enum Role {{ First = 1, … }} }}`, or use `EventKind` or `u8`"
)]
pub trait Tag: Copy + 'static {
    /// Returns the bits that stand for this kind.
    fn to_bits(self) -> u8;

    /// Returns the kind that `bits` stand for, or `None` if no kind has them.
    fn from_bits(bits: u8) -> Option<Self>;
}

impl Tag for u8 {
    #[inline]
    fn to_bits(self) -> u8 {
        self
    }

    #[inline]
    fn from_bits(bits: u8) -> Option<Self> {
        Some(bits)
    }
}

/// Defines an enum of kinds and implements [`Tag`] for it.
///
/// Every variant needs an explicit, unique value from 0 to 255. The enum and its variants may have docs and
/// attributes, except `cfg`. The macro adds `Clone`, `Copy` and `#[repr(u8)]`, so leave these out. Derive `Debug`,
/// `PartialEq`, `Eq` and `Hash` as you need them.
///
/// ```
/// # use pollio_core as pollio;
/// use pollio::{EventObject, Tag, tags};
///
/// tags! {
///     /// What each connection of a proxy is for.
///     #[derive(Debug, PartialEq, Eq)]
///     pub enum Role {
///         /// Accepts connections.
///         Listener = 1,
///         /// Faces the client.
///         Downstream = 2,
///         /// Faces the server.
///         Upstream = 3,
///     }
/// }
///
/// let event = EventObject::new(7, Role::Upstream);
/// assert_eq!(EventObject::decode(event.encode()), Some(event));
/// assert_eq!(Role::from_bits(4), None);
/// ```
///
/// Two kinds with the same value do not compile:
///
/// ```compile_fail,E0081
/// # use pollio_core as pollio;
/// pollio::tags! { enum Role { Listener = 1, Downstream = 1 } }
/// ```
///
/// A value above 255 does not compile either, nor does a kind without a value:
///
/// ```compile_fail
/// # use pollio_core as pollio;
/// pollio::tags! { enum Role { Listener = 256 } }
/// ```
///
/// ```compile_fail
/// # use pollio_core as pollio;
/// pollio::tags! { enum Role { Listener, Downstream } }
/// ```
#[macro_export]
macro_rules! tags {
    (
        $(#[$attribute:meta])*
        $visibility:vis enum $Role:ident {
            $( $(#[$variant_attribute:meta])* $Variant:ident = $bits:expr ),+ $(,)?
        }
    ) => {
        $(#[$attribute])*
        #[derive(Clone, Copy)]
        #[repr(u8)]
        $visibility enum $Role {
            $( $(#[$variant_attribute])* $Variant = $bits ),+
        }

        impl $crate::Tag for $Role {
            #[inline]
            fn to_bits(self) -> ::core::primitive::u8 {
                self as ::core::primitive::u8
            }

            #[inline]
            fn from_bits(bits: ::core::primitive::u8) -> ::core::option::Option<Self> {
                // A number without a kind holds the first kind, which the comparison below rejects. A table is faster
                // than a match.
                const ROLES: [$Role; 256] = {
                    let mut roles = [[$( $Role::$Variant ),+][0]; 256];
                    $( roles[$Role::$Variant as ::core::primitive::usize] = $Role::$Variant; )+
                    roles
                };
                let role = ROLES[bits as ::core::primitive::usize];
                if role as ::core::primitive::u8 == bits { ::core::option::Option::Some(role) } else { ::core::option::Option::None }
            }
        }
    };
    (
        $(#[$attribute:meta])*
        $visibility:vis enum $Role:ident {
            $( $(#[$variant_attribute:meta])* $Variant:ident $(= $bits:expr)? ),* $(,)?
        }
    ) => {
        ::core::compile_error!("every kind needs a value from 0 to 255: `enum Role { A = 1, B = 2 }`");
    };
}
